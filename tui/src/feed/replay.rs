//! A recording as a feed: it plays, stands still, and goes where it is told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use perfwatch_model::Snapshot;

use super::{Feed, FeedEvent};
use crate::history::LENGTH;

/// Fastest and slowest, as powers of two.
const SPEEDS: std::ops::RangeInclusive<i32> = -2..=6;
/// How often the end of a recording that still grows is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// A place in a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goto {
    /// Its first second.
    First,
    /// Its last.
    Last,
    /// So many seconds on from what is shown, or back.
    By(i64),
}

/// What can be asked of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Play, or stand still.
    PlayOrPause,
    /// Stand still somewhere.
    Go(Goto),
    /// Twice as fast.
    Faster,
    /// Half as fast.
    Slower,
}

/// One second of a recording.
#[derive(Clone, Debug)]
pub struct Shot {
    /// What was shown.
    pub snapshot: Arc<Snapshot>,
    /// Judged anew, it comes out otherwise than it was recorded.
    pub differs: bool,
}

/// Something that can be replayed. Errors are told on the screen.
pub trait Recording: Send {
    /// The next second; `None` at the end.
    fn next(&mut self) -> Result<Option<Shot>, String>;

    /// Goes somewhere: the seconds up to and with that one, oldest first, at most `count`.
    fn go(&mut self, to: Goto, count: usize) -> Result<Vec<Shot>, String>;

    /// True when nothing will ever follow its last second; a journal may still grow.
    fn is_whole(&self) -> bool {
        false
    }
}

/// How a replay stands.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(clippy::struct_excessive_bools, reason = "independent of each other, and each is told on the screen")]
pub struct ReplayState {
    /// It plays by itself.
    pub playing: bool,
    /// Power of two of its speed.
    pub speed: i32,
    /// There is nothing later.
    pub at_end: bool,
    /// Nor will there be: to play on from the end is to begin anew.
    pub whole: bool,
    /// What is shown was judged otherwise when it was recorded.
    pub differs: bool,
    /// Why it cannot go on.
    pub trouble: Option<String>,
}

/// Plays a recording.
#[derive(Debug)]
pub struct ReplayFeed<R> {
    recording: R,
    asked: Receiver<Control>,
    ask: Sender<Control>,
    state: ReplayState,
    /// The instant that is shown.
    shown: String,
    events: VecDeque<FeedEvent>,
}

impl<R: Recording> ReplayFeed<R> {
    /// Shows the recording from where it stands: `start` is what is shown first. With `playing` it goes on by itself.
    pub fn new(recording: R, start: Vec<Shot>, playing: bool) -> Self {
        let (ask, asked) = channel();
        let state = ReplayState { playing, whole: recording.is_whole(), ..ReplayState::default() };
        let mut feed = Self { recording, asked, ask, state, shown: String::new(), events: VecDeque::new() };
        feed.jumped(Ok(start));
        feed
    }

    fn tell(&mut self) {
        self.events.push_back(FeedEvent::Replay(self.state.clone()));
    }

    fn jumped(&mut self, shots: Result<Vec<Shot>, String>) {
        match shots {
            Ok(shots) => {
                if let Some(last) = shots.last() {
                    self.state.differs = last.differs;
                    self.state.trouble = None;
                    self.shown.clone_from(&last.snapshot.time);
                    self.events.push_back(FeedEvent::Jump(shots.into_iter().map(|shot| shot.snapshot).collect()));
                }
            }
            Err(why) => self.state.trouble = Some(why),
        }
        self.tell();
    }

