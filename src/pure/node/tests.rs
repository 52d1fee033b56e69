//! The sequencer, driven by hand: a disk that writes when it is told to.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::pure::api::requests::{CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest};
use crate::pure::cluster::{Member, context};
use crate::pure::raft::{self, MemberId};
use crate::pure::wal::{self, Identity, Outcome as WalOutcome, Recovery, RecoveryStart};

const MEMBER: u64 = 7;

/// A node, and the outside that it sees.
struct Desk {
    node: Node,
    now: Monotonic,
    buffer: Vec<u8>,
    in_flight: Option<(u64, usize)>,
    segments: Vec<u64>,
    /// Views and replies in the order in which they came.
    seen: Vec<Seen>,
    ids: RequestIds,
    busy: bool,
}

enum Seen {
    View(Box<View>),
    Reply(u64, Reply),
}

fn desk_with(config: wal::Config) -> Desk {
    let recovery =
        Recovery::new(config, RecoveryStart::WHOLE, Vec::new()).expect("an empty directory is fine");
    let Ok(WalOutcome::NoLog(none)) = recovery.finish() else { panic!("there is no log yet") };
    let identity = Identity { cluster_id: 9, member_id: MEMBER };
    let (_, resume) = none.create(&config, 1, identity);
    let member = Member {
        id: MEMBER,
        name: "default".into(),
        peer_urls: vec!["http://localhost:2380".into()],
        client_urls: vec![],
        is_learner: false,
    };
    let raft_config = raft::Config {
        id: MemberId(MEMBER),
        election_ticks: 10,
        pre_vote: true,
        uncommitted_bytes_max: 64 << 20,
        seed: 1,
    };
    let raft = Raft::bootstrap(raft_config, context::encode(&member).into());
    let node_config = Config {
        member_id: MEMBER,
        name: "default".into(),
        client_urls: vec!["http://localhost:2379".into()],
        cluster_version: "3.7.0".into(),
        election_timeout: Duration::from_secs(1),
        ttl_seconds_min: 2,
        hash_seed: 1,
        delete_order_seed: None,
    };
    let ids = RequestIds::new(MEMBER, 1);
    let node = Node::new(node_config, raft, Writer::resume(config, resume), ids.clone());
    Desk {
        node,
        now: Monotonic(1),
        buffer: Vec::new(),
        in_flight: None,
        segments: Vec::new(),
        seen: Vec::new(),
        ids,
        busy: true,
    }
}

fn desk() -> Desk {
    let mut desk = desk_with(wal::Config::standard());
    desk.settle();
    assert!(desk.node.is_ready());
    desk.seen.clear();
    desk
}

impl Desk {
    /// One turn without completing the write in flight.
    fn turn(&mut self) {
        self.busy = self.node.turn(self.now);
        while let Some(effect) = self.node.poll_effect() {
            match effect {
                Effect::PrepareSegment(need) => self.segments.push(need.number),
                Effect::Publish(view) => self.seen.push(Seen::View(view)),
                Effect::Retire(garbage) => drop(garbage),
                Effect::Reply(reply) => self.seen.push(Seen::Reply(reply.ticket.request, reply.reply)),
            }
        }
        if let Some(write) = self.node.poll_log_write(&mut self.buffer) {
            assert!(self.in_flight.replace((write.token, write.bytes)).is_none(), "one write in flight");
        }
    }

    fn complete_write(&mut self) -> bool {
        let Some((token, bytes)) = self.in_flight.take() else { return false };
        self.node.handle_log_written(token, bytes, self.now);
        true
    }

    /// Turns and writes until nothing moves. Segments asked for are there at once.
    fn settle(&mut self) {
        loop {
            self.turn();
            for number in std::mem::take(&mut self.segments) {
                self.node.handle_segment_ready(number);
                self.busy = true;
            }
            if !self.complete_write() && !self.busy {
                return;
            }
        }
    }

    fn ask(&mut self, request: u64, ask: Ask) {
        self.node.handle_ask(ToSequencer { ticket: Ticket { shard: 0, request }, ask }, self.now);
    }

    fn payload(&mut self, operation: Operation) -> Bytes {
        let id = self.ids.next();
        log_payload::encode(&InternalRequest { id, username: String::new(), auth_revision: 0, operation })
            .into()
    }

    fn propose(&mut self, request: u64, operation: Operation) {
        let payload = self.payload(operation);
        self.ask(request, Ask::Propose(payload));
    }

    fn put(&mut self, request: u64, key: &str) {
        let put = PutRequest { key: key.to_owned().into(), value: "v".into(), ..PutRequest::default() };
        self.propose(request, Operation::Put(put));
    }

