//! The agent: samples, judges, shows and ships, as a library.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use perfwatch_agent::{Agent, Config, Environment, Flags, Role, SystemClock};
//!
//! let config = Config::load(&Flags::default(), Environment::of_process())?;
//! let running = Agent::start(config, Role::InProcess, std::sync::Arc::new(SystemClock)).await?;
//! let mut snapshots = running.subscribe();
//! while let Some(snapshot) = snapshots.next().await {
//!     println!("{}", snapshot.findings.len());
//! #   break;
//! }
//! running.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! [`config`] merges file, environment and flags. [`Agent::start`] takes a runtime folder, listens on `probe.sock` (SDK) and
//! `api.sock` (local API), takes in OTLP on `otlp.sock`, and starts the tick thread: one thread that samples the probes on
//! each whole second, closes the tick 500 ms later, and hands it to the store, the diagnosis, the subscribers and the
//! exporter. A second thread keeps ticks
//! in the journal; it alone may wait for a disk, and the SDKs get their receipts from it.

pub mod config;
pub mod intake;
pub mod probe_socket;

mod agent;
mod api;
mod assemble;
mod bounded;
mod clock;
mod device_time;
mod error;
mod feed;
mod finding_log;
mod gpu_log;
mod history;
mod journal;
mod listen;
mod own;
mod passing;
mod pipeline;
mod probes;
mod recalled;
mod recording;
mod reload;
mod replay;
mod runtime_folder;
mod scheduler;
mod servers;
mod ship;
mod time;
#[cfg(test)]
mod told;

pub use agent::{Agent, Role, Running};
pub use api::ROUTES;
pub use clock::SystemClock;
pub use config::{Config, ConfigError, Environment, Flags};
pub use error::Error;
pub use feed::Subscription;
pub use recording::{RecordError, take as take_recording};
pub use reload::is_live;
pub use replay::{Comparison, Frame, JudgedRow, Replay, ReplayError};
pub use time::rfc3339;
