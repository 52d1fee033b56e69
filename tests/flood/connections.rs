//! Connections that do nothing, or almost.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use etchd::pure::wire::h2::frame::{self, PREFACE, kind};

use super::hostile::{GROWTH_BYTES_MAX, Target, serve};
use crate::crash::client::PATIENCE;

fn connect(port: u16) -> TcpStream {
    let socket = TcpStream::connect(("127.0.0.1", port)).expect("the server takes connections");
    socket.set_read_timeout(Some(PATIENCE)).expect("sockets have timeouts");
    socket
}

/// So many of `wanted` as descriptors are left for, with another test like this one running.
fn affordable(wanted: u64) -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("the process is there");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("files have a limit");
    // The hard limit, which the server raises its own to, and this process's soft one.
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    wanted.min((numbers.iter().min().copied().unwrap_or(u64::MAX) - 500) / 2)
}

/// Reads until the server ends the connection.
fn wait_end(socket: &mut TcpStream) {
    let mut buffer = [0; 4_096];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("the server does not end the connection: {error}"),
        }
    }
}

/// Connections that never say a word: some are let wait for the handshake's time, the rest are closed when others
/// come. None disturbs.
#[test]
fn silent_connections() {
    let count = affordable(10_000);
    let target = Target::start("silent");
    let mut silent: Vec<TcpStream> = (0..count).map(|_| connect(target.port)).collect();
    // After the second that a handshake may take in peace, one more is one too many; asking is a connection too.
    while count > 1_100 && target.breaches("handshakes") == 0 {
        assert_eq!(
            target.breaches("handshake"),
            0,
            "they wait for the end of their time though they are too many"
        );
    }
    serve(&target.server, 1_000);
    silent.iter_mut().for_each(wait_end);
    let (grown, closed) = (target.growth_bytes() >> 10, target.breaches("handshakes"));
    println!("silent: grew {grown} KiB, {closed} closed early, of {count}");
    let late = target.breaches("handshake");
    assert_eq!(closed + late, count, "each is closed for a reason");
    assert!(grown <= 4 * count + 8_192, "silent connections take {grown} KiB");
    target.stop();
}

/// A handshake that stops half-way, at each of its stages, is ended in time; so is a head of HTTP/1, and a frame.
#[test]
fn handshakes_that_stop_half_way() {
    let target = Target::start("half-way");
    let mut hello = PREFACE.to_vec();
    frame::write_settings(&mut hello, &[]);
    let mut whole = hello.clone();
    frame::write_settings_ack(&mut whole);
    let half_frame = [&whole[..], &[0, 0x10, 0, kind::HEADERS, 0, 0, 0, 0, 1, 0x83]].concat();
    let half_block = [&whole[..], &[0, 0, 1, kind::HEADERS, 0, 0, 0, 0, 1, 0x83]].concat();
    let stages: [(&[u8], &str); 6] = [
        (&PREFACE[..10], "handshake"),
        (PREFACE, "handshake"),
        (&hello, "handshake"),
        (b"GET /health HTTP/1.1\r\nHost", "handshake"),
        (&half_frame, "slow_frame"),
        (&half_block, "slow_frame"),
    ];
    let mut sockets: Vec<TcpStream> = stages.iter().map(|_| connect(target.port)).collect();
    for (socket, (bytes, _)) in sockets.iter_mut().zip(stages) {
        socket.write_all(bytes).expect("it reads");
    }
    sockets.iter_mut().for_each(wait_end);
    for bound in ["handshake", "slow_frame"] {
        let expected = stages.iter().filter(|(_, stage)| *stage == bound).count() as u64;
        assert_eq!(target.breaches(bound), expected, "{bound}: {:?}", target.breaches_all());
    }
    target.stop();
}

/// HTTP/1 requests sent without waiting for answers, and slow heads on many connections.
#[test]
fn pipelined_requests() {
    const REQUESTS: usize = 100_000;
    let target = Target::start("pipelined");
    let mut socket = connect(target.port);
    let mut reader = socket.try_clone().expect("descriptors are left");
    let requests = b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1_000);
    let answers = std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let (mut answers, mut buffer, mut last) = (0, vec![0; 64 * 1024], Vec::new());
            while answers < REQUESTS {
                let count = reader.read(&mut buffer).expect("it answers");
                assert!(count > 0, "after {answers} answers");
                last.extend_from_slice(&buffer[..count]);
                answers += last.windows(9).filter(|window| window == b"HTTP/1.1 ").count();
                let kept = last.len().min(8);
                last.drain(..last.len() - kept);
            }
            answers
        });
        for _ in 0..REQUESTS / 1_000 {
            socket.write_all(&requests).expect("it reads");
        }
        serve(&target.server, 1_000);
        reading.join().expect("the reader ends")
    });
    assert_eq!(answers, REQUESTS);
    let grown = target.growth_bytes();
    println!("pipelined: grew {} KiB", grown >> 10);
    assert!(grown <= GROWTH_BYTES_MAX, "it grew by {grown} bytes");
    target.stop();
}

/// Idle connections that have shaken hands.
#[test]
fn idle_connections() {
    let count = affordable(5_000);
    let target = Target::start("idle");
    let mut hello = PREFACE.to_vec();
    frame::write_settings(&mut hello, &[]);
    frame::write_settings_ack(&mut hello);
    let idle: Vec<TcpStream> = (0..count)
        .map(|_| {
            let mut socket = connect(target.port);
            socket.write_all(&hello).expect("it reads");
            // Its SETTINGS: the connection is known.
            socket.read_exact(&mut [0; 9]).expect("it answers");
            socket
        })
        .collect();
    serve(&target.server, 1_000);
    let each = target.growth_bytes() / count;
    println!("idle: {each} bytes for a connection");
    assert!(each <= 4_096, "an idle connection takes {each} bytes");
    drop(idle);
    target.stop();
}
