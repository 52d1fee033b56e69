//! The member's lives: recover, serve, die, again; and what its views showed meanwhile.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::cores::Cores;
use super::io::segment_name;
use super::{Death, FIRST, MILLI, Options, Outside, Phase, Report, SECOND};
use crate::edge::shard::assemble::{self, Found, Log, LogStore, RecoverError, Wiring};
use crate::limits;
use crate::pure::api::log_payload::RequestIds;
use crate::pure::cluster::{self, Member};
use crate::pure::front;
use crate::pure::mvcc::{Access, LogCursor};
use crate::pure::node::{self, View};
use crate::pure::raft::{self, MemberId};
use crate::pure::session;
use crate::pure::types::Revision;
use crate::pure::wal::{self, Canaries, Identity, Refused};
use crate::pure::watch::{Canary, HubConfig};
use crate::pure::wire::h2::connection::SendLimits;
use crate::pure::wire::h2::frame::HEAD_BYTES;
use crate::stdx::prng::Prng;
use crate::testing::canary::Mutant;
use crate::testing::checkers;
use crate::testing::disk::{DiskError, Survival};
use crate::testing::history::{Change, KeyValue, LeaseLife, Life, Published, Seen};

/// As `--election-timeout` and what follows from it.
pub(in crate::testing) const ELECTION: Duration = Duration::from_secs(1);
/// Least TTL.
const TTL_SECONDS_MIN: i64 = 2;
const PEER_URL: &str = "http://localhost:2380";

/// Runs a seed.
pub fn run(seed: u64, options: Options) -> Report {
    let world = Rc::new(RefCell::new(Outside::new(seed, options)));
    let mut refused = false;
    while !world.borrow().over && world.borrow().violations.is_empty() {
        match start(&world, options) {
            Ok(mut cores) => live(&world, &mut cores),
            Err(NotStarted::Disk) => {}
            Err(NotStarted::Refused(what)) => refused = world.borrow_mut().refused(&what),
        }
        world.borrow_mut().after_death();
        if refused {
            break;
        }
    }
    finish(&world, options, seed)
}

/// After the end: one last power cut, and everything that was published must be there.
fn finish(world: &Rc<RefCell<Outside>>, options: Options, seed: u64) -> Report {
    let failed = !world.borrow().violations.is_empty();
    if !failed {
        world.borrow_mut().power_cut();
        world.borrow_mut().over = false;
        match start(world, options) {
            Ok(mut cores) => {
                while !cores.is_ready() && !world.borrow().is_dead() {
                    if cores.turn(world).is_err() {
                        break;
                    }
                }
                observe(world, &mut cores, true);
            }
            Err(NotStarted::Disk) => unreachable!("there are no faults any more"),
            Err(NotStarted::Refused(what)) => {
                world.borrow_mut().refused(&what);
            }
        }
    }
    let mut world = world.borrow_mut();
    let world = &mut *world;
    if failed {
        // What stopped the run is known; a revision that went back is one thing to C8 and another one to C10.
        world.violations.extend(checkers::durable::monotone(&world.history, &world.truth));
    } else {
        world.violations.extend(checkers::all(&world.history, &world.truth));
    }
    let answered = world.history.calls.iter().filter(|call| call.revision().is_some()).count();
    let counts = world.counts.list();
    let happened: Vec<String> = counts.iter().map(|(what, times)| format!("{times} {what}")).collect();
    let summary = format!(
        "seed {seed}: {} calls ({answered} answered), {} keepalives, {} watches, revision {}, {} lives, {}, {} s",
        world.history.calls.len(),
        world.history.renewals.len(),
        world.history.watches.len(),
        world.truth.revision(),
        world.truth.lives.len(),
        happened.join(", "),
        world.now / SECOND,
    );
    let trace = world.trace.clone();
    Report { violations: std::mem::take(&mut world.violations), trace, summary, counts }
}

/// Why a life did not begin.
enum NotStarted {
    /// The disk failed, or the power: try again.
    Disk,
    /// The log was refused.
    Refused(Refused),
}

/// The simulated disk as recovery sees it.
struct Store<'a>(&'a RefCell<Outside>);

impl Store<'_> {
    /// A step of recovery; the power may fail before it.
    fn step<T>(&self, body: impl FnOnce(&mut Outside) -> Result<T, DiskError>) -> Result<T, DiskError> {
        let mut world = self.0.borrow_mut();
        if let Some(left) = &mut world.fuse {
            if *left == 0 {
                world.fuse = None;
                world.dying = Some(Death::PowerCut);
                return Err(DiskError::Io);
            }
            *left -= 1;
        }
        world.now += MILLI / 10;
        body(&mut world)
    }
}

