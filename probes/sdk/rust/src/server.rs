//! The handle that a model server holds.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use perfwatch_model::{Stage, Unit};

use crate::activity::{Counter, Step};
use crate::clock::Clock;
use crate::core::{Core, Settings};
use crate::fork;
use crate::histogram::Histogram;
use crate::request::Request;
use crate::status::Status;

/// How long [`Server::flush_now`] and [`Server::close`] wait for the agent's receipt. An agent commits a flush when it
/// closes its tick, up to 1.5 s after the flush was made, and one flush may be under way already.
pub(crate) const RECEIPT: Duration = Duration::from_secs(4);

/// A model server that perfwatch watches. Cheap to clone; all clones are the same server.
///
/// When the last clone is dropped the flusher sends what is left, in the background; [`close`](Self::close) waits for it.
#[derive(Clone)]
pub struct Server {
    core: Option<&'static Core>,
    _lifetime: Arc<Lifetime>,
}

/// Tells the flusher that no handle is left.
struct Lifetime(Option<&'static Core>);

impl Drop for Lifetime {
    fn drop(&mut self) {
        if let Some(control) = self.0.and_then(Core::control) {
            control.stop();
        }
    }
}

impl Server {
    /// Describes a server of this service.
    pub fn builder(service: impl Into<String>) -> Builder {
        Builder {
            settings: Settings {
                service: service.into(),
                instance: None,
                max_batch_size: 0,
                config: Vec::new(),
                socket: None,
                on_status: None,
            },
        }
    }

    pub(crate) fn of(core: Option<&'static Core>) -> Self {
        Self { core, _lifetime: Arc::new(Lifetime(core)) }
    }

    /// A request arrived; it is in stage `other` until it [enters](Request::enter) another.
    pub fn request(&self) -> Request {
        self.core.map_or(Request::inert(), Request::begin)
    }

    /// A batch of `size` requests was executed, formed when `ready` requests were waiting for it (in stage `batch_wait`,
    /// with nothing left to do before the model). `ready` tells a server that cannot batch from one that need not.
    pub fn dispatch(&self, size: u32, ready: u32) {
        let Some(core) = self.current() else { return };
        let second = (ready >= 2).then_some((Counter::DispatchesReady2, 1));
        core.step(Step { second, ..Step::count(Counter::Dispatches, 1) }, core.clock.now());
        core.batch_size.record(u64::from(size));
    }

    /// A cache of the server (of results, prefixes, features, models) was asked and had the answer.
    pub fn cache_hit(&self) {
        self.count(Counter::CacheHits);
    }

    /// A cache of the server was asked and did not have the answer.
    pub fn cache_miss(&self) {
        self.count(Counter::CacheMisses);
    }

    /// What this process image records into; `None` when recording is disabled.
    #[inline]
    fn current(&self) -> Option<&'static Core> {
        let core = self.core?;
        if !core.is_current() {
            core.revive();
        }
        Some(core)
    }

    fn count(&self, counter: Counter) {
        if let Some(core) = self.current() {
            core.step(Step::count(counter, 1), core.clock.now());
        }
    }

    /// A handle to a distribution of the server's own, as `llm.tokens`. The same name gives the same distribution; the
    /// unit given first holds. Get it once, record often. There is room for 236 (256 with perfwatch's own); the handle of a
    /// further name records nothing, and the agent is told that it was asked for: a name with an id in it fills no memory.
    pub fn histogram(&self, name: &str, unit: Unit) -> Histogram {
        self.core.map_or(Histogram { core: None, series: None }, |core| core.histogram(name, unit))
    }

    /// A stage of the server's own; the name of a built-in stage gives that one. There is room for five: a sixth name
    /// gives [`Stage::Other`].
    pub fn stage(&self, name: &str) -> Stage {
        self.core.map_or(Stage::Other, |core| core.stage(name))
    }

    /// What became of the connection to the agent.
    pub fn status(&self) -> Status {
        self.core.map_or(Status::Disabled, Core::status)
    }

    /// Sends everything up to now instead of waiting for the whole second, and waits up to four seconds for the agent's
    /// receipt. True when the agent has it. For tests and orderly shutdown.
    pub fn flush_now(&self) -> bool {
        self.current().and_then(Core::control).is_some_and(|control| control.flush(RECEIPT))
    }

    /// Sends what is left, waits up to four seconds for the agent's receipt, and ends the flusher. True when the agent
    /// has everything; at once in the child of a fork that never used the server, for there is nothing to have.
    pub fn close(self) -> bool {
        let Some(core) = self.core else { return false };
        if !core.is_current() {
            core.retire();
            return true;
        }
        let sent = self.flush_now();
        if let Some(control) = core.control() {
            control.stop();
        }
        sent
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// Describes a server before it starts.
#[must_use = "nothing happens before `start`"]
pub struct Builder {
    pub(crate) settings: Settings,
}

impl Builder {
    /// Which of the service's instances this is. Worker processes that give the same are one server.
    ///
    /// Default: `PERFWATCH_INSTANCE`, else `service.instance.id` from `OTEL_RESOURCE_ATTRIBUTES`, else the parent's
    /// `pid:starttime` when it runs the same executable, else the process's own.
    pub fn instance(mut self, instance: impl Into<String>) -> Self {
        self.settings.instance = Some(instance.into());
        self
    }

    /// The most requests the server puts into one batch.
    pub fn max_batch_size(mut self, requests: u32) -> Self {
        self.settings.max_batch_size = requests;
        self
    }

    /// A setting of the server that a finding may name. No secrets: it is shown as it is. At most 64 leave.
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.config.push((key.into(), value.into()));
        self
    }

    /// The agent's probe socket, instead of the usual places.
    pub fn socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.socket = Some(path.into());
        self
    }

    /// Called with each new [`Status`], from the flusher's thread. Keep it short: flushes wait for it.
    pub fn on_status(mut self, tell: impl Fn(&Status) + Send + Sync + 'static) -> Self {
        self.settings.on_status = Some(Box::new(tell));
        self
    }

    /// Starts recording and the flusher. Never fails: see [`Server::status`].
    pub fn start(self) -> Server {
        if std::env::var_os("PERFWATCH_DISABLED").is_some_and(|value| value == "1") {
            return Server::of(None);
        }
        fork::watch();
        let core = Core::leak(self.settings, Clock::Real);
        core.start_flusher();
        Server::of(Some(core))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("service", &self.settings.service).finish_non_exhaustive()
    }
}
