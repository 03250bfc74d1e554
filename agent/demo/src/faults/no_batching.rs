//! A server that was left at one request per batch.

use super::Fault;
use crate::server::ServerOptions;

/// Every request is computed alone, at a load that batches would carry easily.
#[derive(Debug)]
pub(super) struct NoBatching;

impl Fault for NoBatching {
    fn name(&self) -> &'static str {
        "no-batching"
    }

    fn brief(&self) -> &'static str {
        "The server computes one request at a time, under a load for which its batches would do."
    }

    fn load(&self) -> f64 {
        // Of the *batched* capacity: beyond what single requests can carry once batching is worth 2.
        0.7
    }

    fn shape(&self, options: &mut ServerOptions, _offered: f64) {
        options.max_batch = 1;
    }
}