impl LogStore for Store<'_> {
    type Error = DiskError;

    fn segments(&self) -> Result<Vec<(u64, u64)>, DiskError> {
        self.step(|world| {
            let mut segments = Vec::new();
            for name in world.disk.names() {
                let Some(digits) = name.strip_suffix(".log") else { continue };
                let number = u64::from_str_radix(digits, 16).expect("segments have such names");
                segments.push((number, world.disk.read(name)?.len() as u64));
            }
            Ok(segments)
        })
    }

    fn read_head(&self, number: u64, bytes: usize) -> Result<Vec<u8>, DiskError> {
        self.read_segment(number).map(|mut content| {
            content.truncate(bytes);
            content
        })
    }

    fn read_segment(&self, number: u64) -> Result<Vec<u8>, DiskError> {
        self.step(|world| world.disk.read(&segment_name(number)).map(<[u8]>::to_vec))
    }

    fn create_segment(&self, number: u64, bytes: u64) -> Result<(), DiskError> {
        self.step(|world| world.make_segment(number, bytes))
    }

    fn write_synced(&self, number: u64, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let name = segment_name(number);
        let written = self.step(|world| world.disk.write(&name, offset, bytes))?;
        if written != bytes.len() {
            return Err(DiskError::Io);
        }
        self.step(|world| {
            world.note(10, bytes);
            world.disk.sync_range(&name, offset, bytes.len() as u64)
        })
    }
}

fn wal_config(world: &Outside) -> wal::Config {
    let canaries = Canaries {
        skip_sync_every: if world.canary == Some(Mutant::M1) { 3 } else { 0 },
        cut_at_damage: world.canary == Some(Mutant::M16),
        ignore_checksums: world.canary == Some(Mutant::M15),
        believe_failed_write: world.canary == Some(Mutant::M17),
    };
    wal::Config {
        segment_bytes_first: 128 << 10,
        segment_bytes: world.plan.segment_bytes,
        batch_bytes_max: 256 << 10,
        canaries,
    }
}

fn start(world: &Rc<RefCell<Outside>>, options: Options) -> Result<Cores, NotStarted> {
    let (config, mut seeds, now, wall_ahead) = {
        let mut world = world.borrow_mut();
        world.dying = None;
        world.stop_asked = Arc::new(AtomicBool::new(false));
        world.completions.iter_mut().for_each(Vec::clear);
        let cut = world.plan.cut_recovery && world.phase == Phase::Faults && world.prng.chance(1, 3);
        world.fuse = cut.then(|| u32::try_from(world.prng.below(12)).expect("few"));
        (wal_config(&world), Prng::new(world.prng.next_u64()), world.now, world.wall_ahead)
    };
    let store = Store(world);
    let urls = vec![PEER_URL.to_owned()];
    let member = Member {
        id: cluster::member_id(&urls, "etcd-cluster"),
        name: "sim".to_owned(),
        peer_urls: urls,
        client_urls: Vec::new(),
        is_learner: false,
    };
    let identity = Identity { cluster_id: cluster::cluster_id(&[member.id]), member_id: member.id };
    let mut log = recover(config, &store, identity, &mut seeds)?;
    world.borrow_mut().rotten.clear();
    let raft_config = raft::Config {
        id: MemberId(member.id),
        election_ticks: 10,
        pre_vote: true,
        uncommitted_bytes_max: limits::request::PROPOSAL_BYTES_OUTSTANDING_MAX,
        seed: seeds.next_u64(),
    };
    let raft = if log.is_new() {
        assemble::bootstrap_raft(raft_config, &member)
    } else {
        log.resume_raft(raft_config).expect("the log has this member alone")
    };
    let ids = RequestIds::new(member.id, now.saturating_add_signed(wall_ahead) / MILLI);
    let node_config = node::Config {
        member_id: member.id,
        name: "sim".to_owned(),
        client_urls: vec!["http://localhost:2379".to_owned()],
        cluster_version: "3.7.0".to_owned(),
        election_timeout: ELECTION,
        ttl_seconds_min: TTL_SECONDS_MIN,
        hash_seed: seeds.next_u64(),
        delete_order_seed: (options.canary == Some(Mutant::M19)).then_some(options.entropy),
    };
    let front = front_config(&world.borrow(), identity, ids, &mut seeds);
    let plan = world.borrow().plan.clone();
    let wiring = Wiring { cores: plan.cores, connections_max: u64::MAX };
    let seats = assemble::assemble(log, raft, node_config, front, wiring);
    let asked = Arc::clone(&world.borrow().stop_asked);
    world.borrow_mut().running = true;
    let mut cores = Cores::new(world, seats, Box::new(move || asked.load(Ordering::Relaxed)));
    for front in cores.fronts() {
        front.set_credits(plan.credits);
        front.deny_every(if options.canary == Some(Mutant::M24) { 7 } else { 0 });
    }
    cores.node().set_record_segment_bytes(plan.record_segment_bytes);
    Ok(cores)
}

