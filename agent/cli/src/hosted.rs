//! An agent inside a command that draws: on a thread of its own, its snapshots in a channel.

use std::sync::Arc;
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
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Hosted {
    /// Starts an agent; the receiver gets every snapshot, and ends when the agent stops.
    pub(crate) fn start(config: Config, role: Role) -> Result<(Self, Receiver<Arc<Snapshot>>), Failure> {
        let runtime = runtime::runtime()?;
        let agent =
            runtime.block_on(Agent::start(config, role, Arc::new(SystemClock))).map_err(source::agent_failure)?;
        let (send, receive) = channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("perfwatch-agent".to_owned())
            .spawn(move || runtime.block_on(forward(agent, &send, stopped)))?;
        Ok((Self { stop: Some(stop), thread: Some(thread) }, receive))
    }
}

async fn forward(agent: Running, send: &Sender<Arc<Snapshot>>, mut stopped: oneshot::Receiver<()>) {
    let mut snapshots = agent.subscribe();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            next = snapshots.next() => {
                let delivered = next.is_some_and(|snapshot| send.send(snapshot).is_ok());
                // The agent has stopped, or the screen is gone: either way nobody reads any more.
                if !delivered {
                    break;
                }
            }
        }
    }
    agent.shutdown().await;
}

impl Drop for Hosted {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It may have stopped by itself.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
