//! The screen on a real terminal: a pseudo-terminal whose other end is this test.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use perfwatch_sdk::Server;
use perfwatch_tests::{Agent, perfwatch, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use crate::{PERFWATCH, slow};

const ENTER_SCREEN: &str = "\x1b[?1049h";
const LEAVE_SCREEN: &str = "\x1b[?1049l";

/// A program on a terminal of its own.
struct Screen {
    child: Child,
    keyboard: File,
    terminal: File,
    written: Arc<Mutex<Vec<u8>>>,
}

/// A pseudo-terminal: the user's end and the program's.
fn pseudo_terminal(columns: u16, rows: u16) -> (File, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pseudo-terminal");
    grantpt(&master).expect("our pseudo-terminal");
    unlockpt(&master).expect("our pseudo-terminal");
    let name = ptsname(&master, Vec::new()).expect("its name");
    let path = name.to_str().expect("UTF-8").to_owned();
    let terminal = OpenOptions::new().read(true).write(true).open(path).expect("its other end");
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal, size).expect("a size");
    (File::from(master), terminal)
}

fn start(dir: &Path, args: &[&str], terminal: &File) -> Child {
    let end = || Stdio::from(terminal.try_clone().expect("a descriptor"));
    let mut command = perfwatch(PERFWATCH, dir);
    command.args(args).env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8").env("TMPDIR", dir);
    command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("the binary starts")
}

impl Screen {
    fn open(agent: &Agent, args: &[&str], columns: u16, rows: u16) -> Self {
        Self::open_in(agent.dir(), args, columns, rows)
    }

    fn open_in(dir: &Path, args: &[&str], columns: u16, rows: u16) -> Self {
        let (keyboard, terminal) = pseudo_terminal(columns, rows);
        let child = start(dir, args, &terminal);
        let written = Arc::new(Mutex::new(Vec::new()));
        let (mut output, sink) = (keyboard.try_clone().expect("a descriptor"), Arc::clone(&written));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                sink.lock().expect("no panic while held").extend_from_slice(&buffer[..count]);
            }
        });
        Self { child, keyboard, terminal, written }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().expect("no panic while held")).into_owned()
    }

    fn wait_for(&self, what: &str) {
        wait_for(what, || self.text().contains(what).then_some(()));
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// The program ended; the terminal must be as it was.
    fn assert_restored(mut self) {
        wait_for("the program to end", || self.child.try_wait().expect("our child"));
        let text = self.text();
        let (entered, left) = (text.rfind(ENTER_SCREEN), text.rfind(LEAVE_SCREEN));
        assert!(left > entered, "the alternate screen was not left: {text:?}");
        assert!(text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l"), "the cursor stayed hidden");
        let modes = tcgetattr(&self.terminal).expect("modes").local_modes;
        assert!(modes.contains(rustix::termios::LocalModes::ICANON), "the terminal stayed raw");
        assert!(modes.contains(rustix::termios::LocalModes::ECHO), "the terminal stayed silent");
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn top_draws_answers_keys_and_quits() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    let mut screen = Screen::open(&agent, &["top"], 80, 24);
    screen.wait_for(ENTER_SCREEN);
    screen.wait_for("LIVE");
    screen.press(" ");
    screen.wait_for("PAUSED");
    screen.press("q");
    screen.assert_restored();
}

#[test]
fn sigterm_restores_the_terminal() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    let screen = Screen::open(&agent, &["top"], 80, 24);
    screen.wait_for("LIVE");
    kill_process(Pid::from_child(&screen.child), Signal::TERM).expect("our child");
    screen.assert_restored();
}

#[test]
fn a_terminal_that_goes_away_ends_the_program() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    let (mut user, terminal) = pseudo_terminal(80, 24);
    let mut child = start(agent.dir(), &["top"], &terminal);
    drop(terminal);
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains("LIVE") {
        let mut buffer = [0; 4096];
        let count = user.read(&mut buffer).expect("the program draws");
        text.extend_from_slice(&buffer[..count]);
    }
    // As when an SSH connection breaks; no signal comes, because the terminal controls no session.
    drop(user);
    wait_for("the program to end", || child.try_wait().expect("our child"));
}

#[test]
fn a_terminal_that_is_too_small_says_what_is_needed() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    let mut screen = Screen::open(&agent, &["top"], 32, 8);
    screen.wait_for("40×10");
    screen.press("q");
    screen.assert_restored();
}

#[test]
fn top_without_an_agent_runs_one_inside() {
    let mut nobody = Agent::spawn(PERFWATCH, &[], &[]);
    nobody.kill();
    let mut screen = Screen::open(&nobody, &["top"], 80, 24);
    screen.wait_for("LIVE");
    assert!(perfwatch_tests::get(&nobody.api_socket(), "/healthz").is_ok(), "the inner agent serves the API as well");
    screen.press("q");
    screen.assert_restored();
}

#[test]
fn an_agent_that_dies_leaves_the_last_frame_and_comes_back() {
    let mut agent = Agent::spawn(PERFWATCH, &[], &[]);
    let mut screen = Screen::open(&agent, &["top"], 80, 24);
    screen.wait_for("LIVE");
    agent.kill();
    screen.wait_for("reconnecting");
    screen.press("q");
    screen.assert_restored();
}

#[test]
fn the_latency_view_shows_a_slow_request_with_what_it_waited_for() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    let server = Server::builder("slow").socket(agent.dir().join("probe.sock")).start();
    let mut screen = Screen::open(&agent, &["top"], 120, 40);
    screen.wait_for("LIVE");
    screen.press("2");
    slow::one_among_many(&server);
    // Words apart: a terminal is told only of the cells that changed, and a blank does not.
    for part in ["Slowest", "timeout", &slow::TRACE[..8], "rerank", "compute"] {
        screen.wait_for(part);
    }
    screen.press("q");
    screen.assert_restored();
}

#[test]
fn a_recording_of_the_demo_opens_at_its_gpu_and_says_all_the_time_that_it_is_scripted() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut screen = Screen::open_in(dir.path(), &["demo", "--replay", "h100-decode"], 80, 24);
    screen.wait_for("no GPU was there");
    // Words apart, as above; the selected view alone stands in brackets.
    for part in ["REPLAY", "[3", "scripted", "(scripted)", "bandwidth"] {
        screen.wait_for(part);
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("our folder").count(), 0, "nothing to leave behind");
    screen.press("+++");
    screen.wait_for("END");
    screen.press("q");
    screen.assert_restored();
}
