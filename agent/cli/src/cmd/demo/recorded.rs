//! `perfwatch demo --replay`: a GPU on a machine without one.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use perfwatch_agent::Replay;
use perfwatch_demo::replays::Recorded;
use perfwatch_model::Snapshot;

use super::{Demo, tell};
use crate::cmd::replay::replay_failure;
use crate::cmd::top::{exit_code, screen_failure};
use crate::failure::{Failure, print};
use crate::film;

/// The view that shows what the recordings are about.
const VIEW: &str = "gpus";

/// Plays it on the screen; without a terminal, what is said in its last second.
pub(super) fn play(demo: &Demo, recorded: &Recorded, interactive: bool) -> Result<ExitCode, Failure> {
    tell(&format!("{}: {}", recorded.name, recorded.origin));
    let mut player = open(recorded)?;
    let last = last(&player, demo.duration)?;
    let frames = film::up_to(&mut player, last).map_err(replay_failure)?;
    let ending = &frames.last().context("the recording ends before its last second")?.snapshot;
    tell_experimental(ending);
    if interactive {
        let first = player.span().map_err(replay_failure)?.first_seq;
        let feed = film::feed(player, first, Some(last), true).map_err(replay_failure)?;
        let options = demo.look.options_in(VIEW, false);
        return Ok(exit_code(perfwatch_tui::run(feed, &options).map_err(screen_failure)?));
    }
    let text = if demo.json {
        format!("{}\n", serde_json::to_string(&**ending)?)
    } else {
        let snapshots: Vec<Snapshot> = frames.iter().map(|frame| (*frame.snapshot).clone()).collect();
        demo.text(&snapshots, ending)
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Says of which findings an agent would be silent: a recording shows what perfwatch can tell, an agent by default what it is
/// sure of.
fn tell_experimental(ending: &Snapshot) {
    let ids: BTreeSet<&str> =
        ending.findings.iter().filter(|finding| finding.experimental).map(|finding| &*finding.id).collect();
    if !ids.is_empty() {
        let ids = ids.into_iter().collect::<Vec<_>>().join(", ");
        tell(&format!("it shows a finding that is experimental ({ids}): an agent tells such only with --rules all"));
    }
}

/// A player reads a file. It keeps it open, so nothing is left behind, however this ends.
fn open(recorded: &Recorded) -> Result<Replay, Failure> {
    let unpacked = || {
        let folder = tempfile::Builder::new().prefix("perfwatch-").tempdir()?;
        let file = folder.path().join(format!("{}.pwrec", recorded.name));
        std::fs::write(&file, recorded.unpack()?)?;
        Ok::<_, std::io::Error>((folder, file))
    };
    let (folder, file) = unpacked().context("cannot unpack the recording; TMPDIR says where to")?;
    let player = Replay::open(&file).map_err(replay_failure)?;
    folder.close()?;
    Ok(player)
}

/// The number of the tick that ends this much after the beginning, or of the last one.
fn last(player: &Replay, duration: Option<Duration>) -> Result<u64, Failure> {
    let span = player.span().map_err(replay_failure)?;
    let Some(duration) = duration else { return Ok(span.last_seq) };
    let end = span.first.wall_ns.saturating_add(duration.as_nanos() as u64);
    let found = player.archive().seek(end).map_err(|error| replay_failure(error.into()))?;
    Ok(found.map_or(span.last_seq, |seq| seq.clamp(span.first_seq, span.last_seq)))
}
