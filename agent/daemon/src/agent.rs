//! Starting and stopping an agent.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use perfwatch_diagnose::Engine;
use perfwatch_export::RetryPolicy;
use perfwatch_model::{Clock, Entity, EntityKind, SeriesTable, Snapshot};
use perfwatch_store::{Place, Status};
use perfwatch_wire::runtime_dir::{API_SOCKET, PROBE_SOCKET};
use tokio::net::UnixListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::api::{self, Api, Pulse};
use crate::assemble::Assembler;
use crate::assemble::scene::SceneWriter;
use crate::config::{Adopted, Config, ConfigError, Detail, Rules};
use crate::device_time::DeviceTime;
use crate::error::Error;
use crate::feed::{Subscription, feed};
use crate::gpu_log::GpuLog;
use crate::history::History;
use crate::intake::{self, Intake};
use crate::journal;
use crate::own::{FindingGauges, OwnMetrics};
use crate::pipeline::{Keeper, Pipeline, TickThread};
use crate::probe_socket;
use crate::probes::Probes;
use crate::recalled;
use crate::reload::{Changes, Reloader};
use crate::runtime_folder::RuntimeFolder;
use crate::scheduler::ProbeSet;
use crate::servers::Servers;
use crate::ship::{ExportMetrics, Plan};

/// What the journal gets at the end: a transaction or two.
const KEEP_WITHIN: Duration = Duration::from_secs(5);

/// What an agent is started for. It decides which runtime folder it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// `perfwatch agent`: the first candidate folder that it can use; another agent there is an error.
    Service,
    /// Inside `top`, `why` or `snapshot`: the first candidate folder that no agent holds.
    InProcess,
    /// Inside `record`: as [`Role::InProcess`], but what is measured is kept at `journal.path`.
    Recorder,
    /// In tests: this folder and no other.
    Private(PathBuf),
    /// Inside a process that does much else, as `demo` does: this folder and no other. What the process uses is not the
    /// agent's cost, and is not shown as such.
    Guest(PathBuf),
}

/// The agent.
#[derive(Debug)]
pub struct Agent;

impl Agent {
    /// Starts an agent inside the running tokio runtime. It samples on a thread of its own, so a current-thread runtime will
    /// do as long as it is driven.
    ///
    /// # Errors
    /// The runtime folder is taken or unusable, a socket cannot be made, or [`Config::check`] finds something. Nothing is left
    /// behind then.
    #[allow(clippy::unused_async, reason = "it needs a runtime, and only an async caller is sure to be inside one")]
    pub async fn start(config: Config, role: Role, clock: Arc<dyn Clock>) -> Result<Running, Error> {
        let started = clock.now();
        let mut folder = RuntimeFolder::claim(&role, &config)?;
        config.check().map_err(Error::Config)?;
        if journal::is_wanted(&role, &config) {
            config.check_journal().map_err(Error::Config)?;
        }
        let otlp = config.otlp().map_err(|error| Error::Export(error.to_string()))?;
        for doubt in config.doubts() {
            tracing::warn!(doubt, "setting not followed");
        }
        let resource = otlp.resource.clone();
        let export = Plan {
            otlp,
            full: config.settings.otlp_level == Detail::Full,
            cap: config.settings.otlp_outbox_cap.0,
            retry: RetryPolicy::default(),
            runtime: Some(Handle::current()),
        };

        let mut table = SeriesTable::new();
        let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let host = table.entity(Entity::new(EntityKind::Host, host_name.clone()));
        let probes = Probes::open(&config.settings, host, &mut table);
        let (own, grips) = (OwnMetrics::new(!matches!(role, Role::Guest(_)), &mut table), probes.grips());

        let api_listener = folder.listen(API_SOCKET, config.settings.socket_mode)?;
        let api_listener = UnixListener::from_std(api_listener)
            .map_err(|source| Error::Bind { socket: folder.path().join(API_SOCKET), source })?;
        let probe_listener = folder.listen(PROBE_SOCKET, config.settings.socket_mode)?;
        let metrics = api::metrics::bind(&config.settings)?;
        let journal = journal::open(&role, &config, &*clock);
        let totals = journal.reader();
        let experimental = config.settings.rules == Rules::All;
        let mut engine = Engine::new(perfwatch_diagnose::Config { experimental, ..Default::default() });
        let boot = journal::boot();
        if let Status { place: Place::Disk(path), seconds_since_wall_ns: Some(_), .. } = totals.status() {
            engine.recall(recalled::recollection(&path, &boot, started));
        }
        let sessions: Vec<_> = journal.sessions().map(|progress| (progress.session, progress.seq)).collect();
        // Only a journal gives a reason to send again what an agent before this one acknowledged from memory.
        let probe_socket = match totals.status().place {
            Place::Disk(_) | Place::Failing { .. } => probe_socket::resume(probe_listener, sessions.into_iter()),
            Place::Memory | Place::Refused { .. } | Place::Dead { .. } => probe_socket::serve(probe_listener),
        };
        let probe_socket =
            probe_socket.map_err(|source| Error::Bind { socket: folder.path().join(PROBE_SOCKET), source })?;
        let otlp_listener = folder.listen(intake::SOCKET, config.settings.socket_mode)?;
        let intake = Intake::start(otlp_listener, &config.settings, Arc::clone(&clock))?;
        let intake_addresses = [intake.grpc(), intake.http()];
        let (publisher, subscription) = feed();
        let history = Arc::new(History::new(started.mono_ns));
        let keeper = Keeper::start(journal, &export, &mut table)?;
        let export = ExportMetrics::new(&mut table);
        let changes = Changes::default();
        let pipeline = Pipeline {
            changes: changes.clone(),
            table,
            probes: ProbeSet::new(probes.host, probes.gpus, config.settings.budget.0),
            servers: Servers::new(probe_socket, config.settings.watch.clone(), intake),
            history: Arc::clone(&history),
            keeper,
            engine,
            assembler: Assembler::new(
                host_name,
                started.mono_ns,
                host,
                probes.closed.into_iter(),
                SceneWriter::new(experimental, boot),
            ),
            export,
            publisher,
            own,
            gauges: FindingGauges::default(),
            device_time: DeviceTime::default(),
            gpu_log: GpuLog::default(),
            findings: Vec::new(),
            missed: 0,
            late_ns: 0,
        };
        let ticks = TickThread::start(pipeline, Arc::clone(&clock))?;

        let sockets = [API_SOCKET, PROBE_SOCKET, intake::SOCKET].map(|name| folder.path().join(name));
        let reloader = Arc::new(Reloader::new(config.clone(), changes, sockets.into()));
        let (stop, stopped) = watch::channel(());
        let pulse = Pulse::new(Arc::clone(&history), Arc::clone(&clock));
        let api = Api {
            subscription: subscription.clone(),
            history,
            journal: totals,
            reloader: Arc::clone(&reloader),
            grips,
            clock,
            expositions: api::metrics::Expositions::new(config.settings.otlp_level, &resource),
        };
        let metrics_address = metrics.as_ref().map(|(_, address)| *address);
        if let Some((listener, address)) = metrics {
            tracing::info!(%address, "metrics served");
            tokio::spawn(api::serve_metrics(listener, api.clone(), ended(stopped.clone())));
        }
        let api = tokio::spawn(api::serve(api_listener, api, ended(stopped)));
        tracing::debug!(folder = %folder.path().display(), "agent started");
        Ok(Running { subscription, ticks, api, stop, folder, intake_addresses, metrics_address, reloader, pulse })
    }
}

