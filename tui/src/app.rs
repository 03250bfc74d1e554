//! The state of the screen: what was pressed and what arrived go in, what to do comes out. No terminal, no clock.

mod shown;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crossterm::event::KeyEvent;
use perfwatch_model::{Finding, Snapshot};

use crate::feed::{Control, FeedEvent, Goto, ReplayState};
use crate::gpus::gpus;
use crate::history::History;
use crate::keys::{self, Action};
use crate::plain::{Clean, plain};
use crate::scroll::Scroll;
use crate::views::{Arrows, VIEWS};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The feed brought something.
    Feed(FeedEvent),
    /// A key.
    Key(KeyEvent),
    /// The terminal has another size.
    Resize,
    /// The feed has said nothing for this long.
    Quiet(Duration),
}

/// What the caller must do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing visible changed.
    None,
    /// Draw a frame.
    Draw,
    /// Forget what is on the terminal and draw a frame.
    Redraw,
    /// Stop the process as `^Z` does.
    Suspend,
    /// Steer the feed.
    Steer(Control),
    /// End.
    Quit,
}

/// Where the data comes from, right now.
#[derive(Clone, Debug, PartialEq)]
pub enum Connection {
    /// No snapshot yet.
    Waiting,
    /// Snapshots arrive.
    Live,
    /// They stopped arriving this long ago, though the connection stands: the agent is stopped, or starved.
    Stale(Duration),
    /// They stopped; the last one stays on screen.
    Lost {
        /// Why.
        reason: String,
        /// When the next attempt is made.
        retry_in: Duration,
    },
    /// The source is finished; nothing more will come.
    Ended,
}

/// This many snapshots are kept to go back to: two minutes, each with the two minutes of sparklines that it was shown with.
const KEPT: usize = 2 * crate::history::LENGTH;

/// The state of the screen.
#[derive(Debug)]
pub struct App {
    shown: Option<Arc<Clean>>,
    /// The newest that arrived, shown or not.
    kept: VecDeque<Arc<Clean>>,
    /// Where in them the screen stands still, as the number of those up to it; `None` while it does not.
    frozen: Option<usize>,
    /// How the replay stands, if this is one.
    replay: Option<ReplayState>,
    history: History,
    connection: Connection,
    /// Lines that the list of keys is scrolled down by; `None` while it is closed.
    help: Option<Scroll>,
    view: usize,
    server: Option<String>,
    gpu: Option<String>,
    finding: Option<(String, String)>,
    detail: bool,
    scroll: Scroll,
    /// Number of the tick that the cursor stands on, as [`History::now`] counts them.
    cursor: Option<u64>,
    quit_at_end: bool,
}

impl App {
    /// An empty screen. With `quit_at_end` it ends when its feed does.
    pub fn new(quit_at_end: bool) -> Self {
        Self::showing(0, quit_at_end)
    }

    /// The same with another view than the first; one that there is not is the first.
    pub fn showing(view: usize, quit_at_end: bool) -> Self {
        Self {
            shown: None,
            kept: VecDeque::new(),
            frozen: None,
            replay: None,
            history: History::default(),
            connection: Connection::Waiting,
            help: None,
            view: if view < VIEWS.len() { view } else { 0 },
            server: None,
            gpu: None,
            finding: None,
            detail: false,
            scroll: Scroll::default(),
            cursor: None,
            quit_at_end,
        }
    }

    /// Takes in one event.
    pub fn update(&mut self, event: Event) -> Effect {
        match event {
            Event::Feed(event) => self.on_feed(event),
            Event::Key(key) => keys::action(key).map_or(Effect::None, |action| self.on_action(action)),
            Event::Resize => Effect::Redraw,
            Event::Quiet(since) => self.on_quiet(since),
        }
    }

    /// Snapshots come each second; two may be late. After that what is on the screen is history, and says so.
    fn on_quiet(&mut self, since: Duration) -> Effect {
        let interval = self.shown.as_ref().map_or(1.0, |snapshot| snapshot.agent.interval_s);
        let stale = self.replay.is_none() && matches!(self.connection, Connection::Live | Connection::Stale(_));
        if !stale || since.as_secs_f64() < 3.0 * interval {
            return Effect::None;
        }
        self.connection = Connection::Stale(since);
        Effect::Draw
    }

