//! A new configuration for an agent that runs.
//!
//! It is read and checked as a whole first; one that cannot be used changes nothing. What may change at once does, between
//! two ticks, so that nothing measured is lost; the rest is told, and waits for a new start.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::{Adopted, Config, ConfigError, Described, Watch};

/// Keys that change while the agent runs.
const LIVE: &[&str] = &["socket_mode", "budget", "watch"];

/// True of keys that a running agent takes over; the others wait for a new start.
pub fn is_live(key: &str) -> bool {
    LIVE.contains(&key) || key == LOG_LEVEL
}
/// This one too, where the program says how.
const LOG_LEVEL: &str = "log.level";

/// What the tick thread is to take over before its next sample.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) budget: f64,
    pub(crate) watch: Vec<Watch>,
}

/// The way of a change to the tick thread. Only the newest counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes(Arc<Mutex<Option<Change>>>);

impl Changes {
    pub(crate) fn take(&self) -> Option<Change> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, change: Change) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(change);
    }
}

type Hook = Box<dyn Fn(&Config) + Send>;

struct Inner {
    /// What is in force.
    config: Config,
    /// What the sources said last.
    newest: Option<Config>,
    /// Sets the level of the log, which belongs to the program.
    log_level: Option<Hook>,
}

/// Reads the configuration anew when asked to.
pub(crate) struct Reloader {
    inner: Mutex<Inner>,
    changes: Changes,
    sockets: Vec<PathBuf>,
}

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

impl Reloader {
    /// For an agent that runs with `config` and listens on `sockets`.
    pub(crate) fn new(config: Config, changes: Changes, sockets: Vec<PathBuf>) -> Self {
        Self { inner: Mutex::new(Inner { config, newest: None, log_level: None }), changes, sockets }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_log_level_by(&self, hook: Hook) {
        self.inner().log_level = Some(hook);
    }

    /// Reads, checks, applies. Blocks for as long as reading a file takes.
    pub(crate) fn reload(&self) -> Result<Adopted, ConfigError> {
        let mut inner = self.inner();
        let newest = inner.config.reload().inspect_err(|error| {
            tracing::error!(%error, "configuration not taken over, the one before stays in force");
        })?;
        let mut live = LIVE.to_vec();
        live.extend(inner.log_level.is_some().then_some(LOG_LEVEL));
        let adopted = inner.config.adopt(&newest, &live);
        let settings = &inner.config.settings;
        self.changes.put(Change { budget: settings.budget.0, watch: settings.watch.clone() });
        if adopted.applied.contains(&"socket_mode") {
            for socket in &self.sockets {
                if let Err(error) = std::fs::set_permissions(socket, PermissionsExt::from_mode(settings.socket_mode.0))
                {
                    tracing::error!(socket = %socket.display(), %error, "mode of a socket not changed");
                }
            }
        }
        if let Some(hook) = inner.log_level.as_ref().filter(|_| adopted.applied.contains(&LOG_LEVEL)) {
            hook(&inner.config);
        }
        inner.newest = Some(newest);
        let (applied, restart) = (adopted.applied.join(", "), adopted.restart.join(", "));
        tracing::info!(applied, restart, "configuration read anew");
        Ok(adopted)
    }

    /// Every key with the value that is in force, and what a new start would change.
    pub(crate) fn describe(&self) -> Vec<Described> {
        let inner = self.inner();
        let mut lines = inner.config.describe();
        for (line, newest) in lines.iter_mut().zip(inner.newest.iter().flat_map(Config::describe)) {
            line.after_restart = (newest.value != line.value).then_some(newest.value);
        }
        lines
    }
}
