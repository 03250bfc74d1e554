//! `perfwatch replay`: a recording on the screen.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use perfwatch_agent::{Frame, Replay as Player, ReplayError};
use perfwatch_tui::{Goto, Recording, ReplayFeed, Shot};

use super::top::{Look, exit_code, screen_failure};
use crate::failure::{Failure, print, tell};
use crate::instant::Instant;

/// Exit code of a file whose ticks, judged anew, do not lead to the ledgers and findings in it.
const DIFFERS: u8 = 3;
/// Seconds before the one that is shown, for its sparklines.
const PAST: u64 = 119;

/// Show a recording, or an agent's journal, as the live screen showed it.
///
/// Ledgers and findings are made anew of what was measured; the screen says where they differ from the recorded ones. space
/// plays and pauses, `[` and `]` step by a second, `{` and `}` by a minute, B goes to the beginning, L to the end, + and - change
/// the speed.
///
/// Exit code: 0 done, 1 the file cannot be replayed, 3 (with --once, --json, --check) the ledgers or findings differ.
#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    /// What `perfwatch record` wrote, or the journal.db of an agent, running or not.
    file: PathBuf,
    /// Begin at this instant: 14:02:31 (UTC, as the screen shows it), 2026-03-04T14:02:31Z, seconds since 1970, or -90s, -5m
    /// before the end [default: the beginning; with --once and --json the end]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    at: Option<Instant>,
    /// Print one frame as text and exit.
    #[arg(long)]
    once: bool,
    /// Print the snapshot of one second as JSON and exit.
    #[arg(long, conflicts_with = "once")]
    json: bool,
    /// Judge the whole file anew, compare with what was recorded, say the result and exit.
    #[arg(long, conflicts_with_all = ["once", "json", "at"])]
    check: bool,
    #[command(flatten)]
    look: Look,
}

/// What the file is instead of a recording.
pub(super) fn replay_failure(error: ReplayError) -> Failure {
    let hint = error.hint();
    Failure::from(error).hint(Some(hint))
}

impl Replay {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let mut player = Player::open(&self.file).map_err(replay_failure)?;
        if self.check {
            return check(&mut player);
        }
        let span = player.span().map_err(replay_failure)?;
        let still = self.once || self.json;
        let seq = match &self.at {
            Some(at) => {
                let wall_ns = at.resolve(span.first.wall_ns, span.last.wall_ns).map_err(Failure::usage)?;
                player
                    .archive()
                    .seek(wall_ns)
                    .map_err(|error| replay_failure(error.into()))?
                    .map_or(span.last_seq, |seq| seq.max(span.first_seq))
            }
            None if still => span.last_seq,
            None => span.first_seq,
        };
        let frames = up_to(&mut player, seq).map_err(replay_failure)?;
        let options = self.look.options(false);
        if still {
            let Some(last) = frames.last() else { return Err(replay_failure(ReplayError::Empty(self.file))) };
            let text = if self.json {
                format!("{}\n", serde_json::to_string(&*last.snapshot)?)
            } else {
                let (width, height) = super::top::size();
                let snapshots: Vec<_> = frames.iter().map(|frame| (*frame.snapshot).clone()).collect();
                perfwatch_tui::render_once(&snapshots, width, height, &options)
            };
            print(&text)?;
            if last.as_recorded == Some(false) {
                tell("the ledgers or findings of this second differ from the recorded ones; --check lists all");
                return Ok(ExitCode::from(DIFFERS));
            }
            return Ok(ExitCode::SUCCESS);
        }
        if !std::io::stdout().is_terminal() {
            return Err(screen_failure(perfwatch_tui::Error::NotATerminal("standard output")));
        }
        let start: Vec<_> = frames.iter().map(shot).collect();
        let feed = ReplayFeed::new(Film { player, shown: seq }, start, self.at.is_none());
        Ok(exit_code(perfwatch_tui::run(feed, &options).map_err(screen_failure)?))
    }
}

/// The frames up to and with this tick.
fn up_to(player: &mut Player, seq: u64) -> Result<Vec<Frame>, ReplayError> {
    let mut frames = player.frames_to(seq, PAST)?;
    frames.extend(player.next_frame()?);
    Ok(frames)
}

fn shot(frame: &Frame) -> Shot {
    Shot { snapshot: Arc::clone(&frame.snapshot), differs: frame.as_recorded == Some(false) }
}

/// A file as the screen plays it.
struct Film {
    player: Player,
    /// Number of the tick on the screen.
    shown: u64,
}

impl Recording for Film {
    fn next(&mut self) -> Result<Option<Shot>, String> {
        let frame = self.player.next_frame().map_err(|error| error.to_string())?;
        if let Some(frame) = &frame {
            self.shown = frame.seq;
        }
        Ok(frame.as_ref().map(shot))
    }

    fn go(&mut self, to: Goto, _count: usize) -> Result<Vec<Shot>, String> {
        let frames = || {
            let span = self.player.span()?;
            let seq = match to {
                Goto::First => span.first_seq,
                Goto::Last => span.last_seq,
                Goto::By(back) if back < 0 => self.player.archive().before(self.shown, back.unsigned_abs())?,
                Goto::By(on) => self.player.archive().after(self.shown, on.unsigned_abs())?,
            };
            let seq = seq.clamp(span.first_seq, span.last_seq);
            let frames = up_to(&mut self.player, seq)?;
            self.shown = frames.last().map_or(seq, |frame| frame.seq);
            Ok::<_, ReplayError>(frames)
        };
        let mut frames = frames;
        Ok(frames().map_err(|error| error.to_string())?.iter().map(shot).collect())
    }
}

fn check(player: &mut Player) -> Result<ExitCode, Failure> {
    let result = player.compare().map_err(replay_failure)?;
    if result.compared == 0 {
        let why = "it holds no ledgers and findings, or only the half minute that fills the rules' windows";
        print(&format!("{} ticks judged anew; nothing to compare with: {why}\n", result.ticks))?;
        return Ok(ExitCode::SUCCESS);
    }
    let compared = format!("{} ticks judged anew, {} compared", result.ticks, result.compared);
    if result.differ == 0 {
        print(&format!("{compared}: ledgers and findings are as recorded\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!("{compared}: {} differ from what was recorded\n", result.differ);
    for (seq, anew, then) in &result.differing {
        text.push_str(&format!("tick {seq}\n"));
        for row in anew {
            text.push_str(&format!("  anew      {row}\n"));
        }
        for row in then {
            text.push_str(&format!("  recorded  {row}\n"));
        }
    }
    print(&text)?;
    Ok(ExitCode::from(DIFFERS))
}
