//! Leases: what is replicated of them, and the deadlines that only the leader keeps.
//!
//! Owns: the lease table (replicated, part of the view) and the deadlines (leader only).
//! Takes: grants, revokes, attachments from `apply`; times from `node`.
//! Gives: leases, keys attached, what is due.
//! Always true: a key is attached to at most one lease; the table never looks at a clock.
//! Not here: deleting the keys of a revoked lease (`apply`), proposing the revoke (`node`).

mod deadlines;
mod table;

pub use deadlines::{Deadlines, Renewal};
pub use table::{Attached, Lease, LeaseTable};

/// Smallest TTL in seconds that a lease gets: election timeout times 1.5, rounded up
/// (etcd's lessor: `minTTL`).
pub fn ttl_seconds_min(election_timeout_ms: u64) -> i64 {
    i64::try_from((election_timeout_ms * 3).div_ceil(2_000)).expect("an election timeout is below a minute")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minimum_is_rounded_up() {
        assert_eq!(ttl_seconds_min(1_000), 2);
        assert_eq!(ttl_seconds_min(2_000), 3);
        assert_eq!(ttl_seconds_min(500), 1);
    }
}
