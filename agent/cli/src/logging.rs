//! Where the agent's log goes: stderr for the service, a file while a terminal UI owns the screen.

use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use perfwatch_agent::Config;
use perfwatch_agent::config::LogFormat;
use perfwatch_export::OwnTelemetry;
use tokio::runtime::Handle;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::failure::Failure;

/// Lines that may wait to be written. The crate's default of 128,000 would take 4 MiB at once.
const LINES: usize = 4_096;
/// The thread that writes the log.
static WAITING: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// The way to the level of the log.
static LEVEL: Mutex<Option<reload::Handle<EnvFilter, Registry>>> = Mutex::new(None);

/// Kubernetes gives 30 s, systemd 90 s, docker 10 s; metrics take up to 5 s of them.
const FAREWELL: Duration = Duration::from_secs(2);

/// Logs to stderr.
pub(crate) fn to_stderr(config: &Config) {
    install(config, std::io::stderr(), None);
}

/// Logs to stderr, and sends log and spans to the OTLP endpoints of the configuration, if there are any. To be called
/// inside the runtime that is to send; keep the answer and let [`farewell`] have it at the end.
pub(crate) fn to_stderr_and_otlp(config: &Config) -> Result<Option<OwnTelemetry>, Failure> {
    let otlp = config.otlp().map_err(Failure::usage)?;
    let telemetry = OwnTelemetry::start(&otlp, &Handle::current()).map_err(Failure::usage)?;
    install(config, std::io::stderr(), telemetry.as_ref());
    Ok(telemetry)
}

/// Sends what is left of log and spans, for as long as an orchestrator leaves a process after SIGTERM at least.
pub(crate) async fn farewell(telemetry: Option<OwnTelemetry>) {
    if let Some(telemetry) = telemetry {
        // Blocks while the runtime's thread sends.
        let sent = tokio::task::spawn_blocking(move || telemetry.shutdown(FAREWELL));
        drop(sent.await);
    }
}

/// Writes what of the log is still on its way; at most a second.
pub(crate) fn flush() {
    drop(WAITING.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// Logs to a file of this name in `$XDG_STATE_HOME/perfwatch`, because the screen belongs to somebody else. Without a home, or
/// where that place cannot be written, nothing is logged: a log is not worth refusing to show anything.
pub(crate) fn to_file(config: &Config, name: &str) {
    let state = |name: &str| config.environment().path(name).filter(|path| path.is_absolute());
    let home = || state("HOME").map(|home| home.join(".local/state"));
    let Some(dir) = state("XDG_STATE_HOME").or_else(home).map(|base| base.join("perfwatch")) else { return };
    let file = std::fs::create_dir_all(&dir).and_then(|()| File::create(dir.join(name)));
    if let Ok(file) = file {
        install(config, file, None);
    }
}

/// Sets the level of the log to what the configuration says now.
pub(crate) fn set_level(config: &Config) {
    if let Some(level) = LEVEL.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
        // Only without a log there is nothing to set the level of.
        let _ = level.reload(EnvFilter::new(directives(config)));
    }
}

/// perfwatch's own crates at the chosen level; libraries only when they warn, or at trace.
fn directives(config: &Config) -> String {
    let level = config.settings.log_level.name();
    if level == "trace" { "trace".to_owned() } else { format!("warn,perfwatch={level},{}", ours(level)) }
}

/// Lines go through a thread of their own: a reader that stopped reading (a pipe, a full disk) must not stop the agent.
/// Beyond [`LINES`] that wait, further ones are lost.
fn install(config: &Config, writer: impl Write + Send + 'static, telemetry: Option<&OwnTelemetry>) {
    let (writer, waiting) = NonBlockingBuilder::default().buffered_lines_limit(LINES).finish(writer);
    // Dropping it would end the thread; what is written last is written when the process ends or [`farewell`] waits.
    *WAITING.lock().unwrap_or_else(PoisonError::into_inner) = Some(waiting);
    let (filter, level) = reload::Layer::new(EnvFilter::new(directives(config)));
    *LEVEL.lock().unwrap_or_else(PoisonError::into_inner) = Some(level);
    let format = tracing_subscriber::fmt::layer().with_ansi(false).with_target(false).with_writer(writer);
    // The level is that of the lines written here. What leaves over OTLP has its own, whatever is wanted on stderr.
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match config.settings.log_format {
        LogFormat::Text => format.with_filter(filter).boxed(),
        LogFormat::Json => format.json().with_filter(filter).boxed(),
    };
    tracing_subscriber::registry().with(lines).with(telemetry.map(OwnTelemetry::layer)).init();
}

fn ours(level: &str) -> String {
    ["agent", "probes", "export", "store", "diagnose"].map(|part| format!("perfwatch_{part}={level}")).join(",")
}
