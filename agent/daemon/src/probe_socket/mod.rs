//! The agent's end of the probe socket: model servers connect, their flushes come out checked, once each.
//!
//! [`serve`] accepts connections from a bound listener and turns each into [`Event`]s. A [`Delivery`] carries a flush and its
//! [`Receipt`]: whoever closes the tick commits the receipt once the flush is part of it, and only then is the SDK told.
//! [`ServerBook`] is that tick's side: it merges the flushes of all workers of a server.
//!
//! A peer that breaks the protocol is told why and cut off; the others do not notice.

mod connection;
mod counters;
mod merge;
mod pace;
mod peer;
mod room;
mod sessions;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use perfwatch_wire::limits::SESSION_BYTES;
use perfwatch_wire::message::{ErrorCode, Flush};
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc};

pub use counters::{Counters, Counts};
pub use merge::{Served, ServerBook, WorkerUsage};
pub use peer::{Credentials, Peer};
pub use sessions::Receipt;

use room::Room;
use sessions::Sessions;

/// Connections served at once. One node's model servers with all their workers stay well below; each costs a task and a
/// read buffer of a few KiB. Further ones are told so and closed.
const MAX_PEERS: usize = 1_024;
/// How long the rest of a message that was begun may take. An SDK writes it at once; what came of it until then, up to 2 MiB,
/// is memory that one peer holds.
const REST: Duration = Duration::from_secs(30);
/// Events waiting for the tick. When it is full the sockets are not read, and the SDKs keep their data.
const MAX_EVENTS: usize = 4_096;

/// What happened on the probe socket.
#[derive(Debug)]
pub enum Event {
    /// A session shook hands.
    Joined(Arc<Peer>),
    /// A session sent a flush that was not delivered before.
    Flush(Delivery),
    /// A session's connection ended.
    Left(Arc<Peer>),
}

/// A flush on its way into a tick.
#[derive(Debug)]
pub struct Delivery {
    /// Whose it is.
    pub peer: Arc<Peer>,
    /// The flush, checked against every rule of the protocol.
    pub flush: Box<Flush>,
    /// To be committed once the flush is part of a tick. Dropped uncommitted, the SDK will send the flush again.
    pub receipt: Receipt,
}

/// Name under which a delivered flush has the values of its distributions beyond the limits. No distribution has it.
const OVERFLOW: &str = "perfwatch.overflow";

/// What all connections share.
#[derive(Debug)]
struct Shared {
    sessions: Arc<Sessions>,
    counters: Arc<Counters>,
    events: mpsc::Sender<Event>,
    room: Room,
    /// Whether this agent wants what an earlier one had acknowledged from memory only.
    catch_up: bool,
    /// How long the rest of a message that was begun may take.
    rest: Duration,
}

/// The accepting end, to be driven inside a tokio runtime.
#[derive(Debug)]
pub struct ProbeSocket {
    /// What happened, in order per session.
    pub events: mpsc::Receiver<Event>,
    /// What was received, refused and dropped since the start.
    pub counters: Arc<Counters>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for ProbeSocket {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Accepts connections from `listener` (bound and non-blocking) until the [`ProbeSocket`] is dropped.
///
/// # Errors
/// The listener cannot be driven by this runtime.
pub fn serve(listener: std::os::unix::net::UnixListener) -> std::io::Result<ProbeSocket> {
    start(listener, std::iter::empty(), false, REST)
}

/// [`serve`] for an agent that keeps a journal, with the sessions that an earlier agent knew and the seq up to which each is
/// committed durably. What was acknowledged beyond that, from memory only, the SDKs send again as totals.
///
/// # Errors
/// The listener cannot be driven by this runtime.
pub fn resume(
    listener: std::os::unix::net::UnixListener,
    known: impl Iterator<Item = ([u8; SESSION_BYTES], u64)>,
) -> std::io::Result<ProbeSocket> {
    start(listener, known, true, REST)
}

fn start(
    listener: std::os::unix::net::UnixListener,
    known: impl Iterator<Item = ([u8; SESSION_BYTES], u64)>,
    catch_up: bool,
    rest: Duration,
) -> std::io::Result<ProbeSocket> {
    let listener = UnixListener::from_std(listener)?;
    let (sender, events) = mpsc::channel(MAX_EVENTS);
    let counters = Arc::new(Counters::default());
    let sessions = Arc::<Sessions>::default();
    known.for_each(|(session, seq)| sessions.restore(session, seq));
    let room = Room::default();
    let shared = Arc::new(Shared { sessions, counters: Arc::clone(&counters), events: sender, room, catch_up, rest });
    let accepting = tokio::spawn(accept(listener, shared));
    Ok(ProbeSocket { events, counters, accepting })
}

async fn accept(listener: UnixListener, shared: Arc<Shared>) {
    let places = Arc::new(Semaphore::new(MAX_PEERS));
    // Ends, with every connection in it, when the accepting task is aborted.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: waiting is all that helps.
                tracing::warn!(%error, "probe socket cannot accept");
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            let shared = Arc::clone(&shared);
            connections.spawn(async move {
                connection::run(stream, &shared).await;
                drop(place);
            });
        } else {
            shared.counters.refused.fetch_add(1, Ordering::Relaxed);
            let words = format!("this agent serves {MAX_PEERS} connections already");
            connections.spawn(async move { connection::refuse(stream, &ErrorCode::TooManyPeers.with(words)).await });
        }
    }
}
