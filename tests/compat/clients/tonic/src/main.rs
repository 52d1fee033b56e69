//! The shared client script on tonic. See ../README.md for the cases.

use std::error::Error;
use std::process::{Command, ExitCode};
use std::time::Duration;

use prost::Message;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout};
use tonic::codegen::tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use stubs::etcdserverpb::kv_client::KvClient;
use stubs::etcdserverpb::lease_client::LeaseClient;
use stubs::etcdserverpb::watch_client::WatchClient;
use stubs::etcdserverpb::watch_request::RequestUnion;
use stubs::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest, RangeRequest, WatchCancelRequest,
    WatchCreateRequest, WatchRequest, WatchResponse,
};

/// What build.rs makes of schema/etcd.
#[allow(dead_code, clippy::all)]
mod stubs {
    pub mod authpb {
        tonic::include_proto!("authpb");
    }
    pub mod mvccpb {
        tonic::include_proto!("mvccpb");
    }
    pub mod etcdserverpb {
        tonic::include_proto!("etcdserverpb");
    }
}

const LIMIT_ENTRY: usize = 1536 << 10;
const LIMIT_MESSAGE: usize = LIMIT_ENTRY + (512 << 10);
/// No call and no case takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

fn check(condition: bool, text: impl Into<String>) -> Outcome {
    if condition { Ok(()) } else { Err(text.into().into()) }
}

fn refused<T>(answer: Result<T, Status>, code: Code, text: &str) -> Outcome {
    let Err(status) = answer else { return Err(format!("passed where {text:?} is due").into()) };
    let right = status.code() == code && status.message() == text;
    check(right, format!("{:?} {:?}, not {code:?} {text:?}", status.code(), status.message()))
}

/// An open Watch call.
struct Watch {
    requests: UnboundedSender<WatchRequest>,
    answers: Streaming<WatchResponse>,
}

impl Watch {
    async fn next(&mut self) -> Outcome<WatchResponse> {
        self.answers.message().await?.ok_or_else(|| "the watch has ended".into())
    }

    /// How the call ends, once every event is read.
    async fn end(mut self) -> Status {
        loop {
            match self.answers.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok(""),
                Err(status) => return status,
            }
        }
    }
}

#[derive(Clone)]
struct Script {
    kv: KvClient<Channel>,
    watch: WatchClient<Channel>,
    lease: LeaseClient<Channel>,
    /// The server, for the SIGTERM case.
    pid: Option<u32>,
    /// The server is etcd 3.5: no RangeStream, and Unknown for a stream past its deadline.
    old: bool,
    /// The server is any etcd: SIGTERM breaks its streams, for which tonic's word is Unknown.
    etcd: bool,
}

impl Script {
    async fn put(&self, key: &str, value: impl Into<Vec<u8>>) -> Result<i64, Status> {
        let request = PutRequest { key: key.into(), value: value.into(), ..Default::default() };
        let answer = self.kv.clone().put(request).await?.into_inner();
        Ok(answer.header.unwrap_or_default().revision)
    }

    async fn usable(&self) -> Outcome {
        let request = RangeRequest { key: "none".into(), ..Default::default() };
        let answer =
            self.kv.clone().range(request).await.map_err(|e| format!("the connection is harmed: {e}"))?;
        check(answer.get_ref().count == 0, "a key that nobody wrote")
    }

