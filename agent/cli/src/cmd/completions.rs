//! `perfwatch completions`: for the shell.

use std::process::ExitCode;

use clap::CommandFactory;

use crate::Cli;
use crate::failure::{Failure, print};

/// Print completions for a shell.
///
/// For bash: `perfwatch completions bash > /etc/bash_completion.d/perfwatch`
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// The shell.
    shell: clap_complete::Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "perfwatch", &mut text);
        print(&String::from_utf8(text)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