fn recover(
    config: wal::Config,
    store: &Store<'_>,
    identity: Identity,
    seeds: &mut Prng,
) -> Result<Log, NotStarted> {
    match assemble::recover(config, store) {
        Ok(Found::Log(log)) => Ok(*log),
        Ok(Found::Nothing(none)) => {
            let salt = seeds.next_u64();
            assemble::create(config, store, &none, salt, identity).map_err(|_| NotStarted::Disk)
        }
        Err(RecoverError::Store(_)) => Err(NotStarted::Disk),
        Err(RecoverError::Refused(refused)) => Err(NotStarted::Refused(refused)),
    }
}

fn front_config(world: &Outside, identity: Identity, ids: RequestIds, seeds: &mut Prng) -> front::Config {
    let mut session = session::Config::new(front::resolve);
    session.h2.seed = seeds.next_u64();
    session.h2.send = world.plan.send;
    if world.canary == Some(Mutant::M26) {
        session.h2.send = SendLimits {
            connection: usize::MAX,
            stalled: usize::MAX,
            answers: usize::MAX,
            ..world.plan.send
        };
    }
    session.h2.concurrent_streams_max = world.plan.streams_max;
    if world.plan.keepalive_idle > 0 {
        session.h2.keepalive_idle = Duration::from_nanos(world.plan.keepalive_idle);
        session.h2.keepalive_timeout = session.h2.keepalive_idle / 2;
    }
    let interval = Duration::from_nanos(world.plan.progress_interval);
    let mut hub = HubConfig::new(seeds.next_u64(), limits::request::REQUEST_BYTES_MAX_DEFAULT, interval);
    hub.queue_bytes_max = world.plan.queue_bytes_max;
    hub.fragment_bytes = 4 << 10;
    hub.canary = match world.canary {
        Some(Mutant::M8) => Some(Canary::Overtake),
        Some(Mutant::M9) => Some(Canary::Drop),
        Some(Mutant::M23) => Some(Canary::Swallow),
        Some(Mutant::M10) => Some(Canary::Twice),
        Some(Mutant::M11) => Some(Canary::Split),
        _ => None,
    };
    front::Config {
        shard: 0,
        session,
        cluster_id: identity.cluster_id,
        member_id: identity.member_id,
        txn_ops_max: limits::request::TXN_OPS_MAX_DEFAULT,
        request_bytes_max: limits::request::REQUEST_BYTES_MAX_DEFAULT,
        version: "3.7.0",
        storage_version: "3.7.0",
        hub,
        seed: seeds.next_u64(),
        ids,
    }
}

/// From the first turn to the last.
fn live(world: &Rc<RefCell<Outside>>, cores: &mut Cores) {
    let mut ready = false;
    let mut observed = LogCursor::default();
    loop {
        plant(world, cores);
        let turned = cores.turn(world);
        look_at_queues(world, cores);
        if world.borrow().is_dead() {
            break;
        }
        if !ready && cores.is_ready() {
            ready = true;
            observe(world, cores, true);
            observed = LogCursor::at(world.borrow().truth.revision() + 1);
            let mut world = world.borrow_mut();
            world.serving = world.dying.is_none();
            let now = world.now;
            world.truth.lives.push(Life { ready: now, ended: u64::MAX });
        } else if ready && turned.as_ref().is_ok_and(|core| *core == FIRST) {
            observe_new(world, cores, &mut observed);
        }
        if turned.is_err() {
            break;
        }
        let world = world.borrow();
        if world.over || !world.violations.is_empty() {
            break;
        }
    }
    let mut world = world.borrow_mut();
    let now = world.now;
    if let Some(life) = world.truth.lives.last_mut().filter(|_| ready) {
        life.ended = now;
    }
}

