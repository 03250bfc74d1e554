//! `perfwatch replay`: a recording on the screen.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use perfwatch_agent::{Replay as Player, ReplayError};

use super::top::{Look, exit_code, screen_failure};
use crate::failure::{Failure, print, tell};
use crate::film;
use crate::instant::Instant;
use crate::settings::SettingFlags;

/// Exit code of a file whose ticks, judged anew, do not lead to the ledgers and findings in it.
const DIFFERS: u8 = 3;

/// Show a recording, or an agent's journal, as the live screen showed it.
///
/// Ledgers and findings are made anew of what was measured; the screen says where they differ from the recorded ones. space
/// plays and pauses, `[` and `]` step by a second, `{` and `}` by a minute, B goes to the beginning, L to the end, + and - change
/// the speed.
///
/// Settings of the agent are refused, as they would have no effect: a recording has those of the agent that made it.
///
/// Exit code: 0 done, 1 the file cannot be replayed, 2 wrong usage, 3 (with --once, --json, --check) the ledgers or findings
/// differ.
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
    #[arg(long, conflicts_with_all = ["once", "ascii", "theme", "view"])]
    json: bool,
    /// Judge the whole file anew, compare with what was recorded, say the result and exit.
    #[arg(long, conflicts_with_all = ["once", "json", "at", "ascii", "theme", "view"])]
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
    pub(crate) fn run(self, settings: &SettingFlags) -> Result<ExitCode, Failure> {
        settings.refuse_for_recording()?;
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
        let options = self.look.options(false);
        if still {
            let frames = film::up_to(&mut player, seq).map_err(replay_failure)?;
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
        let feed = film::feed(player, seq, None, self.at.is_none()).map_err(replay_failure)?;
        Ok(exit_code(perfwatch_tui::run(feed, &options).map_err(screen_failure)?))
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
