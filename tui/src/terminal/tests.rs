//! A real terminal (a pseudo-terminal) is given back whatever happens.
//!
//! Each test starts this test binary again inside a pseudo-terminal, as the one case that runs the screen.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use super::Screen;
use crate::fixtures;
use crate::{Error, Exit, Feed, FeedEvent, Options, ScriptedFeed, run};

/// Names the case for the process inside.
const CASE: &str = "PERFWATCH_TUI_CASE";
/// The test that runs inside.
const INSIDE: &str = "terminal::tests::inside";
/// Long enough for a busy machine; only a failure waits for it.
const PATIENCE: Duration = Duration::from_mins(1);

/// What runs inside the pseudo-terminal; without a case this is no test.
#[test]
fn inside() {
    let Ok(case) = std::env::var(CASE) else { return };
    let first = FeedEvent::Snapshot(Arc::new(fixtures::overload()));
    if case == "draw" {
        let mut screen = Screen::take().expect("a terminal");
        screen.draw(|_| panic!("a bug in a view")).expect("never drawn");
    }
    let feed: Box<dyn Feed> = match case.as_str() {
        "panic" => Box::new(Panics),
        "ends" => Box::new(ScriptedFeed::new([first])),
        _ => Box::new(ScriptedFeed::and_hold([first])),
    };
    let options = Options { quit_at_end: true, ..Options::default() };
    let code = match run(feed, &options) {
        Ok(Exit::Quit) => 10,
        Ok(Exit::Ended) => 11,
        Ok(Exit::Signal(signal)) => 128 + signal,
        Err(Error::NotATerminal(_)) => 12,
        Err(_) => 13,
    };
    std::process::exit(code);
}

/// Takes the whole process down in the middle of the picture, as a bug would.
struct Panics;

impl Feed for Panics {
    fn next(&mut self) -> FeedEvent {
        panic!("a bug in the feed");
    }
}

struct Terminal {
    controller: File,
    user: OwnedFd,
    child: Child,
    shown: Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl Terminal {
    #[allow(clippy::disallowed_methods, reason = "the test starts itself inside a pseudo-terminal")]
    fn start(case: &str) -> Self {
        let controller = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY)
            .expect("a pseudo-terminal");
        rustix::pty::grantpt(&controller).expect("granted");
        rustix::pty::unlockpt(&controller).expect("unlocked");
        let name = rustix::pty::ptsname(&controller, Vec::new()).expect("a name");
        let user = rustix::fs::open(
            name.as_c_str(),
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY,
            rustix::fs::Mode::empty(),
        )
        .expect("the other side");
        tcsetwinsize(&user, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).expect("a size");
        let side = || Stdio::from(user.try_clone().expect("a copy"));
        let child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", INSIDE, "--nocapture"])
            .env(CASE, case)
            .env("TERM", "xterm-256color")
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .expect("the process inside");
        let controller = File::from(controller);
        let mut reader = controller.try_clone().expect("a copy");
        let (sender, shown) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { controller, user, child, shown, seen: Vec::new() }
    }

    /// Waits until the terminal has been sent this.
    fn wait_for(&mut self, needle: &str) {
        while !self.seen.windows(needle.len()).any(|window| window == needle.as_bytes()) {
            let more = self.shown.recv_timeout(PATIENCE).unwrap_or_default();
            assert!(!more.is_empty(), "{needle:?} never came; seen: {:?}", String::from_utf8_lossy(&self.seen));
            self.seen.extend(more);
        }
    }

    fn type_in(&mut self, keys: &str) {
        self.controller.write_all(keys.as_bytes()).expect("typed");
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(self.user.as_fd()).expect("a terminal").local_modes.contains(LocalModes::ICANON)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for the end, and checks that the terminal is as it was.
    fn ends_politely(mut self) -> ExitStatus {
        let status = self.child.wait().expect("an end");
        self.wait_for(SHOW_CURSOR);
        self.wait_for(LEAVE);
        assert!(!self.is_raw(), "still raw");
        status
    }
}

const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";
const SHOW_CURSOR: &str = "\x1b[?25h";

#[test]
fn q_quits_and_restores_the_terminal() {
    let mut terminal = Terminal::start("hold");
    terminal.wait_for(ENTER);
    terminal.wait_for("Findings");
    assert!(terminal.is_raw());
    terminal.type_in("q");
    assert_eq!(terminal.ends_politely().code(), Some(10));
}

#[test]
fn frames_are_wrapped_in_synchronised_output() {
    let mut terminal = Terminal::start("hold");
    terminal.wait_for("\x1b[?2026h");
    terminal.wait_for("\x1b[?2026l");
    terminal.type_in("\x03");
    assert_eq!(terminal.ends_politely().code(), Some(10), "^C is a key here");
}

#[test]
fn a_signal_restores_the_terminal() {
    for (signal, number) in [(Signal::TERM, 15), (Signal::HUP, 1), (Signal::INT, 2)] {
        let mut terminal = Terminal::start("hold");
        terminal.wait_for("Findings");
        kill_process(terminal.pid(), signal).expect("sent");
        assert_eq!(terminal.ends_politely().code(), Some(128 + number));
    }
}

#[test]
fn the_end_of_the_feed_ends_the_screen_when_asked() {
    let terminal = Terminal::start("ends");
    assert_eq!(terminal.ends_politely().code(), Some(11));
}

#[test]
fn a_panic_on_another_thread_stays_out_of_the_picture_and_is_told_afterwards() {
    let mut terminal = Terminal::start("panic");
    terminal.wait_for(ENTER);
    terminal.wait_for("a bug in the feed");
    let seen = String::from_utf8_lossy(&terminal.seen).into_owned();
    let (left, told) = (seen.find(LEAVE), seen.find("a bug in the feed"));
    assert!(left.is_some() && left < told, "{seen:?}");
    terminal.ends_politely();
}

#[test]
fn a_panic_while_drawing_is_told_on_a_terminal_that_was_given_back() {
    let mut terminal = Terminal::start("draw");
    terminal.wait_for("a bug in a view");
    let seen = String::from_utf8_lossy(&terminal.seen).into_owned();
    let (left, told) = (seen.find(LEAVE), seen.find("a bug in a view"));
    assert!(left.is_some() && left < told, "{seen:?}");
    assert!(!terminal.ends_politely().success());
}

#[test]
fn suspending_gives_the_terminal_back_and_continuing_takes_it_again() {
    let mut terminal = Terminal::start("hold");
    terminal.wait_for("Findings");
    terminal.type_in("\x1a");
    let (_, status) = waitpid(Some(terminal.pid()), WaitOptions::UNTRACED).expect("a change").expect("a status");
    assert!(status.stopped());
    terminal.wait_for(LEAVE);
    assert!(!terminal.is_raw(), "the shell needs it back");
    terminal.seen.clear();
    kill_process(terminal.pid(), Signal::CONT).expect("sent");
    terminal.wait_for(ENTER);
    terminal.wait_for("Findings");
    assert!(terminal.is_raw());
    terminal.type_in("q");
    assert_eq!(terminal.ends_politely().code(), Some(10));
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the test starts itself without a terminal")]
fn without_a_terminal_once_is_suggested() {
    let status = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", INSIDE])
        .env(CASE, "hold")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the process inside");
    assert_eq!(status.code(), Some(12));
    assert!(Error::NotATerminal("standard output").to_string().contains("--once"));
}
