//! A configuration read anew, and what the service manager is told.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use perfwatch_sdk::{Server, Stage};
use perfwatch_tests::{Agent, DEADLINE, perfwatch, run, wait_for};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::PERFWATCH;

/// Writes the file that the agent finds by itself.
fn configure(agent: &Agent, text: &str) -> PathBuf {
    let folder = agent.dir().join("perfwatch");
    std::fs::create_dir_all(&folder).expect("the folder can be written");
    let file = folder.join("perfwatch.toml");
    std::fs::write(&file, text).expect("the folder can be written");
    file
}

/// Status and body of a request without a body of its own.
fn request(agent: &Agent, method: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(agent.api_socket()).expect("the agent listens");
    write!(stream, "{method} /v1/reload HTTP/1.0\r\nHost: perfwatch\r\n\r\n").expect("the agent reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("headers");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or_else(|_| panic!("JSON: {body}")))
}

/// What the agent says of a key.
fn line(agent: &Agent, key: &str) -> Value {
    let lines = agent.json("/v1/config");
    lines.as_array().expect("a list").iter().find(|line| line["key"] == key).expect("the key").clone()
}

/// The total of requests that an SDK server finished.
fn completed(agent: &Agent) -> u64 {
    let totals = agent.json("/v1/query?metric=perfwatch.server.requests");
    let series = totals["series"].as_array().expect("a list");
    let completed = series.iter().find(|series| series["attributes"]["perfwatch.outcome"] == "completed");
    completed.and_then(|series| series["total_exact"].as_str()?.parse().ok()).unwrap_or(0)
}

fn finish(server: &Server, requests: u32) {
    for _ in 0..requests {
        let mut request = server.request();
        request.enter(Stage::Compute);
        request.finish();
    }
}

#[test]
fn what_can_change_changes_at_once_the_rest_is_named_and_nothing_measured_is_lost() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    let server = Server::builder("shop").instance("1").socket(agent.dir().join("probe.sock")).start();
    finish(&server, 25);
    let mut other = Command::new("sleep").arg("600").spawn().expect("sleep is everywhere");
    let file = configure(
        &agent,
        &format!(
            "budget = 0.05\nwatch = [{}]\n[otlp]\nendpoint = \"http://127.0.0.1:9\"\n[log]\nlevel = \"debug\"\n",
            other.id()
        ),
    );
    let (status, adopted) = request(&agent, "POST");
    assert_eq!(status, 200, "{adopted}");
    assert_eq!(adopted, json!({"applied": ["budget", "watch", "log.level"], "restart": ["otlp.endpoint"]}));
    let budget = line(&agent, "budget");
    assert_eq!(budget["value"], json!(0.05), "{budget}");
    assert_eq!(budget["origin"], format!("{}:1", file.display()));
    let endpoint = line(&agent, "otlp.endpoint");
    assert_eq!((&endpoint["value"], &endpoint["after_restart"]), (&Value::Null, &json!("http://127.0.0.1:9")));
    wait_for("the process that is watched from now on", || {
        let snapshot = agent.json("/v1/snapshot");
        let servers = snapshot["servers"].as_array()?.clone();
        servers.iter().any(|server| server["pid"] == other.id()).then_some(())
    });
    finish(&server, 17);
    wait_for("all requests from before and after", || (completed(&agent) == 42).then_some(()));
    assert_eq!(agent.json("/v1/snapshot")["agent"]["ticks_missed"], 0);
    other.kill().expect("our child");
    other.wait().expect("our child");
    let (status, stderr) = agent.terminate();
    assert!(status.success() && stderr.contains("DEBUG"), "the log became more detailed: {stderr}");
}

#[test]
fn a_configuration_that_cannot_be_used_changes_nothing_and_says_where_it_is_wrong() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    for (text, line_of, word) in [
        ("budget = 0.05\nbudgte = 1\n", 2, "budgte"),
        ("budget = 0.05\nwatch = {}\n", 2, "watch"),
        ("budget = 0.05\n\n[log\n", 3, "TOML"),
        ("budget = 0.05\n[otlp]\nendpoint = \"collector;4317\"\n", 3, "collector;4317"),
        ("budget = 0.05\nprobes_off = [\"no-such-probe\"]\n", 2, "no-such-probe"),
    ] {
        let file = configure(&agent, text);
        let (status, problem) = request(&agent, "POST");
        let message = problem["error"]["message"].as_str().expect("a message");
        assert_eq!(status, 422, "{text}: {problem}");
        assert!(message.starts_with(&format!("{}:{line_of}: ", file.display())), "{message}");
        assert!(message.contains(word), "{message}");
        assert_eq!(line(&agent, "budget")["origin"], "default");
    }
    agent.signal(Signal::HUP);
    let (status, problem) = request(&agent, "GET");
    assert!(status == 405 && problem["error"]["hint"] == "use POST", "{problem}");
    let (status, stderr) = agent.terminate();
    assert!(status.success(), "SIGHUP ends nothing: {stderr}");
    assert!(stderr.contains("perfwatch.toml:2: ") && stderr.contains("stays in force"), "{stderr}");
}

