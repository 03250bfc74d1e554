//! `perfwatch agent`: the daemon.

use std::process::ExitCode;
use std::sync::Arc;

use perfwatch_agent::{Role, SystemClock};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::failure::Failure;
use crate::settings::SettingFlags;
use crate::{logging, runtime, source};

/// Run the agent: sample, listen for instrumented servers, judge, serve the local API, export.
///
/// It stays in the foreground, logs to stderr and stops on SIGTERM or SIGINT after it has shipped what it holds.
/// `perfwatch top`, `why` and `snapshot` attach to it.
#[derive(Debug, clap::Args)]
pub(crate) struct Agent {}

impl Agent {
    #[allow(clippy::unused_self, reason = "every subcommand runs the same way")]
    pub(crate) fn run(self, settings: &SettingFlags) -> Result<ExitCode, Failure> {
        let config = settings.config()?;
        raise_open_files();
        runtime::runtime()?.block_on(async {
            let telemetry = logging::to_stderr_and_otlp(&config)?;
            let stop = runtime::stop_signal()?;
            let agent = perfwatch_agent::Agent::start(config, Role::Service, Arc::new(SystemClock))
                .await
                .map_err(source::agent_failure)?;
            tracing::info!(runtime_dir = %agent.runtime_dir().display(), "agent runs");
            stop.await;
            tracing::info!("agent stops");
            agent.shutdown().await;
            logging::farewell(telemetry).await;
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// Probes keep up to a thousand files open, on top of a socket per server; the usual soft limit is 1,024. Where it cannot
/// be raised they open and close files more often, so a refusal is no error.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
