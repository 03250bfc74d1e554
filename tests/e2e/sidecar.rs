//! A sidecar without a shared PID namespace: agent and server see nothing of each other but the folder of the socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use perfwatch_demo::faults;
use perfwatch_demo::load::{ClosedLoop, Prompts};
use perfwatch_tests::{get, perfwatch, run, sums_exactly, wait_for};
use serde_json::Value;
use tempfile::TempDir;

use crate::{PERFWATCH, assert_is_allowed, one_demo_at_a_time};

/// In the server at a time: more than one batch, so that it always has work.
const IN_FLIGHT: usize = 16;
const SERVER: &str = "server:demo-mlp/1";

/// A process that is the first of a PID namespace of its own, with a `/proc` of its own.
struct Apart(Child);

impl Apart {
    fn spawn(mut command: Command, args: &[&str]) -> Self {
        command.args(["--pid", "--fork", "--mount-proc", "--kill-child", "--", PERFWATCH]).args(args);
        Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare starts"))
    }

    /// The process itself, as this test sees it; `unshare` is its parent.
    fn pid(&self) -> u32 {
        let children = format!("/proc/{0}/task/{0}/children", self.0.id());
        wait_for("the process in its namespace", || {
            std::fs::read_to_string(&children).ok()?.split_ascii_whitespace().next()?.parse().ok()
        })
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // `--kill-child` lets nothing outlive it.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether this user may make PID namespaces.
fn may_be_apart(dir: &Path) -> bool {
    if Command::new("unshare").arg("--version").output().is_err() {
        return false;
    }
    let mut command = perfwatch("unshare", dir);
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child", "--", "true"]);
    run(command, Duration::from_secs(30)).status.success()
}

struct Agent {
    _process: Apart,
    dir: TempDir,
}

impl Agent {
    fn apart() -> Self {
        let dir = tempfile::Builder::new().prefix("perfwatch-test-").tempdir().expect("a temporary folder");
        let mut command = perfwatch("unshare", dir.path());
        command.stderr(Stdio::null());
        let process = Apart::spawn(command, &["agent"]);
        let socket = dir.path().join("api.sock");
        wait_for("the agent to be ready", || get(&socket, "/readyz").ok().filter(|(status, _)| *status == 200));
        Self { _process: process, dir }
    }

    fn json(&self, path: &str) -> Value {
        let (status, body) = get(&self.dir.path().join("api.sock"), path).expect("the local API answers");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    fn server(&self) -> Option<Value> {
        self.json("/v1/snapshot")["servers"].as_array()?.iter().find(|server| server["id"] == SERVER).cloned()
    }
}

/// The demo's server, in a namespace of its own.
struct Served<G> {
    process: Apart,
    address: SocketAddr,
    cpu: usize,
    _data: TempDir,
    /// After the process: a group can be removed when it is empty.
    _group: G,
}

impl<G> Served<G> {
    /// In the group that `confine` makes for the process; `None` when it makes none.
    fn apart(agent: &Agent, confine: impl FnOnce(u32) -> Option<G>) -> Option<Self> {
        let data = tempfile::tempdir().expect("a temporary folder");
        let mut command = perfwatch("unshare", agent.dir.path());
        command.env("PERFWATCH_SOCKET", agent.dir.path().join("probe.sock")).env("PERFWATCH_INSTANCE", "1");
        // On one CPU, so that the quota's share of what it could have does not depend on the machine.
        let cpu = rustix::thread::sched_getaffinity(None).expect("this test runs somewhere");
        let cpu = (0..1_024).find(|at| cpu.is_set(*at)).expect("on some CPU");
        let folder = data.path().to_str().expect("UTF-8").to_owned();
        let args = ["model-server", "--data", &folder, "--seed", "7", "--cpu", &cpu.to_string()];
        let mut process = Apart::spawn(command, &args);
        let group = confine(process.pid())?;
        writeln!(process.0.stdin.as_mut().expect("piped"), "start").expect("the server reads");
        let mut line = String::new();
        BufReader::new(process.0.stdout.as_mut().expect("piped")).read_line(&mut line).expect("the server answers");
        let address = line.trim().strip_prefix("listening ").and_then(|address| address.parse().ok());
        let address = address.unwrap_or_else(|| panic!("no address: {line}"));
        Some(Self { process, address, cpu, _data: data, _group: group })
    }
}

/// The values of a metric in the newest tick that has some, by the attributes of their series.
fn newest(ticks: &Value, metric: &str) -> Vec<(Value, f64)> {
    let series: Vec<&Value> =
        ticks["series"].as_array().expect("a list").iter().filter(|series| series["metric"] == metric).collect();
    let in_tick = |tick: &Value| -> Vec<(Value, f64)> {
        let values = tick["values"].as_array().expect("a list").iter();
        let of = |pair: &Value| {
            let series = series.iter().find(|series| series["id"] == pair[0] && series["entity"] == SERVER)?;
            Some((series["attributes"].clone(), pair[1].as_f64()?))
        };
        values.filter_map(of).collect()
    };
    let ticks = ticks["ticks"].as_array().expect("a list").iter().rev();
    ticks.map(in_tick).find(|values| !values.is_empty()).unwrap_or_default()
}

/// A control group that tells what all in it used, as a container's does; `None` where this user may not make one.
struct Container(PathBuf);

impl Container {
    fn of(pid: u32) -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
        // Version 1's hierarchy for accounting, else version 2's only one.
        let accounts = |line: &&str| line.contains(" cgroup ") && line.contains("cpuacct");
        let line = mounts.lines().find(accounts).or_else(|| mounts.lines().find(|line| line.contains(" cgroup2 ")))?;
        let place = Path::new(line.split(' ').nth(1)?).join(format!("perfwatch-test-{}", std::process::id()));
        std::fs::create_dir(&place).ok()?;
        let container = Self(place);
        std::fs::write(container.0.join("cgroup.procs"), pid.to_string()).ok()?;
        Some(container)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // Empty once the server is gone; the kernel may take a moment over that.
        wait_for("the group to be removed", || {
            let removed = std::fs::remove_dir(&self.0);
            (removed.is_ok() || !self.0.exists()).then_some(())
        });
    }
}

/// Somebody else on this CPU, until dropped.
struct Neighbour {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Neighbour {
    fn on(cpu: usize) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut cpus = rustix::thread::CpuSet::new();
            cpus.set(cpu);
            rustix::thread::sched_setaffinity(None, &cpus).expect("a CPU that this test may use");
            while !stopped.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

#[test]
fn a_neighbour_is_found_though_the_agent_sees_neither_it_nor_the_server() {
    let _alone = one_demo_at_a_time();
    let dir = tempfile::tempdir().expect("a folder");
    if !may_be_apart(dir.path()) {
        println!("skipped: this user may not make PID namespaces");
        return;
    }
    let agent = Agent::apart();
    let Some(demo) = Served::apart(&agent, Container::of) else {
        println!("skipped: this user may not make a control group");
        return;
    };
    let _load = ClosedLoop::start(demo.address, &Arc::new(Prompts::new(7)), IN_FLIGHT).expect("the server listens");
    let _neighbour = Neighbour::on(demo.cpu);
    let finding = wait_for("the neighbour to be found", || {
        let findings = agent.json("/v1/findings").as_array()?.clone();
        findings.into_iter().find(|finding| finding["id"] == "cpu-contention")
    });
    assert_eq!(finding["entity"], SERVER, "{finding:#}");
    let others = finding["evidence"].as_array().expect("a list").iter();
    let others = others.filter(|part| part["metric"] == "cpu.others_share").find_map(|part| part["value"].as_f64());
    assert!(others.is_some_and(|share| share > 0.1 && share < 0.9), "{finding:#}");
}

#[test]
fn everything_is_seen_through_the_folder_of_the_socket_alone() {
    let _alone = one_demo_at_a_time();
    let dir = tempfile::tempdir().expect("a folder");
    if !may_be_apart(dir.path()) {
        println!("skipped: this user may not make PID namespaces");
        return;
    }
    let agent = Agent::apart();
    let quota = |pid| match faults::find("cpu-quota").expect("a fault of the demo").confine(pid) {
        Ok(group) => group,
        Err(error) => {
            println!("skipped: the quota: {error}");
            None
        }
    };
    let mut is_limited = false;
    let demo = Served::apart(&agent, |pid| {
        let group = quota(pid);
        is_limited = group.is_some();
        Some(group)
    });
    let demo = demo.expect("with a group or without");
    let load = ClosedLoop::start(demo.address, &Arc::new(Prompts::new(7)), IN_FLIGHT).expect("the server listens");

    let server = wait_for("the server with its ledger and latency", || {
        let server = agent.server()?;
        (server["latency"]["count"].as_u64()? > 0 && server["ledger"]["interval_ns"].as_u64()? > 0).then_some(server)
    });
    assert_eq!((&server["kind"], &server["live"]), (&"sdk".into(), &true.into()));
    assert_eq!((&server["pid"], &server["pids"]), (&Value::Null, &Value::Array(Vec::new())), "nobody sees it");
    assert!(sums_exactly(&server["ledger"]), "{server:#}");
    assert!(server["place"]["cgroup"].as_str().is_some_and(|path| path.starts_with('/')), "{server:#}");
    assert!(server["batch"]["mean_size"].as_f64().is_some_and(|size| size > 1.0), "{server:#}");

    let (snapshot, device) = wait_for("a window of what its CPU did", || {
        let snapshot = agent.json("/v1/snapshot");
        let devices = snapshot["devices"].as_array()?.clone();
        let device = devices.into_iter().find(|device| device["id"] == "cpu:demo-mlp/1")?;
        (snapshot["window_s"].as_f64()? > 9.5 && device["cpu"]["used_cpus"].is_number()).then_some((snapshot, device))
    });
    assert_is_allowed(&snapshot);
    assert_eq!(device["cpu"]["capacity_cpus"], 1.0, "{device:#}");
    assert!(sums_exactly(&device["ledger"]), "{device:#}");
    let unseen = |metric: &str| {
        let list = snapshot["unavailable"].as_array().expect("a list");
        list.iter().find(|absence| absence["metric"] == metric && absence["entity"] == SERVER).cloned()
    };
    for metric in ["cpu.time", "cpu.run_delay", "cpu.throttled.time", "cpu.capacity"] {
        assert_eq!(unseen(&format!("perfwatch.server.{metric}")), None, "the server told it");
    }
    let hottest = unseen("perfwatch.server.cpu.hottest_thread").expect("nobody tells which thread is the busiest");
    assert!(hottest["cure"].as_str().expect("text").contains("pid namespace"), "{hottest:#}");
    let ticks = agent.json("/v1/ticks");
    assert!(newest(&ticks, "perfwatch.server.cpu.run_delay").iter().any(|(_, seconds)| *seconds > 0.0));

    if is_limited {
        let finding = wait_for("the quota to be found from inside", || {
            let findings = agent.json("/v1/findings").as_array()?.clone();
            findings.into_iter().find(|finding| finding["id"] == "cpu-quota-throttled")
        });
        assert_eq!(finding["entity"], SERVER, "{finding:#}");
        assert!(finding["detail"].as_str().expect("text").contains("0.30 CPUs"), "{finding:#}");
        let ledger = &agent.json("/v1/snapshot")["devices"];
        let device = ledger.as_array().and_then(|list| list.iter().find(|device| device["id"] == "cpu:demo-mlp/1"));
        let parts = device.and_then(|device| device["ledger"]["entries"].as_array()).expect("a ledger");
        let quota = parts.iter().find(|part| part["cause"] == "quota").expect("the quota is a part of it");
        assert!(quota["ns"].as_u64().expect("ns") > 1_000_000_000, "{parts:#?}");
    }

    drop(load);
    drop(demo.process);
    wait_for("the server to be silent", || agent.server().filter(|server| server["live"] == false));
}
