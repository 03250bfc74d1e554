//! A recording as the screen plays it.

use std::sync::Arc;

use perfwatch_agent::{Frame, Replay, ReplayError};
use perfwatch_tui::{Goto, Recording, ReplayFeed, Shot};

/// Seconds before the one that is shown, for its sparklines.
const PAST: u64 = 119;

/// The frames up to and with this tick.
pub(crate) fn up_to(player: &mut Replay, seq: u64) -> Result<Vec<Frame>, ReplayError> {
    let mut frames = player.frames_to(seq, PAST)?;
    frames.extend(player.next_frame()?);
    Ok(frames)
}

/// Plays from a tick on, as far as the file goes, and no further than `last`.
pub(crate) fn feed(
    mut player: Replay,
    from: u64,
    last: Option<u64>,
    playing: bool,
) -> Result<ReplayFeed<Film>, ReplayError> {
    let start: Vec<_> = up_to(&mut player, from)?.iter().map(shot).collect();
    Ok(ReplayFeed::new(Film { player, shown: from, last: last.unwrap_or(u64::MAX) }, start, playing))
}

fn shot(frame: &Frame) -> Shot {
    Shot { snapshot: Arc::clone(&frame.snapshot), differs: frame.as_recorded == Some(false) }
}

/// A file on the screen.
pub(crate) struct Film {
    player: Replay,
    /// Number of the tick on the screen.
    shown: u64,
    /// Number of the tick after which nothing is shown.
    last: u64,
}

impl Recording for Film {
    fn next(&mut self) -> Result<Option<Shot>, String> {
        if self.shown >= self.last {
            return Ok(None);
        }
        let frame = self.player.next_frame().map_err(|error| error.to_string())?;
        if let Some(frame) = &frame {
            self.shown = frame.seq;
        }
        Ok(frame.as_ref().map(shot))
    }

    fn go(&mut self, to: Goto, _count: usize) -> Result<Vec<Shot>, String> {
        let frames = || {
            let span = self.player.span()?;
            let last = span.last_seq.min(self.last);
            let seq = match to {
                Goto::First => span.first_seq,
                Goto::Last => last,
                Goto::By(back) if back < 0 => self.player.archive().before(self.shown, back.unsigned_abs())?,
                Goto::By(on) => self.player.archive().after(self.shown, on.unsigned_abs())?,
            };
            let seq = seq.clamp(span.first_seq, last);
            let frames = up_to(&mut self.player, seq)?;
            self.shown = frames.last().map_or(seq, |frame| frame.seq);
            Ok::<_, ReplayError>(frames)
        };
        let mut frames = frames;
        Ok(frames().map_err(|error| error.to_string())?.iter().map(shot).collect())
    }

    fn is_whole(&self) -> bool {
        self.last != u64::MAX
    }
}
