//! The one table of RPCs.
//!
//! Owns: the table. Takes: a call's `:path`. Gives: which RPC it is, or grpc-go's refusal.
//! Always true: all services that etcd registers on its client port are here, so that a known RPC of a
//! later version of etchd is told from one that no etcd knows.
//! Not here: what an RPC does.

use super::status::{Code, Status};

/// Who sends how many messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One request, one response.
    Unary,
    /// One request, a stream of responses.
    ServerStream,
    /// A stream of requests, one response.
    ClientStream,
    /// Streams both ways.
    Bidi,
}

/// What a caller must be allowed to do, once authentication is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Nothing.
    Open,
    /// Be some user.
    User,
    /// Read the request's interval.
    Read,
    /// Write the request's interval; with `prev_kv` read it.
    Write,
    /// Read and write as compares and operations say.
    Txn,
    /// Read or write the keys that are attached to the lease.
    LeaseKeys,
    /// Be some user to GET, root to change.
    AlarmAction,
    /// Have the role root, or ask about oneself.
    AdminOrSelf,
    /// Have the role root.
    Admin,
    /// What the inner requests need (Lock, Election).
    Inner,
}

/// How far behind apply may be before the request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// `limits::request::APPLY_BACKLOG_ENTRIES_MAX`.
    Normal,
    /// Twice that: LeaseRevoke, which takes load off.
    High,
}

/// Whether the RPC can be answered by a member that knows no leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leader {
    /// Yes: local state only.
    No,
    /// Depends on the request: a linearizable read needs one, a serializable one doesn't.
    Linearizable,
    /// No.
    Yes,
}

/// Whether this version has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// Yes.
    Now,
    /// Answered with Unimplemented.
    Later,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// `:path`: slash, service, slash, method.
    pub path: &'static str,
    /// Service with its package.
    pub service: &'static str,
    /// Method.
    pub method: &'static str,
    /// Who sends how many messages.
    pub kind: Kind,
    /// What the caller must be allowed to do.
    pub permission: Permission,
    /// Against the apply backlog.
    pub priority: Priority,
    /// Whether it needs a leader.
    pub leader: Leader,
    /// Whether this version has it.
    pub since: Since,
}

macro_rules! rpcs {
    ($($name:ident: $service:literal, $method:literal, $kind:ident, $permission:ident, $priority:ident,
       $leader:ident, $since:ident;)*) => {
        /// An RPC.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Rpc {
            $(#[doc = concat!("`/", $service, "/", $method, "`")] $name,)*
        }

        impl Rpc {
            /// All RPCs, in the table's order.
            pub const ALL: &[Rpc] = &[$(Rpc::$name),*];

            /// The RPC with exactly this path.
            #[expect(non_upper_case_globals, reason = "one constant per row, named as the row")]
            pub fn by_path(path: &[u8]) -> Option<Rpc> {
                // rustc compares lengths before bytes, and the hot paths stand first in the table.
                $(
                    const $name: &[u8] = concat!("/", $service, "/", $method).as_bytes();
                )*
                match path {
                    $($name => Some(Rpc::$name),)*
                    _ => None,
                }
            }
        }

        const TABLE: &[Row] = &[$(Row {
            path: concat!("/", $service, "/", $method),
            service: $service,
            method: $method,
            kind: Kind::$kind,
            permission: Permission::$permission,
            priority: Priority::$priority,
            leader: Leader::$leader,
            since: Since::$since,
        }),*];
    };
}

