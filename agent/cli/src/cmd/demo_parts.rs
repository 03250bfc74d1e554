//! The processes that `perfwatch demo` starts: the model server, and other work on the same machine. Hidden from help.

use std::ffi::OsString;
use std::process::ExitCode;

use perfwatch_demo::DemoError;
use perfwatch_demo::server::{ServerOptions, run};

use crate::failure::Failure;

/// The model server of `perfwatch demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct ModelServer {
    /// Written by `perfwatch demo`.
    #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
    args: Vec<OsString>,
}

impl ModelServer {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        ServerOptions::from_args(self.args).and_then(|options| run(&options)).map_err(super::demo::failure)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Other work on the same machine, for the demo.
#[derive(Debug, clap::Args)]
pub(crate) struct OtherWork {
    /// Written by `perfwatch demo`.
    #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
    args: Vec<OsString>,
}

impl OtherWork {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        perfwatch_demo::work::run(self.args).map_err(|error: DemoError| super::demo::failure(error))?;
        Ok(ExitCode::SUCCESS)
    }
}
