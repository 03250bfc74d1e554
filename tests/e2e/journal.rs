//! What must survive the agent: counts and sums, through kill -9, absence, a deleted socket and a full disk.
//!
//! ```text
//! cargo test --release -p perfwatch --test e2e journal                         a sample of 20 kills
//! PERFWATCH_TEST_KILLS=200 cargo test --release -p perfwatch --test e2e journal  all of it, some eight minutes
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use perfwatch_model::Unit;
use perfwatch_sdk::{Server, Stage};
use perfwatch_tests::{get, perfwatch, run, wait_for};
use serde_json::Value;
use tempfile::TempDir;

use crate::PERFWATCH;

/// An agent that dies and comes back in the same folder.
struct Mortal {
    dir: TempDir,
    state: PathBuf,
    child: Option<Child>,
}

impl Mortal {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("perfwatch-test-").tempdir().expect("a temporary folder");
        let state = dir.path().join("state");
        Self { dir, state, child: None }
    }

    fn start(&mut self) {
        let mut command = perfwatch(PERFWATCH, self.dir.path());
        command.arg("agent").env("XDG_STATE_HOME", &self.state).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("the binary starts"));
    }

    fn ready(&self) {
        let socket = self.dir.path().join("api.sock");
        wait_for("the agent", || get(&socket, "/readyz").ok().filter(|(status, _)| *status == 200));
    }

    fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("our child");
        child.wait().expect("our child");
    }

    fn json(&self, path: &str) -> Option<Value> {
        let (status, body) = get(&self.dir.path().join("api.sock"), path).ok()?;
        (status == 200).then(|| serde_json::from_str(&body).expect("JSON"))
    }

    fn server(&self, name: &str) -> Server {
        Server::builder(name).instance("1").socket(self.dir.path().join("probe.sock")).start()
    }

    fn store(&self) -> Option<String> {
        Some(self.json("/v1/snapshot")?["agent"]["store"].as_str().expect("a text").to_owned())
    }

    /// Every total of this server that the test knows to the last digit: by metric and attributes, count and sum.
    fn totals(&self, name: &str) -> Option<BTreeMap<String, (u128, u128)>> {
        let answer = self.json(&format!("/v1/query?entity=server:{name}/1"))?;
        let number = |value: &Value| -> u128 {
            value.as_str().map_or_else(|| value.as_u64().unwrap_or(0).into(), |digits| digits.parse().expect("digits"))
        };
        let series = answer["series"].as_array().expect("a list").iter().filter_map(|series| {
            let metric = series["metric"].as_str().expect("a name");
            let outcome = series["attributes"]["perfwatch.outcome"].as_str().unwrap_or_default();
            let both = match metric {
                "perfwatch.server.requests" | "perfwatch.server.requests.started" => {
                    (number(&series["total_exact"]), 0)
                }
                "perfwatch.server.batch.dispatches" | "perfwatch.server.batch.dispatches_ready2" => {
                    (number(&series["total_exact"]), 0)
                }
                "perfwatch.server.batch.size" | "llm.tokens" => {
                    (number(&series["count"]), number(&series["sum_exact"]))
                }
                // Its sum is real time; its count is not.
                "perfwatch.server.request.duration" => (number(&series["count"]), 0),
                _ => return None,
            };
            (both != (0, 0)).then(|| (format!("{metric} {outcome}").trim_end().to_owned(), both))
        });
        Some(series.collect())
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A known sequence: what a server recorded so far.
#[derive(Clone, Copy, Default)]
struct Recorded {
    requests: u128,
    failed: u128,
    abandoned: u128,
    ready2: u128,
    batch_sum: u128,
    token_sum: u128,
}

impl Recorded {
    /// The next step of the sequence.
    fn record(&mut self, server: &Server, tokens: &perfwatch_sdk::Histogram) {
        let number = self.requests;
        self.requests += 1;
        let mut request = server.request();
        request.enter(Stage::Queue);
        let size = (number % 7 + 1) as u32;
        server.dispatch(size, size);
        self.batch_sum += u128::from(size);
        self.ready2 += u128::from(size >= 2);
        let produced = number * 37 % 4_001;
        tokens.record(produced as u64);
        self.token_sum += produced;
        request.enter(Stage::Compute);
        match number % 10 {
            3 => {
                request.fail();
                self.failed += 1;
            }
            7 => {
                drop(request);
                self.abandoned += 1;
            }
            _ => request.finish(),
        }
    }

    fn totals(&self) -> BTreeMap<String, (u128, u128)> {
        let Self { requests, failed, abandoned, ready2, batch_sum, token_sum } = *self;
        [
            ("perfwatch.server.requests completed", (requests - failed - abandoned, 0)),
            ("perfwatch.server.requests failed", (failed, 0)),
            ("perfwatch.server.requests abandoned", (abandoned, 0)),
            ("perfwatch.server.requests.started", (requests, 0)),
            ("perfwatch.server.request.duration", (requests - abandoned, 0)),
            ("perfwatch.server.batch.dispatches", (requests, 0)),
            ("perfwatch.server.batch.dispatches_ready2", (ready2, 0)),
            ("perfwatch.server.batch.size", (requests, batch_sum)),
            ("llm.tokens", (requests, token_sum)),
        ]
        .map(|(name, both)| (name.to_owned(), both))
        .into()
    }
}

/// A server under load on a thread of its own.
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Recorded>,
}

