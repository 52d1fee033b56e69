//! A failed log write inside of this process, for machines on which no disk can be made to fail.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use etchd::edge::clock::Clock;
use etchd::edge::disk::{DataDirectory, DiskOptions, Syncs};
use etchd::edge::epoll::Epoll;
use etchd::edge::host::HostIo;
use etchd::edge::host::{Faults, Operation};
use etchd::edge::net::{ListenAddress, Listener};
use etchd::edge::ring::Ring;
use etchd::edge::shard::assemble::{self, Found, Wiring};
use etchd::edge::shard::{Loop, Stopped};
use etchd::limits;
use etchd::pure::api::log_payload::RequestIds;
use etchd::pure::cluster::Member;
use etchd::pure::front;
use etchd::pure::node;
use etchd::pure::raft::{self, MemberId};
use etchd::pure::session;
use etchd::pure::wal::{self, Identity};
use etchd::pure::watch::HubConfig;

use super::client::{Client, Endpoint, path, put};
use super::system::Scratch;

const MEMBER: u64 = 7;

/// A new member on an empty directory, put together as the server does it.
fn core<I: HostIo>(data: PathBuf) -> Loop<I> {
    let options = DiskOptions { data_dir: data, wal_dir: None, syncs: Syncs::On };
    let data = DataDirectory::open(&options).expect("opens the data directory");
    let config = wal::Config::standard();
    let Found::Nothing(none) = assemble::recover(config, data.log()).expect("reads nothing") else {
        panic!("a log in nothing")
    };
    let identity = Identity { cluster_id: MEMBER, member_id: MEMBER };
    let log = assemble::create(config, data.log(), &none, 1, identity).expect("makes a log");
    let io = I::set_up(Some(data)).expect("can be used here");

    let raft_config = raft::Config {
        id: MemberId(MEMBER),
        election_ticks: 10,
        pre_vote: true,
        uncommitted_bytes_max: limits::request::PROPOSAL_BYTES_OUTSTANDING_MAX,
        seed: 1,
    };
    let member = Member {
        id: MEMBER,
        name: String::new(),
        peer_urls: Vec::new(),
        client_urls: Vec::new(),
        is_learner: false,
    };
    let raft = assemble::bootstrap_raft(raft_config, &member);
    let ids = RequestIds::new(MEMBER, Clock.unix_millis());
    let node_config = node::Config {
        member_id: MEMBER,
        name: String::new(),
        client_urls: Vec::new(),
        cluster_version: "3.7.0".to_owned(),
        election_timeout: Duration::from_secs(1),
        ttl_seconds_min: 2,
        hash_seed: 1,
        delete_order_seed: None,
    };
    let front = front::Config {
        shard: 0,
        session: session::Config::new(front::resolve),
        cluster_id: MEMBER,
        member_id: MEMBER,
        txn_ops_max: limits::request::TXN_OPS_MAX_DEFAULT,
        request_bytes_max: limits::request::REQUEST_BYTES_MAX_DEFAULT,
        version: "3.7.3",
        storage_version: "3.7.0",
        hub: HubConfig::new(1, limits::request::REQUEST_BYTES_MAX_DEFAULT, Duration::from_secs(600)),
        seed: 1,
        ids,
    };
    let wiring = Wiring { cores: 1, connections_max: 100 };
    let seat = assemble::assemble(log, raft, node_config, front, wiring).remove(0);
    let wakers = vec![io.waker()];
    Loop::new(io, seat, wakers)
}

/// An address that the kernel chose, free again.
fn address() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    listener.local_addr().expect("is bound")
}

/// A write that the disk refuses, for whatever reason, or does only in part, is final: the loop ends, and what
/// was in it and everything after it stays unacknowledged.
#[test]
fn nothing_is_acknowledged_after_a_failed_log_write() {
    end_by_failed_writes::<Ring>();
    end_by_failed_writes::<Epoll>();
}

fn end_by_failed_writes<I: HostIo + Faults>() {
    const GOOD: i64 = 10;
    type Damage = fn(i32) -> i32;
    let damages: [(&str, Damage); 4] = [
        ("EIO", |_| -libc::EIO),
        ("ENOSPC", |_| -libc::ENOSPC),
        ("ECANCELED", |_| -libc::ECANCELED),
        ("short", |written| written - 4_096),
    ];
    for (name, damage) in damages {
        let scratch = Scratch::new("fault");
        let mut core = core::<I>(scratch.0.join("data"));
        let mut busy = true;
        while !core.sequencer().node.is_ready() {
            busy = core.turn(busy).expect("the disk is fine so far");
        }
        let address = address();
        let listener = Listener::bind(&ListenAddress::Tcp(address)).expect("the port is free");
        core.io().listen(vec![listener]);
        let armed = Arc::new(AtomicBool::new(false));
        let (is_armed, good) = (Arc::clone(&armed), AtomicI64::new(GOOD));
        core.io().set_fault_hook(Some(Box::new(move |operation, result| {
            let counts = operation == Operation::LogWrite && is_armed.load(Ordering::SeqCst);
            if counts && good.fetch_sub(1, Ordering::SeqCst) <= 0 { damage(result) } else { result }
        })));
        // One put at a time: one log write for each.
        let (too_many, waker) = (Arc::new(AtomicBool::new(false)), core.io().waker());
        let asked = Arc::clone(&too_many);
        core.stop_when(Box::new(move || asked.load(Ordering::SeqCst)));
        let client = std::thread::spawn(move || {
            let mut client = Client::connect(&Endpoint::Tcp(address.port())).expect("connects");
            armed.store(true, Ordering::SeqCst);
            let mut acknowledged = 0;
            while client.unary(path::PUT, &put(b"key", b"value")).is_ok() {
                acknowledged += 1;
                if acknowledged > GOOD {
                    too_many.store(true, Ordering::SeqCst);
                    waker.wake();
                    break;
                }
            }
            acknowledged
        });
        let stopped = core.run();
        assert!(matches!(stopped, Stopped::LogFailed(_)), "{name}: {stopped:?}");
        drop(core);
        // Fewer if the client was so slow that the log proved its end with a write of its own in between.
        let acknowledged = client.join().expect("the client");
        assert!((1..=GOOD).contains(&acknowledged), "{name}: {acknowledged}");
    }
}
