//! A running agent's `/v1/stream`: one JSON snapshot per line, for as long as it lasts; then again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::{Feed, FeedEvent};
use crate::api::{self, ApiError, Lines};

/// First wait before trying again.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Waits double up to this, so that an agent that comes back is found within a few seconds.
const LAST_RETRY: Duration = Duration::from_secs(8);
/// How often the remaining wait is told.
const COUNTDOWN: Duration = Duration::from_secs(1);

/// Snapshots of the agent that owns a socket, reconnecting with growing pauses.
pub struct LiveFeed {
    socket: PathBuf,
    runtime: Runtime,
    lines: Option<Lines>,
    backoff: Duration,
    retry: Option<Retry>,
}

struct Retry {
    reason: String,
    left: Duration,
}

impl std::fmt::Debug for LiveFeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveFeed").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl LiveFeed {
    /// Follows the agent behind this socket. Whether there is one shows at the first event; to know before the screen is
    /// taken, ask [`api::snapshot`].
    pub fn new(socket: impl Into<PathBuf>) -> Result<Self, ApiError> {
        let runtime = api::runtime()?;
        Ok(Self { socket: socket.into(), runtime, lines: None, backoff: FIRST_RETRY, retry: None })
    }

    fn read(&mut self) -> Result<Arc<perfwatch_model::Snapshot>, ApiError> {
        let lines = match &mut self.lines {
            Some(lines) => lines,
            none => none.insert(self.runtime.block_on(api::stream(&self.socket))?),
        };
        let snapshot = self.runtime.block_on(lines.next())?;
        self.backoff = FIRST_RETRY;
        Ok(Arc::new(snapshot))
    }
}

impl Feed for LiveFeed {
    fn next(&mut self) -> FeedEvent {
        if let Some(retry) = &mut self.retry {
            let pause = retry.left.min(COUNTDOWN);
            self.runtime.block_on(async { tokio::time::sleep(pause).await });
            retry.left -= pause;
            if !retry.left.is_zero() {
                return FeedEvent::Disconnected { reason: retry.reason.clone(), retry_in: retry.left };
            }
            self.retry = None;
        }
        match self.read() {
            Ok(snapshot) => FeedEvent::Snapshot(snapshot),
            Err(error) => {
                self.lines = None;
                let reason = error.brief();
                let retry_in = self.backoff;
                self.backoff = (self.backoff * 2).min(LAST_RETRY);
                self.retry = Some(Retry { reason: reason.clone(), left: retry_in });
                FeedEvent::Disconnected { reason, retry_in }
            }
        }
    }
}