impl Load {
    fn on(server: &Server) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let tokens = server.histogram("llm.tokens", Unit::Count("{token}"));
        let (server, stopped) = (server.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut recorded = Recorded::default();
            while !stopped.load(Ordering::Relaxed) {
                recorded.record(&server, &tokens);
                sleep(Duration::from_micros(500));
            }
            recorded
        });
        Self { stop, thread }
    }

    fn stop(self) -> Recorded {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the load ends well")
    }
}

/// Waits until all is quiet, and compares to the last digit: nothing lost, nothing twice.
fn assert_exact(agent: &Mortal, server: Server, name: &str, recorded: &Recorded) {
    wait_for("the last receipt", || server.flush_now().then_some(()));
    let expected = recorded.totals();
    assert_eq!(agent.totals(name).as_ref(), Some(&expected), "after {} requests", recorded.requests);
    server.close();
    // Whatever could still be counted twice comes with the next ticks.
    let seen = wait_for("the server to be silent", || {
        let snapshot = agent.json("/v1/snapshot")?;
        let servers = snapshot["servers"].as_array()?.clone();
        servers.iter().all(|server| server["live"] != true).then_some(agent.totals(name))
    });
    assert_eq!(seen.as_ref(), Some(&expected));
}

fn kills() -> u64 {
    std::env::var("PERFWATCH_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

#[test]
fn kill_9_under_load_loses_nothing_and_counts_nothing_twice() {
    let mut agent = Mortal::new();
    agent.start();
    agent.ready();
    let server = agent.server("mortal");
    let load = Load::on(&server);
    // Lengths that no second divides, so that every moment of a tick, a flush and a handshake is met.
    let mut chance = 0x9e37_79b9_u64;
    for round in 0..kills() {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        sleep(Duration::from_millis(200 + (chance >> 33) % 2_600));
        if round % 5 == 2 {
            // The connection outlives the socket's name; the next agent makes a new one.
            let _ = std::fs::remove_file(agent.dir.path().join("probe.sock"));
        }
        agent.kill();
        if round % 10 == 4 {
            sleep(Duration::from_secs(4));
        }
        agent.start();
    }
    agent.ready();
    let recorded = load.stop();
    assert!(recorded.requests > 1_000, "{}", recorded.requests);
    assert_exact(&agent, server, "mortal", &recorded);
    // What is on disk says the same.
    agent.kill();
    agent.start();
    agent.ready();
    assert_eq!(agent.totals("mortal"), Some(recorded.totals()));
    assert_eq!(agent.store(), Some(agent.state.join("perfwatch/journal.db").display().to_string()));
}

/// A small file system of its own; unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    /// `None` where this user may not mount.
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir(at).expect("a fresh folder");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "none"]).arg(at).output().ok()?;
        mounted.status.success().then(|| Self(at.to_owned()))
    }

    /// Takes the last byte.
    fn fill(&self) {
        use std::io::Write as _;
        let mut filler = std::fs::File::create(self.0.join("filler")).expect("room for a name");
        for size in [1 << 20, 4_096, 1] {
            let bytes = vec![0; size];
            while filler.write_all(&bytes).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("the filler is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_said_and_loses_nothing_and_the_journal_returns_by_itself() {
    let mut agent = Mortal::new();
    let Some(disk) = Disk::mount(&agent.state) else {
        println!("skipped: this user may not mount a tmpfs; run it as root");
        return;
    };
    agent.start();
    agent.ready();
    let path = agent.state.join("perfwatch/journal.db").display().to_string();
    let server = agent.server("full");
    let load = Load::on(&server);
    wait_for("the journal on disk", || agent.store().filter(|store| *store == path));
    disk.fill();
    let said = wait_for("the full disk to be said", || agent.store().filter(|store| store.starts_with("memory (")));
    assert!(said.contains(&path), "{said}");
    wait_for("the reason and the cure", || {
        let snapshot = agent.json("/v1/snapshot")?;
        let gaps = snapshot["unavailable"].as_array()?.clone();
        let gap = gaps.into_iter().find(|gap| gap["metric"] == "perfwatch.agent.journal.size")?;
        gap["cure"].as_str()?.contains("make room").then_some(())
    });
    // Receipts come from memory meanwhile.
    wait_for("a receipt", || server.flush_now().then_some(()));
    disk.free();
    wait_for("the journal to return", || agent.store().filter(|store| *store == path));
    // Everything before this receipt is on disk with it.
    wait_for("a durable receipt", || server.flush_now().then_some(()));
    agent.kill();
    agent.start();
    agent.ready();
    let recorded = load.stop();
    assert_exact(&agent, server, "full", &recorded);
}

#[test]
fn a_place_that_cannot_be_written_is_said_and_the_agent_runs() {
    let mut agent = Mortal::new();
    std::fs::write(&agent.state, "a file where a folder should be").expect("writable");
    agent.start();
    agent.ready();
    let store = wait_for("a snapshot", || agent.store());
    assert!(store.starts_with("memory (") && store.contains("journal.db"), "{store}");
    let server = agent.server("memory");
    let tokens = server.histogram("llm.tokens", Unit::Count("{token}"));
    let mut recorded = Recorded::default();
    (0..20).for_each(|_| recorded.record(&server, &tokens));
    assert_exact(&agent, server, "memory", &recorded);
}

#[test]
fn a_command_leaves_no_journal() {
    let agent = Mortal::new();
    let mut command = perfwatch(PERFWATCH, agent.dir.path());
    command.arg("snapshot").env("XDG_STATE_HOME", &agent.state);
    let output = run(command, Duration::from_mins(1));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!agent.state.exists());
}
