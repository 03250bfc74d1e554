//! An agent that dies and comes back in the same folder.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use perfwatch_sdk::Server;
use perfwatch_tests::{get, perfwatch, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::sequence::{Progress, Totals, differences, expected, told};
use crate::PERFWATCH;

/// How an agent's end comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// SIGKILL after so many milliseconds.
    Random(u64),
    /// By its own hand at this passing of a failpoint.
    At(&'static str, u32),
}

pub(super) struct Mortal {
    pub(super) dir: TempDir,
    pub(super) state: PathBuf,
    /// Where it takes in OTLP/HTTP beside its sockets.
    pub(super) intake: Option<SocketAddr>,
    /// More of its environment.
    pub(super) env: Vec<(&'static str, String)>,
    child: Option<Child>,
}

impl Mortal {
    /// One that has not started yet.
    pub(super) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("perfwatch-test-").tempdir().expect("a temporary folder");
        let state = dir.path().join("state");
        Self { dir, state, intake: None, env: Vec::new(), child: None }
    }

    pub(super) fn start(&mut self) {
        self.start_armed(None);
    }

    /// Starts it; it will kill itself at this failpoint (see `perfwatch_store::failpoint`).
    pub(super) fn start_armed(&mut self, failpoint: Option<&str>) {
        let mut command = perfwatch(PERFWATCH, self.dir.path());
        command.arg("agent").env("XDG_STATE_HOME", &self.state).stdout(Stdio::null()).stderr(Stdio::null());
        command.envs(failpoint.map(|name| ("PERFWATCH_FAILPOINT", name)));
        command.envs(self.intake.map(|address| ("PERFWATCH_INTAKE_HTTP", address.to_string())));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        self.child = Some(command.spawn().expect("the binary starts"));
    }

    /// Starts it to die at this passing of a failpoint; those on the way of stopping are passed when it is asked to stop.
    pub(super) fn start_to_die_at(&mut self, name: &str, nth: u32) {
        if !name.starts_with("stop") {
            return self.start_armed(Some(&format!("{name}:{nth}")));
        }
        self.start_armed(Some(name));
        self.ready();
        // At a moment of its own in the second, each time.
        sleep(Duration::from_millis(u64::from(nth) * 413));
        self.ask_to_stop();
    }

    /// Waits until it has killed itself. A failpoint that is never reached fails here, at the deadline.
    pub(super) fn killed_itself(&mut self, what: &str) {
        let status = self.end(what);
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{what}: {status}");
    }

    pub(super) fn ready(&self) {
        let socket = self.dir.path().join("api.sock");
        wait_for("the agent", || get(&socket, "/readyz").ok().filter(|(status, _)| *status == 200));
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("our child");
        let status = child.wait().expect("our child");
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "it had ended before: {status}");
    }

    /// SIGTERM, without waiting for what comes of it.
    pub(super) fn ask_to_stop(&self) {
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), Signal::TERM).expect("our child");
    }

    /// Waits until it has ended by itself.
    pub(super) fn end(&mut self, what: &str) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        wait_for(what, || child.try_wait().expect("our child"))
    }

    /// True when it has ended by itself, now or within this time.
    #[allow(dead_code, reason = "the tests of real backends share this file")]
    pub(super) fn ended_within(&mut self, limit: Duration) -> bool {
        let child = self.child.as_mut().expect("it runs");
        let start = Instant::now();
        while child.try_wait().expect("our child").is_none() {
            if start.elapsed() >= limit {
                return false;
            }
            sleep(Duration::from_millis(50));
        }
        true
    }

    pub(super) fn probe_socket(&self) -> PathBuf {
        self.dir.path().join("probe.sock")
    }

    pub(super) fn json(&self, path: &str) -> Option<Value> {
        let (status, body) = get(&self.dir.path().join("api.sock"), path).ok()?;
        (status == 200).then(|| serde_json::from_str(&body).expect("JSON"))
    }

    pub(super) fn server(&self, name: &str) -> Server {
        Server::builder(name).instance("1").socket(self.probe_socket()).start()
    }

    /// Where it says that the journal is.
    pub(super) fn store(&self) -> Option<String> {
        Some(self.json("/v1/snapshot")?["agent"]["store"].as_str().expect("a text").to_owned())
    }

    pub(super) fn journal(&self) -> String {
        self.state.join("perfwatch/journal.db").display().to_string()
    }

    /// Every total of this server that a test knows to the last digit.
    pub(super) fn totals(&self, name: &str) -> Totals {
        let path = format!("/v1/query?entity=server:{name}/1&buckets=true");
        told(&wait_for("the totals", || self.json(&path)))
    }

    /// Waits until no server speaks any more: what could still be counted twice has come then.
    pub(super) fn quiet(&self) {
        wait_for("the servers to be silent", || {
            let snapshot = self.json("/v1/snapshot")?;
            let servers = snapshot["servers"].as_array()?.clone();
            servers.iter().all(|server| server["live"] != true).then_some(())
        });
    }

    /// Compares to the last digit, all receipts being given: nothing lost, nothing twice, in memory and on disk. Returns how
    /// many requests that were.
    pub(super) fn assert_exact(&mut self, name: &str, recorded: &[Progress]) -> u64 {
        let expected = expected(recorded);
        self.quiet();
        let apart = differences(&expected, &self.totals(name));
        assert!(apart.is_empty(), "of {recorded:?}: {apart:#?}");
        if self.store() == Some(self.journal()) {
            self.kill();
            self.start();
            self.ready();
            let apart = differences(&expected, &self.totals(name));
            assert!(apart.is_empty(), "on disk, of {recorded:?}: {apart:#?}");
        }
        recorded.iter().map(|(_, steps)| steps).sum()
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
