//! Processes that the demo starts, and never leaves behind.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::error::DemoError;

/// A server writes 80 MB of weights first; a minute is for the slowest machine, not the usual one.
const START_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a process may take to end by itself once its pipe is closed.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// How to start this very program in another role.
#[derive(Debug, Clone)]
pub struct Program {
    /// The executable.
    pub executable: PathBuf,
    /// Arguments that make it call [`crate::server::run`] with the options that follow.
    pub server: Vec<OsString>,
    /// Arguments that make it call [`crate::work::run`] with the options that follow.
    pub work: Vec<OsString>,
}

impl Program {
    /// This executable, with the subcommands `model-server` and `other-work`.
    pub fn this() -> Result<Self, DemoError> {
        let executable = std::env::current_exe().map_err(DemoError::system("find this program's own file"))?;
        Ok(Self { executable, server: vec!["model-server".into()], work: vec!["other-work".into()] })
    }
}

/// A process that ends when its standard input does; ended when dropped.
#[derive(Debug)]
pub struct Tied {
    child: Child,
    input: Option<ChildStdin>,
}

impl Tied {
    /// Starts `executable` with `args`, seeing the agent only in `runtime_dir`.
    pub(crate) fn spawn(executable: &Path, args: Vec<OsString>, runtime_dir: &Path) -> Result<Self, DemoError> {
        #[allow(clippy::disallowed_methods, reason = "the demo's server and neighbour are real processes")]
        let mut command = Command::new(executable);
        command
            .args(args)
            // Both: an agent that serves the whole machine must not be told about a demo.
            .env("PERFWATCH_RUNTIME_DIR", runtime_dir)
            .env("PERFWATCH_SOCKET", runtime_dir.join("probe.sock"))
            .env_remove("PERFWATCH_DISABLED")
            .env("PERFWATCH_INSTANCE", "1")
            // Ctrl-C is for the demo, which ends its processes itself.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let spawn = |error| DemoError::Spawn { program: executable.into(), error };
        let mut child = command.spawn().map_err(spawn)?;
        let input = child.stdin.take();
        Ok(Self { child, input })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends one line of the protocol in [`crate::server::run`].
    pub(crate) fn tell(&mut self, line: &str) -> Result<(), DemoError> {
        let Some(input) = &mut self.input else { return Err(DemoError::ServerGone("was stopped already".into())) };
        writeln!(input, "{line}").map_err(DemoError::system("talk to the demo's server"))
    }

    /// Lets a server start and waits for its address.
    pub(crate) fn start(&mut self) -> Result<SocketAddr, DemoError> {
        self.tell("start")?;
        let gone = |what: &str| DemoError::ServerGone(what.into());
        let output = self.child.stdout.take().ok_or_else(|| gone("was started twice"))?;
        let (send, receive) = mpsc::channel();
        // Reads to the end, so that the child never writes into a full or closed pipe.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(address) = line.strip_prefix("listening ").and_then(|address| address.parse().ok()) {
                    // Nobody waits any more after the timeout.
                    let _ = send.send(address);
                }
            }
        });
        match receive.recv_timeout(START_TIMEOUT) {
            Ok(address) => Ok(address),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(gone("ended while starting")),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(gone("did not start within a minute")),
        }
    }

    /// True while it runs.
    pub(crate) fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Tied {
    fn drop(&mut self) {
        drop(self.input.take());
        let began = crate::clock::now();
        while began.elapsed() < STOP_TIMEOUT {
            if !self.alive() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        // It had its time; a process that has ended meanwhile cannot be killed, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
