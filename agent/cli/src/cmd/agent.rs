//! `perfwatch agent`: the daemon.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use perfwatch_agent::{Role, Running, SystemClock};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;

use crate::failure::Failure;
use crate::settings::SettingFlags;
use crate::{logging, runtime, service_manager, source};

/// Run the agent: sample, listen for instrumented servers, judge, serve the local API, export.
///
/// It stays in the foreground, logs to stderr and stops on SIGTERM or SIGINT after it has shipped what it holds. On SIGHUP
/// it reads its configuration anew; one that cannot be used changes nothing. systemd is told by `sd_notify`.
/// `perfwatch top`, `why` and `snapshot` attach to it.
#[derive(Debug, clap::Args)]
pub(crate) struct Agent {}

impl Agent {
    #[allow(clippy::unused_self, reason = "every subcommand runs the same way")]
    pub(crate) fn run(self, settings: &SettingFlags) -> Result<ExitCode, Failure> {
        let config = settings.checked_config()?;
        raise_open_files();
        runtime::runtime()?.block_on(async {
            let telemetry = logging::to_stderr_and_otlp(&config)?;
            let stop = runtime::stop_signal_of_daemon()?;
            let mut hangup = signal(SignalKind::hangup())?;
            let agent = perfwatch_agent::Agent::start(config, Role::Service, Arc::new(SystemClock))
                .await
                .map_err(source::agent_failure)?;
            agent.set_log_level_by(logging::set_level);
            tracing::info!(runtime_dir = %agent.runtime_dir().display(), "agent runs");
            let mut status = status(&agent);
            service_manager::ready(&status);
            let watchdog = service_manager::watchdog();
            let mut beat = tokio::time::interval(watchdog.unwrap_or(STATUS_EVERY).min(STATUS_EVERY));
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut stop = std::pin::pin!(stop);
            loop {
                tokio::select! {
                    _ = &mut stop => break,
                    _ = hangup.recv() => {
                        service_manager::reloading();
                        // The log tells what came of it.
                        let told = match agent.reload().await {
                            Ok(_) => self::status(&agent),
                            Err(error) => format!("configuration not taken over: {error}"),
                        };
                        service_manager::ready(&told);
                        status = told;
                    }
                    _ = beat.tick() => {
                        // An agent whose ticks hang is not kept alive.
                        if watchdog.is_some() && agent.is_healthy() {
                            service_manager::alive();
                        }
                        let now = self::status(&agent);
                        if now != status {
                            service_manager::status(&now);
                            status = now;
                        }
                    }
                }
            }
            service_manager::stopping();
            tracing::info!("agent stops");
            agent.shutdown().await;
            logging::farewell(telemetry).await;
            Ok(ExitCode::SUCCESS)
        })
    }
}

/// How often `systemctl status` may show something new.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// One line for `systemctl status`.
fn status(agent: &Running) -> String {
    let Some(snapshot) = agent.snapshot() else { return "starting".to_owned() };
    let servers = match snapshot.servers.len() {
        1 => "1 server".to_owned(),
        more => format!("{more} servers"),
    };
    let found = match snapshot.findings.as_slice() {
        [] => "nothing found".to_owned(),
        [only] => only.summary.to_string(),
        [worst, ..] => format!("{}, and {} more", worst.summary, snapshot.findings.len() - 1),
    };
    format!("{servers}; {found}")
}

/// Probes keep up to a thousand files open, on top of a socket per server; the usual soft limit is 1,024. Where it cannot
/// be raised they open and close files more often, so a refusal is no error.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