    fn obey(&mut self, control: Control) {
        match control {
            Control::PlayOrPause if self.state.at_end && self.state.whole => {
                self.state.playing = true;
                return self.obey(Control::Go(Goto::First));
            }
            Control::PlayOrPause => self.state.playing = !self.state.playing,
            Control::Faster => self.state.speed = (self.state.speed + 1).min(*SPEEDS.end()),
            Control::Slower => self.state.speed = (self.state.speed - 1).max(*SPEEDS.start()),
            Control::Go(Goto::By(mut by)) => {
                // Keys that were held down while the last step was made are one step.
                let mut then = None;
                while then.is_none()
                    && let Ok(next) = self.asked.try_recv()
                {
                    match next {
                        Control::Go(Goto::By(more)) => by = by.saturating_add(more),
                        other => then = Some(other),
                    }
                }
                // A step is to be looked at; the beginning and the end are to be seen from.
                self.state.playing = false;
                let shots = self.recording.go(Goto::By(by), LENGTH);
                // Where a step on leads nowhere, there is nothing later.
                let leads_to = shots.as_ref().ok().and_then(|shots| shots.last()).map(|last| &last.snapshot.time);
                self.state.at_end = by > 0 && leads_to.is_some_and(|time| *time == self.shown);
                self.jumped(shots);
                return then.map_or((), |then| self.obey(then));
            }
            Control::Go(to) => {
                self.state.at_end = to == Goto::Last;
                let shots = self.recording.go(to, LENGTH);
                return self.jumped(shots);
            }
        }
        self.tell();
    }

    fn advance(&mut self) {
        match self.recording.next() {
            Ok(Some(shot)) => {
                let before = self.state.clone();
                (self.state.at_end, self.state.differs, self.state.trouble) = (false, shot.differs, None);
                self.shown.clone_from(&shot.snapshot.time);
                self.events.push_back(FeedEvent::Snapshot(shot.snapshot));
                if self.state != before {
                    self.tell();
                }
            }
            Ok(None) if self.state.at_end => {}
            Ok(None) => {
                self.state.at_end = true;
                self.tell();
            }
            Err(why) => {
                (self.state.playing, self.state.trouble) = (false, Some(why));
                self.tell();
            }
        }
    }
}

