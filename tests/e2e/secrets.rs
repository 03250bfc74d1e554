//! Secrets wherever people leave them, and every byte that leaves or is written searched for them.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use perfwatch_export::receiver::{Received, Receiver};
use perfwatch_sdk::{Server, Stage};
use perfwatch_store::Archive;
use perfwatch_tests::{Agent, DEADLINE, get, perfwatch, run, wait_for};
use prost::Message;
use rustix::process::Signal;
use tokio::runtime::Runtime;

use crate::PERFWATCH;

/// Every planted secret holds this word; no harmless text does.
const MARK: &str = "Xk9secretQ7";
/// Stands beside the secrets in the command line, so that a search that finds nothing has looked at the right place.
const HARMLESS: &str = "harmless-Tr4ce";

fn secret(number: u32) -> String {
    format!("{MARK}-{number}")
}

/// A process whose command line and environment are full of secrets.
struct Careless(Child);

impl Careless {
    fn start() -> Self {
        // Busy enough to be one of the processes that are told of.
        let script = "while :; do i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; sleep 0.05; done";
        let child = Command::new("/bin/sh")
            .arg0("careless")
            .args(["-c", script, HARMLESS])
            .args(["--api-key", &secret(1), &format!("--hf-token={}", secret(2))])
            .args(["-H", &format!("Authorization: Bearer {}", secret(3))])
            .arg(format!("https://user:{}@example.org/models", secret(4)))
            .arg(format!("https://example.org/v1?model=x&access_token={}", secret(5)))
            .arg(format!("DB_PASSWORD={}", secret(6)))
            .arg(format!("{{\"client_secret\": \"{}\"}}", secret(7)))
            .env("OPENAI_API_KEY", secret(8))
            .stdin(Stdio::null())
            .spawn()
            .expect("sh is everywhere");
        Self(child)
    }
}

