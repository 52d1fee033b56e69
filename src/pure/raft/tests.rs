//! Scripts over one member: what it wants, in which order, and what it refuses.

use bytes::Bytes;

use super::*;
use crate::pure::types::{LogIndex, Term};

const ME: MemberId = MemberId(7);

fn config() -> Config {
    Config { id: ME, election_ticks: 10, pre_vote: true, uncommitted_bytes_max: 1_000, seed: 1 }
}

fn entry(term: u64, index: u64, payload: &'static [u8]) -> Entry {
    Entry { term: Term(term), index: LogIndex(index), kind: EntryKind::Normal, payload: payload.into() }
}

fn state(term: u64, vote: MemberId, commit: u64) -> HardState {
    HardState { term: Term(term), vote, commit: LogIndex(commit) }
}

fn on_disk(ticket: u64, term: u64, index: u64) -> Persisted {
    Persisted { ticket: Ticket(ticket), term: Term(term), index: LogIndex(index) }
}

/// One line for each effect, so that a script reads as a list.
fn poll(raft: &mut Raft) -> Vec<String> {
    std::iter::from_fn(|| raft.poll_effect()).map(|effect| show(&effect)).collect()
}

fn show(effect: &Effect) -> String {
    let list = |entries: &[Entry]| {
        let one = |e: &Entry| {
            let kind = if e.kind == EntryKind::Normal { "" } else { "conf " };
            format!("{kind}{}@{}", e.index.0, e.term.0)
        };
        entries.iter().map(one).collect::<Vec<_>>().join(" ")
    };
    match effect {
        Effect::Persist(Persist { ticket, hard_state, entries }) => {
            let h = hard_state.expect("always given");
            format!(
                "persist #{} term {} vote {} commit {} [{}]",
                ticket.0,
                h.term.0,
                h.vote.0,
                h.commit.0,
                list(entries)
            )
        }
        Effect::Apply { entries } => format!("apply [{}]", list(entries)),
        Effect::ReadReady { context, index } => format!("read {context} at {}", index.0),
        Effect::LeaderChanged { term, leader } => {
            format!("leader {} of term {}", leader.map_or(0, |l| l.0), term.0)
        }
        Effect::Send { message, after } => format!("send {message:?} after {after:?}"),
        Effect::Dropped(dropped) => format!("{dropped:?}"),
    }
}

/// A member that was bootstrapped and leads term 2, its own entry applied.
fn leader() -> Raft {
    let mut raft = Raft::bootstrap(config(), Bytes::from_static(b"{}"));
    for (ticket, term, index) in [(1, 1, 1), (2, 1, 1), (3, 2, 2)] {
        poll(&mut raft);
        raft.handle_persisted(on_disk(ticket, term, index)).unwrap();
        poll(&mut raft);
        if raft.applied() < raft.committed() {
            raft.handle_applied(raft.committed());
        }
    }
    assert_eq!(poll(&mut raft), [""; 0]);
    assert!(raft.reads_locally());
    raft
}

#[test]
fn bootstrap_goes_as_in_etcd() {
    let mut raft = Raft::bootstrap(config(), Bytes::from_static(b"{\"id\":7}"));
    let Some(Effect::Persist(first)) = raft.poll_effect() else { panic!("entry 1 comes first") };
    let change = ConfChange::decode(&first.entries[0].payload).unwrap();
    assert_eq!(
        (change.kind, change.member, &change.context[..]),
        (ConfChangeKind::AddNode, ME, &b"{\"id\":7}"[..])
    );
    assert_eq!(show(&Effect::Persist(first)), "persist #1 term 1 vote 0 commit 1 [conf 1@1]");
    // Committed from the outset, but not on this disk: nothing to apply, no campaign.
    assert_eq!(poll(&mut raft), [""; 0]);
    assert_eq!(raft.propose([Bytes::from_static(b"early")]), Err(ProposeRefused::NotLeader(None)));
    raft.handle_persisted(on_disk(1, 1, 1)).unwrap();
    assert_eq!(poll(&mut raft), ["apply [conf 1@1]"]);
    raft.apply_conf_change(Some(&change)).unwrap();
    raft.handle_applied(LogIndex(1));
    // Its own vote has to be on disk before it counts.
    assert_eq!(poll(&mut raft), ["persist #2 term 2 vote 7 commit 1 []"]);
    assert_eq!(raft.role(), Role::Candidate);
    assert_eq!(raft.propose([Bytes::from_static(b"early")]), Err(ProposeRefused::NotLeader(None)));
    raft.handle_persisted(on_disk(2, 1, 1)).unwrap();
    assert_eq!(poll(&mut raft), ["persist #3 term 2 vote 7 commit 1 [2@2]", "leader 7 of term 2"]);
    assert!(!raft.reads_locally());
    raft.handle_persisted(on_disk(3, 2, 2)).unwrap();
    assert_eq!(poll(&mut raft), ["apply [2@2]"]);
    assert!(!raft.reads_locally(), "committed is not applied");
    raft.handle_applied(LogIndex(2));
    assert!(raft.reads_locally());
    assert_eq!(raft.hard_state(), state(2, ME, 2));
}

