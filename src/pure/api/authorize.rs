//! Who may do what. In this version everybody may do everything: authentication is always off.
//!
//! Owns: the proof that a request was authorized. Takes: an RPC and what it wants to touch. Gives: the proof.
//! Always true: only [`authorize`] makes an [`Authorized`], so a handler that takes one can't be reached
//! around it.
//! Not here: the check at apply, which etcd makes again.

use super::requests::{DeleteRangeRequest, PutView, RangeRequest, TxnRequest};
use super::rpcs::Rpc;
use super::status::Status;
use crate::pure::types::LeaseId;

/// What a request wants to touch.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// Nothing but what the RPC's permission class says.
    Nothing,
    /// Keys to read.
    Range(&'a RangeRequest),
    /// A key to write.
    Put(&'a PutView<'a>),
    /// Keys to delete.
    DeleteRange(&'a DeleteRangeRequest),
    /// All that its compares and operations touch.
    Txn(&'a TxnRequest),
    /// Keys to watch: key and range end.
    Watch(&'a [u8], &'a [u8]),
    /// The keys attached to a lease.
    Lease(LeaseId),
}

/// Proof that a request was authorized, and as whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Authorized(());

impl Authorized {
    /// The user for the log entry's header; empty without authentication.
    pub fn username(&self) -> &str {
        ""
    }

    /// The revision of the users and roles that the decision rests on; 0 without authentication.
    pub fn auth_revision(&self) -> u64 {
        0
    }
}

/// Decides whether a request may run.
///
/// # Errors
/// The status that the call ends with. (None yet.)
pub fn authorize(rpc: Rpc, wanted: Wanted<'_>) -> Result<Authorized, Status> {
    // Both are what the decision will rest on once there are users.
    let (_, _) = (rpc.row().permission, wanted);
    Ok(Authorized(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_users_everything_is_allowed() {
        for rpc in Rpc::ALL {
            let proof = authorize(*rpc, Wanted::Nothing).expect("allowed");
            assert_eq!((proof.username(), proof.auth_revision()), ("", 0));
        }
    }
}
