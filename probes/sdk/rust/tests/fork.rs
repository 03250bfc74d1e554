//! A pre-forking server: the child is a session of its own, counts from the fork on, and leaves the parent's alone.
//!
//! Without the test harness, whose threads would not survive the fork.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use perfwatch_sdk::{Server, Stage, Unit};
use perfwatch_wire::message::{Ack, Flush, Welcome, client_message};
use perfwatch_wire::{AgentMessage, ClientMessage, FrameReader, encode};
use prost::Message as _;

#[derive(Default, Debug)]
struct Seen {
    session: Vec<u8>,
    pid: u32,
    started: u64,
    completed: u64,
    abandoned: u64,
    tokens: u64,
    in_flight: u64,
    occupancy_ns: u64,
}

impl Seen {
    fn add(&mut self, flush: &Flush) {
        self.started += flush.requests_started;
        self.completed += flush.requests_completed;
        self.abandoned += flush.requests_abandoned;
        self.occupancy_ns += flush.occupancy.iter().map(|entry| entry.ns).sum::<u64>();
        self.in_flight = flush.in_flight.iter().map(|entry| entry.count).sum();
        let own = flush.histograms.iter().filter(|histogram| histogram.name == "own");
        self.tokens += own.flat_map(|histogram| &histogram.counts).sum::<u64>();
    }
}

