//! The server as its clients see it: a real one on a real socket, in this process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use perfwatch_demo::load::{ClosedLoop, Offer, OpenLoop, Prompts};
use perfwatch_demo::server::{Server, ServerOptions, Stats};

const LONG: Duration = Duration::from_mins(1);

struct Fixture {
    server: Server,
    _folder: tempfile::TempDir,
}

fn serve(change: impl FnOnce(&mut ServerOptions)) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let mut options = ServerOptions::new(folder.path().to_owned(), 7);
    change(&mut options);
    Fixture { server: Server::start(&options).unwrap(), _folder: folder }
}

impl Fixture {
    fn send(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.server.address()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn stats(&self) -> Stats {
        let answer = self.send(b"GET /stats HTTP/1.1\r\nConnection: close\r\n\r\n");
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

fn classify(body: &str, connection: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST /v1/classify HTTP/1.1\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n{body}")
        .into_bytes()
}

#[test]
fn the_same_question_gets_the_same_labels() {
    let fixture = serve(|_| {});
    let question = classify(r#"{"user": 5, "text": "bade mifo, zuvu"}"#, "close");
    let first = fixture.send(&question);
    assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{first}");
    assert_eq!(first.matches("\"label\"").count(), 5, "{first}");
    assert_eq!(first, fixture.send(&question));
    let other = fixture.send(&classify(r#"{"user": 6, "text": "bade mifo, zuvu"}"#, "close"));
    assert_ne!(first, other, "another account has other features");
}

#[test]
fn pipelined_requests_are_answered_in_order_whatever_they_are() {
    let fixture = serve(|_| {});
    let mut all = classify(r#"{"user": 1, "text": "bade"}"#, "keep-alive");
    all.extend(b"GET /healthz HTTP/1.1\r\n\r\n");
    all.extend(classify("not json", "keep-alive"));
    all.extend(b"GET /nowhere HTTP/1.1\r\nConnection: close\r\n\r\n");
    let answer = fixture.send(&all);
    let statuses: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "200", "400", "404"], "{answer}");
    assert_eq!((fixture.stats().completed, fixture.stats().failed), (1, 1));
}

#[test]
fn a_full_server_refuses_and_recovers() {
    // One loader that waits long for its data: two requests fill the server for sure.
    let fixture = serve(|options| {
        options.max_pending = 2;
        options.loaders = 1;
        options.store_latency = Duration::from_millis(300);
    });
    let one = classify(r#"{"user": 1, "text": "bade"}"#, "keep-alive");
    let mut five = one.repeat(4);
    five.extend(classify(r#"{"user": 1, "text": "bade"}"#, "close"));
    let answer = fixture.send(&five);
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 503 Service Unavailable").count(), 3, "{answer}");
    assert_eq!(fixture.stats().rejected, 3);
    // A request leaves the count a moment after its answer has left the server.
    let emptied = || {
        (0..1_000).any(|_| {
            fixture.stats().pending == 0 || {
                std::thread::sleep(Duration::from_millis(5));
                false
            }
        })
    };
    assert!(emptied());
    assert!(fixture.send(&classify(r#"{"user": 1, "text": "bade"}"#, "close")).starts_with("HTTP/1.1 200 OK"));
    assert!(emptied());
}

#[test]
fn requests_in_flight_together_are_computed_together() {
    for (max_batch, least, most) in [(8, 4.0, 8.0), (1, 1.0, 1.0)] {
        let fixture = serve(|options| options.max_batch = max_batch);
        let load = ClosedLoop::start(fixture.server.address(), &Arc::new(Prompts::new(1)), 24).unwrap();
        while load.answered() < 200 {
            assert_eq!(load.failed(), 0);
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(load);
        let stats = fixture.stats();
        assert!((least..=most).contains(&stats.mean_batch()), "at most {max_batch}: {stats:?}");
        assert!(stats.ready2() > 0.9, "{stats:?}");
    }
}

#[test]
fn the_open_loop_accounts_for_every_request() {
    // A server that can answer about 20 requests/s is offered 200.
    let fixture = serve(|options| {
        options.max_pending = 10;
        options.loaders = 1;
        options.store_latency = Duration::from_millis(50);
    });
    let offer = Offer { per_second: 200.0, duration: Some(Duration::from_secs(2)), seed: 3 };
    let load = OpenLoop::start(fixture.server.address(), Arc::new(Prompts::new(1)), offer).unwrap();
    while !load.is_done() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let report = load.finish();
    assert!((300..500).contains(&report.sent), "{report:?}");
    assert!(report.rejected > report.sent / 2, "{report:?}");
    assert_eq!(report.errors, 0);
    let answered = report.latency.count() - report.unanswered;
    assert_eq!(answered + report.rejected + report.unanswered, report.sent, "{report:?}");
    assert!(report.completed <= answered && report.completed > 0);
    let waited = report.latency.quantile(0.99);
    assert!(waited > Duration::from_millis(200), "ten requests of 50 ms wait in line: {waited:?}");
}

#[test]
fn a_server_that_vanishes_is_an_error_for_each_request_under_way() {
    let fixture = serve(|options| {
        options.loaders = 1;
        options.store_latency = Duration::from_millis(200);
    });
    let offer = Offer { per_second: 100.0, duration: None, seed: 3 };
    let load = OpenLoop::start(fixture.server.address(), Arc::new(Prompts::new(1)), offer).unwrap();
    while fixture.stats().completed == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(fixture);
    let report = load.finish();
    assert!(report.sent > report.completed);
    let answered = report.latency.count() - report.unanswered;
    assert_eq!(answered + report.errors + report.unanswered, report.sent, "{report:?}");
}