    /// Starts a Watch call with one watcher and takes its created response.
    async fn open(&self, key: &str, start_revision: i64, deadline: Duration) -> Outcome<Watch> {
        let (requests, outgoing) = unbounded_channel();
        let create = WatchCreateRequest { key: key.into(), start_revision, ..Default::default() };
        requests.send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) })?;
        let mut request = Request::new(UnboundedReceiverStream::new(outgoing));
        request.set_timeout(deadline);
        let answers = self.watch.clone().watch(request).await?.into_inner();
        let mut watch = Watch { requests, answers };
        let created = watch.next().await?;
        check(created.created && created.watch_id == 0, format!("created: {created:?}"))?;
        Ok(watch)
    }

    async fn unary(self) -> Outcome {
        let mut kv = self.kv.clone();
        let first = self.put("unary", "1").await?;
        let again =
            PutRequest { key: "unary".into(), value: "2".into(), prev_kv: true, ..Default::default() };
        let second = kv.put(again).await?.into_inner();
        let revision = second.header.unwrap_or_default().revision;
        check(revision == first + 1, "two puts are not one revision apart")?;
        check(second.prev_kv.unwrap_or_default().value == b"1", "the previous value is wrong")?;
        let got = kv.range(RangeRequest { key: "unary".into(), ..Default::default() }).await?.into_inner();
        let right = got.count == 1 && got.kvs[0].value == b"2" && got.kvs[0].mod_revision == revision;
        check(right, format!("range answers {got:?}"))?;
        let empty = kv.range(RangeRequest::default()).await;
        refused(empty, Code::InvalidArgument, "etcdserver: key is not provided")?;
        let future =
            kv.range(RangeRequest { key: "a".into(), revision: 1 << 40, ..Default::default() }).await;
        refused(future, Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision")?;
        let lease = kv.put(PutRequest { key: "a".into(), lease: 12345, ..Default::default() }).await;
        refused(lease, Code::NotFound, "etcdserver: requested lease not found")
    }

    async fn server_stream(self) -> Outcome {
        for i in 0..100 {
            self.put(&format!("stream/{i:03}"), i.to_string()).await?;
        }
        let request =
            RangeRequest { key: "stream/".into(), range_end: "stream0".into(), ..Default::default() };
        let mut stream = self.kv.clone().range_stream(request).await?.into_inner();
        let mut parts = Vec::new();
        while let Some(part) = stream.message().await? {
            parts.push(part.range_response.unwrap_or_default());
        }
        let values = parts.iter().flat_map(|p| &p.kvs).map(|kv| kv.value.clone());
        check(
            values.eq((0..100).map(|i| i.to_string().into_bytes())),
            "the keys are not all there in order",
        )?;
        check(parts.len() > 1, "100 keys in one message")?;
        let last = parts.pop().unwrap_or_default();
        check(last.count == 100 && last.header.is_some(), "the last message has no count or header")?;
        let early = parts.iter().any(|p| p.header.is_some() || p.count != 0 || p.more);
        check(!early, "a header, count or more before the last message")
    }

    async fn two_way_stream(self) -> Outcome {
        let mut watch = self.open("two-way", 0, PATIENCE).await?;
        for i in 0..200 {
            self.put("two-way", i.to_string()).await?;
        }
        let mut seen = 0;
        while seen < 200 {
            for event in watch.next().await?.events {
                let value = event.kv.unwrap_or_default().value;
                check(value == seen.to_string().as_bytes(), format!("event {seen} is of {value:?}"))?;
                seen += 1;
            }
        }
        let cancel = RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 0 });
        watch.requests.send(WatchRequest { request_union: Some(cancel) })?;
        check(watch.next().await?.canceled, "no answer to a cancel request")?;

        let mut client = self.lease.clone();
        let lease =
            client.lease_grant(LeaseGrantRequest { ttl: 100, ..Default::default() }).await?.into_inner();
        let (requests, outgoing) = unbounded_channel();
        requests.send(LeaseKeepAliveRequest { id: lease.id })?;
        let mut answers = client.lease_keep_alive(UnboundedReceiverStream::new(outgoing)).await?.into_inner();
        for (id, ttl, next) in
            [(lease.id, 100, Some(424242)), (424242, 0, Some(lease.id)), (lease.id, 100, None)]
        {
            let answer = answers.message().await?.ok_or("keep-alive ends early")?;
            check(answer.id == id && answer.ttl == ttl, format!("keep-alive of {id} answers {answer:?}"))?;
            if let Some(id) = next {
                requests.send(LeaseKeepAliveRequest { id })?;
            }
        }
        drop(requests);
        check(answers.message().await?.is_none(), "keep-alive goes on without a client")
    }

    /// A reset by the server and a deadline that tonic sees first both show as cancelled.
    fn is_overdue(&self, status: &Status) -> bool {
        matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled)
            || self.old && status.code() == Code::Unknown
    }

    async fn deadline(self) -> Outcome {
        let watch = self.open("deadline", 0, Duration::from_millis(500)).await?;
        let start = Instant::now();
        // tonic does not end a stream itself: the server has to.
        let ended = watch.end().await;
        check(self.is_overdue(&ended), format!("a watch past its deadline ends with {ended:?}"))?;
        check(start.elapsed() < Duration::from_secs(5), "the deadline came late")?;
        for i in 0..20 {
            let mut request = Request::new(RangeRequest { key: "none".into(), ..Default::default() });
            request.set_timeout(Duration::from_micros(10 * i));
            if let Err(status) = self.kv.clone().range(request).await {
                check(self.is_overdue(&status), format!("a read past its deadline ends with {status}"))?;
            }
        }
        self.usable().await
    }

    async fn cancel(self) -> Outcome {
        self.put("cancel", vec![b'x'; 1000]).await?;
        for _ in 0..50 {
            let mut watch = self.open("cancel", 1, PATIENCE).await?;
            check(watch.next().await?.events.len() == 1, "not one event")?;
            drop(watch); // resets the stream
        }
        self.usable().await
    }

    async fn large_response(self) -> Outcome {
        let value: Vec<u8> = (0..=255).cycle().take(512 << 10).collect();
        for i in 0..5 {
            self.put(&format!("large/{i}"), value.clone()).await?;
        }
        let request = RangeRequest { key: "large/".into(), range_end: "large0".into(), ..Default::default() };
        let got = self.kv.clone().range(request).await?.into_inner();
        let whole = got.kvs.len() == 5 && got.kvs.iter().all(|kv| kv.value == value);
        check(whole && got.encoded_len() > 2 << 20, "a large answer is damaged")
    }

    async fn size_limits(self) -> Outcome {
        let put = |size| self.put("limit", vec![b'x'; size]);
        let probe = LIMIT_MESSAGE - 100; // as many bytes for its length as the real ones have
        let full = PutRequest { key: "limit".into(), value: vec![0; probe], ..Default::default() };
        let empty = full.encoded_len() - probe;
        let too_large = "etcdserver: request is too large";
        put(LIMIT_ENTRY - 200).await.map_err(|e| format!("just below the limit: {e}"))?;
        refused(put(LIMIT_ENTRY).await, Code::InvalidArgument, too_large)?;
        refused(put(LIMIT_MESSAGE - empty).await, Code::InvalidArgument, too_large)?;
        let text =
            format!("grpc: received message larger than max ({} vs. {LIMIT_MESSAGE})", LIMIT_MESSAGE + 1);
        refused(put(LIMIT_MESSAGE + 1 - empty).await, Code::ResourceExhausted, &text)?;
        self.usable().await
    }

    async fn many_streams(self) -> Outcome {
        let open = || {
            let script = self.clone();
            tokio::spawn(async move { script.open("many", 0, PATIENCE).await })
        };
        let opening: Vec<_> = (0..1000).map(|_| open()).collect();
        let mut watches = Vec::new();
        for watch in opening {
            watches.push(watch.await??);
        }
        self.put("many", "all of you").await?;
        for watch in &mut watches {
            let told = watch.next().await?.events.pop().and_then(|e| e.kv).unwrap_or_default();
            check(told.value == b"all of you", format!("a watch was told {told:?}"))?;
        }
        self.usable().await
    }

    fn is_gone(&self, status: &Status) -> bool {
        status.code() == Code::Unavailable || self.etcd && status.code() == Code::Unknown
    }

    async fn sigterm(self) -> Outcome {
        let watch = self.open("sigterm", 0, PATIENCE).await?;
        let (passed, mut passes) = unbounded_channel();
        let script = self.clone();
        let writer = tokio::spawn(async move {
            loop {
                match script.put("other", "x").await {
                    Ok(_) => drop(passed.send(())),
                    Err(status) => return status,
                }
            }
        });
        for _ in 0..20 {
            passes.recv().await.ok_or("no put passes before SIGTERM")?;
        }
        let kill = format!("kill -TERM {}", self.pid.ok_or("no --pid")?);
        check(Command::new("sh").args(["-c", &kill]).status()?.success(), "SIGTERM cannot be sent")?;
        let ended = watch.end().await;
        let right = ended.code() == Code::Ok || self.is_gone(&ended);
        check(right, format!("the open watch ends with {ended:?}"))?;
        let last =
            timeout(Duration::from_secs(30), writer).await.map_err(|_| "a put hangs after SIGTERM")??;
        // A put that waits to be sent when the connection ends is taken back by tonic.
        let unsent = last.code() == Code::Cancelled && last.message() == "operation was canceled";
        check(unsent || self.is_gone(&last), format!("the last put ends with {last}"))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<ExitCode> {
    let (mut endpoint, mut pid, mut old, mut etcd) = (None, None, false, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--endpoint" => endpoint = arguments.next(),
            "--pid" => pid = arguments.next().map(|text| text.parse()).transpose()?,
            "--old" => old = true,
            "--etcd" => etcd = true,
            other => {
                let usage = "usage: --endpoint HOST:PORT [--pid PID] [--old] [--etcd]";
                return Err(format!("{other}? {usage}").into());
            }
        }
    }
    let endpoint = format!("http://{}", endpoint.ok_or("--endpoint says where the server is")?);
    let channel = timeout(PATIENCE, Endpoint::from_shared(endpoint)?.connect()).await??;
    let script = Script {
        kv: KvClient::new(channel.clone()),
        watch: WatchClient::new(channel.clone()),
        lease: LeaseClient::new(channel),
        pid,
        old,
        etcd,
    };

    let (mut passed, mut failed) = (0, 0);
    macro_rules! run {
        ($case:ident) => {
            match timeout(PATIENCE, script.clone().$case()).await {
                Ok(Ok(())) => {
                    passed += 1;
                    println!("ok      {}", stringify!($case));
                }
                Ok(Err(error)) => {
                    failed += 1;
                    println!("FAILED  {}: {error}", stringify!($case));
                }
                Err(_) => {
                    failed += 1;
                    println!("FAILED  {}: hangs", stringify!($case));
                }
            }
        };
    }
    run!(unary);
    if !old {
        run!(server_stream);
    }
    run!(two_way_stream);
    run!(deadline);
    run!(cancel);
    run!(large_response);
    run!(size_limits);
    run!(many_streams);
    if pid.is_some() {
        run!(sigterm);
    }
    println!("tonic: {passed} passed, {failed} failed");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