#[test]
fn perfwatch_config_says_where_a_running_agent_has_other_values() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    configure(&agent, "budget = 0.05\n");
    let mut command = perfwatch(PERFWATCH, agent.dir());
    command.arg("config");
    let told = String::from_utf8(run(command, DEADLINE).stdout).expect("text");
    let (_, differences) = told.split_once("runs with other values").unwrap_or_else(|| panic!("{told}"));
    assert!(differences.contains("  budget: 0.01 (default)"), "{told}");
    assert_eq!(request(&agent, "POST").0, 200);
    let mut command = perfwatch(PERFWATCH, agent.dir());
    command.arg("config");
    let told = String::from_utf8(run(command, DEADLINE).stdout).expect("text");
    assert!(!told.contains("runs with other values"), "{told}");
}

#[test]
fn an_endpoint_from_a_flag_is_refused_by_the_name_of_the_flag() {
    let dir = tempfile::tempdir().expect("a folder");
    for subcommand in ["agent", "config"] {
        let mut command = perfwatch(PERFWATCH, dir.path());
        command.args([subcommand, "--otlp-endpoint", "collector;4317"]);
        let output = run(command, DEADLINE);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{subcommand}: {stderr}");
        assert!(
            stderr.contains("--otlp-endpoint: `otlp.endpoint`") && !stderr.contains("OTEL_"),
            "{subcommand}: {stderr}"
        );
    }
}

#[test]
fn config_in_json_has_values_of_their_own_kind() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut command = perfwatch(PERFWATCH, dir.path());
    command.args(["config", "--json", "--watch", "4711,serve", "--budget", "2%"]);
    let lines: Value = serde_json::from_slice(&run(command, DEADLINE).stdout).expect("JSON");
    let value = |key: &str| {
        lines.as_array().expect("a list").iter().find(|line| line["key"] == key).expect("it")["value"].clone()
    };
    assert_eq!(value("watch"), json!(["4711", "serve"]));
    assert_eq!(value("budget"), json!(0.02));
    assert_eq!(value("otlp.endpoint"), Value::Null);
    assert_eq!(value("log.level"), json!("info"));
}

/// What the agent tells the service manager, one message at a time.
fn told(socket: &UnixDatagram, what: &str) -> String {
    wait_for(what, || {
        let mut message = [0; 4096];
        let length = socket.recv(&mut message).ok()?;
        let message = String::from_utf8_lossy(&message[..length]).into_owned();
        message.lines().any(|line| line.starts_with(what)).then_some(message)
    })
}

fn tells_its_life(socket: &UnixDatagram, name: &str) {
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket can wait");
    let agent = Agent::spawn(PERFWATCH, &[], &[("NOTIFY_SOCKET", name), ("WATCHDOG_USEC", "1000000")]);
    assert!(told(socket, "READY=1").contains("STATUS="));
    told(socket, "WATCHDOG=1");
    agent.signal(Signal::HUP);
    let reloading = told(socket, "RELOADING=1");
    let stamp = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(stamp.is_some_and(|stamp| stamp.parse::<u64>().is_ok()), "{reloading}");
    told(socket, "READY=1");
    let ended = agent.terminate();
    assert!(ended.0.success());
    told(socket, "STOPPING=1");
}

#[test]
fn the_service_manager_is_told_of_start_life_reload_and_stop() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    tells_its_life(&socket, path.to_str().expect("text"));
}

#[test]
fn a_socket_without_a_file_will_do() {
    let name = format!("perfwatch-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let socket = UnixDatagram::bind_addr(&address).expect("a socket");
    tells_its_life(&socket, &format!("@{name}"));
}

#[test]
fn a_log_in_json_has_an_object_a_line() {
    let agent = Agent::spawn(PERFWATCH, &["--log-format", "json", "--log-level", "debug"], &[]);
    configure(&agent, "budgte = 1\n");
    agent.signal(Signal::HUP);
    wait_for("a tick", || (request(&agent, "POST").0 == 422).then_some(()));
    let (_, stderr) = agent.terminate();
    let lines: Vec<Value> =
        stderr.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"))).collect();
    assert!(lines.len() > 2 && lines.iter().all(|line| line["level"].is_string() && line["timestamp"].is_string()));
    let failed = lines.iter().find(|line| line["level"] == "ERROR").expect("the configuration that was refused");
    assert!(failed["fields"]["error"].as_str().is_some_and(|error| error.contains("budgte")), "{failed}");
}
