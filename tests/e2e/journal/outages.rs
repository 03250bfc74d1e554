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

/// Said by tests that fill a disk.
const SKIPPED: &str = "skipped: this user may not mount a tmpfs; run it as root";

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
    let mut agent = Mortal::new();
    let Some(disk) = Disk::mount(&agent.state) else {
        println!("{SKIPPED}");
        return;
    };
    agent.start();
    agent.ready();
    let server = agent.server("full");
    let load = Load::on(&server, 1..3);
    let order =
        Order { socket: agent.probe_socket(), service: "full".into(), seed: 1_000, threads: 1, ..Order::default() };
    let neighbour = Recorder::start(&order, agent.dir.path());
    on_disk(&agent);
    disk.fill();
    let said = wait_for("the full disk to be said", || agent.store().filter(|store| store.starts_with("memory (")));
    assert!(said.contains(&agent.journal()), "{said}");
    wait_for("the reason and the cure", || {
        let snapshot = agent.json("/v1/snapshot")?;
        let gaps = snapshot["unavailable"].as_array()?.clone();
        let gap = gaps.into_iter().find(|gap| gap["metric"] == "perfwatch.agent.journal.size")?;
        gap["cure"].as_str()?.contains("make room").then_some(())
    });
    // Receipts come from memory meanwhile, more of them than a server keeps one by one.
    (0..12).for_each(|_| receipt(&server));
    disk.free();
    on_disk(&agent);
    // Everything before this receipt is on disk with it.
    receipt(&server);
    agent.kill();
    agent.start();
    agent.ready();
    let mut recorded = load.stop();
    recorded.extend(neighbour.stop());
    receipt(&server);
    server.close();
    agent.assert_exact("full", &recorded);
}

#[test]
fn an_agent_that_starts_on_a_full_disk_goes_on_from_what_is_there_and_writes_when_it_can() {
    let mut agent = Mortal::new();
    let Some(disk) = Disk::mount(&agent.state) else {
        println!("{SKIPPED}");
        return;
    };
    agent.start();
    agent.ready();
    let server = agent.server("restarted");
    let load = Load::on(&server, 1..3);
    on_disk(&agent);
    receipt(&server);
    agent.ask_to_stop();
    assert!(agent.end("the agent to stop when asked").success());
    disk.fill();
    agent.start();
    agent.ready();
    let said = wait_for("a snapshot", || agent.store());
    assert!(said.starts_with("memory (") && said.contains(&agent.journal()), "{said}");
    receipt(&server);
    let before = agent.totals("restarted");
    assert!(before["perfwatch.server.requests.started"].0 > 0);
    disk.free();
    on_disk(&agent);
    let recorded = load.stop();
    receipt(&server);
    server.close();
    agent.assert_exact("restarted", &recorded);
}

#[test]
fn what_only_the_memory_of_a_killed_agent_held_the_servers_tell_again() {
    let mut agent = Mortal::new();
    let Some(disk) = Disk::mount(&agent.state) else {
        println!("{SKIPPED}");
        return;
    };
    agent.start();
    agent.ready();
    let server = agent.server("owed");
    let load = Load::on(&server, 1..3);
    on_disk(&agent);
    receipt(&server);
    disk.fill();
    wait_for("the full disk to be said", || agent.store().filter(|store| store.starts_with("memory (")));
    (0..12).for_each(|_| receipt(&server));
    agent.kill();
    disk.free();
    agent.start();
    agent.ready();
    on_disk(&agent);
    let recorded = load.stop();
    receipt(&server);
    server.close();
    agent.assert_exact("owed", &recorded);
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