rpcs! {
    Range: "etcdserverpb.KV", "Range", Unary, Read, Normal, Linearizable, Now;
    RangeStream: "etcdserverpb.KV", "RangeStream", ServerStream, Read, Normal, Linearizable, Now;
    Put: "etcdserverpb.KV", "Put", Unary, Write, Normal, Yes, Now;
    DeleteRange: "etcdserverpb.KV", "DeleteRange", Unary, Write, Normal, Yes, Now;
    Txn: "etcdserverpb.KV", "Txn", Unary, Txn, Normal, Linearizable, Now;
    Compact: "etcdserverpb.KV", "Compact", Unary, Admin, Normal, Yes, Now;
    Watch: "etcdserverpb.Watch", "Watch", Bidi, Read, Normal, No, Now;
    LeaseGrant: "etcdserverpb.Lease", "LeaseGrant", Unary, User, Normal, Yes, Now;
    LeaseRevoke: "etcdserverpb.Lease", "LeaseRevoke", Unary, LeaseKeys, High, Yes, Now;
    LeaseKeepAlive: "etcdserverpb.Lease", "LeaseKeepAlive", Bidi, LeaseKeys, Normal, Yes, Now;
    LeaseTimeToLive: "etcdserverpb.Lease", "LeaseTimeToLive", Unary, LeaseKeys, Normal, Yes, Now;
    LeaseLeases: "etcdserverpb.Lease", "LeaseLeases", Unary, LeaseKeys, Normal, No, Now;
    MemberAdd: "etcdserverpb.Cluster", "MemberAdd", Unary, Admin, Normal, Yes, Later;
    MemberRemove: "etcdserverpb.Cluster", "MemberRemove", Unary, Admin, Normal, Yes, Later;
    MemberUpdate: "etcdserverpb.Cluster", "MemberUpdate", Unary, Admin, Normal, Yes, Later;
    MemberList: "etcdserverpb.Cluster", "MemberList", Unary, User, Normal, Linearizable, Now;
    MemberPromote: "etcdserverpb.Cluster", "MemberPromote", Unary, Admin, Normal, Yes, Later;
    Alarm: "etcdserverpb.Maintenance", "Alarm", Unary, AlarmAction, Normal, Linearizable, Now;
    Status: "etcdserverpb.Maintenance", "Status", Unary, User, Normal, No, Now;
    Defragment: "etcdserverpb.Maintenance", "Defragment", Unary, Admin, Normal, No, Now;
    Hash: "etcdserverpb.Maintenance", "Hash", Unary, Admin, Normal, No, Now;
    HashKV: "etcdserverpb.Maintenance", "HashKV", Unary, Admin, Normal, No, Now;
    Snapshot: "etcdserverpb.Maintenance", "Snapshot", ServerStream, Admin, Normal, No, Later;
    MoveLeader: "etcdserverpb.Maintenance", "MoveLeader", Unary, Admin, Normal, No, Later;
    Downgrade: "etcdserverpb.Maintenance", "Downgrade", Unary, Admin, Normal, Yes, Later;
    AuthEnable: "etcdserverpb.Auth", "AuthEnable", Unary, Admin, Normal, Yes, Later;
    AuthDisable: "etcdserverpb.Auth", "AuthDisable", Unary, Admin, Normal, Yes, Later;
    AuthStatus: "etcdserverpb.Auth", "AuthStatus", Unary, Open, Normal, Yes, Later;
    Authenticate: "etcdserverpb.Auth", "Authenticate", Unary, Open, Normal, Yes, Later;
    AuthUserAdd: "etcdserverpb.Auth", "UserAdd", Unary, Admin, Normal, Yes, Later;
    AuthUserGet: "etcdserverpb.Auth", "UserGet", Unary, AdminOrSelf, Normal, Yes, Later;
    AuthUserList: "etcdserverpb.Auth", "UserList", Unary, Admin, Normal, Yes, Later;
    AuthUserDelete: "etcdserverpb.Auth", "UserDelete", Unary, Admin, Normal, Yes, Later;
    AuthUserChangePassword: "etcdserverpb.Auth", "UserChangePassword", Unary, Admin, Normal, Yes, Later;
    AuthUserGrantRole: "etcdserverpb.Auth", "UserGrantRole", Unary, Admin, Normal, Yes, Later;
    AuthUserRevokeRole: "etcdserverpb.Auth", "UserRevokeRole", Unary, Admin, Normal, Yes, Later;
    AuthRoleAdd: "etcdserverpb.Auth", "RoleAdd", Unary, Admin, Normal, Yes, Later;
    AuthRoleGet: "etcdserverpb.Auth", "RoleGet", Unary, AdminOrSelf, Normal, Yes, Later;
    AuthRoleList: "etcdserverpb.Auth", "RoleList", Unary, Admin, Normal, Yes, Later;
    AuthRoleDelete: "etcdserverpb.Auth", "RoleDelete", Unary, Admin, Normal, Yes, Later;
    AuthRoleGrantPermission: "etcdserverpb.Auth", "RoleGrantPermission", Unary, Admin, Normal, Yes, Later;
    AuthRoleRevokePermission: "etcdserverpb.Auth", "RoleRevokePermission", Unary, Admin, Normal, Yes, Later;
    Lock: "v3lockpb.Lock", "Lock", Unary, Inner, Normal, Yes, Later;
    Unlock: "v3lockpb.Lock", "Unlock", Unary, Inner, Normal, Yes, Later;
    Campaign: "v3electionpb.Election", "Campaign", Unary, Inner, Normal, Yes, Later;
    Proclaim: "v3electionpb.Election", "Proclaim", Unary, Inner, Normal, Yes, Later;
    ElectionLeader: "v3electionpb.Election", "Leader", Unary, Inner, Normal, Yes, Later;
    Observe: "v3electionpb.Election", "Observe", ServerStream, Inner, Normal, Yes, Later;
    Resign: "v3electionpb.Election", "Resign", Unary, Inner, Normal, Yes, Later;
    HealthCheck: "grpc.health.v1.Health", "Check", Unary, Open, Normal, No, Now;
    HealthWatch: "grpc.health.v1.Health", "Watch", ServerStream, Open, Normal, No, Now;
}