    fn on_feed(&mut self, event: FeedEvent) -> Effect {
        match event {
            FeedEvent::Snapshot(snapshot) => self.take(&snapshot),
            FeedEvent::Disconnected { reason, retry_in } => {
                self.connection = Connection::Lost { reason: plain(&reason).into_owned(), retry_in };
            }
            FeedEvent::Jump(snapshots) => self.jump(&snapshots),
            FeedEvent::Replay(mut state) => {
                state.trouble = state.trouble.map(|why| plain(&why).into_owned());
                self.replay = Some(state);
            }
            FeedEvent::Ended if self.quit_at_end => return Effect::Quit,
            FeedEvent::Ended => self.connection = Connection::Ended,
        }
        Effect::Draw
    }

    fn take(&mut self, snapshot: &Snapshot) {
        let clean = Arc::new(Clean::from(snapshot));
        self.connection = Connection::Live;
        if self.replay.is_some() {
            return self.show(clean);
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
            self.frozen = self.frozen.map(|at| at.saturating_sub(1));
        }
        self.kept.push_back(Arc::clone(&clean));
        if self.frozen.is_none() {
            self.show(clean);
        }
    }

    /// Another place in time: with the past that it had.
    fn jump(&mut self, snapshots: &[Arc<Snapshot>]) {
        self.connection = Connection::Live;
        let Some((last, past)) = snapshots.split_last() else { return };
        self.history = History::default();
        self.cursor = None;
        for snapshot in past {
            self.history.push(&Clean::from(&**snapshot));
        }
        self.show(Arc::new(Clean::from(&**last)));
    }

    /// Goes so many snapshots back, or on, and stands still there.
    fn travel(&mut self, by: i64) -> Effect {
        if self.replay.is_some() {
            return Effect::Steer(Control::Go(Goto::By(by)));
        }
        let newest = self.kept.len();
        if newest == 0 {
            return Effect::None;
        }
        let at = self.frozen.unwrap_or(newest).saturating_add_signed(by as isize).clamp(1, newest);
        self.frozen = Some(at);
        self.history = History::default();
        self.cursor = None;
        for snapshot in self.kept.iter().take(at - 1) {
            self.history.push(snapshot);
        }
        self.show(Arc::clone(&self.kept[at - 1]));
        Effect::Draw
    }

    /// Freezes, or goes on live.
    fn pause(&mut self) {
        match self.frozen.take() {
            Some(at) => {
                let newer: Vec<_> = self.kept.iter().skip(at).cloned().collect();
                for snapshot in newer {
                    self.show(snapshot);
                }
            }
            None => self.frozen = Some(self.kept.len()),
        }
    }

    fn show(&mut self, snapshot: Arc<Clean>) {
        self.history.push(&snapshot);
        // What is selected stays selected while it exists, wherever it moves.
        if self.server.as_ref().is_some_and(|id| snapshot.servers.iter().all(|server| server.id != *id)) {
            self.server = None;
        }
        if self.gpu.as_ref().is_some_and(|id| snapshot.devices.iter().all(|device| device.id != *id)) {
            self.gpu = None;
            if self.arrows() == Arrows::Gpus {
                self.close();
            }
        }
        if self.shown.is_none() {
            self.server = worst_server(&snapshot);
        }
        // As long as nobody chose one and none had a finding.
        if self.gpu.is_none() {
            self.gpu = worst_gpu(&snapshot);
        }
        if self.finding.as_ref().is_some_and(|key| snapshot.findings.iter().all(|finding| key_of(finding) != *key)) {
            self.finding = None;
            if self.arrows() == Arrows::Findings {
                self.close();
            }
        }
        self.shown = Some(snapshot);
    }

