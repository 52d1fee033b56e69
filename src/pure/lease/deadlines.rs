//! When leases end, on the leader's monotonic clock. Nothing of this is replicated.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::LeaseTable;
use crate::pure::types::LeaseId;
use crate::stdx::time::Monotonic;

/// How often the leader looks for expired leases (etcd's lessor loop).
const PASS_INTERVAL: Duration = Duration::from_millis(500);
/// Revokes proposed per pass: half of etcd's rate of 1,000 a second.
const REVOKES_PER_PASS_MAX: usize = 500;
/// Revokes in flight at once, as etcd.
const REVOKES_IN_FLIGHT_MAX: usize = 16;
/// A revoke that was not applied is proposed again after this.
const REVOKE_RETRY: Duration = Duration::from_secs(3);
/// Clock rate error allowed for, in parts per million of a lease's time (promise: never early).
const CLOCK_ERROR_PPM: u64 = 500;

/// Answer to a keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// Renewed: the granted TTL in seconds.
    Renewed(i64),
    /// Unknown here.
    Unknown,
    /// Expired, its revoke not yet applied: the answer has to wait for that.
    Expiring,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    at: Monotonic,
    ttl: i64,
    /// When the revoke was last proposed.
    proposed: Option<Monotonic>,
}

/// Deadlines of all leases, kept by the leader.
///
/// Always true: `by_time` holds each lease of `by_id` exactly once.
#[derive(Debug, Default)]
pub struct Deadlines {
    by_id: BTreeMap<LeaseId, Deadline>,
    by_time: BTreeSet<(Monotonic, LeaseId)>,
    next_pass: Monotonic,
    /// Revokes that this pass may still start.
    pass_left: usize,
    /// Leases whose revoke was proposed and not yet applied.
    in_flight: usize,
}

impl Deadlines {
    /// Starts afresh as leader: every lease gets its full (or checkpointed remaining) TTL plus `extend`,
    /// spread so that no more than the revoke rate fall due together (etcd's lessor.Promote).
    pub fn promote(table: &LeaseTable, now: Monotonic, extend: Duration) -> Deadlines {
        let mut deadlines = Deadlines { pass_left: REVOKES_PER_PASS_MAX, ..Deadlines::default() };
        for lease in table.iter() {
            let seconds = if lease.remaining_ttl > 0 { lease.remaining_ttl } else { lease.ttl };
            deadlines.set(lease.id, lease.ttl, now + time_of(seconds) + extend);
        }
        deadlines.spread(now);
        deadlines
    }

    /// Moves deadlines apart where more than three quarters of a second's revokes would fall together.
    fn spread(&mut self, now: Monotonic) {
        let per_second = u64::try_from(REVOKES_PER_PASS_MAX * 2 * 3 / 4).expect("small");
        if self.by_id.len() < REVOKES_PER_PASS_MAX * 2 {
            return;
        }
        let order: Vec<(Monotonic, LeaseId)> = self.by_time.iter().copied().collect();
        let (mut second, mut count) = (u64::MAX, 0);
        let mut earliest = now;
        for (at, id) in order {
            let at = at.max(earliest);
            if at.0 / 1_000_000_000 != second {
                (second, count) = (at.0 / 1_000_000_000, 0);
            }
            count += 1;
            if count > per_second {
                earliest = Monotonic((second + 1) * 1_000_000_000);
            }
            let ttl = self.by_id[&id].ttl;
            self.set(id, ttl, at);
        }
    }

    fn set(&mut self, id: LeaseId, ttl: i64, at: Monotonic) {
        self.forget(id);
        self.by_id.insert(id, Deadline { at, ttl, proposed: None });
        self.by_time.insert((at, id));
    }

    fn forget(&mut self, id: LeaseId) {
        if let Some(deadline) = self.by_id.remove(&id) {
            self.by_time.remove(&(deadline.at, id));
            self.in_flight -= usize::from(deadline.proposed.is_some());
        }
    }