impl Drop for Careless {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All secrets in a text that came from somewhere.
fn look(place: &str, bytes: &[u8], leaks: &mut Vec<String>) {
    let text = String::from_utf8_lossy(bytes);
    for (at, _) in text.match_indices(MARK) {
        let before = text[..at].char_indices().rev().nth(60).map_or(0, |(from, _)| from);
        let after = text[at..].char_indices().nth(16).map_or(text.len(), |(to, _)| at + to);
        leaks.push(format!("{place}: …{}", text[before..after].escape_debug()));
    }
}

/// Everything that a receiver got, as it was on the wire but for compression.
fn shipped(received: &Received) -> Vec<u8> {
    let mut bytes = Vec::new();
    received.metrics.iter().for_each(|request| bytes.extend(request.encode_to_vec()));
    received.logs.iter().for_each(|request| bytes.extend(request.encode_to_vec()));
    received.traces.iter().for_each(|request| bytes.extend(request.encode_to_vec()));
    bytes
}

/// Every file below a folder but the configuration, which its owner wrote.
fn files(folder: &Path, look_at: &mut impl FnMut(&Path, &[u8])) {
    for entry in std::fs::read_dir(folder).expect("the folder can be read").flatten() {
        let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
        if kind.is_dir() {
            files(&path, look_at);
        } else if kind.is_file() && !path.ends_with("perfwatch.toml") {
            look_at(&path, &std::fs::read(&path).unwrap_or_default());
        }
    }
}

/// What a journal has compressed, and so is in no byte of the file as it is.
fn unpacked(journal: &Path) -> Vec<u8> {
    let journal = Archive::open(journal).expect("the agent keeps one");
    let ticks = journal.ticks(0, usize::MAX).expect("it can be read");
    let mut unpacked = format!("{:?}", journal.table()).into_bytes();
    for read in &ticks {
        unpacked.extend(format!("{:?} {:?}", read.tick.absent, read.tick.servers).into_bytes());
        unpacked.extend(&read.tick.scene);
    }
    let text = String::from_utf8_lossy(&unpacked);
    assert!(text.contains("shop") && text.contains("\"probes\""), "names and scenes were looked at");
    unpacked
}

#[test]
fn no_planted_secret_is_in_any_byte_that_leaves_or_is_written() {
    let runtime = Runtime::new().expect("a runtime");
    let receiver = runtime.block_on(Receiver::start()).expect("loopback");
    let careless = Careless::start();
    let endpoint = format!("{}/?api_key={}", receiver.http_endpoint(), secret(9));
    let headers = format!("authorization=Bearer%20{},x-api-key={}", secret(10), secret(11));
    let (proxy, aws) = (format!("http://me:{}@127.0.0.1:9", secret(12)), secret(13));
    let watch = careless.0.id().to_string();
    let agent = Agent::spawn(
        PERFWATCH,
        &["--log-level", "debug", "--otlp-level", "full", "--watch", &watch, "--otlp-endpoint", &endpoint],
        &[
            ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
            ("OTEL_EXPORTER_OTLP_HEADERS", &headers),
            ("HTTP_PROXY", &proxy),
            ("NO_PROXY", "127.0.0.1"),
            ("AWS_SECRET_ACCESS_KEY", &aws),
        ],
    );
    let server = Server::builder("shop")
        .instance("1")
        .config("api_key", secret(14))
        .config("upstream", format!("https://user:{}@example.org", secret(15)))
        .socket(agent.dir().join("probe.sock"))
        .start();
    let mut request = server.request();
    request.enter(Stage::Compute);
    request.fail_with(&format!("cannot reach https://user:{}@example.org/?token={}", secret(16), secret(17)));
    let name = format!("https://user:{}@example.org", secret(18));
    let named = Server::builder(name).instance("1").socket(agent.dir().join("probe.sock")).start();

    wait_for("the failed request at the receiver", || {
        let bytes = shipped(&receiver.received());
        String::from_utf8_lossy(&bytes).contains("error.type").then_some(())
    });
    wait_for("the command line in an answer", || {
        let (_, body) = get(&agent.api_socket(), "/metrics?level=full").ok()?;
        body.contains(HARMLESS).then_some(())
    });
    // What is wrong with a configuration is told without what it holds.
    let folder = agent.dir().join("perfwatch");
    std::fs::create_dir_all(&folder).expect("the folder can be written");
    let mut leaks = Vec::new();
    for text in [
        format!("[otlp]\nendpoint = \"ftp://example.org/?token={}\"\n", secret(19)),
        format!("[otlp]\nendpoint = \"http://me:{}@example.org\"\n", secret(20)),
        format!("[otlp]\nendpoint = \"http://example.org/?token={}\n", secret(21)),
        format!("[otlp]\nheaders = \"authorization={}\"\n", secret(22)),
        format!("[otlp]\nprotocol = \"http://me:{}@example.org\"\n", secret(23)),
        format!("[intake]\ngrpc = \"http://me:{}@example.org\"\n", secret(24)),
    ] {
        std::fs::write(folder.join("perfwatch.toml"), text).expect("the folder can be written");
        agent.signal(Signal::HUP);
        for args in [&["config"][..], &["config", "--json"], &["agent"]] {
            let mut command = perfwatch(PERFWATCH, agent.dir());
            command.args(args);
            let output = run(command, DEADLINE);
            look(&format!("perfwatch {args:?}, stdout"), &output.stdout, &mut leaks);
            look(&format!("perfwatch {args:?}, stderr"), &output.stderr, &mut leaks);
        }
    }
    std::fs::remove_file(folder.join("perfwatch.toml")).expect("it is there");

    let mut seen = shipped(&receiver.received());
    look("OTLP", &seen, &mut leaks);
    for (path, _) in perfwatch_agent::ROUTES.iter().filter(|(path, _)| *path != "/v1/stream") {
        for query in ["", "?level=full"] {
            if let Ok((_, body)) = get(&agent.api_socket(), &format!("{path}{query}")) {
                look(path, body.as_bytes(), &mut leaks);
                seen.extend(body.into_bytes());
            }
        }
    }
    for args in [
        &["top", "--once"][..],
        &["why"],
        &["why", "--json"],
        &["snapshot", "--json"],
        &["doctor"],
        &["doctor", "--json"],
        &["config", "--otlp-endpoint", &endpoint],
        &["config", "--json", "--otlp-endpoint", &endpoint],
        // Without an agent, in a folder of its own.
        &["--runtime-dir", "/nowhere/perfwatch", "snapshot"],
    ] {
        let mut command = perfwatch(PERFWATCH, agent.dir());
        command.args(args).env("OTEL_EXPORTER_OTLP_HEADERS", &headers).env("HTTP_PROXY", &proxy);
        let output = run(command, DEADLINE);
        look(&format!("perfwatch {args:?}, stdout"), &output.stdout, &mut leaks);
        look(&format!("perfwatch {args:?}, stderr"), &output.stderr, &mut leaks);
    }
    files(agent.dir(), &mut |path, bytes| look(&path.display().to_string(), bytes, &mut leaks));
    look("the journal, unpacked", &unpacked(&agent.dir().join("state/perfwatch/journal.db")), &mut leaks);
    drop((server, named));
    let dir = agent.dir().to_owned();
    let held = std::fs::File::open(&dir).expect("the folder is there");
    let (_, stderr) = agent.terminate();
    drop(held);
    look("the log", stderr.as_bytes(), &mut leaks);
    look("OTLP at the end", &shipped(&receiver.received()), &mut leaks);
    leaks.sort();
    leaks.dedup();
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
    assert!(String::from_utf8_lossy(&seen).contains(HARMLESS), "the command line was looked at");
    assert!(stderr.contains("DEBUG"), "the log had its details");
}
