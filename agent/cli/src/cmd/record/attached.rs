//! A recording from a running agent: it keeps the seconds, and gives them when the time is over. One that dies meanwhile has
//! left them in its journal.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use perfwatch_model::snapshot::AgentView;
use perfwatch_tui::api;

use super::{SETTLE, code, create, now, tell};
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
    let mut watch = Watch { socket, about: None, seen: Duration::ZERO, away: false };
    let (passed, signal) = watch.wait(duration)?;
    if !watch.away {
        download(socket, output, passed)?;
        return told(socket, output, signal);
    }
    watch.copy(output)?;
    let journal = watch.journal().unwrap_or_default();
    let note = format!(
        "the agent was gone after {} s and did not come back; this is what its journal {} has",
        watch.seen.as_secs(),
        journal.display()
    );
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
    /// What it said of itself, once it had measured anything.
    about: Option<AgentView>,
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
            self.about = api::snapshot(self.socket).map(|one| one.agent).ok().or(self.about.take());
        } else if !self.away {
            self.away = true;
            if self.journal().is_none() {
                return Err(Failure::from(anyhow!("the agent at {socket} is gone, and so is what it measured"))
                    .hint(Some("an agent with a journal (journal.mode = \"disk\", the default) would have kept it")));
            }
            failure::tell(&format!(
                "the agent at {socket} is gone after {since} s; waiting for it to come back, ^C keeps what it had"
            ));
        }
        Ok(())
    }

    fn journal(&self) -> Option<PathBuf> {
        self.about.as_ref().filter(|about| !about.keeps_in_memory()).map(|about| PathBuf::from(&about.store))
    }

    /// What the agent had written down when it died.
    fn copy(&self, output: &Path) -> Result<(), Failure> {
        let Some(journal) = self.journal() else {
            return Err(anyhow!("the agent at {} is gone", self.socket.display()).into());
        };
        perfwatch_agent::take_recording(&journal, self.seen.max(LOOK), output).map_err(|error| {
            let hint = format!("`perfwatch replay {}` shows it to whoever may read it", journal.display());
            Failure::from(error).hint(Some(hint))
        })
    }
}
