//! Disks that are full, places that cannot be written, commands that keep nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use perfwatch_sdk::Server;
use perfwatch_tests::{perfwatch, run, wait_for};

use super::mortal::Mortal;
use super::recorder::{Load, Order, Recorder};
use super::sequence::{Progress, record, tokens};
use crate::PERFWATCH;

/// A small file system of its own; unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    /// `None` where this user may not mount.
    fn mount(at: &Path) -> Option<Self> {
        std::fs::create_dir(at).expect("a fresh folder");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "none"]).arg(at).output().ok();
        if mounted.is_some_and(|mounted| mounted.status.success()) {
            return Some(Self(at.to_owned()));
        }
        None
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

/// An agent whose journal lies on a small disk, and a server under load that it has heard of.
struct Outage {
    agent: Mortal,
    disk: Disk,
    server: Server,
    load: Load,
}

impl Outage {
    /// `None`, and a word on it, where this user may not mount.
    #[allow(clippy::print_stdout, reason = "whoever reads the test's output is to know what was not tested")]
    fn before(service: &str) -> Option<Self> {
        let mut agent = Mortal::new();
        let Some(disk) = Disk::mount(&agent.state) else {
            println!("skipped: this user may not mount a tmpfs; run it as root");
            return None;
        };
        agent.start();
        agent.ready();
        let server = agent.server(service);
        let load = Load::on(&server, 1..3);
        on_disk(&agent);
        receipt(&server);
        Some(Self { agent, disk, server, load })
    }

    /// Fills the disk, and waits until the agent says so.
    fn fill(&self) {
        self.disk.fill();
        self.assert_in_memory();
    }

    fn assert_in_memory(&self) {
        let said =
            wait_for("the full disk to be said", || self.agent.store().filter(|store| store.starts_with("memory (")));
        assert!(said.contains(&self.agent.journal()), "{said}");
    }

    /// More of them than a server keeps one by one.
    fn receipts_from_memory(&self) {
        (0..12).for_each(|_| receipt(&self.server));
    }

    /// Stops the load and compares everything that was recorded.
    fn assert_exact(mut self, service: &str, others: Vec<Progress>) {
        let mut recorded = self.load.stop();
        recorded.extend(others);
        receipt(&self.server);
        self.server.close();
        self.agent.assert_exact(service, &recorded);
    }
}

/// Waits for the receipt of everything.
fn receipt(server: &Server) {
    wait_for("a receipt", || server.flush_now().then_some(()));
}

/// Waits until the agent says that its journal is there.
fn on_disk(agent: &Mortal) {
    wait_for("the journal on disk", || agent.store().filter(|store| *store == agent.journal()));
}

#[test]
fn a_full_disk_is_said_and_loses_nothing_and_the_journal_returns_by_itself() {
    let Some(mut outage) = Outage::before("full") else { return };
    let order = Order {
        socket: outage.agent.probe_socket(),
        service: "full".into(),
        seed: 1_000,
        threads: 1,
        ..Order::default()
    };
    let neighbour = Recorder::start(&order, outage.agent.dir.path());
    outage.fill();
    wait_for("the reason and the cure", || {
        let snapshot = outage.agent.json("/v1/snapshot")?;
        let gaps = snapshot["unavailable"].as_array()?.clone();
        let gap = gaps.into_iter().find(|gap| gap["metric"] == "perfwatch.agent.journal.size")?;
        gap["cure"].as_str()?.contains("make room").then_some(())
    });
    outage.receipts_from_memory();
    outage.disk.free();
    on_disk(&outage.agent);
    // Everything before this receipt is on disk with it.
    receipt(&outage.server);
    outage.agent.kill();
    outage.agent.start();
    outage.agent.ready();
    outage.assert_exact("full", neighbour.stop());
}

#[test]
fn an_agent_that_starts_on_a_full_disk_goes_on_from_what_is_there_and_writes_when_it_can() {
    let Some(mut outage) = Outage::before("restarted") else { return };
    outage.agent.ask_to_stop();
    assert!(outage.agent.end("the agent to stop when asked").success());
    outage.disk.fill();
    outage.agent.start();
    outage.agent.ready();
    outage.assert_in_memory();
    receipt(&outage.server);
    let before = outage.agent.totals("restarted");
    assert!(before["perfwatch.server.requests.started"].0 > 0);
    outage.disk.free();
    on_disk(&outage.agent);
    outage.assert_exact("restarted", Vec::new());
}

#[test]
fn what_only_the_memory_of_a_killed_agent_held_the_servers_tell_again() {
    let Some(mut outage) = Outage::before("owed") else { return };
    outage.fill();
    outage.receipts_from_memory();
    outage.agent.kill();
    outage.disk.free();
    outage.agent.start();
    outage.agent.ready();
    on_disk(&outage.agent);
    outage.assert_exact("owed", Vec::new());
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
    let tokens = tokens(&server);
    let all: Progress = (7, 20);
    (0..all.1).for_each(|number| record(&server, &tokens, (all.0, number)));
    receipt(&server);
    server.close();
    agent.assert_exact("memory", &[all]);
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
