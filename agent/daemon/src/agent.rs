//! Starting and stopping an agent.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use perfwatch_model::{Clock, Snapshot};

use crate::config::Config;
use crate::error::Error;
use crate::feed::Subscription;

/// What an agent is started for. It decides which runtime folder it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// `perfwatch agent`: the first candidate folder that it can use; another agent there is an error.
    Service,
    /// Inside `top`, `why` or `snapshot`: the first candidate folder that no agent holds.
    InProcess,
    /// Inside `demo` and tests: this folder and no other.
    Private(PathBuf),
}

/// The agent.
#[derive(Debug)]
pub struct Agent;

impl Agent {
    /// Starts an agent inside the running tokio runtime. It samples on a thread of its own, so a current-thread runtime will
    /// do as long as it is driven.
    ///
    /// # Errors
    /// The runtime folder is taken or unusable, a socket cannot be made, or the exporter refuses its configuration.
    pub async fn start(config: Config, role: Role, clock: Arc<dyn Clock>) -> Result<Running, Error> {
        let _ = (config, role, clock);
        unimplemented!("follows with the tick thread")
    }
}

/// An agent that runs until [`Running::shutdown`], or is dropped: then it stops without its farewells.
#[derive(Debug)]
pub struct Running {
    subscription: Subscription,
    runtime_dir: PathBuf,
}

impl Running {
    /// The newest snapshot; `None` before the first tick has closed, at most 1.5 s after the start.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.subscription.latest()
    }

    /// A receiver of every further snapshot.
    pub fn subscribe(&self) -> Subscription {
        self.subscription.clone()
    }

    /// The runtime folder, with `probe.sock` and `api.sock` in it.
    pub fn runtime_dir(&self) -> &Path {
        &self.runtime_dir
    }

    /// Stops: closes the tick at hand, flushes the exporter for at most 5 s, removes the sockets.
    pub async fn shutdown(self) {
        drop(self);
    }
}