    /// A grant was applied.
    pub fn granted(&mut self, id: LeaseId, ttl: i64, now: Monotonic) {
        self.set(id, ttl, now + time_of(ttl));
    }

    /// A revoke was applied.
    pub fn revoked(&mut self, id: LeaseId) {
        self.forget(id);
    }

    /// Renews a lease to its full TTL from `now`.
    pub fn renew(&mut self, id: LeaseId, now: Monotonic) -> Renewal {
        match self.by_id.get(&id).copied() {
            None => Renewal::Unknown,
            Some(deadline) if deadline.at <= now || deadline.proposed.is_some() => Renewal::Expiring,
            Some(deadline) => {
                self.set(id, deadline.ttl, now + time_of(deadline.ttl));
                Renewal::Renewed(deadline.ttl)
            }
        }
    }

    /// All leases last longer by `time`, those whose revoke is proposed aside.
    pub fn delay(&mut self, time: Duration) {
        let later = |(_, id)| {
            let deadline = self.by_id.get_mut(&id).expect("both hold the same leases");
            if deadline.proposed.is_none() {
                deadline.at = deadline.at + time;
            }
            (deadline.at, id)
        };
        self.by_time = std::mem::take(&mut self.by_time).into_iter().map(later).collect();
    }

    /// Remaining seconds, truncated towards zero as etcd shows them; `None` if unknown.
    pub fn remaining_seconds(&self, id: LeaseId, now: Monotonic) -> Option<i64> {
        let deadline = self.by_id.get(&id)?;
        let without_margin = without_margin(deadline.at.since(now));
        Some(i64::try_from(without_margin.as_secs()).expect("at most 9e9 seconds"))
    }

    /// All leases, soonest first.
    pub fn soonest_first(&self) -> impl Iterator<Item = LeaseId> {
        self.by_time.iter().map(|(_, id)| *id)
    }

    /// Leases whose revoke is to be proposed now: at most a pass's worth, paced, each again after 3 s.
    /// Cheap to call on every turn.
    pub fn poll_due(&mut self, now: Monotonic) -> Vec<LeaseId> {
        if self.by_time.first().is_none_or(|(at, _)| *at > now) {
            return Vec::new();
        }
        if now >= self.next_pass {
            self.pass_left = REVOKES_PER_PASS_MAX;
            self.next_pass = now + PASS_INTERVAL;
        }
        let mut due = Vec::new();
        let mut started = 0;
        for (_, id) in self.by_time.range(..=(now, LeaseId::MAX)).take(REVOKES_IN_FLIGHT_MAX * 2) {
            match self.by_id[id].proposed {
                Some(then) if now.since(then) < REVOKE_RETRY => continue,
                Some(_) => {}
                None if self.in_flight + started >= REVOKES_IN_FLIGHT_MAX || started == self.pass_left => {
                    continue;
                }
                None => started += 1,
            }
            due.push(*id);
        }
        for id in &due {
            self.by_id.get_mut(id).expect("due leases are known").proposed = Some(now);
        }
        self.in_flight += started;
        self.pass_left -= started;
        due
    }

    /// When [`Deadlines::poll_due`] should be called next, if nothing else happens before.
    pub fn next_timeout(&self) -> Option<Monotonic> {
        let (first, _) = self.by_time.first()?;
        Some(if self.in_flight > 0 || self.pass_left == 0 { (*first).max(self.next_pass) } else { *first })
    }
}

/// A lease of `seconds` lasts this long by our clock, which may run fast by [`CLOCK_ERROR_PPM`].
fn time_of(seconds: i64) -> Duration {
    let seconds = u64::try_from(seconds).expect("TTLs are raised to the minimum");
    Duration::from_secs(seconds) + Duration::from_micros(seconds.saturating_mul(CLOCK_ERROR_PPM))
}

