//! Why an agent cannot start.

use std::io::ErrorKind;
use std::path::PathBuf;

/// Why an agent cannot start. The message says what and which; [`Error::hint`] what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another agent holds the folder.
    #[error("another agent (pid {}) serves {}", pid.map_or("unknown".to_owned(), |pid| pid.to_string()), folder.display())]
    Taken {
        /// The folder.
        folder: PathBuf,
        /// Its agent, where the lock file says so.
        pid: Option<u32>,
    },
    /// Something that is no agent listens on the socket.
    #[error("another program listens on {}", socket.display())]
    SocketInUse {
        /// The socket.
        socket: PathBuf,
    },
    /// Something that is no socket lies where the socket belongs.
    #[error("{} exists and is not a socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The folder cannot be used.
    #[error("cannot use the runtime folder {}: {source}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// `/tmp/perfwatch-$UID` is not safe to use.
    #[error("will not use {}: {reason}", folder.display())]
    Unsafe {
        /// The folder.
        folder: PathBuf,
        /// Why.
        reason: String,
    },
    /// A socket cannot be made.
    #[error("cannot listen on {}: {source}", socket.display())]
    Bind {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The address of a setting cannot be listened on.
    #[error("cannot listen on {address} (`{key}`): {source}")]
    Listen {
        /// The setting.
        key: &'static str,
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The exporter does not accept its configuration.
    #[error("cannot export: {0}")]
    Export(String),
    /// The configuration contradicts itself or this program.
    #[error("{0}")]
    Config(crate::config::ConfigError),
    /// A thread cannot be started.
    #[error("cannot start the sampling thread: {0}")]
    Thread(std::io::Error),
}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Taken { .. } => {
                Some("`perfwatch top` attaches to it; for a second agent set PERFWATCH_RUNTIME_DIR to another folder")
            }
            Self::SocketInUse { .. } => Some("stop it, or set PERFWATCH_RUNTIME_DIR to another folder"),
            Self::NotASocket { .. } => Some("move it away, or set PERFWATCH_RUNTIME_DIR to another folder"),
            Self::Folder { .. } | Self::Unsafe { .. } | Self::Bind { .. } => {
                Some("set PERFWATCH_RUNTIME_DIR to a folder that belongs to you")
            }
            Self::Listen { source, .. } => match source.kind() {
                ErrorKind::AddrInUse => Some("stop the program that listens there, or choose another port"),
                ErrorKind::AddrNotAvailable => Some("choose an address of this machine; `ip address` lists them"),
                ErrorKind::PermissionDenied => Some("choose a port above 1023, or grant CAP_NET_BIND_SERVICE"),
                _ => None,
            },
            Self::Config(_) | Self::Export(_) | Self::Thread(_) => None,
        }
    }

    /// True for what the user asked for wrongly, as opposed to what the system refused.
    pub fn is_usage(&self) -> bool {
        !matches!(self, Self::Thread(_))
    }
}
