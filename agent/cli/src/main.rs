//! The `perfwatch` binary: reads the command line, and hands over to one file of [`cmd`].

mod cmd;
mod failure;
mod film;
mod hosted;
mod instant;
mod logging;
mod runtime;
mod service_manager;
mod settings;
mod source;

use std::process::ExitCode;

use clap::Parser;

/// Where every device-second and every request-second of a model server went, and what to do about it.
#[derive(Debug, Parser)]
#[command(name = "perfwatch", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: cmd::Command,
    #[command(flatten)]
    settings: settings::SettingFlags,
}

const AFTER_HELP: &str = "\
New here?  `perfwatch demo` starts a small model server and shows where its time goes.
On a machine with model servers, `perfwatch top` shows them live and `perfwatch why` prints one card.

Exit code: 0 done, 1 failed, 2 wrong usage or configuration, 128 + n ended by signal n; `why` and `demo` have more.";

fn main() -> ExitCode {
    let cli = Cli::parse();
    let code = match cli.command.run(&cli.settings) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    };
    logging::flush();
    code
}