impl Rpc {
    /// The RPC's row.
    #[inline]
    pub fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The RPC to run for a call's `:path`.
    ///
    /// # Errors
    /// The status to end the call with: unknown to every etcd, or not in this version of etchd.
    pub fn resolve(path: &[u8]) -> Result<Rpc, Status> {
        let rpc = Rpc::by_path(path).ok_or_else(|| unknown(path))?;
        match rpc.row().since {
            Since::Now => Ok(rpc),
            Since::Later => Err(not_yet(rpc.row().method)),
        }
    }
}

/// Unimplemented for a thing of a later version.
pub fn not_yet(name: &str) -> Status {
    Status::with(Code::Unimplemented, format!("etchd: {name} is not in this version yet"))
}

/// What grpc-go answers to a path that nobody registered.
fn unknown(path: &[u8]) -> Status {
    let path = String::from_utf8_lossy(path);
    let parts = path.strip_prefix('/').and_then(|rest| rest.rsplit_once('/'));
    let message = match parts {
        None => format!("malformed method name: {}", quoted(&path)),
        Some((service, method)) if TABLE.iter().any(|row| row.service == service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
    };
    Status::with(Code::Unimplemented, message)
}

/// Text as Go's `%q` shows it.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(path: &str) -> String {
        let status = Rpc::resolve(path.as_bytes()).expect_err("nothing to run");
        assert_eq!(status.code, Code::Unimplemented);
        status.message.into_owned()
    }

    #[test]
    fn every_row_is_found_by_its_path() {
        assert_eq!(Rpc::ALL.len(), TABLE.len());
        for (rpc, row) in Rpc::ALL.iter().zip(TABLE) {
            assert_eq!(rpc.row(), row);
            assert_eq!(Rpc::by_path(row.path.as_bytes()), Some(*rpc), "{}", row.path);
            assert_eq!(Rpc::by_path(&row.path.as_bytes()[1..]), None);
        }
    }

    #[test]
    fn this_version_has_exactly_its_scope() {
        let now: Vec<String> = TABLE
            .iter()
            .filter(|row| row.since == Since::Now)
            .map(|row| row.path.rsplit('.').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(
            now.join(" "),
            "KV/Range KV/RangeStream KV/Put KV/DeleteRange KV/Txn KV/Compact Watch/Watch Lease/LeaseGrant \
             Lease/LeaseRevoke Lease/LeaseKeepAlive Lease/LeaseTimeToLive Lease/LeaseLeases \
             Cluster/MemberList Maintenance/Alarm Maintenance/Status Maintenance/Defragment \
             Maintenance/Hash Maintenance/HashKV v1.Health/Check v1.Health/Watch"
                .replace("v1.", "")
        );
    }

    #[test]
    fn others_get_grpc_gos_texts() {
        assert_eq!(message("/etcdserverpb.KV/Nope"), "unknown method Nope for service etcdserverpb.KV");
        assert_eq!(message("/etcdserverpb.KV/"), "unknown method  for service etcdserverpb.KV");
        assert_eq!(message("/etcdserverpb.Nope/Put"), "unknown service etcdserverpb.Nope");
        assert_eq!(message("/a/b/c"), "unknown service a/b");
        assert_eq!(message("/x"), r#"malformed method name: "/x""#);
        assert_eq!(message("/"), r#"malformed method name: "/""#);
        assert_eq!(message(""), r#"malformed method name: """#);
        assert_eq!(message("etcdserverpb.KV/Put"), r#"malformed method name: "etcdserverpb.KV/Put""#);
        assert_eq!(message("/\"\u{1}"), r#"malformed method name: "/\"\x01""#);
        assert_eq!(message("/etcdserverpb.Cluster/MemberAdd"), "etchd: MemberAdd is not in this version yet");
    }
}
