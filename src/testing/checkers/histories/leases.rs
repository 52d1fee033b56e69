//! Pairs for C7.

use super::*;
use crate::pure::api::requests::LeaseRevokeRequest;

/// The client ends the lease at 1.2 s.
fn revoked(history: &mut History, truth: &mut Truth) {
    let revoke = Request::Revoke(LeaseRevokeRequest { id: 9 });
    history.calls.push(call(SECOND / 5 * 6, 2 * SECOND, revoke, 4, Answer::Revoke));
    truth.leases[0].gone = Some(SECOND / 10 * 13);
}

fn renewal(sent: u64, ttl: Option<i64>) -> Renewal {
    Renewal { lease: 9, sent, returned: sent + 5, ttl }
}

pub(super) const PAIRS: &[Pair] = &[
    pair(
        "C7",
        "a lease ends before its renewed time",
        "was renewed at 1000000000 and ended at 2999999999",
        |_, t| t.leases[0].gone = Some(3 * SECOND),
        |_, t| t.leases[0].gone = Some(3 * SECOND - 1),
    ),
    pair(
        "C7",
        "a lease ends before its granted time",
        "was renewed at 67",
        |h, t| {
            h.renewals.clear();
            t.leases[0].gone = Some(2 * SECOND + 67);
        },
        |_, t| t.leases[0].gone = Some(2 * SECOND + 66),
    ),
    pair(
        "C7",
        "a lease ends although a second keepalive was answered",
        "was renewed at 2000000000",
        |h, _| h.renewals.push(renewal(2 * SECOND, None)),
        |h, _| h.renewals[1].ttl = Some(2),
    ),
    pair(
        "C7",
        "a lease ends early, and another one was revoked",
        "was renewed at 1000000000",
        revoked,
        |h, _| last(h).request = Request::Revoke(LeaseRevokeRequest { id: 8 }),
    ),
    pair(
        "C7",
        "a lease ends before its revoke was asked for",
        "was renewed at 1000000000",
        revoked,
        |h, _| last(h).invoked = SECOND / 10 * 14,
    ),
    pair(
        "C7",
        "a lease never ends",
        "is there until 10000000000",
        |_, t| (t.leases[0].gone, t.ended) = (None, 4 * SECOND),
        |_, t| t.ended = 10 * SECOND,
    ),
    pair(
        "C7",
        "a lease ends late",
        "is there until 4600000000",
        |_, t| t.leases[0].gone = Some(4 * SECOND + SECOND / 2),
        |_, t| t.leases[0].gone = Some(4 * SECOND + SECOND / 10 * 6),
    ),
    pair(
        "C7",
        "a lease ends late without a restart",
        "is there until 5900000000",
        |_, t| {
            t.lives =
                vec![Life { ready: 1, ended: 2 * SECOND }, Life { ready: SECOND / 2 * 5, ended: u64::MAX }];
            t.leases[0].gone = Some(SECOND / 10 * 59);
        },
        |_, t| t.lives = vec![Life { ready: 1, ended: u64::MAX }],
    ),
    pair(
        "C7",
        "a lease ends late with room on the disk",
        "is there until 6000000000",
        |_, t| (t.full_until, t.leases[0].gone) = (5 * SECOND, Some(6 * SECOND)),
        |_, t| t.full_until = 0,
    ),
    pair(
        "C7",
        "a lease ends late without a stall",
        "is there until 6000000000",
        |_, t| (t.stalled, t.leases[0].gone) = (2 * SECOND, Some(6 * SECOND)),
        |_, t| t.stalled = 0,
    ),
    pair(
        "C7",
        "a keepalive after the end",
        "and was renewed at 5000000000",
        |h, _| h.renewals.push(renewal(5 * SECOND, Some(0))),
        |h, _| h.renewals[1].ttl = Some(2),
    ),
    pair(
        "C7",
        "a keepalive of no lease",
        "the keepalive of lease 8",
        |h, _| h.renewals.push(Renewal { lease: 8, ..renewal(2 * SECOND, Some(0)) }),
        |h, _| h.renewals[1].ttl = Some(2),
    ),
    pair(
        "C7",
        "a keepalive that fails in vain",
        "the keepalive of lease 9 at 2000000000 got Some(0)",
        |h, _| h.renewals.push(renewal(5 * SECOND, Some(0))),
        |h, _| (h.renewals[1].sent, h.renewals[1].returned) = (2 * SECOND, 2 * SECOND + 5),
    ),
    pair(
        "C7",
        "a lease leaves a key behind",
        "and left b\"zz\" behind",
        |h, t| {
            unwatched(h, t);
            let Request::Put(put) = &mut last(h).request else { unreachable!("a put") };
            put.lease = 9;
            t.revisions[3].changes[0].kv.lease = 9;
            publish(h, t, vec![removed("zz", 6)]);
            let end = 3 * SECOND + SECOND / 2;
            (t.revisions[4].at, t.seen.last_mut().expect("seen").at) = (end, end);
        },
        |h, t| {
            t.revisions.pop();
            t.seen.pop();
            h.watches[0].told[4].revision = 5;
        },
    ),
];
