//! What the end-to-end tests share: a private runtime folder, a spawned agent, a request to its local API.
//!
//! Everything here runs the real binary over real sockets. Waiting is always for an event with a generous deadline, never
//! for a fixed time, because the machines that run these tests are busy.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything takes on a machine that is merely slow.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// Asks `question` every 50 ms until it answers `Some`; panics with `what` at the deadline.
#[allow(clippy::disallowed_methods, reason = "a test waits in real time")]
pub fn wait_for<T>(what: &str, mut question: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "gave up waiting for {what}");
        sleep(Duration::from_millis(50));
    }
}

/// The perfwatch binary with an environment that knows nothing of the machine it runs on but a private runtime folder.
#[allow(clippy::disallowed_methods, reason = "tests start the real binary")]
pub fn perfwatch(binary: &str, runtime: &Path) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars() {
        if name.starts_with("OTEL_") || name.starts_with("PERFWATCH_") {
            command.env_remove(name);
        }
    }
    command
        .env("PERFWATCH_RUNTIME_DIR", runtime)
        .env("XDG_CONFIG_HOME", runtime)
        .env("XDG_STATE_HOME", runtime.join("state"))
        .env_remove("STATE_DIRECTORY")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

/// A real backend, where `tests/peers/install.sh` put it; says so and is `None` when it is not there.
#[allow(clippy::print_stdout, reason = "who reads the tests' output is to know what did not run")]
pub fn peer(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("PERFWATCH_TEST_PEERS").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers"));
    let binary = folder.join("bin").join(name);
    if binary.is_file() {
        return Some(binary);
    }
    println!("skipped: no {}; tests/peers/install.sh installs it", binary.display());
    None
}

/// A running `perfwatch agent` in a runtime folder of its own. Killed when dropped.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    dir: TempDir,
}

impl Agent {
    /// Starts the binary with `args` after `agent` and waits until it is ready.
    pub fn spawn(binary: &str, args: &[&str], envs: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("perfwatch-test-").tempdir().expect("a temporary folder");
        let child = perfwatch(binary, dir.path())
            .arg("agent")
            .args(args)
            .envs(envs.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut agent = Self { child, dir };
        wait_for("the agent to be ready", || {
            if let Some(status) = agent.child.try_wait().expect("the child can be waited for") {
                let mut stderr = String::new();
                let pipe = agent.child.stderr.as_mut().expect("stderr is piped");
                pipe.read_to_string(&mut stderr).expect("stderr is text");
                panic!("the agent ended with {status}: {stderr}");
            }
            get(&agent.api_socket(), "/readyz").ok().filter(|(status, _)| *status == 200)
        });
        agent
    }

    /// Its runtime folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Socket of its local API.
    pub fn api_socket(&self) -> PathBuf {
        self.dir.path().join("api.sock")
    }

    /// Body of a GET to its local API, as JSON.
    pub fn json(&self, path: &str) -> Value {
        let (status, body) = get(&self.api_socket(), path).expect("the local API answers");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path} is not JSON ({error}): {body}"))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("our child can be signalled");
    }

    /// Sends SIGTERM and waits for the end; the status and what it wrote to stderr.
    pub fn terminate(mut self) -> (ExitStatus, String) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("our child can be signalled");
        let status = wait_for("the agent to stop", || self.child.try_wait().expect("our child can be waited for"));
        let mut stderr = String::new();
        self.child.stderr.take().expect("stderr is piped").read_to_string(&mut stderr).expect("stderr is text");
        (status, stderr)
    }

    /// Kills it without a chance to clean up.
    pub fn kill(&mut self) {
        self.child.kill().expect("our child can be killed");
        self.child.wait().expect("our child can be waited for");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end; panics when it takes longer than `limit`.
pub fn run(mut command: Command, limit: Duration) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
    let (mut stdout, mut stderr) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
    let out = std::thread::spawn(move || read_all(&mut stdout));
    let err = std::thread::spawn(move || read_all(&mut stderr));
    let status = wait_until(limit, || child.try_wait().expect("our child can be waited for"));
    let Some(status) = status else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{command:?} did not end within {limit:?}");
    };
    Output { status, stdout: out.join().expect("reader"), stderr: err.join().expect("reader") }
}

fn read_all(pipe: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).expect("a pipe can be read");
    bytes
}

#[allow(clippy::disallowed_methods, reason = "a test waits in real time")]
fn wait_until<T>(limit: Duration, mut question: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Some(answer) = question() {
            return Some(answer);
        }
        sleep(Duration::from_millis(50));
    }
    None
}

/// One HTTP GET over a UNIX socket; the status and the body.
pub fn get(socket: &Path, path: &str) -> io::Result<(u16, String)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: perfwatch\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("no end of headers"))?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.ok_or_else(|| io::Error::other("no status line"))?, body.to_owned()))
}

/// True when the entries of a ledger sum to its interval exactly.
pub fn sums_exactly(ledger: &Value) -> bool {
    let entries = ledger["entries"].as_array().expect("a ledger has entries");
    let sum: u64 = entries.iter().map(|entry| entry["ns"].as_u64().expect("nanoseconds")).sum();
    sum == ledger["interval_ns"].as_u64().expect("an interval")
}
