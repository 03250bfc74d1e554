//! A store that answers slowly, and too few threads to wait for it.

use std::time::Duration;

use super::Fault;
use crate::server::ServerOptions;

/// Two threads: with many, a slow store would cost latency only.
const LOADERS: usize = 2;
/// The share of the load that the loaders can keep up with.
const SHARE: f64 = 0.5;

/// The store takes so long that its two loaders keep up with half of the load.
#[derive(Debug)]
pub(super) struct SlowDataLoading;

impl Fault for SlowDataLoading {
    fn name(&self) -> &'static str {
        "slow-data-loading"
    }

    fn brief(&self) -> &'static str {
        "The feature store answers slowly and only two threads read from it."
    }

    fn shape(&self, options: &mut ServerOptions, offered: f64) {
        options.loaders = LOADERS;
        options.store_latency = Duration::from_secs_f64(LOADERS as f64 / (SHARE * offered));
    }
}
