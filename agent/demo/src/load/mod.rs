//! The load generator: open loop to measure what users would see, closed loop to find the capacity.

mod client;
mod closed;
mod latency;
mod open;
mod prompts;

pub use closed::ClosedLoop;
pub use latency::Latency;
pub use open::{LoadReport, Offer, OpenLoop};
pub use prompts::Prompts;

pub(crate) use client::Client;