/// Acknowledges everything on one connection until its other end is gone in every process.
fn serve(mut stream: UnixStream) -> Seen {
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a valid timeout");
    let (mut reader, mut seen, mut buffer) = (FrameReader::new(), Seen::default(), vec![0; 65_536]);
    loop {
        while let Some(frame) = reader.next().expect("well-formed") {
            let answer = match ClientMessage::decode(frame).expect("a message").body {
                Some(client_message::Body::Hello(hello)) => {
                    seen.session = hello.session;
                    seen.pid = hello.pids.last().copied().unwrap_or(0);
                    let limits = Welcome { protocol: 1, max_series: 256, ..Welcome::default() };
                    AgentMessage::from(limits)
                }
                Some(client_message::Body::Flush(flush)) => {
                    seen.add(&flush);
                    AgentMessage::from(Ack { seq: flush.seq, durable_seq: None })
                }
                None => panic!("an unknown message"),
            };
            // The client may have closed right after its last flush.
            if stream.write_all(&encode(&answer)).is_err() {
                return seen;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) => return seen,
            Ok(length) => reader.push(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return seen,
            Err(error) => panic!("a connection outlived its process: {error}"),
        }
    }
}

fn fork() -> i32 {
    #[allow(unsafe_code, reason = "the test is about fork")]
    // SAFETY: the child uses only the SDK and leaves through `exit`.
    unsafe {
        unsafe extern "C" {
            fn fork() -> std::ffi::c_int;
        }
        fork()
    }
}

fn wait_for_child() -> i32 {
    let status = rustix::process::wait(rustix::process::WaitOptions::empty()).expect("a child").expect("it ended");
    status.1.exit_status().expect("it exited")
}

/// Serves this many connections at once; tells in the end what each said.
fn agent(socket: &Path, connections: usize) -> JoinHandle<Vec<Seen>> {
    let listener = UnixListener::bind(socket).expect("a free path");
    std::thread::spawn(move || {
        let connections: Vec<_> = (0..connections)
            .map(|_| {
                let (stream, _) = listener.accept().expect("a connection");
                std::thread::spawn(move || serve(stream))
            })
            .collect();
        connections.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

fn main() {
    #[allow(clippy::print_stdout, reason = "it stands in for the test harness")]
    for (name, test) in [
        ("a_forked_child_is_a_session_of_its_own", a_forked_child_is_a_session_of_its_own as fn()),
        ("children_forked_amid_recording_count_exactly", children_forked_amid_recording_count_exactly),
        ("a_child_that_never_used_the_server_waits_for_nobody", a_child_that_never_used_the_server_waits_for_nobody),
    ] {
        test();
        println!("test {name} ... ok");
    }
}

fn a_forked_child_is_a_session_of_its_own() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("probe.sock");
    let agent = agent(&path, 2);
    let server = Server::builder("forking").instance("one").socket(&path).start();
    let tokens = server.histogram("own", Unit::Count("{token}"));
    for _ in 0..5 {
        server.request().finish();
        tokens.record(1);
    }
    let mut before = server.request();
    before.enter(Stage::Compute);
    assert!(server.flush_now(), "the parent is connected before it forks");

    if fork() == 0 {
        // The request began in the parent and goes on there: here it counts for nothing.
        before.enter(Stage::Send);
        before.finish();
        for _ in 0..3 {
            tokens.record(1);
            let mut request = server.request();
            request.enter(Stage::Queue);
            request.finish();
        }
        drop(server.request());
        let sent = server.close();
        std::process::exit(i32::from(!sent));
    }
    assert_eq!(wait_for_child(), 0, "the child's flush was acknowledged");
    before.finish();
    tokens.record(1);
    assert!(server.close());

    let seen = agent.join().expect("no panic");
    let (parent, child): (Vec<_>, Vec<_>) = seen.iter().partition(|seen| seen.pid == std::process::id());
    let (parent, child) = (parent[0], child[0]);
    assert_ne!(parent.session, child.session);
    assert_eq!((parent.started, parent.completed, parent.abandoned, parent.tokens), (6, 6, 0, 6), "{parent:?}");
    assert_eq!((child.started, child.completed, child.abandoned, child.tokens), (4, 3, 1, 3), "{child:?}");
    assert_eq!((parent.in_flight, child.in_flight), (0, 0));
    assert!(parent.occupancy_ns > child.occupancy_ns, "the parent's open request is not the child's");
}

/// Threads of the parent are inside a step, or hold a lock, when the fork copies them: none of that may stop the child.
fn children_forked_amid_recording_count_exactly() {
    const CHILDREN: usize = 20;
    const THREADS: u64 = 4;
    const REQUESTS: u64 = 50;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("probe.sock");
    let agent = agent(&path, 1 + CHILDREN);
    let server = Server::builder("busy").instance("one").socket(&path).start();
    let tokens = server.histogram("own", Unit::Count("{token}"));
    let stop = AtomicBool::new(false);
    let work = |server: &Server| {
        let mut request = server.request();
        request.enter(Stage::Compute);
        tokens.record(1);
        request.finish();
    };
    let done: u64 = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut done = 0;
                    while !stop.load(Ordering::Relaxed) {
                        work(&server);
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        for _ in 0..CHILDREN {
            if fork() == 0 {
                // All of them at once, so that several come first.
                std::thread::scope(|scope| {
                    for _ in 0..THREADS {
                        scope.spawn(|| (0..REQUESTS).for_each(|_| work(&server)));
                    }
                });
                let sent = server.flush_now();
                std::process::exit(i32::from(!sent));
            }
            assert_eq!(wait_for_child(), 0, "the child's flush was acknowledged");
        }
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().map(|worker| worker.join().expect("no panic")).sum()
    });
    assert!(server.close());
    let seen = agent.join().expect("no panic");
    let (parent, children): (Vec<_>, Vec<_>) = seen.iter().partition(|seen| seen.pid == std::process::id());
    assert_eq!((parent.len(), children.len()), (1, CHILDREN));
    assert_eq!((parent[0].completed, parent[0].tokens), (done, done));
    for child in children {
        let wanted = THREADS * REQUESTS;
        assert_eq!((child.started, child.completed, child.tokens), (wanted, wanted, wanted), "{child:?}");
    }
}

fn a_child_that_never_used_the_server_waits_for_nobody() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("probe.sock");
    let agent = agent(&path, 2);
    let server = Server::builder("idle").instance("one").socket(&path).start();
    assert!(server.flush_now());
    for closes in [true, false] {
        if fork() == 0 {
            // The one that closes it has nothing to send and makes no connection; the other asks the agent and is heard.
            let heard = if closes { server.close() } else { server.flush_now() };
            std::process::exit(i32::from(!heard));
        }
        let began = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        assert_eq!(wait_for_child(), 0);
        let took = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec - began.tv_sec;
        assert!(took < 4, "{took} s: it waited until its patience ended");
    }
    assert!(server.close());
    let seen = agent.join().expect("no panic");
    assert!(seen.iter().all(|seen| (seen.started, seen.in_flight) == (0, 0)), "{seen:?}");
}
