//! Two lines in a model server, and perfwatch knows every request's life.
//!
//! ```
//! use perfwatch_sdk::{Server, Stage};
//!
//! let server = Server::builder("my-model").max_batch_size(8).start();
//!
//! let mut request = server.request(); // begins in stage `other`
//! request.enter(Stage::Queue);
//! request.enter(Stage::Compute);
//! server.dispatch(1, 1);
//! request.finish();
//! ```
//!
//! Starting never fails and recording never blocks, does no I/O and takes no contended lock: without an agent beside the
//! server the numbers simply stay where they are (a few KiB per thread) and the next agent receives the totals. One thread
//! of its own sends a flush per second. `PERFWATCH_DISABLED=1` turns all of it into nothing.
//!
//! How it works, file by file: `histogram` and `activity` keep per-thread shards that only their thread writes;
//! `exclusive` keeps what the server as a whole is doing; `collect` takes differences of snapshots; `session` makes
//! each difference one immutable flush that is counted exactly once; `flusher` is the thread.

mod activity;
mod clock;
mod collect;
mod connection;
mod core;
mod exclusive;
mod flusher;
mod fork;
mod histogram;
mod identity;
mod local;
mod process;
mod request;
mod server;
mod session;
mod status;
#[cfg(test)]
mod tests;

pub use histogram::Histogram;
pub use perfwatch_model::{Stage, Unit};
pub use request::Request;
pub use server::{Builder, Server};
pub use status::Status;

/// Compiles and runs the two lines that the project's README promises.
#[cfg(doctest)]
#[doc = include_str!("../../../../README.md")]
struct Readme;
