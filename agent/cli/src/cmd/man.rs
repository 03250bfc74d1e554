//! `perfwatch man`: the manual page.

use std::process::ExitCode;

use clap::CommandFactory;

use crate::Cli;
use crate::failure::{Failure, print};

/// Print the manual page.
///
/// To read it: `perfwatch man | man -l -`
#[derive(Debug, clap::Args)]
pub(crate) struct Man {}

impl Man {
    #[allow(clippy::unused_self, reason = "every subcommand runs the same way")]
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let mut text = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut text)?;
        print(&String::from_utf8(text)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
