//! The tokio runtime and the signals that end a command.

use std::future::Future;

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Failure;

/// One thread is enough: sampling has a thread of its own, and everything else waits.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// Ends when a daemon is asked to stop: SIGINT or SIGTERM. SIGHUP asks it for something else.
pub(crate) fn stop_signal_of_daemon() -> Result<impl Future<Output = i32>, Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
            _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
        }
    })
}

/// Ends when the process is asked to stop: SIGINT, SIGTERM or SIGHUP; the answer is the signal's number.
pub(crate) fn stop_signal() -> Result<impl Future<Output = i32>, Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
            _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = hangup.recv() => SignalKind::hangup().as_raw_value(),
        }
    })
}
