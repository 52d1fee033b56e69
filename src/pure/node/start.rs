//! A member's beginning: its configuration, its first entries, its return from the log.

use std::collections::VecDeque;
use std::time::Duration;

use super::clean::Cleaner;
use super::{Counters, Node, Publishing};
use crate::pure::api::log_payload::RequestIds;
use crate::pure::api::requests::{MemberAttributes, Operation};
use crate::pure::apply::Applier;
use crate::pure::cluster::{Member, context};
use crate::pure::raft::{ConfChange, ConfChangeKind, Entry, Raft};
use crate::pure::types::LogIndex;
use crate::pure::wal::Writer;

/// What a member is and may do.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member's id.
    pub member_id: u64,
    /// `--name`.
    pub name: String,
    /// `--advertise-client-urls`.
    pub client_urls: Vec<String>,
    /// The cluster version that a new cluster decides on, `major.minor.0`.
    pub cluster_version: String,
    /// `--election-timeout`.
    pub election_timeout: Duration,
    /// Shorter leases are raised to this.
    pub ttl_seconds_min: i64,
    /// Keys private hash maps; shows nowhere.
    pub hash_seed: u64,
    /// Canary M19: a delete walks its keys in the order of a hash with this seed.
    #[cfg(any(test, feature = "testing"))]
    pub delete_order_seed: Option<u64>,
}

impl Node {
    /// Puts a member together. `raft` was made from what `log` recovered (or is new), and campaigns by itself.
    pub fn new(config: Config, raft: Raft, log: Writer, ids: RequestIds) -> Node {
        let applier = Applier::new(config.hash_seed, config.ttl_seconds_min);
        #[cfg(any(test, feature = "testing"))]
        let applier = applier.with_delete_order(config.delete_order_seed);
        Node {
            applier,
            config,
            raft,
            log,
            deadlines: None,
            ids,
            proposed: Vec::new(),
            log_is_full: false,
            waiting: VecDeque::new(),
            committed: VecDeque::new(),
            foreseen: LogIndex(0),
            applying: None,
            applied: LogIndex(0),
            publishing: Publishing::NotBegun,
            expiring: Vec::new(),
            cleaner: Cleaner::new(),
            unpublished: true,
            replies: VecDeque::new(),
            effects: VecDeque::new(),
            log_bytes: 0,
            idle_since: None,
            segment_retry: None,
            stopping: false,
            counters: Counters::default(),
            #[cfg(any(test, feature = "testing"))]
            planted: super::Planted::default(),
        }
    }

    /// What this member tells the cluster when it leads for the first time since its start, as etcd does: its
    /// attributes, and the cluster version if none was decided.
    pub(super) fn own_entries(&self) -> Vec<Operation> {
        let attributes = MemberAttributes {
            member_id: self.config.member_id,
            name: self.config.name.clone(),
            client_urls: self.config.client_urls.clone(),
        };
        let mut own = vec![Operation::ClusterMemberAttrSet(attributes)];
        if self.applier.cluster_version().is_none() {
            own.push(Operation::ClusterVersionSet(self.config.cluster_version.clone()));
        }
        own
    }
}

/// The change of a bootstrap entry and the member that it adds.
///
/// # Panics
/// On anything that this version can't have written: membership changes come with the cluster.
pub(super) fn bootstrap_change(entry: &Entry) -> (ConfChange, Member) {
    let change = ConfChange::decode(&entry.payload).filter(|change| change.kind == ConfChangeKind::AddNode);
    let member = change.as_ref().and_then(|change| {
        context::decode(&change.context).filter(|member| member.id == change.member.0 && !member.is_learner)
    });
    change.zip(member).unwrap_or_else(|| {
        panic!(
            "log entry {} changes the members in a way that this version does not know; start the version that \
             wrote it",
            entry.index.0
        )
    })
}
