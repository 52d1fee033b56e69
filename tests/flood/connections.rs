//! Connections that do nothing, or almost.

use std::io::{Read, Write};
use std::net::TcpStream;

use etchd::pure::wire::h2::frame::{self, PREFACE};

use super::hostile::{Target, serve};
use crate::crash::client::PATIENCE;

fn connect(port: u16) -> TcpStream {
    let socket = TcpStream::connect(("127.0.0.1", port)).expect("the server takes connections");
    socket.set_read_timeout(Some(PATIENCE)).expect("sockets have timeouts");
    socket
}

/// Idle connections that have shaken hands.
#[test]
fn idle_connections() {
    const CONNECTIONS: u64 = 5_000;
    let target = Target::start("idle");
    let mut hello = PREFACE.to_vec();
    frame::write_settings(&mut hello, &[]);
    frame::write_settings_ack(&mut hello);
    let idle: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| {
            let mut socket = connect(target.port);
            socket.write_all(&hello).expect("it reads");
            // Its SETTINGS: the connection is known.
            socket.read_exact(&mut [0; 9]).expect("it answers");
            socket
        })
        .collect();
    serve(&target.server, 1_000);
    let each = target.growth_bytes() / CONNECTIONS;
    println!("idle: {each} bytes for a connection");
    assert!(each <= 4_096, "an idle connection takes {each} bytes");
    drop(idle);
    target.stop();
}
