//! Servers that record a known sequence: on threads of the test, and in processes of their own that fork meanwhile.
//!
//! A process is this very test binary, told to run [`a_recorder_does_as_it_is_told`] alone. It writes lines to its standard
//! output: `at <seed> <steps> <monotonic ns>` after each step where asked to, and `end <seed> <steps>` once all that a thread
//! recorded is acknowledged.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use perfwatch_sdk::Server;
use perfwatch_tests::wait_for;
use rustix::process::{Pid, Signal, WaitOptions, set_parent_process_death_signal, waitpid};
use serde::{Deserialize, Serialize};

use super::sequence::{Progress, record, tokens};

/// Between two steps of a thread that is to last.
const PAUSE: Duration = Duration::from_micros(500);
/// In the environment of a recorder: its [`Order`] as JSON.
const ORDER: &str = "PERFWATCH_TEST_RECORDER";
/// How often a receipt is asked for, five times a second while there is no agent: it may be away for two minutes.
const PATIENCE: u32 = 1_500;

/// Threads of the test that record until they are stopped.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Progress>>,
}

impl Load {
    pub(super) fn on(server: &Server, seeds: std::ops::Range<u64>) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let threads = seeds
            .map(|seed| {
                let (server, stopped) = (server.clone(), Arc::clone(&stop));
                let stopped = move || stopped.load(Ordering::Relaxed);
                std::thread::spawn(move || run(&server, seed, Pace::Steady(u64::MAX), false, stopped))
            })
            .collect();
        Self { stop, threads }
    }

    pub(super) fn stop(self) -> Vec<Progress> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().expect("the load ends well")).collect()
    }
}

/// What a recorder is to do.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) socket: PathBuf,
    pub(super) service: String,
    /// Seed of its first thread; each further thread and each child has its own, up to 1,000 above it.
    pub(super) seed: u64,
    pub(super) threads: u64,
    /// Each thread takes so many steps as fast as it can; 0: at a steady pace until it is stopped.
    pub(super) steps: u64,
    /// Children that the first thread forks, one after the other, while all threads record.
    pub(super) forks: u64,
    /// Steps between two forks, at most.
    pub(super) fork_steps: u64,
    /// Tells each step.
    pub(super) tells: bool,
}

/// A recorder, seen by the test.
pub(super) struct Recorder {
    child: Child,
    stop: PathBuf,
    /// Reads all along: a full pipe would hold the recorder up.
    reader: Option<JoinHandle<Vec<String>>>,
}

impl Recorder {
    #[allow(clippy::disallowed_methods, reason = "a test starts processes")]
    pub(super) fn start(order: &Order, folder: &Path) -> Self {
        let stop = folder.join(format!("stop-{}", order.seed));
        let mut command = Command::new(std::env::current_exe().expect("a test knows its binary"));
        command
            .args(["--exact", "journal::recorder::a_recorder_does_as_it_is_told", "--nocapture"])
            .env(ORDER, serde_json::to_string(&(order, &stop)).expect("JSON"))
            .env_remove("PERFWATCH_DISABLED")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command.spawn().expect("the test binary starts");
        let pipe = BufReader::new(child.stdout.take().expect("piped"));
        let reader = std::thread::spawn(move || pipe.lines().map(|line| line.expect("text")).collect());
        Self { child, stop, reader: Some(reader) }
    }

    /// Tells it to stop and waits for its end; what its threads and its children recorded.
    pub(super) fn stop(self) -> Vec<Progress> {
        std::fs::write(&self.stop, "").expect("our folder");
        self.end()
    }

    /// Waits for its end.
    pub(super) fn end(mut self) -> Vec<Progress> {
        // Every process of it has the pipe: it ends when the last one does.
        let ends = self.lines("end").into_iter().map(|numbers| (numbers[0], numbers[1])).collect();
        let status = self.child.wait().expect("our child");
        assert!(status.success(), "{status}");
        ends
    }

    /// `kill -9`; every step it had told.
    pub(super) fn kill(mut self) -> Vec<[u64; 3]> {
        self.child.kill().expect("our child");
        self.lines("at").into_iter().map(|numbers| [numbers[0], numbers[1], numbers[2]]).collect()
    }