/// Canaries of the sequencer.
fn plant(world: &Rc<RefCell<Outside>>, cores: &mut Cores) {
    let world = world.borrow();
    cores.node().plant(node::Planted {
        wall_ahead: if world.canary == Some(Mutant::M13) { world.wall_ahead } else { 0 },
        revision_of_newest_key: world.canary == Some(Mutant::M25),
    });
}

/// For C13: how full all queues are after a turn.
fn look_at_queues(world: &Rc<RefCell<Outside>>, cores: &mut Cores) {
    let node = cores.node().queues();
    for front in cores.fronts() {
        look_at_shard(&mut world.borrow_mut(), front.queues(), node);
    }
}

fn look_at_shard(world: &mut Outside, front: front::Queues, node: node::Queues) {
    let (plan, preparing) = (&world.plan, world.preparing as usize);
    let answer = plan.answer_bytes_max();
    let watch_bytes = plan.queue_bytes_max as u64 + answer;
    // Answers of what was under way when the bound was reached come on top of it, and a watch stream's message.
    let under_way = plan.credits.min(plan.calls_at_once) as u64 + 2;
    let unsent = plan.send.stalled as u64 + under_way * answer + watch_bytes;
    let credits = plan.credits as u64;
    let all_credits = credits * plan.cores as u64;
    let wish_bytes =
        (limits::request::PROPOSAL_BYTES_OUTSTANDING_MAX + limits::request::REQUEST_BYTES_MAX_DEFAULT) as u64;
    let unfinished = (limits::http2::UNFINISHED_MESSAGE_BYTES_MAX + limits::http2::FRAME_BYTES_MAX) as u64;
    // One buffer of input may come on top.
    let events = limits::http2::EVENTS_WAITING_MAX + limits::shard::RECEIVE_BUFFER_BYTES / HEAD_BYTES;
    let marks = [
        ("wishes to the sequencer", front.wishes, credits),
        ("bytes of wishes", front.wish_bytes, wish_bytes),
        ("bytes of unsent answers", front.session.unsent_bytes, unsent),
        ("bytes of output", front.session.output_bytes, limits::http2::OUTPUT_BYTES_MAX as u64),
        ("control replies", front.session.control_replies, limits::http2::CONTROL_REPLIES_MAX as u64),
        ("events of a session", front.session.events, events as u64),
        ("bytes of unfinished messages", front.session.unfinished_bytes, unfinished),
        ("bytes of a watch stream's events", front.watch_bytes, watch_bytes),
        ("committed entries", node.committed, limits::request::APPLY_BACKLOG_ENTRIES_MAX + all_credits),
        ("requests that wait for entries", node.waiting, all_credits + 2),
        ("keepalives that wait for a revoke", node.expiring, all_credits),
        ("segments being made", preparing, limits::log::PREPARATIONS_MAX as u64),
    ];
    world.truth.note_queues(&marks);
}

/// Compares all that the first view of a life shows with what was published before, and takes over what is new.
fn observe(world: &Rc<RefCell<Outside>>, cores: &mut Cores, whole: bool) {
    let views = cores.views().enter();
    let view = views.load();
    let mut world = world.borrow_mut();
    let mut found: BTreeMap<Revision, Vec<Change>> = BTreeMap::new();
    let mut cursor = if whole { LogCursor::default() } else { LogCursor::at(world.truth.revision() + 1) };
    take_records(view, &mut cursor, |revision, change| found.entry(revision).or_default().push(change));
    let now = world.now;
    let violations =
        checkers::durable::recovered(&world.truth, &found, view.kv.revision(), view.kv.compact_revision());
    world.violations.extend(violations);
    for (_, changes) in found.split_off(&(world.truth.revision() + 1)) {
        world.truth.revisions.push(Published { at: now, changes });
    }
    world.see(view);
}

/// Takes over what this turn published.
fn observe_new(world: &Rc<RefCell<Outside>>, cores: &mut Cores, cursor: &mut LogCursor) {
    let views = cores.views().enter();
    let view = views.load();
    let mut world = world.borrow_mut();
    let mut next = world.truth.revision() + 1;
    if view.kv.revision() >= next {
        let mut found: Vec<Published> = Vec::new();
        let now = world.now;
        take_records(view, cursor, |revision, change| {
            if revision >= next {
                found.push(Published { at: now, changes: Vec::new() });
                next = revision + 1;
            }
            found.last_mut().expect("records come in revision order").changes.push(change);
        });
        world.truth.revisions.append(&mut found);
    }
    world.see(view);
}

