//! What views may ask of the state of the screen.

use super::{App, Connection, key_of};
use crate::feed::ReplayState;
use crate::gpus::gpus;
use crate::history::History;
use crate::plain::Clean;
use crate::scroll::Scroll;
use crate::views::Arrows;

impl App {
    /// What is on screen; `None` until the first snapshot.
    pub fn snapshot(&self) -> Option<&Clean> {
        self.shown.as_deref()
    }

    /// The recent past of what is on screen.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Where the data comes from.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// How many snapshots arrived since the screen was frozen; `None` when it is not.
    pub fn paused(&self) -> Option<usize> {
        self.frozen.map(|at| self.kept.len().saturating_sub(at))
    }

    /// How the replay stands; `None` when this is none.
    pub fn replay(&self) -> Option<&ReplayState> {
        self.replay.as_ref()
    }

    /// Lines that the open list of keys is scrolled down by; `None` while it is closed.
    pub fn help(&self) -> Option<&Scroll> {
        self.help.as_ref()
    }

    /// Whether up and down scroll here, rather than select.
    pub fn scrolls(&self) -> bool {
        self.detail || self.arrows() == Arrows::Lines
    }

    /// Number of the view on screen, from 0.
    pub fn view(&self) -> usize {
        self.view
    }

    /// Whether the selected finding, or GPU, fills the view.
    pub fn detail(&self) -> bool {
        self.detail
    }

    /// Lines that the view is scrolled down by.
    pub fn scroll(&self) -> &Scroll {
        &self.scroll
    }

    /// How many ticks before the newest the cursor stands; `None` without one, or when its tick is no longer remembered.
    pub fn cursor(&self) -> Option<usize> {
        let ticks = self.history.now().checked_sub(self.cursor?)? as usize;
        (ticks < self.history.len()).then_some(ticks)
    }

    /// Place of the selected server in the snapshot.
    pub fn server_index(&self) -> usize {
        let find = |id: &String| self.shown.as_ref()?.servers.iter().position(|server| server.id == *id);
        self.server.as_ref().and_then(find).unwrap_or(0)
    }

    /// Place of the selected GPU among all, as views list them.
    pub fn gpu_index(&self) -> usize {
        let find = |id: &String| gpus(self.shown.as_ref()?).iter().position(|gpu| gpu.device.id == *id);
        self.gpu.as_ref().and_then(find).unwrap_or(0)
    }

    /// Place of the selected finding in the snapshot.
    pub fn finding_index(&self) -> usize {
        let find = |key: &(String, String)| self.shown.as_ref()?.findings.iter().position(|one| key_of(one) == *key);
        self.finding.as_ref().and_then(find).unwrap_or(0)
    }
}
