//! Bytes from outside that mean harm: on the probe socket, and in names.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use perfwatch_sdk::Server;
use perfwatch_tests::{Agent, perfwatch, run, wait_for};
use perfwatch_wire::message::{self, ErrorCode};
use perfwatch_wire::{AgentMessage, ClientMessage, FrameReader, encode};
use prost::Message as _;

use crate::PERFWATCH;

fn dial(agent: &Agent) -> UnixStream {
    let stream = UnixStream::connect(agent.dir().join("probe.sock")).expect("the socket is there");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    stream
}

/// Sends bytes to the probe socket, waits until the agent hangs up, and returns the reason that it gave, if any.
fn cut_off(agent: &Agent, bytes: &[u8]) -> Option<message::Error> {
    let mut stream = dial(agent);
    // The agent may hang up before it has read everything.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the agent must hang up"),
    }
    let mut reader = FrameReader::new();
    reader.push(&answer);
    let mut last = None;
    while let Ok(Some(frame)) = reader.next() {
        last = AgentMessage::decode(frame).expect("a message").body;
    }
    match last {
        Some(message::agent_message::Body::Error(error)) => Some(error),
        _ => None,
    }
}

fn hello(session: [u8; 16]) -> Vec<u8> {
    encode(&ClientMessage::from(message::Hello {
        protocol: 1,
        sdk: "test/1".into(),
        service: "hostile".into(),
        instance: "1".into(),
        session: session.into(),
        ..message::Hello::default()
    }))
}

/// Requests of the good server that its snapshot shows, after one more of them.
fn good_server_lives(agent: &Agent, server: &Server) {
    server.request().finish();
    wait_for("a request of the good server", || {
        server.request().finish();
        let snapshot = agent.json("/v1/snapshot");
        let servers = snapshot["servers"].as_array()?.clone();
        let good = servers.into_iter().find(|server| server["name"] == "good")?;
        (good["latency"]["count"].as_u64()? > 0).then_some(())
    });
}

#[test]
fn malformed_truncated_and_oversized_messages_are_answered_and_disturb_nobody_else() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    let server = Server::builder("good").socket(agent.dir().join("probe.sock")).start();
    wait_for("the good server", || agent.json("/v1/snapshot").to_string().contains("\"good\"").then_some(()));
    let code = |bytes: &[u8]| cut_off(&agent, bytes).map(|error| error.code);
    let malformed = Some(ErrorCode::Malformed as u32);
    let greeted = hello([1; 16]);
    let seq = |seq| message::Flush { seq, start_ns: 1, end_ns: 2, ..message::Flush::default() };
    assert_eq!(
        code(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n and on until the announced length is there, which is long"),
        malformed
    );
    let oversized = [&[0xff, 0xff, 0xff, 0xff, 0x7f][..], &[0; 4096]].concat();
    assert_eq!(code(&oversized), Some(ErrorCode::Oversized as u32));
    assert_eq!(code(&[greeted.clone(), oversized].concat()), Some(ErrorCode::Oversized as u32));
    assert_eq!(code(&[0xff; 11]), malformed, "no end of the length");
    assert_eq!(code(&encode(&ClientMessage::from(seq(1)))), Some(ErrorCode::OutOfTurn as u32));
    assert_eq!(code(&[greeted.clone(), greeted.clone()].concat()), Some(ErrorCode::OutOfTurn as u32));
    assert_eq!(code(&[greeted.clone(), encode(&ClientMessage::from(seq(0)))].concat()), malformed);
    // One that goes away in the middle of a message cannot be told.
    assert_eq!(code(&greeted[..greeted.len() / 2]), None);
    assert_eq!(code(b""), None);
    let garbage: Vec<u8> = (0..4096_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    cut_off(&agent, &garbage);
    good_server_lives(&agent, &server);
    let dropped = agent.json("/v1/snapshot")["agent"]["dropped"].clone();
    assert!(dropped.as_u64().is_some_and(|dropped| dropped >= 8), "{dropped}");
}

/// The most memory that a process held, in bytes.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("Linux tells");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1_024
}

/// The largest flush that breaks no rule: 256 distributions that fill a message, counts that no sum can hold, and an end that
/// no tick ever reaches.
fn largest(seq: u64) -> Vec<u8> {
    let histograms = (0..256)
        .map(|number| message::Histogram {
            name: format!("own.{number}"),
            unit: "1".into(),
            sum: u64::MAX,
            index_deltas: vec![1; 1_900],
            counts: std::iter::once(u64::MAX - 1_899).chain([1; 1_899]).collect(),
            ..message::Histogram::default()
        })
        .collect();
    let flush = message::Flush {
        seq,
        start_ns: u64::MAX - 1,
        end_ns: u64::MAX,
        requests_started: u64::MAX,
        requests_completed: u64::MAX,
        histograms,
        ..message::Flush::default()
    };
    encode(&ClientMessage::from(flush))
}

#[test]
fn peers_that_send_as_much_as_they_can_fill_neither_memory_nor_the_way_of_others() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    let server = Server::builder("good").socket(agent.dir().join("probe.sock")).start();
    good_server_lives(&agent, &server);
    let before = peak(agent.pid());
    let sample = largest(1);
    assert!((900_000..1 << 20).contains(&sample.len()), "{} bytes", sample.len());
    let flooding: Vec<_> = (0..8u8)
        .map(|number| {
            let mut stream = dial(&agent);
            stream.set_write_timeout(Some(Duration::from_secs(20))).expect("a timeout");
            std::thread::spawn(move || {
                // Ever new sessions would be ever new memory, if any were kept.
                let session = hello([number + 1; 16]);
                stream.write_all(&session).expect("the agent reads");
                (1..=12).take_while(|seq| stream.write_all(&largest(*seq)).is_ok()).count()
            })
        })
        .collect();
    while !flooding.iter().all(std::thread::JoinHandle::is_finished) {
        good_server_lives(&agent, &server);
    }
    let sent: usize = flooding.into_iter().map(|thread| thread.join().expect("no panic")).sum();
    good_server_lives(&agent, &server);
    let gained = peak(agent.pid()) - before;
    println!("{sent} flushes of {} bytes: {} MiB more at the peak", sample.len(), gained >> 20);
    assert!(sent > 64, "more than may wait at once: {sent}");
    assert!(gained < 512 << 20, "{gained} bytes for {sent} flushes of {}", sample.len());
}

#[test]
fn no_escape_sequence_of_a_server_reaches_the_terminal() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    let name = "evil\x1b]0;owned\x07\x1b[2J\u{202e}name";
    let server = Server::builder(name).socket(agent.dir().join("probe.sock")).start();
    wait_for("the server", || {
        server.request().finish();
        agent.json("/v1/snapshot").to_string().contains("evil").then_some(())
    });
    for args in [
        &["top", "--once"][..],
        &["why"],
        &["why", "--json"],
        &["doctor"],
        &["doctor", "--json"],
        &["snapshot"],
        &["snapshot", "--json"],
    ] {
        let mut command = perfwatch(PERFWATCH, agent.dir());
        command.args(args);
        let output = run(command, Duration::from_secs(30));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(!text.is_empty(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        // JSON writes control characters as escapes, which whoever decodes it prints again.
        assert!(!text.contains("\\u001b") && !text.contains("\\u0007"), "{args:?}: {text:?}");
        assert!(!text.contains(['\x1b', '\x07', '\u{202e}']), "{args:?}: {text:?}");
    }
}
