//! Snapshots on their way from the tick thread to whoever looks.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use perfwatch_model::Snapshot;
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt as _, wrappers::WatchStream};

/// A snapshot, and its JSON once somebody has asked for it.
#[derive(Debug)]
pub(crate) struct Published {
    snapshot: Arc<Snapshot>,
    line: OnceLock<Bytes>,
}

impl Published {
    pub(crate) fn new(snapshot: Snapshot) -> Self {
        Self { snapshot: Arc::new(snapshot), line: OnceLock::new() }
    }

    /// The snapshot as one line of JSON, encoded once however many read it.
    pub(crate) fn line(&self) -> Bytes {
        let encode = || {
            let mut line = serde_json::to_vec(&*self.snapshot).expect("a snapshot has only string keys");
            line.push(b'\n');
            Bytes::from(line)
        };
        self.line.get_or_init(encode).clone()
    }
}

pub(crate) type Publisher = watch::Sender<Option<Arc<Published>>>;

/// A feed and its first subscription.
pub(crate) fn feed() -> (Publisher, Subscription) {
    let (sender, receiver) = watch::channel(None);
    (sender, Subscription(receiver))
}

/// The newest snapshot, and the wait for the next one. Cheap to clone; every clone has its own place.
#[derive(Clone, Debug)]
pub struct Subscription(watch::Receiver<Option<Arc<Published>>>);

impl Subscription {
    /// The newest snapshot; `None` for the few milliseconds until everything was read once. The first has no rates.
    pub fn latest(&self) -> Option<Arc<Snapshot>> {
        self.published().map(|published| Arc::clone(&published.snapshot))
    }

    /// Waits for a snapshot that this subscription has not seen. One that comes too late to ask sees the newest and none of
    /// those between. `None` once the agent has stopped.
    pub async fn next(&mut self) -> Option<Arc<Snapshot>> {
        loop {
            self.0.changed().await.ok()?;
            if let Some(published) = self.0.borrow_and_update().as_ref() {
                return Some(Arc::clone(&published.snapshot));
            }
        }
    }

    pub(crate) fn published(&self) -> Option<Arc<Published>> {
        self.0.borrow().clone()
    }

    /// The newest snapshot, then each further one; ends when the agent stops.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Arc<Published>> {
        WatchStream::new(self.0).filter_map(|published| published)
    }
}