fn take_records(view: &View, cursor: &mut LogCursor, mut each: impl FnMut(Revision, Change)) {
    while let Access::Ready(Some(record)) = view.kv.next_record(cursor) {
        let copy = Bytes::copy_from_slice;
        let is_delete = record.is_tombstone();
        let kv = KeyValue {
            key: copy(record.key()),
            create_revision: if is_delete { 0 } else { record.create() },
            mod_revision: record.main(),
            version: if is_delete { 0 } else { record.version() },
            value: copy(record.value()),
            lease: record.lease(),
        };
        each(record.main(), Change { is_delete, kv });
    }
}

impl Outside {
    /// Notes revision, compact revision and leases of a view.
    fn see(&mut self, view: &View) {
        // Only entries change what is looked at here.
        if std::mem::replace(&mut self.seen_applied, (self.life, view.applied.0))
            == (self.life, view.applied.0)
        {
            return;
        }
        let seen =
            Seen { at: self.now, revision: view.kv.revision(), compact_revision: view.kv.compact_revision() };
        let last = self.truth.seen.last().map(|last| (last.revision, last.compact_revision));
        if last != Some((seen.revision, seen.compact_revision)) {
            self.truth.seen.push(seen);
        }
        let now = self.now;
        for life in self.truth.leases.iter_mut().filter(|life| life.gone.is_none()) {
            if view.leases.get(life.id).is_none() {
                life.gone = Some(now);
            }
        }
        for lease in view.leases.iter() {
            if !self.truth.leases.iter().any(|life| life.id == lease.id && life.gone.is_none()) {
                self.truth.leases.push(LeaseLife { id: lease.id, ttl: lease.ttl, from: now, gone: None });
            }
        }
    }

    /// The process is gone: what becomes of its files and connections, and when it is started again.
    fn after_death(&mut self) {
        (self.running, self.serving) = (false, false);
        let death = self.dying.take();
        match death {
            Some(Death::PowerCut) => self.counts.power_cuts += 1,
            Some(Death::Stop) => self.counts.stops += 1,
            Some(Death::Kill) => self.counts.kills += 1,
            None => {}
        }
        self.abandon_write();
        if death == Some(Death::PowerCut) {
            self.power_cut();
        }
        self.preparing = 0;
        self.completions.iter_mut().for_each(Vec::clear);
        self.member_gone();
        self.life += 1;
        if self.over || !self.violations.is_empty() {
            return;
        }
        // A fault that was to come is not for the next life, or it might never get anywhere.
        self.disk.set_faults(Default::default());
        let down = self.delay(10 * MILLI, 2 * SECOND);
        self.pass_time(self.now + down);
        self.dying = None;
    }

    /// Cuts the power: each sector that was not synced is old, new or garbage.
    fn power_cut(&mut self) {
        let mut dice = Prng::new(self.prng.next_u64());
        let names = usize::try_from(dice.below(self.disk.volatile_names() as u64 + 1)).expect("few names");
        // A mood for the whole cut, so that "all" and "nothing" come up too.
        let (old, new) = [(1, 1), (9, 1), (1, 9), (1, 0), (0, 1)][dice.below(5) as usize];
        self.disk.power_cut(names, |_| match dice.below(old + new) {
            _ if dice.chance(1, 50) => Survival::Garbage,
            at if at < old => Survival::Old,
            _ => Survival::New,
        });
        if self.plan.rot && self.phase == Phase::Faults {
            self.rot();
        }
    }

    /// Flips a bit somewhere in front of the last complete write of the log.
    fn rot(&mut self) {
        let Some((segment, offset)) = self.last_write else { return };
        let name = segment_name(segment);
        let known = self.disk.names().any(|known| known == name);
        if !known || offset <= wal::SEGMENT_HEADER_BYTES as u64 {
            return;
        }
        let byte = usize::try_from(self.prng.below(offset)).expect("segments are small");
        let bit = self.prng.below(8) as u8;
        self.disk.flip_bit(&name, byte, bit).expect("the segment is there");
        self.rotten.push((name, byte, bit));
    }

    /// The log was refused: right after rot, wrong otherwise. True if the run can't go on.
    fn refused(&mut self, refused: &Refused) -> bool {
        self.counts.refusals += 1;
        if self.rotten.is_empty() {
            let text = format!("the log was refused although nothing durable was damaged: {refused:?}");
            self.violation("C8", text);
            return true;
        }
        // The operator brings the sectors back (several, if the power failed again before a start got this far);
        // nothing else must have changed.
        for (name, byte, bit) in std::mem::take(&mut self.rotten) {
            self.disk.flip_bit(&name, byte, bit).expect("a refusal leaves the files alone");
        }
        false
    }
}
