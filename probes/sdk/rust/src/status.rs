//! What became of the connection to the agent.

use std::path::PathBuf;

/// The state of a server's connection to the agent. A change is told to [`Builder::on_status`](crate::Builder::on_status).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// `PERFWATCH_DISABLED` is set: nothing is recorded.
    Disabled,
    /// Started; no connection was tried yet.
    Starting,
    /// An agent receives the flushes.
    Connected(PathBuf),
    /// No agent listens at any candidate; totals wait for one.
    NoAgent,
    /// A socket is there, but this process may not use it (group or mode).
    PermissionDenied(PathBuf),
    /// The agent refused this server, in its own words.
    Refused(String),
    /// The flusher thread could not be started; totals are kept but never sent.
    NoThread(String),
    /// The server was closed.
    Closed,
}