    /// The numbers of all lines of this kind, to the end of the pipe.
    fn lines(&mut self, kind: &str) -> Vec<Vec<u64>> {
        let lines = self.reader.take().expect("read once").join().expect("the pipe can be read");
        let told = lines.into_iter().filter_map(|line| {
            let (word, numbers) = line.split_once(' ')?;
            (word == kind).then(|| numbers.split(' ').map(|number| number.parse().expect("a number")).collect())
        });
        told.collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How fast, and how far at most.
#[derive(Clone, Copy)]
enum Pace {
    Full(u64),
    Steady(u64),
}

impl Pace {
    fn of(order: &Order) -> Self {
        if order.steps > 0 { Self::Full(order.steps) } else { Self::Steady(u64::MAX) }
    }
}

/// Takes steps until it has taken as many as it should or, at a steady pace, is to stop.
fn run(server: &Server, seed: u64, pace: Pace, tells: bool, stop: impl Fn() -> bool) -> Progress {
    let tokens = tokens(server);
    let mut done = 0;
    loop {
        match pace {
            Pace::Full(steps) if done == steps => break,
            Pace::Steady(steps) if done == steps || stop() => break,
            Pace::Full(_) => {}
            Pace::Steady(_) => sleep(PAUSE),
        }
        record(server, &tokens, (seed, done));
        done += 1;
        if tells {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            say(&format!("at {seed} {done} {}", now.tv_sec * 1_000_000_000 + now.tv_nsec));
        }
    }
    (seed, done)
}

/// One write, so that the lines of several processes do not mix; without a lock that a fork could leave taken.
fn say(line: &str) {
    let line = format!("{line}\n");
    rustix::io::write(rustix::stdio::stdout(), line.as_bytes()).expect("the test listens");
}

/// Waits for the receipt of everything, and tells how far each thread came.
fn finish(server: Server, recorded: &[Progress]) {
    // Each asks for some seconds.
    let received = (0..PATIENCE).any(|_| {
        server.flush_now() || {
            sleep(Duration::from_millis(200));
            false
        }
    });
    assert!(received, "no agent came back");
    for (seed, steps) in recorded {
        say(&format!("end {seed} {steps}"));
    }
    server.close();
}

fn fork() -> Option<Pid> {
    #[allow(unsafe_code, reason = "the test is about fork")]
    // SAFETY: the child uses the SDK and plain system calls, and leaves through `exit`.
    let pid = unsafe {
        unsafe extern "C" {
            fn fork() -> std::ffi::c_int;
        }
        fork()
    };
    assert!(pid >= 0, "the machine allows another process");
    Pid::from_raw(pid)
}

/// Dies when the test does.
fn follow_parent() {
    set_parent_process_death_signal(Some(Signal::KILL)).expect("Linux");
}

#[test]
fn a_recorder_does_as_it_is_told() {
    let Ok(order) = std::env::var(ORDER) else { return }; // An ordinary run of the tests.
    let (order, stop): (Order, PathBuf) = serde_json::from_str(&order).expect("an order");
    follow_parent();
    say(""); // The test harness may have begun a line.
    let server = Server::builder(&order.service).instance("1").socket(&order.socket).start();
    let (pace, tells) = (Pace::of(&order), order.tells);
    let others: Vec<_> = (1..order.threads)
        .map(|at| {
            let (server, stop, seed) = (server.clone(), stop.clone(), order.seed + at);
            std::thread::spawn(move || run(&server, seed, pace, tells, || stop.exists()))
        })
        .collect();
    let mut recorded = Vec::new();
    let mut children = Vec::new();
    for number in 0..order.forks {
        // Its own sequence goes on between two forks.
        let until = Pace::Steady(order.fork_steps / 2 + number * 37 % (order.fork_steps / 2));
        recorded.push(run(&server, order.seed + 100 + number, until, tells, || stop.exists()));
        if stop.exists() {
            break;
        }
        if let Some(child) = fork() {
            children.push(child);
            continue;
        }
        // The child: its threads are gone but for this one, and what was recorded before is its parent's.
        follow_parent();
        let life = Pace::Steady(if number % 8 == 0 { u64::MAX } else { 2_000 + number * 111 });
        let recorded = run(&server, order.seed + 500 + number, life, tells, || stop.exists());
        finish(server, &[recorded]);
        std::process::exit(0);
    }
    recorded.push(run(&server, order.seed, pace, tells, || stop.exists()));
    recorded.extend(others.into_iter().map(|thread| thread.join().expect("it ends well")));
    finish(server, &recorded);
    for child in children {
        let status = wait_for("a child", || waitpid(Some(child), WaitOptions::NOHANG).expect("our child"));
        assert_eq!(status.1.exit_status(), Some(0));
    }
}
