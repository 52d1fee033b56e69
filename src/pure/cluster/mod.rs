//! Members of the cluster and the ids derived from their URLs.
//!
//! Owns: the member list (replicated). Takes: names, URLs, the cluster token. Gives: ids, members.
//! Always true: a member's id and the cluster's id never change after bootstrap.
//! Not here: Raft's view of the members, connections to them.

pub mod context;

use sha1::{Digest, Sha1};

/// One member of the cluster, as MemberList shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Id derived by [`member_id`].
    pub id: u64,
    /// `--name`; empty until the member has published itself.
    pub name: String,
    /// `--initial-advertise-peer-urls`.
    pub peer_urls: Vec<String>,
    /// `--advertise-client-urls`; empty until published.
    pub client_urls: Vec<String>,
    /// True for a member without a vote.
    pub is_learner: bool,
}

/// Id of a bootstrap member: the first 8 bytes, big-endian, of SHA-1 over its sorted peer URLs glued
/// together and the cluster token (`--initial-cluster-token`).
pub fn member_id(peer_urls: &[String], cluster_token: &str) -> u64 {
    let mut sorted: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for url in sorted {
        hash.update(url.as_bytes());
    }
    hash.update(cluster_token.as_bytes());
    first_eight(&hash.finalize())
}

/// Id of a cluster: the first 8 bytes, big-endian, of SHA-1 over its bootstrap members' ids, each 8
/// bytes big-endian, in ascending order.
pub fn cluster_id(member_ids: &[u64]) -> u64 {
    let mut sorted = member_ids.to_vec();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    for id in sorted {
        hash.update(id.to_be_bytes());
    }
    first_eight(&hash.finalize())
}

fn first_eight(digest: &[u8]) -> u64 {
    u64::from_be_bytes(digest[..8].try_into().expect("SHA-1 has 20 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of a real three-member etcd 3.5.1 cluster with token `tok-demo`.
    #[test]
    fn ids_equal_those_of_a_real_cluster() {
        let ids: Vec<u64> = (42381..=42383)
            .map(|port| member_id(&[format!("http://127.0.0.1:{port}")], "tok-demo"))
            .collect();
        assert_eq!(ids, [8128108202461973020, 7874398002763722684, 16262957827117977958]);
        assert_eq!(cluster_id(&ids), 5984286779237051143);
    }

    /// What every etcd that was started without flags calls itself.
    #[test]
    fn ids_without_flags() {
        let id = member_id(&["http://localhost:2380".into()], "etcd-cluster");
        assert_eq!(id, 10276657743932975437);
        assert_eq!(cluster_id(&[id]), 14841639068965178418);
    }
}