    fn on_action(&mut self, action: Action) -> Effect {
        match action {
            Action::Quit => return Effect::Quit,
            Action::Suspend => return Effect::Suspend,
            Action::Redraw => return Effect::Redraw,
            Action::Help => self.help = if self.help.is_none() { Some(Scroll::default()) } else { None },
            // A key pressed at an open help scrolls or closes it, rather than moving something out of sight.
            _ if self.help.is_some() => match (lines(action), &self.help) {
                (Some(by), Some(help)) => help.by(by),
                _ => self.help = None,
            },
            Action::Pause if self.replay.is_some() => return Effect::Steer(Control::PlayOrPause),
            Action::Pause => self.pause(),
            Action::Travel(by) => return self.travel(by),
            Action::Newest if self.replay.is_some() => return Effect::Steer(Control::Go(Goto::Last)),
            Action::Newest if self.frozen.is_some() => self.pause(),
            Action::Beginning if self.replay.is_some() => return Effect::Steer(Control::Go(Goto::First)),
            Action::Faster if self.replay.is_some() => return Effect::Steer(Control::Faster),
            Action::Slower if self.replay.is_some() => return Effect::Steer(Control::Slower),
            Action::Back if self.detail => self.close(),
            Action::Back if self.cursor().is_some() && self.arrows() == Arrows::Seconds => self.cursor = None,
            Action::Back => self.go_to(0),
            Action::Open if self.arrows() == Arrows::Gpus => {
                let gpus = self.shown.as_ref().map_or(0, |snapshot| gpus(snapshot).len());
                if gpus == 0 || self.detail {
                    return Effect::None;
                }
                self.detail = true;
                // What is looked at stays, whatever else gets worse.
                self.move_gpu(0);
            }
            Action::Open if self.selected_finding().is_some() => {
                self.go_to(crate::views::FINDINGS);
                self.finding = self.selected_finding().map(key_of);
                self.detail = true;
            }
            Action::NextView => self.go_to((self.view + 1) % VIEWS.len()),
            Action::PreviousView => self.go_to((self.view + VIEWS.len() - 1) % VIEWS.len()),
            Action::View(number) if number < VIEWS.len() => self.go_to(number),
            Action::Open | Action::View(_) | Action::Newest | Action::Beginning | Action::Faster | Action::Slower => {
                return Effect::None;
            }
            Action::Left if self.arrows() == Arrows::Seconds => self.earlier(),
            Action::Right if self.arrows() == Arrows::Seconds => self.later(),
            Action::Left if self.arrows() == Arrows::Gpus => self.move_gpu(-1),
            Action::Right if self.arrows() == Arrows::Gpus => self.move_gpu(1),
            Action::Left => self.move_server(-1),
            Action::Right => self.move_server(1),
            Action::Up | Action::Down | Action::PageUp | Action::PageDown | Action::First | Action::Last => {
                if let Some(by) = lines(action) {
                    self.step(by);
                }
            }
        }
        Effect::Draw
    }

    fn go_to(&mut self, view: usize) {
        self.view = view;
        self.close();
    }

    /// What filled the view no longer does.
    fn close(&mut self) {
        self.detail = false;
        self.scroll = Scroll::default();
    }

    fn step(&mut self, by: isize) {
        if self.scrolls() {
            self.scroll.by(by);
            return;
        }
        if self.arrows() == Arrows::Seconds {
            self.move_server(by);
            return;
        }
        if self.arrows() == Arrows::Gpus {
            self.move_gpu(by);
            return;
        }
        let Some(snapshot) = &self.shown else { return };
        let last = snapshot.findings.len().saturating_sub(1);
        let at = self.finding_index().saturating_add_signed(by).min(last);
        self.finding = snapshot.findings.get(at).map(key_of);
    }

    fn move_server(&mut self, by: isize) {
        let Some(snapshot) = &self.shown else { return };
        let last = snapshot.servers.len().saturating_sub(1);
        let at = self.server_index().saturating_add_signed(by).min(last);
        self.server = snapshot.servers.get(at).map(|server| server.id.clone());
    }

    fn move_gpu(&mut self, by: isize) {
        let Some(snapshot) = &self.shown else { return };
        let gpus = gpus(snapshot);
        let at = self.gpu_index().saturating_add_signed(by).min(gpus.len().saturating_sub(1));
        self.gpu = gpus.get(at).map(|gpu| gpu.device.id.clone());
        self.scroll = Scroll::default();
    }

