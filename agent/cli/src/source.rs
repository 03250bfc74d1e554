//! Where a command gets its snapshots: the agent that runs, else one inside the command.

use std::io::{ErrorKind, IsTerminal};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use perfwatch_agent::{Agent, Config, Error, Role, SystemClock};
use perfwatch_model::Snapshot;
use perfwatch_tui::{CardOptions, Theme, ThemeName};
use perfwatch_wire::runtime_dir;

use crate::failure::{Failure, tell};
use crate::runtime;
use crate::settings::SettingFlags;

/// How long a one-shot command measures when it has to do so itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Until there are rates, and instrumented servers had time to connect.
    Rates,
    /// Until the rules have a whole window, at most 15 s.
    FullWindow,
}

impl Patience {
    /// Ledgers and rules look at this much.
    const WINDOW_S: f64 = 10.0;
    /// The SDK looks for an agent at least every 2 s, so a third second shows who is there.
    const RATES_S: f64 = 3.0;
    /// What `why` promises.
    const LIMIT: Duration = Duration::from_secs(15);

    /// How long it takes, for who waits.
    const fn words(self) -> &'static str {
        match self {
            Self::Rates => "3 s",
            Self::FullWindow => "10 to 15 s",
        }
    }

    fn is_content(self, snapshot: &Snapshot) -> bool {
        match self {
            Self::Rates => snapshot.window_s >= Self::RATES_S,
            // Rules that still cannot decide may do so with one more tick; the limit ends that wait.
            Self::FullWindow => snapshot.window_s >= Self::WINDOW_S && snapshot.undecided.is_empty(),
        }
    }
}

/// Where snapshots come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// A running agent, by the socket of its local API.
    Attached(PathBuf),
    /// An agent yet to be started inside this process.
    InProcess(Box<Config>),
}

impl Source {
    /// The running agent if there is one in any candidate folder.
    pub(crate) fn open(settings: &SettingFlags) -> Result<Self, Failure> {
        let config = settings.config()?;
        Ok(match running(&config)? {
            Some(socket) => Self::Attached(socket),
            None => Self::InProcess(Box::new(config)),
        })
    }

    /// One snapshot: at once from a running agent, else as soon as it is worth showing.
    pub(crate) fn one(self, patience: Patience) -> Result<Snapshot, Failure> {
        match self {
            Self::Attached(socket) => Ok(perfwatch_tui::api::snapshot(&socket)?),
            Self::InProcess(config) => {
                if std::io::stderr().is_terminal() {
                    tell(&format!("no agent runs here: measuring for {}", patience.words()));
                }
                runtime::runtime()?.block_on(measure(*config, patience))
            }
        }
    }
}

/// The socket of the local API of the running agent, if there is one in any candidate folder.
pub(crate) fn running(config: &Config) -> Result<Option<PathBuf>, Failure> {
    for socket in api_sockets(config) {
        match UnixStream::connect(&socket) {
            Ok(_) => return Ok(Some(socket)),
            // An agent that is there but closed to us must be named; measuring beside it would hide it.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let told = format!("may not connect to the agent at {}", socket.display());
                return Err(Failure::usage(anyhow::Error::new(error).context(told))
                    .hint(Some("join its group (perfwatch), or start the agent with --socket-mode 0666")));
            }
            Err(_) => {}
        }
    }
    Ok(None)
}

async fn measure(config: Config, patience: Patience) -> Result<Snapshot, Failure> {
    let stop = runtime::stop_signal()?;
    let agent = Agent::start(config, Role::InProcess, Arc::new(SystemClock)).await.map_err(agent_failure)?;
    let mut snapshots = agent.subscribe();
    let content = async {
        while let Some(snapshot) = snapshots.next().await {
            if patience.is_content(&snapshot) {
                break;
            }
        }
    };
    tokio::select! {
        () = content => {}
        () = tokio::time::sleep(Patience::LIMIT) => {}
        _ = stop => {}
    }
    let snapshot = agent.snapshot();
    agent.shutdown().await;
    snapshot
        .map(|snapshot| (*snapshot).clone())
        .ok_or_else(|| anyhow::anyhow!("interrupted before anything was measured").into())
}

/// Sockets of the local API that an agent may serve, in the order in which they are tried.
pub(crate) fn api_sockets(config: &Config) -> Vec<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let candidates = match &config.settings.runtime_dir {
        Some(dir) => return vec![dir.join(runtime_dir::API_SOCKET)],
        None => runtime_dir::candidates(|name| config.environment().get(name), uid),
    };
    candidates.iter().map(runtime_dir::Candidate::api_socket).collect()
}

/// Why an agent could not start, with its hint.
pub(crate) fn agent_failure(error: Error) -> Failure {
    let (hint, usage) = (error.hint().map(str::to_owned), error.is_usage());
    let failure = if usage { Failure::usage(error) } else { Failure::from(error) };
    failure.hint(hint)
}

/// How cards and reports are written in this locale.
pub(crate) fn card_options() -> CardOptions {
    let theme = Theme::detect(ThemeName::Mono, false, |variable| std::env::var(variable).ok());
    CardOptions { ascii: theme.is_ascii() }
}