    fn view(&self) -> &View {
        let mut views = self.seen.iter().rev().filter_map(|seen| match seen {
            Seen::View(view) => Some(&**view),
            Seen::Reply(..) => None,
        });
        views.next().expect("something was published")
    }

    /// Tickets answered, in order.
    fn replies(&self) -> Vec<u64> {
        let tickets = self.seen.iter().filter_map(|seen| match seen {
            Seen::Reply(ticket, _) => Some(*ticket),
            Seen::View(_) => None,
        });
        tickets.collect()
    }

    fn reply(&self, ticket: u64) -> &Reply {
        let reply = self.seen.iter().find_map(|seen| match seen {
            Seen::Reply(to, reply) if *to == ticket => Some(reply),
            Seen::Reply(..) | Seen::View(_) => None,
        });
        reply.expect("the ticket was answered")
    }
}

#[test]
fn the_first_start_has_etcds_entries_term_and_version() {
    let mut desk = desk_with(wal::Config::standard());
    desk.settle();
    assert!(desk.node.is_ready());
    let view = desk.view();
    assert_eq!((view.applied.0, view.committed.0, view.term.0, view.leader), (4, 4, 2, MEMBER));
    assert_eq!((view.kv.revision(), view.cluster_version.as_deref()), (1, Some("3.7.0")));
    assert_eq!((view.members[0].name.as_str(), view.members[0].client_urls.len()), ("default", 1));
    assert!(view.local_read_ok);
}

#[test]
fn nothing_is_answered_before_it_is_on_disk_and_published() {
    let mut desk = desk();
    desk.put(1, "a");
    desk.put(2, "b");
    for _ in 0..5 {
        desk.turn();
    }
    assert!(desk.seen.is_empty(), "the write is in flight");
    assert!(desk.complete_write());
    desk.turn();
    assert!(matches!(&desk.seen[0], Seen::View(view) if view.kv.revision() == 3), "the view comes first");
    assert_eq!(desk.replies(), [1, 2]);
    assert_eq!(desk.seen.len(), 3, "one view for the batch");
}

#[test]
fn a_large_delete_is_applied_in_counted_slices_and_published_once() {
    let mut desk = desk();
    for n in 0..5_000 {
        desk.put(n, &format!("k{n:05}"));
    }
    desk.settle();
    desk.seen.clear();
    let delete = DeleteRangeRequest { key: "k".into(), range_end: "l".into(), prev_kv: false };
    desk.propose(9_001, Operation::DeleteRange(delete));
    desk.put(9_002, "after");
    desk.turn();
    desk.complete_write();
    let mut turns = 0;
    while !desk.replies().contains(&9_002) {
        desk.turn();
        turns += 1;
        for seen in &desk.seen {
            if let Seen::View(view) = seen {
                assert!([5_001, 5_002, 5_003].contains(&view.kv.revision()));
                assert!(
                    view.kv.revision() > 5_001 || view.kv.live_keys() == 5_000,
                    "nothing half done is seen"
                );
            }
        }
        assert!(turns < 1_000, "it ends");
    }
    let units = 5_000 * 2;
    assert!(turns >= units / limits::slice::APPLY_UNITS, "{turns} turns for about {units} units");
    assert_eq!(desk.replies(), [9_001, 9_002]);
    assert_eq!(desk.view().kv.live_keys(), 1);
}

#[test]
fn a_physical_compaction_is_answered_when_its_space_is_back() {
    let mut desk = desk();
    for n in 0..200 {
        desk.put(n, "a");
    }
    desk.settle();
    let before = desk.node.view().db_bytes_in_use;
    let compaction = Operation::Compaction(CompactionRequest { revision: 201, physical: true });
    let payload = desk.payload(compaction);
    desk.ask(300, Ask::ProposeAndClean(payload));
    desk.ask(301, Ask::Defragment);
    desk.settle();
    assert!(!desk.replies().contains(&300));
    assert_eq!(desk.view().kv.compact_revision(), 201, "reads below fail at once");
    while desk.node.wants_cleaning(None) {
        desk.node.clean(None);
    }
    desk.settle();
    assert!(matches!(desk.reply(300), Reply::Applied(Outcome::Compaction { revision: 201 })));
    assert!(matches!(desk.reply(301), Reply::Done));
    assert!(desk.view().db_bytes_in_use < before / 50, "one version of two hundred is left");
}