    /// Moves the cursor a tick back; the first step puts it on the newest.
    fn earlier(&mut self) {
        let oldest = self.history.len().saturating_sub(1);
        let ticks = self.cursor().map_or(0, |ticks| (ticks + 1).min(oldest));
        self.cursor = self.history.now().checked_sub(ticks as u64);
    }

    /// Moves the cursor a tick on; beyond the newest it goes away.
    fn later(&mut self) {
        self.cursor = match self.cursor() {
            Some(ticks) if ticks > 0 => self.cursor.map(|tick| tick + 1),
            _ => None,
        };
    }

    fn arrows(&self) -> Arrows {
        VIEWS[self.view].arrows()
    }

    /// Whether the action would do something now; the footer lists only such.
    pub fn can(&self, action: Action) -> bool {
        let findings = self.shown.as_ref().map_or(0, |snapshot| snapshot.findings.len());
        let servers = self.shown.as_ref().map_or(0, |snapshot| snapshot.servers.len());
        let gpus = || self.shown.as_ref().map_or(0, |snapshot| gpus(snapshot).len());
        match action {
            Action::Up | Action::Down => match self.arrows() {
                Arrows::Findings => self.detail || findings > 1,
                Arrows::Seconds => servers > 1,
                Arrows::Gpus => self.detail || gpus() > 1,
                Arrows::Lines => true,
            },
            Action::Open if self.arrows() == Arrows::Gpus => gpus() > 0 && !self.detail,
            Action::Open => findings > 0 && !self.detail && self.arrows() == Arrows::Findings,
            Action::Back => self.detail || self.view != 0,
            Action::Left | Action::Right if self.arrows() == Arrows::Seconds => servers > 0,
            // In the list, up and down say it already.
            Action::Left | Action::Right if self.arrows() == Arrows::Gpus => self.detail && gpus() > 1,
            Action::Left | Action::Right => servers > 1 && self.view == 0,
            Action::Pause => self.connection != Connection::Ended || self.frozen.is_some(),
            Action::Travel(_) => self.replay.is_some() || self.kept.len() > 1,
            _ => true,
        }
    }

    /// Selects the server and the GPU with the worst findings, where there are any.
    pub(crate) fn select_worst(&mut self) {
        self.server = self.shown.as_ref().and_then(|snapshot| worst_server(snapshot)).or(self.server.take());
        self.gpu = self.shown.as_ref().and_then(|snapshot| worst_gpu(snapshot)).or(self.gpu.take());
    }

    fn selected_finding(&self) -> Option<&Finding> {
        self.shown.as_ref()?.findings.get(self.finding_index())
    }
}

/// Rows that `PgUp` and `PgDn` move by.
const PAGE: isize = 10;

/// How many lines a key goes down, where it goes anywhere.
fn lines(action: Action) -> Option<isize> {
    match action {
        Action::Up => Some(-1),
        Action::Down => Some(1),
        Action::PageUp => Some(-PAGE),
        Action::PageDown => Some(PAGE),
        Action::First => Some(isize::MIN),
        Action::Last => Some(isize::MAX),
        _ => None,
    }
}

/// The server that the first finding about one names; findings come worst first.
fn worst_server(snapshot: &Clean) -> Option<String> {
    let known = |finding: &&Finding| snapshot.servers.iter().any(|server| server.id == finding.entity);
    snapshot.findings.iter().find(known).map(|finding| finding.entity.clone())
}

/// The same for GPUs.
fn worst_gpu(snapshot: &Clean) -> Option<String> {
    let known = |finding: &&Finding| gpus(snapshot).iter().any(|gpu| gpu.device.id == finding.entity);
    snapshot.findings.iter().find(known).map(|finding| finding.entity.clone())
}

/// Which finding it is, from one snapshot to the next.
fn key_of(finding: &Finding) -> (String, String) {
    (finding.id.to_string(), finding.entity.clone())
}

#[cfg(test)]
mod tests;
