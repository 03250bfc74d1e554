//! Bytes from outside that mean harm: on the probe socket, and in names.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use perfwatch_sdk::Server;
use perfwatch_tests::{Agent, perfwatch, run, wait_for};

use crate::PERFWATCH;

/// Sends bytes to the probe socket and waits until the agent hangs up.
fn cut_off(agent: &Agent, bytes: &[u8]) {
    let mut stream = UnixStream::connect(agent.dir().join("probe.sock")).expect("the socket is there");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    // The agent may hang up before it has read everything.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "the agent must hang up"),
    }
}

#[test]
fn malformed_truncated_and_oversized_messages_disturb_nobody_else() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    let server = Server::builder("good").socket(agent.dir().join("probe.sock")).start();
    wait_for("the good server", || agent.json("/v1/snapshot").to_string().contains("\"good\"").then_some(()));
    let oversized = [&[0xff, 0xff, 0xff, 0xff, 0x7f][..], &[0; 4096]].concat();
    let garbage: Vec<u8> = (0..4096_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x05, 0x0a], &oversized, &garbage, b""] {
        cut_off(&agent, bytes);
    }
    server.request().finish();
    wait_for("a request of the good server", || {
        server.request().finish();
        let snapshot = agent.json("/v1/snapshot");
        let servers = snapshot["servers"].as_array()?.clone();
        servers.into_iter().find(|server| server["latency"]["count"].as_u64().unwrap_or(0) > 0)
    });
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
