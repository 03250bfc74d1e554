//! Where the agent's log goes: stderr for the service, a file while a terminal UI owns the screen.

use std::fs::File;
use std::sync::Mutex;

use perfwatch_agent::Config;
use perfwatch_agent::config::LogFormat;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::failure::Failure;

/// Logs to stderr.
pub(crate) fn to_stderr(config: &Config) {
    install(config, std::io::stderr);
}

/// Logs to a file, because the screen belongs to somebody else.
pub(crate) fn to_file(config: &Config, file: File) {
    install(config, Mutex::new(file));
}

/// Where `top` and `demo` log while they draw.
pub(crate) fn log_file(dir: &std::path::Path) -> Result<File, Failure> {
    Ok(File::options().create(true).append(true).open(dir.join("perfwatch.log"))?)
}

fn install<W>(config: &Config, writer: W)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let level = config.settings.log_level.name();
    // perfwatch's own crates at the chosen level; libraries only when they warn, or at trace.
    let filter = if level == "trace" { "trace".to_owned() } else { format!("warn,perfwatch={level},{}", ours(level)) };
    let registry = tracing_subscriber::registry().with(EnvFilter::new(filter));
    let format = tracing_subscriber::fmt::layer().with_ansi(false).with_target(false).with_writer(writer);
    match config.settings.log_format {
        LogFormat::Text => registry.with(format).init(),
        LogFormat::Json => registry.with(format.json()).init(),
    }
}

fn ours(level: &str) -> String {
    ["agent", "probes", "export", "store", "diagnose"].map(|part| format!("perfwatch_{part}={level}")).join(",")
}