#[test]
fn proposals_are_applied_when_they_are_on_disk() {
    let mut raft = leader();
    let batch: Vec<Bytes> = (0..3).map(|_| Bytes::from_static(b"put")).collect();
    assert_eq!(raft.propose(batch.clone()), Ok(Proposed { term: Term(2), first: LogIndex(3) }));
    assert_eq!(raft.propose(batch), Ok(Proposed { term: Term(2), first: LogIndex(6) }));
    assert_eq!(poll(&mut raft), ["persist #4 term 2 vote 7 commit 2 [3@2 4@2 5@2 6@2 7@2 8@2]"]);
    // The log may report part of a ticket.
    raft.handle_persisted(on_disk(3, 2, 5)).unwrap();
    assert_eq!(poll(&mut raft), ["apply [3@2 4@2 5@2]"]);
    raft.handle_persisted(on_disk(4, 2, 8)).unwrap();
    assert_eq!(poll(&mut raft), ["apply [6@2 7@2 8@2]"]);
    raft.handle_applied(LogIndex(4));
    raft.handle_applied(LogIndex(8));
    // A commit index alone is no reason to write.
    assert_eq!(poll(&mut raft), [""; 0]);
    assert_eq!(raft.hard_state(), state(2, ME, 8));
}

#[test]
fn the_tail_of_a_restart_commits_with_the_own_entry() {
    let start = Start {
        conf_state: ConfState::sole(ME),
        hard_state: state(4, ME, 3),
        before: (Term(0), LogIndex(0)),
        entries: vec![
            entry(1, 1, b"a"),
            entry(2, 2, b""),
            entry(2, 3, b"b"),
            entry(4, 4, b"c"),
            entry(4, 5, b"d"),
        ],
        applied: LogIndex(0),
    };
    let mut raft = Raft::restart(config(), start).unwrap();
    assert_eq!(poll(&mut raft), ["persist #1 term 5 vote 7 commit 3 []", "apply [1@1 2@2 3@2]"]);
    raft.handle_applied(LogIndex(3));
    assert_eq!(raft.committed(), LogIndex(3), "entries of older terms wait for one of the new term");
    raft.handle_persisted(on_disk(1, 4, 5)).unwrap();
    assert_eq!(poll(&mut raft), ["persist #2 term 5 vote 7 commit 3 [6@5]", "leader 7 of term 5"]);
    raft.handle_persisted(on_disk(1, 4, 5)).unwrap();
    assert_eq!(raft.committed(), LogIndex(3));
    raft.handle_persisted(on_disk(2, 5, 6)).unwrap();
    assert_eq!(poll(&mut raft), ["apply [4@4 5@4 6@5]"]);
    raft.handle_applied(LogIndex(6));
    assert!(raft.reads_locally());
}

#[test]
fn a_committed_conf_change_is_applied_before_a_campaign() {
    let mut conf = entry(1, 1, b"");
    conf.kind = EntryKind::ConfChange;
    let start = Start {
        conf_state: ConfState::sole(ME),
        hard_state: state(2, ME, 2),
        entries: vec![conf, entry(2, 2, b"")],
        ..Start::default()
    };
    let mut raft = Raft::restart(config(), start).unwrap();
    assert_eq!(poll(&mut raft), ["apply [conf 1@1 2@2]"]);
    (0..40).for_each(|_| raft.handle_tick());
    assert_eq!(poll(&mut raft), [""; 0]);
    raft.handle_applied(LogIndex(1));
    assert_eq!(poll(&mut raft), ["persist #1 term 3 vote 7 commit 2 []"]);
}

