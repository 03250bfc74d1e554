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
//!
//! let mut stream = server.request();
//! stream.prompt_tokens(512);
//! stream.enter(Stage::Decode);
//! stream.token(); // time to first token
//! stream.token(); // and the gap to the next
//! stream.finish(); // or `fail_with("timeout")`, or `cancel()` when the client went away
//! ```
//!
//! | recorded by | as | unit |
//! |---|---|---|
//! | [`Request::finish`], [`fail`](Request::fail) | request and stage durations, the slowest with their stages | ns |
//! | [`Request::enter`] | time in each stage, requests in flight included | request-ns |
//! | [`fail_with`](Request::fail_with), [`cancel`](Request::cancel), dropping | requests by outcome and kind of error | requests |
//! | [`first_token`](Request::first_token), [`token`](Request::token), [`tokens`](Request::tokens) | time to first token, time between tokens; tokens | ns; tokens |
//! | [`prompt_tokens`](Request::prompt_tokens), [`generated_tokens`](Request::generated_tokens) | tokens read and generated | tokens |
//! | [`Server::dispatch`] | batches and their sizes | requests |
//! | [`Server::cache_hit`], [`cache_miss`](Server::cache_miss) | look-ups in a cache | look-ups |
//! | [`Server::histogram`] | a distribution of the server's own | as it says |
//!
//! Features: `tower`, a layer for axum and tonic servers; `stream`, a stream of tokens that records itself.
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
mod control_group;
mod core;
mod errors;
mod exclusive;
mod flusher;
mod fork;
mod histogram;
mod identity;
mod kernel_file;
mod local;
mod process;
mod request;
mod server;
mod session;
mod slowest;
mod status;
#[cfg(feature = "stream")]
mod stream;
#[cfg(test)]
mod tests;
mod totals;
#[cfg(feature = "tower")]
pub mod tower;

pub use histogram::Histogram;
pub use perfwatch_model::{Stage, Unit};
pub use request::Request;
pub use server::{Builder, Server};
pub use status::Status;
#[cfg(feature = "stream")]
pub use stream::Tokens;

/// Compiles and runs the two lines that the project's README promises.
#[cfg(doctest)]
#[doc = include_str!("../../../../README.md")]
struct Readme;

/// As above, of this crate's own.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct OwnReadme;