#[test]
fn a_floor_holds_cleaning_back() {
    let mut desk = desk();
    for n in 0..50 {
        desk.put(n, "a");
    }
    desk.settle();
    let reader = desk.node.view();
    desk.propose(100, Operation::Compaction(CompactionRequest { revision: 51, physical: false }));
    desk.settle();
    while desk.node.wants_cleaning(Some(20)) {
        desk.node.clean(Some(20));
    }
    let version = reader.kv.get(b"a", 20).expect("the version that the reader needs");
    assert_eq!(version.main, 20);
    assert!(desk.node.wants_cleaning(None), "the rest waits for the floor to rise");
}

#[test]
fn without_room_proposals_are_refused_until_there_is() {
    let config =
        wal::Config { segment_bytes_first: 64 * 1024, segment_bytes: 64 * 1024, ..wal::Config::standard() };
    let mut desk = desk_with(config);
    let mut refused = 0;
    for n in 0..100 {
        let put = PutRequest {
            key: format!("k{n}").into(),
            value: vec![b'x'; 1_000].into(),
            ..PutRequest::default()
        };
        desk.propose(n, Operation::Put(put));
        loop {
            desk.turn();
            for number in std::mem::take(&mut desk.segments) {
                desk.node.handle_segment_failed(number, desk.now);
            }
            if !desk.complete_write() && !desk.busy {
                break;
            }
        }
        if let Some(Seen::Reply(ticket, Reply::Refused(Refusal::NoSpace))) = desk.seen.last() {
            assert_eq!(*ticket, n);
            refused += 1;
        }
    }
    assert!(refused > 30, "a segment of 64 KiB holds few batches of a block each");
    let accepted = 100 - refused;
    assert_eq!(desk.node.view().kv.live_keys(), accepted, "what was accepted is there, reads go on");
    desk.now = desk.now + Duration::from_secs(2);
    desk.settle();
    desk.put(200, "again");
    desk.settle();
    assert!(matches!(desk.reply(200), Reply::Applied(Outcome::Put { .. })), "it goes on by itself");
}

#[test]
fn an_expired_lease_is_revoked_and_its_keepalive_waits_for_that() {
    let mut desk = desk();
    desk.propose(1, Operation::LeaseGrant(LeaseGrantRequest { ttl: 2, id: 5 }));
    desk.settle();
    let put = PutRequest { key: "a".into(), value: "v".into(), lease: 5, ..PutRequest::default() };
    desk.propose(2, Operation::Put(put));
    desk.settle();
    desk.now = desk.now + Duration::from_millis(1_900);
    desk.ask(3, Ask::KeepAlive(5));
    desk.ask(4, Ask::TimeToLive(5));
    desk.settle();
    assert!(matches!(desk.reply(3), Reply::Renewed(2)));
    assert!(matches!(desk.reply(4), Reply::Remaining(Some(2))));
    desk.now = desk.now + Duration::from_millis(2_100);
    desk.ask(5, Ask::KeepAlive(5));
    assert!(desk.seen.iter().all(|seen| !matches!(seen, Seen::Reply(5, _))));
    desk.settle();
    assert!(matches!(desk.reply(5), Reply::Renewed(0)));
    assert_eq!((desk.view().kv.live_keys(), desk.view().kv.revision()), (0, 3));
    desk.ask(6, Ask::KeepAlive(5));
    desk.settle();
    assert!(matches!(desk.reply(6), Reply::Renewed(0)));
}

#[test]
fn a_keepalive_that_could_not_be_heard_in_time_counts() {
    let mut desk = desk();
    for id in [5, 6] {
        desk.propose(id, Operation::LeaseGrant(LeaseGrantRequest { ttl: 2, id: id as i64 }));
    }
    desk.settle();
    let deaf = Duration::from_secs(10);
    desk.now = desk.now + deaf;
    desk.node.was_deaf(deaf);
    desk.ask(1, Ask::KeepAlive(5));
    desk.settle();
    assert!(matches!(desk.reply(1), Reply::Renewed(2)));
    // Nobody spoke for the other, which has its whole time still.
    desk.now = desk.now + Duration::from_millis(1_900);
    desk.settle();
    desk.ask(2, Ask::Leases);
    desk.settle();
    assert!(matches!(desk.reply(2), Reply::Leases(ids) if ids.len() == 2));
}

#[test]
fn an_idle_log_proves_its_end() {
    let mut desk = desk();
    desk.put(1, "a");
    desk.settle();
    let due = desk.node.next_timeout().expect("a proof is due");
    assert_eq!(due.since(desk.now), IDLE_BATCH_AFTER);
    desk.turn();
    assert!(desk.in_flight.is_none());
    desk.now = due;
    desk.turn();
    assert!(desk.in_flight.is_some(), "an empty batch");
    desk.settle();
    assert_eq!(desk.node.next_timeout(), None, "an idle server has nothing to do");
}
