//! An agent inside a command that draws: on a thread of its own, its snapshots in a channel.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use perfwatch_agent::{Agent, Config, Role, Running, SystemClock};
use perfwatch_model::Snapshot;
use tokio::sync::oneshot;

use crate::failure::Failure;
use crate::{runtime, source};

/// A running agent. Stops, with its sockets removed, when dropped.
#[derive(Debug)]
pub(crate) struct Hosted {
    /// The signal that ended it, 0 if none did.
    signal: Arc<AtomicI32>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Hosted {
    /// Starts an agent; the receiver gets every snapshot, and ends when the agent stops. With `until_signal` SIGINT,
    /// SIGTERM and SIGHUP stop it; without, they are somebody else's, as the live screen's.
    pub(crate) fn start(
        config: Config,
        role: Role,
        until_signal: bool,
    ) -> Result<(Self, Receiver<Arc<Snapshot>>), Failure> {
        let runtime = runtime::runtime()?;
        let signal = Arc::new(AtomicI32::new(0));
        let caught = Arc::clone(&signal);
        let agent =
            runtime.block_on(Agent::start(config, role, Arc::new(SystemClock))).map_err(source::agent_failure)?;
        let (send, receive) = channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("perfwatch-agent".to_owned()).spawn(move || {
            runtime.block_on(async {
                let asked = async {
                    match until_signal.then(runtime::stop_signal) {
                        Some(Ok(asked)) => asked.await,
                        // Without a handler the signal ends the process as it always did.
                        _ => std::future::pending().await,
                    }
                };
                let number = forward(agent, &send, stopped, asked).await;
                caught.store(number.unwrap_or(0), Ordering::Relaxed);
            });
        })?;
        Ok((Self { signal, stop: Some(stop), thread: Some(thread) }, receive))
    }
}

/// Passes snapshots on until the end; the signal that asked for it, if one did.
async fn forward(
    agent: Running,
    send: &Sender<Arc<Snapshot>>,
    mut stopped: oneshot::Receiver<()>,
    asked: impl Future<Output = i32>,
) -> Option<i32> {
    let mut snapshots = agent.subscribe();
    let mut asked = std::pin::pin!(asked);
    let number = loop {
        tokio::select! {
            _ = &mut stopped => break None,
            number = &mut asked => break Some(number),
            next = snapshots.next() => {
                let delivered = next.is_some_and(|snapshot| send.send(snapshot).is_ok());
                // The agent has stopped, or the screen is gone: either way nobody reads any more.
                if !delivered {
                    break None;
                }
            }
        }
    };
    agent.shutdown().await;
    number
}

impl Hosted {
    /// Stops it; the signal that had stopped it before, if one had.
    pub(crate) fn stop(mut self) -> Option<i32> {
        self.end();
        Some(self.signal.load(Ordering::Relaxed)).filter(|number| *number != 0)
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It may have stopped by itself.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        self.end();
    }
}
