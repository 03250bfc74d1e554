//! A recording from a running agent: it keeps the seconds, and gives them when the time is over. One that dies meanwhile has
//! left them in its journal.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use perfwatch_agent::Replay;
use perfwatch_tui::api;

use super::super::replay::replay_failure;
use super::{SETTLE, code, create, now, tell, wall_ns};
use crate::failure::{self, Failure};
use crate::runtime;

/// How often the agent is looked for.
const LOOK: Duration = Duration::from_secs(1);

/// What an agent kept before now.
pub(super) fn newest(socket: &Path, output: &Path, last: Duration) -> Result<ExitCode, Failure> {
    download(socket, output, last)?;
    told(socket, output, None)
}

/// What an agent keeps from now on.
pub(super) fn from_now_on(socket: &Path, output: &Path, duration: Duration) -> Result<ExitCode, Failure> {
    // Before ten minutes are spent on something that cannot be written down.
    drop(create(output)?);
    let _ = std::fs::remove_file(output);
    failure::tell(&format!("recording for {} s; ^C ends it and keeps what is there", duration.as_secs()));
    let mut watch = Watch { socket, journal: None, began_wall_ns: wall_ns(), seen: Duration::ZERO, away: false };
    let (passed, signal) = watch.wait(duration)?;
    if !watch.away {
        download(socket, output, passed)?;
        return told(socket, output, signal);
    }
    let note = watch.copy(output)?;
    tell(output, Some(&note))?;
    Ok(code(signal))
}

fn told(socket: &Path, output: &Path, signal: Option<i32>) -> Result<ExitCode, Failure> {
    let in_memory = api::snapshot(socket).is_ok_and(|one| one.agent.keeps_in_memory());
    tell(output, in_memory.then_some("the agent keeps no journal: it has only its last two minutes"))?;
    Ok(code(signal))
}

/// By length, not by times: the wall clock may be set meanwhile.
fn download(socket: &Path, output: &Path, last: Duration) -> Result<(), Failure> {
    let path = format!("/v1/recording?last={}", last.as_secs_f64());
    let mut file = create(output)?;
    let got = api::download(socket, &path, &mut file).map_err(anyhow::Error::from);
    let got = got.and_then(|()| file.sync_all().with_context(|| format!("cannot write {}", output.display())));
    drop(file);
    got.map_err(|error| {
        let _ = std::fs::remove_file(output);
        error.into()
    })
}

/// An agent that is looked after while it measures.
struct Watch<'a> {
    socket: &'a Path,
    /// Where it was last seen to keep its history on a disk.
    journal: Option<PathBuf>,
    began_wall_ns: u64,
    /// How long after the beginning it was last there.
    seen: Duration,
    away: bool,
}

impl Watch<'_> {
    /// Waits for so long, or until a signal says that it is enough; how long that was, and which one.
    fn wait(&mut self, duration: Duration) -> Result<(Duration, Option<i32>), Failure> {
        let runtime = runtime::runtime()?;
        let mut stop = Box::pin(runtime.block_on(async { runtime::stop_signal() })?);
        let (began, limit) = (now(), duration + SETTLE);
        loop {
            self.look(began.elapsed())?;
            let left = limit.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Ok((duration, None));
            }
            let signal = runtime.block_on(async { tokio::time::timeout(left.min(LOOK), &mut stop).await });
            if let Ok(signal) = signal {
                let passed = began.elapsed().min(duration);
                std::thread::sleep(SETTLE);
                self.look(began.elapsed())?;
                return Ok((passed, Some(signal)));
            }
        }
    }

    fn look(&mut self, passed: Duration) -> Result<(), Failure> {
        let (socket, since) = (self.socket.display(), self.seen.as_secs());
        if UnixStream::connect(self.socket).is_ok() {
            if self.away {
                failure::tell(&format!("the agent at {socket} is back"));
            }
            self.seen = passed;
            self.away = false;
            // What reached the disk before it was full is still there.
            if let Ok(about) = api::snapshot(self.socket).map(|one| one.agent)
                && !about.keeps_in_memory()
            {
                self.journal = Some(PathBuf::from(about.store));
            }
        } else if !self.away {
            self.away = true;
            let Some(journal) = &self.journal else {
                return Err(Failure::from(anyhow!("the agent at {socket} is gone, and so is what it measured"))
                    .hint(Some("an agent with a journal (journal.mode = \"disk\", the default) would have kept it")));
            };
            let then = match File::open(journal) {
                Ok(_) => "^C keeps what it had".to_owned(),
                Err(error) => format!("what it had is in {}, which you cannot read: {error}", journal.display()),
            };
            failure::tell(&format!(
                "the agent at {socket} is gone after {since} s; waiting for it to come back, {then}"
            ));
        }
        Ok(())
    }

    /// Takes what the agent had written down when it died; says what that is.
    fn copy(&self, output: &Path) -> Result<String, Failure> {
        let Some(journal) = &self.journal else {
            return Err(anyhow!("the agent at {} is gone", self.socket.display()).into());
        };
        let hint = || format!("`perfwatch replay {}` shows it to whoever may read it", journal.display());
        perfwatch_agent::take_recording(journal, self.seen.max(LOOK), output)
            .map_err(|error| Failure::from(error).hint(Some(hint())))?;
        // A full disk, or a journal of the same name that is another agent's: what it has is of another time.
        let last = Replay::open(output).and_then(|replay| replay.span()).map_err(replay_failure)?.last.wall_ns;
        if last < self.began_wall_ns {
            let _ = std::fs::remove_file(output);
            let ended = perfwatch_agent::rfc3339(last);
            let why = anyhow!("the agent is gone, and its journal {} ends before, at {ended}", journal.display());
            return Err(Failure::from(why).hint(Some(hint())));
        }
        let seconds = self.seen.as_secs();
        let journal = journal.display();
        Ok(format!(
            "the agent was gone after {seconds} s and did not come back; this is what its journal {journal} has"
        ))
    }
}