fn without_margin(duration: Duration) -> Duration {
    let nanos = duration.as_nanos() * 1_000_000 / u128::from(1_000_000 + CLOCK_ERROR_PPM);
    Duration::from_nanos(u64::try_from(nanos).expect("shorter than its argument"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Monotonic {
        Monotonic(ms * 1_000_000)
    }

    #[test]
    fn a_lease_is_never_due_early_and_is_retried() {
        let mut deadlines = Deadlines::default();
        deadlines.granted(1, 2, at(0));
        assert!(deadlines.poll_due(at(2_000)).is_empty(), "the clock may run fast");
        assert_eq!(deadlines.poll_due(at(2_001)), [1]);
        assert_eq!(deadlines.renew(1, at(2_002)), Renewal::Expiring);
        assert!(deadlines.poll_due(at(3_000)).is_empty(), "in flight");
        assert_eq!(deadlines.poll_due(at(5_001)), [1], "again after 3 s");
        deadlines.revoked(1);
        assert_eq!(deadlines.renew(1, at(5_002)), Renewal::Unknown);
        assert_eq!(deadlines.next_timeout(), None);
    }

    #[test]
    fn a_renewal_starts_the_full_time_again() {
        let mut deadlines = Deadlines::default();
        deadlines.granted(1, 10, at(0));
        assert_eq!(deadlines.remaining_seconds(1, at(500)), Some(9));
        assert_eq!(deadlines.renew(1, at(9_000)), Renewal::Renewed(10));
        assert_eq!(deadlines.remaining_seconds(1, at(9_000)), Some(10));
        assert_eq!(deadlines.remaining_seconds(1, at(30_000)), Some(0));
        assert_eq!(deadlines.remaining_seconds(2, at(0)), None);
    }

    #[test]
    fn a_delay_moves_what_is_not_on_its_way_out() {
        let mut deadlines = Deadlines::default();
        deadlines.granted(1, 2, at(0));
        deadlines.granted(2, 3, at(0));
        assert_eq!(deadlines.poll_due(at(2_500)), [1]);
        deadlines.delay(Duration::from_secs(4));
        assert_eq!(deadlines.renew(1, at(2_600)), Renewal::Expiring);
        assert_eq!(deadlines.remaining_seconds(2, at(5_000)), Some(2));
        assert_eq!(deadlines.renew(2, at(7_000)), Renewal::Renewed(3));
        assert!(deadlines.poll_due(at(5_000)).is_empty(), "in flight");
        assert_eq!(deadlines.poll_due(at(5_600)), [1], "again after 3 s");
        deadlines.revoked(1);
        assert_eq!(deadlines.next_timeout(), Some(at(7_000) + time_of(3)));
        deadlines.revoked(2);
        assert_eq!(deadlines.next_timeout(), None);
    }

    #[test]
    fn at_most_sixteen_revokes_are_in_flight() {
        let mut deadlines = Deadlines::default();
        for id in 1..=40 {
            deadlines.granted(id, 2, at(0));
        }
        let first = deadlines.poll_due(at(3_000));
        assert_eq!(first.len(), REVOKES_IN_FLIGHT_MAX);
        assert!(deadlines.poll_due(at(3_600)).is_empty());
        deadlines.revoked(first[0]);
        assert_eq!(deadlines.poll_due(at(4_200)).len(), 1);
    }

    #[test]
    fn promotion_extends_and_spreads() {
        let mut table = LeaseTable::default();
        for id in 1..=3_000 {
            table.grant(id, 2);
        }
        table.checkpoint(5, 1);
        let deadlines = Deadlines::promote(&table, at(0), Duration::from_secs(1));
        assert_eq!(deadlines.soonest_first().next(), Some(5));
        let mut per_second = BTreeMap::new();
        for (when, _) in &deadlines.by_time {
            assert!(*when >= at(2_000));
            *per_second.entry(when.0 / 1_000_000_000).or_insert(0) += 1;
        }
        assert!(per_second.values().all(|n| *n <= 751), "{per_second:?}");
    }
}
