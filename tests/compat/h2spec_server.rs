//! Small blocking servers around the wire code, for tools that want a socket. Each serves until killed and
//! says first where it listens:
//!
//!     cargo run --profile checked --example h2spec_server codec 9100     # h2spec -S -p 9100
//!     cargo run --profile checked --example h2spec_server session 9101   # grpcio, h2load
//!
//! `tests/compat/run --only h2spec` builds it, runs h2spec's strict cases against `codec` and lists those that
//! RFC 9113 contradicts.
//!
//! `codec` answers every request with 1 KiB and advertises 100 streams, as h2spec wants. `session` knows
//! `/test.Echo/` with Unary (echoes), Sized (as many bytes as the request's text says), Silent (never
//! answers), Down (five messages), Both (echoes a stream) and, over HTTP/1, answers everything with its path.

#![expect(clippy::disallowed_methods, reason = "nothing here is simulated")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use etchd::pure::session::{Code, Config, RpcKind, Session, SessionEvent, Transmit};
use etchd::pure::wire::grpc::head::Resolved;
use etchd::pure::wire::h2;
use etchd::pure::wire::h2::connection::{Connection, Received};
use etchd::pure::wire::h2::transmit::Piece;
use etchd::pure::wire::hpack::{FieldSink, encoder};
use etchd::stdx::time::Monotonic;

struct Deaf;

impl FieldSink for Deaf {
    fn classify(&self, _name: &[u8], _value: &[u8]) -> u32 {
        0
    }
    fn begin(&mut self) {}
    fn field(&mut self, _tag: u32, _name: &[u8], _value: &[u8]) {}
}

fn serve(port: u16, each: fn(TcpStream)) {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    println!("listening on {}", listener.local_addr().expect("a bound socket has an address"));
    for socket in listener.incoming() {
        let socket = socket.expect("accepts");
        std::thread::spawn(move || each(socket));
    }
}

fn now(start: Instant) -> Monotonic {
    Monotonic(u64::try_from(start.elapsed().as_nanos()).expect("not for centuries"))
}

fn send_all(socket: &mut TcpStream, transmit: &mut Transmit, mut poll: impl FnMut(&mut Transmit)) -> bool {
    loop {
        transmit.clear();
        poll(transmit);
        if transmit.is_empty() {
            return true;
        }
        for slice in transmit.slices() {
            if socket.write_all(slice).is_err() {
                return false;
            }
        }
    }
}

fn codec(mut socket: TcpStream) {
    let start = Instant::now();
    let config = h2::connection::Config { concurrent_streams_max: 100, ..Default::default() };
    let mut connection = Connection::<()>::new(config, now(start));
    let mut transmit = Transmit::new(256 * 1024, 64);
    let mut buffer = vec![0; 16 * 1024];
    let mut head = Vec::new();
    encoder::field(&mut head, b":status", b"200");
    encoder::field(&mut head, b"content-length", b"1024");
    loop {
        let alive = send_all(&mut socket, &mut transmit, |t| connection.poll_transmit(t));
        if !alive || connection.is_closed() {
            return;
        }
        let Ok(count @ 1..) = socket.read(&mut buffer) else { return };
        let mut input = &buffer[..count];
        while let Some(received) = connection.handle_bytes(now(start), &mut input, &mut Deaf) {
            let ended = match received {
                Received::Head { key, end, .. } => end.then_some(key),
                Received::Data { key, bytes, end } => {
                    connection.credit(bytes.len() as i64);
                    connection.credit_stream(key, bytes.len());
                    end.then_some(key)
                }
                Received::End { key } => Some(key),
                Received::Gone { .. } => None,
            };
            if let Some(key) = ended {
                connection.send_head(key, &head, false);
                connection.send_piece(key, Piece::from(vec![b'x'; 1024]));
                connection.send_end(key, None);
            }
        }
    }
}

fn resolve(path: &[u8]) -> Resolved {
    let rpc = |route, kind| Resolved::Rpc { route, kind };
    match path {
        b"/test.Echo/Unary" => rpc(0, RpcKind::Unary),
        b"/test.Echo/Sized" => rpc(1, RpcKind::Unary),
        b"/test.Echo/Silent" => rpc(2, RpcKind::Unary),
        b"/test.Echo/Down" => rpc(3, RpcKind::ServerStream),
        b"/test.Echo/Both" => rpc(4, RpcKind::ClientStream),
        _ if path.starts_with(b"/test.Echo/") => Resolved::UnknownMethod,
        _ => Resolved::UnknownService,
    }
}

fn answer(session: &mut Session, now: Monotonic, event: SessionEvent) {
    match event {
        SessionEvent::Call { stream, route: 0, message, .. } => session.send_unary(stream, &message),
        SessionEvent::Call { stream, route: 1, message, .. } => {
            let text = String::from_utf8_lossy(&message).into_owned();
            let bytes = vec![b'y'; text.parse().unwrap_or(0)];
            session.send_unary_pieces(stream, vec![Piece::from(bytes)]);
        }
        SessionEvent::Call { stream, route: 3, message, .. } => {
            (0..5).for_each(|_| session.send_message(stream, &message));
            session.send_status(stream, Code::Ok, "");
        }
        SessionEvent::Message { stream, message } => session.send_message(stream, &message),
        SessionEvent::HalfClosed { stream } => session.send_status(stream, Code::Ok, ""),
        SessionEvent::Http1(request) => {
            session.http1_response(
                now,
                200,
                &[("Content-Type", "text/plain")],
                request.path.into_bytes().into(),
            );
        }
        SessionEvent::Call { .. }
        | SessionEvent::Request { .. }
        | SessionEvent::Cancelled { .. }
        | SessionEvent::DeadlineExceeded { .. }
        | SessionEvent::Room { .. }
        | SessionEvent::Undone { .. } => {}
    }
}

fn session(mut socket: TcpStream) {
    let start = Instant::now();
    // SIGTERM is played by time: DRAIN_AFTER_MS makes every connection drain.
    let drain_after = std::env::var("DRAIN_AFTER_MS").ok().and_then(|text| text.parse().ok());
    let drain_at = drain_after.map(Duration::from_millis);
    let mut drained = false;
    let mut session = Session::new(Config::new(resolve), now(start));
    let mut transmit = Transmit::new(256 * 1024, 64);
    let mut buffer = vec![0; 16 * 1024];
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout can be set");
    socket.set_nodelay(true).expect("delay can be turned off");
    loop {
        while let Some(event) = session.poll_event() {
            answer(&mut session, now(start), event);
        }
        if !send_all(&mut socket, &mut transmit, |t| session.poll_transmit(t)) || session.wants_close() {
            return;
        }
        match socket.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => session.handle_bytes(now(start), &buffer[..count]),
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
        if session.next_timeout().is_some_and(|at| at <= now(start)) {
            session.handle_timeout(now(start));
        }
        if drain_at.is_some_and(|at| start.elapsed() > at) && !drained {
            session.go_away_graceful(now(start));
            drained = true;
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let each: fn(TcpStream) = match arguments.next().as_deref() {
        Some("codec") => codec,
        Some("session") => session,
        _ => panic!("the first argument is codec or session, the second a port"),
    };
    let port = arguments.next().map_or(Ok(0), |text| text.parse());
    serve(port.expect("the second argument is a port"), each);
}
