//! SIGTERM and SIGINT under load.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use super::client::{Event, path, watch_everything};
use super::load::{Expected, Load};
use super::server::Server;
use super::system::{Scratch, free_port};

/// The drain takes at most 5 s; the rest is for a loaded machine.
const DRAIN_AT_MOST: Duration = Duration::from_secs(20);

/// Calls under way are answered, clients are told to go elsewhere, streams that never end by themselves are
/// ended, and the signal itself ends the process, so that a shell shows 143 or 130.
#[test]
fn a_signal_stops_it_gracefully() {
    let (scratch, port) = (Scratch::new("stop"), free_port());
    let data = scratch.0.join("data");
    let mut expected = Expected::default();
    for (round, signal) in [libc::SIGTERM, libc::SIGINT, libc::SIGTERM].into_iter().enumerate() {
        let mut server = Server::start(&data, port);
        expected.check(&mut server.connect());
        let mut watcher = server.connect();
        let stream = watcher.open(path::WATCH, &watch_everything()).expect("the watch opens");
        watcher.next_message(stream).expect("the watch is created");
        let watcher = std::thread::spawn(move || {
            let (mut told, mut ended) = (false, false);
            while let Ok(event) = watcher.next() {
                told |= matches!(event, Event::GoAway(_));
                ended |= matches!(event, Event::End(at, _) if at == stream);
            }
            (told, ended)
        });
        // One that reads nothing, not even the GOAWAY, is cut off at the end of the drain.
        let silent = (round == 2).then(|| {
            let mut silent = server.connect();
            silent.open(path::WATCH, &watch_everything()).expect("the watch opens");
            silent
        });
        let load = Load::start(&server.endpoint, &format!("{round}"), 2_000);
        load.wait_for(500);
        let begun = Instant::now();
        server.signal(signal);
        let status = server.wait_exit();
        let took = begun.elapsed();
        assert_eq!(status.signal(), Some(signal), "{status}:\n{}", server.log());
        assert!(took < DRAIN_AT_MOST, "the stop took {took:?}");
        let (reports, newest) = load.join();
        for report in &reports {
            assert!(report.told_to_go, "every client gets a GOAWAY");
            assert_eq!(report.dropped, 0, "every call that was taken is answered");
        }
        assert_eq!(
            watcher.join().expect("the watcher"),
            (true, true),
            "GOAWAY and the end of the watch are seen"
        );
        expected.add(reports, newest);
        println!("stopped by signal {signal} in {took:?}");
        drop(silent);
    }
    let server = Server::start(&data, port);
    expected.check(&mut server.connect());
    server.stop();
}
