//! An agent that dies and comes back in the same folder.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};

use perfwatch_sdk::Server;
use perfwatch_tests::{get, perfwatch, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::sequence::{Progress, Totals, differences, expected, told};
use crate::PERFWATCH;

pub(super) struct Mortal {
    pub(super) dir: TempDir,
    pub(super) state: PathBuf,
    /// Where it takes in OTLP/HTTP beside its sockets.
    pub(super) intake: Option<SocketAddr>,
    child: Option<Child>,
}

impl Mortal {
    /// One that has not started yet.
    pub(super) fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("perfwatch-test-").tempdir().expect("a temporary folder");
        let state = dir.path().join("state");
        Self { dir, state, intake: None, child: None }
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
        self.child = Some(command.spawn().expect("the binary starts"));
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
