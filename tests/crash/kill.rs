//! `kill -9` under load.

use etchd::stdx::prng::Prng;

use super::client::Endpoint;
use super::load::{Expected, Load};
use super::server::{Server, on};
use super::system::{Scratch, free_port};

const ROUNDS: u64 = 15;

/// Whatever was acknowledged is there after a `kill -9`, with its revision; transactions are whole; the next
/// server starts at once on the same directory and port.
#[test]
fn what_was_acknowledged_outlives_kills() {
    let (scratch, port) = (Scratch::new("kill"), free_port());
    let data = scratch.0.join("data");
    let mut expected = Expected::default();
    let mut random = Prng::new(20_260_101);
    for round in 0..ROUNDS {
        let mut server = Server::start(&data, port);
        expected.check(&mut server.connect());
        // Long values in some rounds, so that segments of the log fill up and the next ones begin.
        let value_bytes = if round % 3 == 2 { 16 * 1024 } else { 200 };
        let load = Load::start(&server.endpoint, &format!("{round}"), value_bytes);
        load.wait_for(1 + random.next_u64() % 3_000);
        server.kill();
        let (reports, newest) = load.join();
        expected.add(reports, newest);
        if round % 4 == 3 {
            // And in the middle of recovery.
            let mut early = Server::spawn(&mut on(&data, port), Endpoint::Tcp(port));
            early.wait_line("starting etchd");
            early.kill();
        }
    }
    let server = Server::start(&data, port);
    expected.check(&mut server.connect());
    assert!(expected.len() > 5_000, "there was a load: {}", expected.len());
    println!("{} keys after {ROUNDS} kills", expected.len());
    server.stop();
}
