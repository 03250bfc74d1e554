//! `perfwatch man`: the manual page.

use std::process::ExitCode;

use clap::CommandFactory;

use crate::Cli;
use crate::failure::{Failure, print};

/// Print the manual page, of a subcommand if one is named.
///
/// To read it: `perfwatch man | man -l -`, `perfwatch man demo | man -l -`
#[derive(Debug, clap::Args)]
pub(crate) struct Man {
    /// The subcommand.
    command: Option<String>,
}

impl Man {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        // What `-h` leaves out for brevity belongs into a manual.
        let mut whole = Cli::command().mut_args(|arg| arg.hide_short_help(false));
        whole.build();
        let page = match self.command {
            None => whole,
            Some(name) => {
                let found = whole.get_subcommands().find(|known| known.get_name() == name && !known.is_hide_set());
                let known = found.ok_or_else(|| Failure::usage(anyhow::anyhow!("there is no subcommand `{name}`")))?;
                known.clone().mut_args(|arg| arg.hide_short_help(false)).display_name(format!("perfwatch-{name}"))
            }
        };
        let mut text = Vec::new();
        clap_mangen::Man::new(page).render(&mut text)?;
        print(&String::from_utf8(text)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