#[test]
fn a_slow_disk_does_not_raise_the_term() {
    let mut raft =
        Raft::restart(config(), Start { conf_state: ConfState::sole(ME), ..Start::default() }).unwrap();
    assert_eq!(poll(&mut raft), ["persist #1 term 1 vote 7 commit 0 []"]);
    (0..100).for_each(|_| raft.handle_tick());
    assert_eq!((poll(&mut raft), raft.term()), (vec![], Term(1)));
    raft.handle_persisted(on_disk(1, 0, 0)).unwrap();
    (0..100).for_each(|_| raft.handle_tick());
    assert_eq!((raft.role(), raft.term()), (Role::Leader, Term(1)));
}

#[test]
fn reports_of_the_disk_that_can_not_be_are_refused() {
    let mut raft = leader();
    raft.propose([Bytes::from_static(b"a"), Bytes::from_static(b"b")]).unwrap();
    // Appended, but the disk was not given it.
    assert_eq!(raft.handle_persisted(on_disk(3, 2, 3)), Err(PersistedRefused::NotHanded));
    poll(&mut raft);
    assert_eq!(raft.handle_persisted(on_disk(5, 2, 4)), Err(PersistedRefused::NotHanded));
    assert_eq!(raft.handle_persisted(on_disk(4, 2, 5)), Err(PersistedRefused::NotHanded));
    assert_eq!(raft.handle_persisted(on_disk(4, 1, 4)), Err(PersistedRefused::OtherTerm));
    assert_eq!((raft.committed(), poll(&mut raft)), (LogIndex(2), vec![]));
    raft.handle_persisted(on_disk(4, 2, 4)).unwrap();
    assert_eq!(raft.handle_persisted(on_disk(4, 2, 3)), Err(PersistedRefused::OutOfOrder));
    assert_eq!(raft.handle_persisted(on_disk(3, 2, 4)), Err(PersistedRefused::OutOfOrder));
    raft.handle_persisted(on_disk(4, 2, 4)).unwrap();
    assert_eq!(poll(&mut raft), ["apply [3@2 4@2]"]);
}

#[test]
fn a_read_waits_for_the_own_entry() {
    let mut raft =
        Raft::restart(config(), Start { conf_state: ConfState::sole(ME), ..Start::default() }).unwrap();
    assert_eq!(raft.read_index(1), Err(ReadRefused::NotLeader(None)));
    poll(&mut raft);
    raft.handle_persisted(on_disk(1, 0, 0)).unwrap();
    raft.read_index(2).unwrap();
    assert_eq!(poll(&mut raft), ["persist #2 term 1 vote 7 commit 0 [1@1]", "leader 7 of term 1"]);
    raft.handle_persisted(on_disk(2, 1, 1)).unwrap();
    assert_eq!(poll(&mut raft), ["read 2 at 1", "apply [1@1]"]);
    raft.read_index(3).unwrap();
    assert_eq!(poll(&mut raft), ["read 3 at 1"]);
}

#[test]
fn uncommitted_bytes_are_bounded() {
    let mut raft = leader();
    let large = || [Bytes::from(vec![1; 1_001])];
    raft.propose(large()).unwrap();
    assert_eq!(raft.propose(large()), Err(ProposeRefused::Full));
    poll(&mut raft);
    raft.handle_persisted(on_disk(4, 2, 3)).unwrap();
    raft.propose(large()).unwrap();
    poll(&mut raft);
    raft.handle_persisted(on_disk(5, 2, 4)).unwrap();
    raft.propose([Bytes::from_static(b"a")]).unwrap();
}

