//! The client of the local API against servers that behave well, badly, and not at all.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use perfwatch_model::Snapshot;
use perfwatch_tui::{ApiError, Feed, FeedEvent, LiveFeed, api};

#[path = "../src/fixtures/mod.rs"]
mod fixtures;

/// Answers one connection after the other with these bytes, then listens no longer.
fn serve(answers: Vec<Vec<u8>>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("api.sock");
    let listener = UnixListener::bind(&socket).expect("a new socket");
    let bound = socket.clone();
    thread::spawn(move || {
        for answer in answers {
            let (mut client, _) = listener.accept().expect("a client");
            read_request(&mut client);
            // A client that had enough hangs up; that is its right.
            drop(client.write_all(&answer));
        }
        drop(std::fs::remove_file(bound));
    });
    (folder, socket)
}

fn read_request(client: &mut UnixStream) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|count| count == 1) {
        request.push(byte[0]);
    }
    String::from_utf8(request).expect("a request is text")
}

fn http(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A stream that ends after these snapshots; cut into chunks that are not lines.
fn stream(snapshots: &[Snapshot]) -> Vec<u8> {
    let mut body = String::new();
    for snapshot in snapshots {
        body.push_str(&serde_json::to_string(snapshot).expect("a snapshot is JSON"));
        body.push('\n');
    }
    let mut out = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.as_bytes().chunks(1000) {
        out.extend(format!("{:x}\r\n", chunk.len()).bytes());
        out.extend_from_slice(chunk);
        out.extend(b"\r\n");
    }
    out.extend(b"0\r\n\r\n");
    out
}

/// A snapshot as it is after one trip through JSON, which may move the last digit of a float.
fn settled(snapshot: &Snapshot) -> Snapshot {
    serde_json::from_str(&serde_json::to_string(snapshot).expect("a snapshot is JSON")).expect("and back")
}

#[test]
fn a_snapshot_comes_as_it_was_sent() {
    let sent = settled(&fixtures::everything());
    let (_folder, socket) = serve(vec![http("200 OK", &serde_json::to_string(&sent).expect("a snapshot is JSON"))]);
    assert_eq!(api::snapshot(&socket).expect("an answer"), sent);
}

#[test]
fn every_way_to_have_no_agent_has_its_own_words() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let missing = folder.path().join("none.sock");
    let error = api::snapshot(&missing).expect_err("nobody there");
    assert!(matches!(error, ApiError::NoAgent(_)) && error.to_string().contains("perfwatch agent"), "{error}");

    let stale = folder.path().join("stale.sock");
    drop(UnixListener::bind(&stale).expect("a new socket"));
    assert!(matches!(api::snapshot(&stale).expect_err("nobody listens"), ApiError::Refused(_)));
}

#[test]
fn whoever_else_listens_there_is_recognised() {
    let error = |answer: Vec<u8>| {
        let (_folder, socket) = serve(vec![answer]);
        api::snapshot(&socket).expect_err("not an agent")
    };
    assert!(matches!(error(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()), ApiError::NotOurs { .. }));
    assert!(matches!(error(http("404 Not Found", "")), ApiError::NotOurs { .. }));
    assert!(matches!(error(http("200 OK", "<html>")), ApiError::NotOurs { .. }));
    assert!(matches!(error(http("200 OK", r#"{"schema_version": 7}"#)), ApiError::Version { theirs: 7, .. }));
    let starting = error(http("503 Service Unavailable", "no tick yet"));
    assert!(matches!(&starting, ApiError::Status { status: 503, body, .. } if body == "no tick yet"), "{starting}");
}

fn next(feed: &mut LiveFeed) -> FeedEvent {
    feed.next()
}

#[test]
fn a_stream_that_breaks_is_taken_up_again() {
    let (mut first, mut second) = (settled(&fixtures::healthy()), settled(&fixtures::overload()));
    first.time = "2026-03-04T14:00:00Z".to_owned();
    second.time = "2026-03-04T14:00:05Z".to_owned();
    let (_folder, socket) = serve(vec![stream(&[first.clone(), first.clone()]), stream(&[second.clone()])]);
    let mut feed = LiveFeed::new(&socket).expect("a runtime");
    for _ in 0..2 {
        assert!(matches!(next(&mut feed), FeedEvent::Snapshot(got) if *got == first));
    }
    let FeedEvent::Disconnected { reason, retry_in } = next(&mut feed) else { panic!("the stream ended") };
    assert!(reason.contains("closed") && !retry_in.is_zero(), "{reason}");
    assert!(matches!(next(&mut feed), FeedEvent::Snapshot(got) if *got == second));
}

#[test]
fn retries_wait_longer_each_time_and_tell_how_long() {
    let mut feed = LiveFeed::new(Path::new("/nonexistent/api.sock")).expect("a runtime");
    let mut told = Vec::new();
    for _ in 0..4 {
        let FeedEvent::Disconnected { reason, retry_in } = next(&mut feed) else { panic!("nobody is there") };
        assert_eq!(reason, "no agent");
        told.push(retry_in.as_secs());
    }
    assert_eq!(told, [1, 2, 1, 4], "one second; then two, counted down; then four");
}
