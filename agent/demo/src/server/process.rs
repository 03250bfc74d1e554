//! The server as a process of its own, tied to its parent by a pipe.
//!
//! The parent writes `start` to the child's standard input and keeps the pipe open; the child answers with its address
//! on standard output and ends when the pipe closes. However the parent ends, even by `kill -9`, the system closes the
//! pipe. (A parent-death signal would be tied to the parent's *thread* that started the child, which may end earlier.)

use std::fs;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use super::{Server, ServerOptions};
use crate::error::DemoError;
use crate::placement::pin_this_thread;

/// Runs the server until standard input ends. For the hidden subcommand that the demo starts itself with.
pub fn run(options: &ServerOptions) -> Result<(), DemoError> {
    let mut commands = io::stdin().lock().lines();
    let mut group = None;
    loop {
        match commands.next().transpose().map_err(DemoError::system("read from the demo"))?.as_deref() {
            Some("start") => break,
            Some(line) => group = line.strip_prefix("group ").map(PathBuf::from).or(group),
            None => return Ok(()),
        }
    }
    if let Some(cpu) = options.cpu {
        // Before any thread starts, so that all inherit it.
        pin_this_thread(&[cpu]).map_err(DemoError::system("stay on the CPU given with --cpu"))?;
    }
    let server = Server::start(options)?;
    // Part of the protocol with the parent, not a message to people.
    writeln!(io::stdout(), "listening {}", server.address()).map_err(DemoError::system("report the address"))?;
    while let Some(Ok(_)) = commands.next() {}
    if let Some(group) = group {
        leave(&group);
    }
    Ok(())
}

/// Leaves and removes the control group that the parent made, which a killed parent cannot do any more.
fn leave(group: &Path) {
    let Some(parent) = group.parent() else { return };
    // Best effort: a parent that is alive does the same.
    if fs::write(parent.join("cgroup.procs"), std::process::id().to_string()).is_ok() {
        let _ = fs::remove_dir(group);
    }
}