impl<R: Recording> Feed for ReplayFeed<R> {
    fn next(&mut self) -> FeedEvent {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            if !self.state.playing {
                match self.asked.recv() {
                    Ok(control) => self.obey(control),
                    Err(_) => return FeedEvent::Ended,
                }
                continue;
            }
            let pace = Duration::from_secs(1).mul_f64(f64::from(-self.state.speed).exp2());
            let pace = if self.state.at_end { LOOK } else { pace };
            match self.asked.recv_timeout(pace) {
                Ok(control) => self.obey(control),
                Err(RecvTimeoutError::Timeout) => self.advance(),
                Err(RecvTimeoutError::Disconnected) => return FeedEvent::Ended,
            }
        }
    }

    fn controls(&self) -> Option<Sender<Control>> {
        Some(self.ask.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    /// Ten seconds; the snapshot of second n has `window_s` n.
    struct Film(u64);

    fn shot(second: u64) -> Shot {
        let mut snapshot = fixtures::healthy();
        snapshot.window_s = second as f64;
        snapshot.time = format!("2026-01-01T00:00:{second:02}Z");
        Shot { snapshot: Arc::new(snapshot), differs: second == 5 }
    }

    impl Recording for Film {
        fn next(&mut self) -> Result<Option<Shot>, String> {
            self.0 += 1;
            Ok((self.0 < 10).then(|| shot(self.0)))
        }

        fn go(&mut self, to: Goto, count: usize) -> Result<Vec<Shot>, String> {
            self.0 = match to {
                Goto::First => 0,
                Goto::Last => 9,
                Goto::By(99) => return Err("it broke".to_owned()),
                Goto::By(by) => self.0.saturating_add_signed(by).min(9),
            };
            let first = (self.0 + 1).saturating_sub(count as u64);
            Ok((first..=self.0).map(shot).collect())
        }
    }

    /// The same, to which nothing is added.
    struct Whole(Film);

    impl Recording for Whole {
        fn next(&mut self) -> Result<Option<Shot>, String> {
            self.0.next()
        }

        fn go(&mut self, to: Goto, count: usize) -> Result<Vec<Shot>, String> {
            self.0.go(to, count)
        }

        fn is_whole(&self) -> bool {
            true
        }
    }

    fn feed(playing: bool) -> (ReplayFeed<Film>, Sender<Control>) {
        let feed = ReplayFeed::new(Film(0), vec![shot(0)], playing);
        let ask = feed.controls().expect("a replay is steered");
        (feed, ask)
    }

    /// The second shown last, and how the replay stands, after so many events.
    fn after(feed: &mut ReplayFeed<impl Recording>, events: usize) -> (f64, ReplayState) {
        let (mut shown, mut state) = (f64::NAN, ReplayState::default());
        for _ in 0..events {
            match feed.next() {
                FeedEvent::Snapshot(snapshot) => shown = snapshot.window_s,
                FeedEvent::Jump(snapshots) => shown = snapshots.last().expect("one").window_s,
                FeedEvent::Replay(now) => state = now,
                other => panic!("{other:?}"),
            }
        }
        (shown, state)
    }

    #[allow(clippy::float_cmp, reason = "whole numbers, exact in an f64")]
    #[test]
    fn a_step_stands_still_where_it_leads_and_the_end_says_so() {
        let (mut feed, ask) = feed(true);
        assert_eq!(after(&mut feed, 2).0, 0.0);
        ask.send(Control::Go(Goto::By(5))).expect("heard");
        let (shown, state) = after(&mut feed, 2);
        assert_eq!((shown, state.playing, state.differs), (5.0, false, true));
        ask.send(Control::Go(Goto::Last)).expect("heard");
        let (shown, state) = after(&mut feed, 2);
        assert_eq!((shown, state.at_end), (9.0, true));
        for (by, at, at_end) in [(1, 9.0, true), (-2, 7.0, false), (1, 8.0, false), (60, 9.0, false), (60, 9.0, true)] {
            ask.send(Control::Go(Goto::By(by))).expect("heard");
            let (shown, state) = after(&mut feed, 2);
            assert_eq!((shown, state.at_end), (at, at_end), "{by}");
        }
    }

    #[allow(clippy::float_cmp, reason = "whole numbers, exact in an f64")]
    #[test]
    fn what_is_whole_begins_anew_at_its_end_and_what_may_grow_waits_there() {
        let mut feed = ReplayFeed::new(Whole(Film(0)), vec![shot(0)], true);
        let ask = feed.controls().expect("a replay is steered");
        after(&mut feed, 2);
        ask.send(Control::Go(Goto::Last)).expect("heard");
        let (shown, state) = after(&mut feed, 2);
        assert_eq!((shown, state.at_end, state.whole), (9.0, true, true));
        ask.send(Control::PlayOrPause).expect("heard");
        let (shown, state) = after(&mut feed, 2);
        assert_eq!((shown, state.at_end, state.playing), (0.0, false, true));
        let (mut feed, ask) = self::feed(true);
        ask.send(Control::Go(Goto::Last)).expect("heard");
        ask.send(Control::PlayOrPause).expect("heard");
        let (shown, state) = after(&mut feed, 5);
        assert_eq!((shown, state.at_end, state.playing), (9.0, true, false));
    }

    #[allow(clippy::float_cmp, reason = "whole numbers, exact in an f64")]
    #[test]
    fn steps_that_wait_are_made_at_once_and_what_comes_after_them_is_not_forgotten() {
        let (mut feed, ask) = feed(false);
        after(&mut feed, 2);
        for by in [2, 3, -1] {
            ask.send(Control::Go(Goto::By(by))).expect("heard");
        }
        ask.send(Control::Faster).expect("heard");
        let (shown, state) = after(&mut feed, 3);
        assert_eq!((shown, state.speed), (4.0, 1), "one jump, and the key after it");
    }

    #[test]
    fn it_plays_as_fast_as_it_is_told() {
        let (mut feed, ask) = feed(false);
        after(&mut feed, 2);
        (0..20).for_each(|_| ask.send(Control::Faster).expect("heard"));
        ask.send(Control::PlayOrPause).expect("heard");
        let (_, state) = after(&mut feed, 21);
        assert_eq!((state.speed, state.playing), (*SPEEDS.end(), true));
        // At 64 seconds a second ten are over at once; at 1, the test would take as long.
        let (shown, state) = after(&mut feed, 12);
        assert_eq!((shown, state.at_end), (9.0, true));
    }

    #[test]
    fn what_goes_wrong_is_told_and_over_with_the_next_that_works() {
        let (mut feed, ask) = feed(false);
        after(&mut feed, 2);
        ask.send(Control::Go(Goto::By(99))).expect("heard");
        assert_eq!(after(&mut feed, 1).1.trouble.as_deref(), Some("it broke"));
        ask.send(Control::Go(Goto::By(1))).expect("heard");
        assert_eq!(after(&mut feed, 2).1.trouble, None);
    }
}
