//! One file per subcommand, and two lines here.

mod agent;
mod completions;
mod config;
mod dashboards;
mod demo;
mod demo_parts;
mod doctor;
mod gpus;
mod man;
mod record;
mod replay;
mod snapshot;
mod top;
mod why;

use std::process::ExitCode;

use crate::failure::Failure;
use crate::settings::SettingFlags;

/// What can be asked of perfwatch.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Top(top::Top),
    Why(why::Why),
    Demo(demo::Demo),
    Agent(agent::Agent),
    Snapshot(snapshot::Snapshot),
    Record(record::Record),
    Replay(replay::Replay),
    Doctor(doctor::Doctor),
    Gpus(gpus::Gpus),
    Config(config::Config),
    Dashboards(dashboards::Dashboards),
    Completions(completions::Completions),
    Man(man::Man),
    #[command(hide = true)]
    ModelServer(demo_parts::ModelServer),
    #[command(hide = true)]
    OtherWork(demo_parts::OtherWork),
}

impl Command {
    /// Runs it; the exit code, or what went wrong.
    pub(crate) fn run(self, settings: &SettingFlags) -> Result<ExitCode, Failure> {
        match self {
            Self::Top(command) => command.run(settings),
            Self::Why(command) => command.run(settings),
            Self::Demo(command) => command.run(settings),
            Self::Agent(command) => command.run(settings),
            Self::Snapshot(command) => command.run(settings),
            Self::Record(command) => command.run(settings),
            Self::Replay(command) => command.run(settings),
            Self::Doctor(command) => command.run(settings),
            Self::Gpus(command) => command.run(settings),
            Self::Config(command) => command.run(settings),
            Self::Dashboards(command) => command.run(),
            Self::Completions(command) => command.run(),
            Self::Man(command) => command.run(),
            Self::ModelServer(command) => command.run(),
            Self::OtherWork(command) => command.run(),
        }
    }
}
