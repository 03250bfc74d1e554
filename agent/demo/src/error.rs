//! What can go wrong with a demo.

use std::io;
use std::path::PathBuf;

/// Why a demo could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// Wrong options: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The fault cannot be produced on this machine: exit code 2.
    #[error("cannot inject `{fault}` here: {why}; it needs {needs}")]
    CannotInject {
        /// The fault's name.
        fault: &'static str,
        /// What was tried and how it ended.
        why: String,
        /// What would make it possible.
        needs: &'static str,
    },
    /// The model server did not start.
    #[error("the demo's model server could not {what}: {error}")]
    ServerStart {
        /// What it was doing.
        what: &'static str,
        /// The system's answer.
        #[source]
        error: io::Error,
    },
    /// A process of the demo's could not be started.
    #[error("cannot start {}: {error}", .program.display())]
    Spawn {
        /// The executable.
        program: PathBuf,
        /// The system's answer.
        #[source]
        error: io::Error,
    },
    /// The model server ended or stopped answering.
    #[error("the demo's model server {0}; run the demo again, and report it if it happens twice")]
    ServerGone(String),
    /// The system refused something else.
    #[error("cannot {what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        #[source]
        error: io::Error,
    },
    /// No calibration was usable.
    #[error("cannot calibrate: {0}; close what else is running and try again")]
    Calibration(String),
}

impl DemoError {
    /// For `map_err`: a refusal by the system while trying to `what`.
    pub(crate) fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::System { what, error: error.into() }
    }

    /// The exit code that the command line promises for it: 2 for what the user can mend, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::CannotInject { .. } => 2,
            _ => 1,
        }
    }
}