#[test]
fn what_needs_other_members_is_refused() {
    let mut raft = leader();
    let other = MemberId(8);
    let message = Message { to: ME, from: other, term: Term(99), ..Message::default() };
    assert_eq!(raft.handle_message(other, &message), Err(MessageRefused::UnknownSender));
    assert_eq!(raft.handle_message(MemberId(9), &message), Err(MessageRefused::Misaddressed));
    let astray = Message { to: other, ..message };
    assert_eq!(raft.handle_message(other, &astray), Err(MessageRefused::Misaddressed));
    assert_eq!((raft.term(), raft.role()), (Term(2), Role::Leader));
    assert_eq!(raft.transfer_leader(other), Err(TransferRefused::NoSuchVoter));
    assert_eq!(raft.transfer_leader(ME), Ok(()));

    let mut change = ConfChange { member: other, ..ConfChange::default() };
    assert_eq!(raft.propose_conf_change(&change), Err(ProposeRefused::ConfChangeNotSupported));
    assert_eq!(raft.apply_conf_change(Some(&change)), Err(ConfRefused::OtherMembers));
    assert_eq!(raft.apply_conf_change(None), Ok(&ConfState::sole(ME)));
    change = ConfChange { kind: ConfChangeKind::UpdateNode, member: ME, ..change };
    assert_eq!(raft.propose_conf_change(&change), Ok(Proposed { term: Term(2), first: LogIndex(3) }));
    assert_eq!(raft.propose_conf_change(&change), Err(ProposeRefused::ConfChangePending));
    poll(&mut raft);
    raft.handle_persisted(on_disk(4, 2, 3)).unwrap();
    assert_eq!(poll(&mut raft), ["apply [conf 3@2]"]);
    assert_eq!(raft.propose_conf_change(&change), Err(ProposeRefused::ConfChangePending));
    raft.handle_applied(LogIndex(3));
    raft.propose_conf_change(&change).unwrap();

    let two = ConfState { voters: vec![ME, other], learners: vec![] };
    let start = Start { conf_state: two, ..Start::default() };
    assert_eq!(Raft::restart(config(), start).unwrap_err(), StartRefused::OtherMembers);
}

#[test]
fn a_start_that_can_not_be_is_refused() {
    let sole = || ConfState::sole(ME);
    let entries = vec![entry(2, 1, b"a"), entry(2, 2, b"b")];
    for (hard_state, applied) in [(state(2, ME, 3), 0), (state(2, ME, 1), 2), (state(1, ME, 1), 0)] {
        let start = Start {
            conf_state: sole(),
            hard_state,
            entries: entries.clone(),
            applied: LogIndex(applied),
            ..Start::default()
        };
        assert_eq!(Raft::restart(config(), start).unwrap_err(), StartRefused::Positions);
    }
}

/// Votes and commits are counted by quorum whatever its size; here they would be for three.
#[test]
fn quorums() {
    let voters = |n: u64| ConfState { voters: (1..=n).map(MemberId).collect(), learners: vec![MemberId(99)] };
    let sizes: Vec<usize> = (1..=7).map(|n| voters(n).quorum()).collect();
    assert_eq!(sizes, [1, 2, 2, 3, 3, 4, 4]);
    assert!(voters(3).contains(MemberId(99)) && !voters(3).contains(MemberId(4)));
}

/// The fields as the 3.5.1 log of `formats/raft-log.md` has them.
#[test]
fn conf_changes_are_encoded_as_by_etcd() {
    let change = ConfChange {
        id: 0,
        kind: ConfChangeKind::AddLearnerNode,
        member: MemberId(15_084_760_106_391_936_156),
        context: Bytes::from_static(b"{}"),
    };
    let bytes = change.encode();
    assert_eq!(
        bytes[..],
        [8, 0, 16, 3, 24, 156, 185, 230, 251, 206, 172, 245, 171, 209, 1, 34, 2, b'{', b'}']
    );
    assert_eq!(ConfChange::decode(&bytes), Some(change));
    assert_eq!(ConfChange::decode(&Bytes::new()), Some(ConfChange::default()));
    for cut in [1, 3, 5, 12, 16, 17, 18] {
        assert_eq!(ConfChange::decode(&bytes.slice(..cut)), None, "cut at {cut}");
    }
    for bad in [
        &[16, 4][..],
        &[40, 1],
        &[34, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
        &[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2],
    ] {
        assert_eq!(ConfChange::decode(&Bytes::copy_from_slice(bad)), None);
    }
}
