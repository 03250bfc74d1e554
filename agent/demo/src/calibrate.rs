//! Calibration: what the server can do at most, found in a closed loop.
//!
//! Flooding a server is no measurement of its capacity (it measured 40 % of the truth), and neither is a run in which the
//! server did not have its core to itself. So: a few batches in flight, and only runs in which it used its whole core.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::clock::now;
use crate::error::DemoError;
use crate::load::{ClosedLoop, Prompts};
use crate::usage::{Meter, Usage};

/// Batches in flight: one computed, one waiting, one on its way.
const BATCHES_IN_FLIGHT: usize = 3;
/// Until caches, connections and the processor's clock have settled.
const SETTLE: Duration = Duration::from_millis(700);
/// One measurement: a hundred batches or more.
const MEASURE: Duration = Duration::from_secs(2);
/// Below this use of its core something other than the server was the limit.
const FULL: f64 = 0.95;
/// Above this share of the core in other hands a run is contaminated.
pub const OUTSIDE_LIMIT: f64 = 0.10;
/// Measurements before the best is taken as it is.
const ATTEMPTS: usize = 3;

/// What a server can do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    /// Requests per second with full batches.
    pub per_second: f64,
    /// The server's core meanwhile.
    pub usage: Usage,
    /// True if the server had its core to itself and used all of it.
    pub clean: bool,
}

/// Measures the server with process id `pid` at `address`, pinned to `cpu`; `known` are the processes that share the core
/// and belong to the demo.
pub(crate) fn calibrate(
    address: SocketAddr,
    prompts: &Arc<Prompts>,
    max_batch: usize,
    cpu: usize,
    pid: u32,
    known: &[u32],
    progress: &dyn Fn(&str),
) -> Result<Capacity, DemoError> {
    let load = ClosedLoop::start(address, prompts, BATCHES_IN_FLIGHT * max_batch)
        .map_err(DemoError::system("connect to the demo's server"))?;
    thread::sleep(SETTLE);
    let mut best: Option<Capacity> = None;
    for attempt in 1..=ATTEMPTS {
        let meter = Meter::start(cpu, pid, known.to_vec())?;
        let (began, answered) = (now(), load.answered());
        thread::sleep(MEASURE);
        let per_second = (load.answered() - answered) as f64 / began.elapsed().as_secs_f64();
        let usage = meter.usage()?;
        let clean = is_clean(usage, !known.is_empty());
        let capacity = Capacity { per_second, usage, clean };
        if clean {
            best = Some(capacity);
            break;
        }
        if attempt < ATTEMPTS {
            progress(&format!(
                "calibration {attempt} of {ATTEMPTS} does not count: the server had {:.0} % of its core, others {:.0} %",
                usage.used * 100.0,
                usage.outside * 100.0,
            ));
        }
        // Interference only ever takes away.
        if best.is_none_or(|best| best.per_second < per_second) {
            best = Some(capacity);
        }
    }
    match best {
        Some(capacity) if capacity.per_second > 1.0 => Ok(capacity),
        _ => Err(DemoError::Calibration(format!("the server answered next to nothing ({} failures)", load.failed()))),
    }
}

/// Where the load generator shares the core, the server cannot have all of it: then only outsiders spoil a run.
fn is_clean(usage: Usage, shared: bool) -> bool {
    usage.outside <= OUTSIDE_LIMIT && (shared || usage.used >= FULL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calibration_counts_only_if_the_server_was_the_limit() {
        assert!(is_clean(Usage { used: 0.99, outside: 0.01 }, false));
        assert!(!is_clean(Usage { used: 0.90, outside: 0.01 }, false), "the client was the limit");
        assert!(!is_clean(Usage { used: 0.96, outside: 0.20 }, false), "somebody took its core");
        assert!(is_clean(Usage { used: 0.80, outside: 0.01 }, true), "the client shares the core");
    }
}