/// Resolves once the sender is gone.
async fn ended(mut stopped: watch::Receiver<()>) {
    while stopped.changed().await.is_ok() {}
}

/// An agent that runs until [`Running::shutdown`], or is dropped: then it stops without its farewells.
#[derive(Debug)]
pub struct Running {
    subscription: Subscription,
    ticks: TickThread,
    api: JoinHandle<()>,
    stop: watch::Sender<()>,
    folder: RuntimeFolder,
    intake_addresses: [Option<SocketAddr>; 2],
    metrics_address: Option<SocketAddr>,
    reloader: Arc<Reloader>,
    pulse: Pulse,
}

impl Running {
    /// The newest snapshot; `None` for the few milliseconds until everything was read once. The first has no rates.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.subscription.latest()
    }

    /// A receiver of every further snapshot.
    pub fn subscribe(&self) -> Subscription {
        self.subscription.clone()
    }

    /// The runtime folder, with `probe.sock` and `api.sock` in it.
    pub fn runtime_dir(&self) -> &Path {
        self.folder.path()
    }

    /// Where OTLP is taken in over TCP, as `intake.grpc` and `intake.http` say; the port is the one that was given for 0.
    pub fn intake_addresses(&self) -> [Option<SocketAddr>; 2] {
        self.intake_addresses
    }

    /// Where `/metrics` is served over TCP, as `metrics.listen` says.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Reads the configuration anew and applies what can be changed while the agent runs.
    ///
    /// # Errors
    /// The configuration cannot be used; the one before stays in force.
    pub async fn reload(&self) -> Result<Adopted, ConfigError> {
        let reloader = Arc::clone(&self.reloader);
        let read = tokio::task::spawn_blocking(move || reloader.reload()).await;
        read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// Sets what changes the level of the log when the configuration does; without it that waits for a new start.
    pub fn set_log_level_by(&self, hook: impl Fn(&Config) + Send + 'static) {
        self.reloader.set_log_level_by(Box::new(hook));
    }

    /// False when no tick has closed for so long that a new start may help; as `/healthz` tells.
    pub fn is_healthy(&self) -> bool {
        self.pulse.silent_ns() <= api::STUCK_NS
    }

    /// Stops: closes the tick at hand, keeps it, flushes the exporter for at most 5 s, ends the streams of the local API,
    /// removes the sockets.
    pub async fn shutdown(self) {
        let Self { subscription: _, ticks, api, stop, folder, .. } = self;
        drop(stop);
        let ended = tokio::task::spawn_blocking(|| {
            let _: () = ticks.stop()?.finish(KEEP_WITHIN);
            Some(())
        })
        .await
        .ok()
        .flatten();
        if ended.is_none() {
            tracing::error!("the tick thread had panicked");
        }
        // Streams ended with the tick thread; whoever still reads a long answer is not waited for for ever.
        if tokio::time::timeout(Duration::from_secs(1), api).await.is_err() {
            tracing::debug!("a reader of the local api did not finish");
        }
        drop(folder);
        tracing::debug!("agent stopped");
    }
}
