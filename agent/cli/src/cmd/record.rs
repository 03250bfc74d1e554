//! `perfwatch record`: what is measured, into a file.

mod attached;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use perfwatch_agent::{Config, Replay, Role};

use super::replay::replay_failure;
use crate::failure::{self, Failure, print};
use crate::hosted::Hosted;
use crate::instant::duration;
use crate::logging;
use crate::settings::SettingFlags;
use crate::source::Source;

/// What is recorded unless told otherwise.
const DEFAULT: Duration = Duration::from_mins(10);
/// A tick is closed half a second after its end, and kept soon after.
const SETTLE: Duration = Duration::from_secs(1);

/// Record what is measured into a file that `perfwatch replay` shows.
///
/// From a running agent it takes the seconds that the agent keeps; without one an agent runs inside for as long. ^C ends
/// it early and keeps what is there, and so does an agent that dies and does not come back: its journal has it. The file is for
/// its owner alone; it holds names, pids and numbers of servers and processes, no request's content.
///
/// Rules look at 10 s and a finding must hold for some more; a minute is enough for `perfwatch replay --check` to compare.
#[derive(Debug, clap::Args)]
pub(crate) struct Record {
    /// How long: 90s, 10m, 2h [default: 10m, or until ^C]
    #[arg(long, value_name = "TIME", value_parser = duration, allow_hyphen_values = true, conflicts_with = "last")]
    duration: Option<Duration>,
    /// Take what a running agent kept in this time before now, and wait for nothing.
    #[arg(long, value_name = "TIME", value_parser = duration, allow_hyphen_values = true)]
    last: Option<Duration>,
    /// Where to; must not be there yet [default: perfwatch-TIME.pwrec in this folder]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Record {
    pub(crate) fn run(self, settings: &SettingFlags) -> Result<ExitCode, Failure> {
        let output = self.output.clone().unwrap_or_else(|| {
            let name = perfwatch_agent::rfc3339(wall_ns()).replace(':', "-");
            PathBuf::from(format!("perfwatch-{}Z.pwrec", &name[..19]))
        });
        match Source::open(settings)? {
            Source::Attached(socket) => match self.last {
                Some(last) => attached::newest(&socket, &output, last),
                None => attached::from_now_on(&socket, &output, self.duration.unwrap_or(DEFAULT)),
            },
            Source::InProcess(_) if self.last.is_some() => {
                Err(Failure::usage(anyhow!("no agent runs here, so nothing was kept of the time before now"))
                    .hint(Some("start `perfwatch agent`, or record from now on with --duration")))
            }
            Source::InProcess(config) => self.inside(*config, &output),
        }
    }

    fn inside(&self, mut config: Config, output: &Path) -> Result<ExitCode, Failure> {
        drop(create(output)?);
        // The journal makes it anew, with what belongs into it.
        std::fs::remove_file(output)?;
        logging::to_file(&config, "record.log");
        let duration = self.duration.unwrap_or(DEFAULT);
        let limit = duration + SETTLE;
        let settings = &mut config.settings;
        settings.journal_path = Some(output.to_owned());
        // What a journal forgets is no matter of a recording: it holds all that it was asked for.
        settings.journal_keep.0 = limit.as_secs() + 60;
        settings.journal_cap.0 = u64::MAX >> 2;
        failure::tell(&format!(
            "recording for {} s with an agent inside; ^C ends it and keeps what is there",
            duration.as_secs()
        ));
        let (agent, snapshots) = Hosted::start(config, Role::Recorder, true)?;
        let began = now();
        let mut lost = None;
        while let Some(left) = limit.checked_sub(began.elapsed()) {
            match snapshots.recv_timeout(left) {
                Ok(snapshot) => {
                    // At the first tick nothing is lost yet, and nothing will be gained.
                    if snapshot.agent.keeps_in_memory() {
                        lost = Some(snapshot.agent.store.clone());
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let signal = agent.stop();
        let mut lock = output.as_os_str().to_owned();
        lock.push(".lock");
        // Nobody else writes there.
        let _ = std::fs::remove_file(lock);
        if let Some(store) = lost {
            let kept = Replay::open(output)
                .and_then(|replay| replay.span())
                .map_or(0, |span| span.last_seq + 1 - span.first_seq);
            let why =
                anyhow!("cannot record into {}: history is in {store}; {kept} s are in the file", output.display());
            return Err(Failure::from(why).hint(Some("make room there, or choose another place with -o")));
        }
        tell(output, None)?;
        Ok(code(signal))
    }
}

#[allow(clippy::disallowed_methods, reason = "how long the command has run; nothing that is measured depends on it")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// ^C is how a recording is meant to end; other signals end a command as ever.
fn code(signal: Option<i32>) -> ExitCode {
    match signal {
        None | Some(2) => ExitCode::SUCCESS,
        Some(signal) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(1)),
    }
}

fn create(output: &Path) -> Result<File, Failure> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(output)
        .with_context(|| format!("cannot write {}", output.display()))
        .map_err(|error| Failure::usage(error).hint(Some("choose another place with -o")))
}

fn tell(output: &Path, but: Option<&str>) -> Result<(), Failure> {
    let replay = Replay::open(output).map_err(replay_failure)?;
    let span = replay.span().map_err(replay_failure)?;
    let bytes = std::fs::metadata(output).map_or(0, |meta| meta.len());
    let time = perfwatch_agent::rfc3339;
    let ticks = span.last_seq + 1 - span.first_seq;
    let text = format!(
        "{}: {ticks} s, {} to {}, {} kB\n",
        output.display(),
        time(span.first.wall_ns),
        time(span.last.wall_ns),
        bytes.div_ceil(1000)
    );
    print(&text)?;
    // What cannot be read here is found by whoever replays it.
    let absent_s = replay.archive().absent_ns(span.first_seq).unwrap_or(0) / 1_000_000_000;
    if absent_s > 0 {
        failure::tell(&format!("note: {absent_s} s of that time are missing: no agent measured them"));
    }
    if let Some(but) = but {
        failure::tell(&format!("note: {but}"));
    }
    Ok(())
}

fn wall_ns() -> u64 {
    #[allow(clippy::disallowed_methods, reason = "the command's own wall clock")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
