//! Where snapshots come from: a running agent ([`LiveFeed`]), the same process ([`ChannelFeed`]), a script
//! ([`ScriptedFeed`]), a recording ([`ReplayFeed`]).

mod live;
mod replay;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use perfwatch_model::Snapshot;

pub use live::LiveFeed;
pub use replay::{Control, Goto, Recording, ReplayFeed, ReplayState, Shot};

/// What a feed brings.
#[derive(Clone, Debug)]
pub enum FeedEvent {
    /// A newer snapshot.
    Snapshot(Arc<Snapshot>),
    /// The source went away; the feed is trying again.
    Disconnected {
        /// Why, in a few words.
        reason: String,
        /// Until the next attempt. The event comes again as this shrinks.
        retry_in: Duration,
    },
    /// Another place in time: snapshots oldest first, of which the last is to be shown.
    Jump(Vec<Arc<Snapshot>>),
    /// How the replay stands.
    Replay(ReplayState),
    /// There will be nothing more.
    Ended,
}

/// A source of snapshots. It runs on a thread of its own and may block.
pub trait Feed: Send {
    /// Waits for the next event. After [`FeedEvent::Ended`] it is not called again.
    fn next(&mut self) -> FeedEvent;

    /// The way to steer it, for a feed that can be.
    fn controls(&self) -> Option<Sender<Control>> {
        None
    }
}

impl<F: Feed + ?Sized> Feed for Box<F> {
    fn next(&mut self) -> FeedEvent {
        (**self).next()
    }

    fn controls(&self) -> Option<Sender<Control>> {
        (**self).controls()
    }
}

/// Snapshots of an agent in the same process. Ends when the sender is dropped.
#[derive(Debug)]
pub struct ChannelFeed {
    snapshots: Receiver<Arc<Snapshot>>,
}

impl ChannelFeed {
    /// Reads from this channel. When the screen is slower than the sender, older snapshots in between still reach the
    /// sparklines: nothing is skipped.
    pub fn new(snapshots: Receiver<Arc<Snapshot>>) -> Self {
        Self { snapshots }
    }
}

impl Feed for ChannelFeed {
    fn next(&mut self) -> FeedEvent {
        self.snapshots.recv().map_or(FeedEvent::Ended, FeedEvent::Snapshot)
    }
}

/// Events that were written down before; for tests.
#[derive(Debug, Default)]
pub struct ScriptedFeed {
    events: VecDeque<FeedEvent>,
    hold: bool,
}

impl ScriptedFeed {
    /// Brings these, then ends.
    pub fn new(events: impl IntoIterator<Item = FeedEvent>) -> Self {
        Self { events: events.into_iter().collect(), hold: false }
    }

    /// Brings these, then nothing, for ever.
    pub fn and_hold(events: impl IntoIterator<Item = FeedEvent>) -> Self {
        Self { events: events.into_iter().collect(), hold: true }
    }
}

impl Feed for ScriptedFeed {
    fn next(&mut self) -> FeedEvent {
        match self.events.pop_front() {
            Some(event) => event,
            None if self.hold => loop {
                std::thread::park();
            },
            None => FeedEvent::Ended,
        }
    }
}
