//! How far cadences must be stretched to stay inside the budget.

/// What one probe costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    /// Mean CPU time of a run.
    pub(super) mean_ns: f64,
    /// Seconds between runs that the probe asks for.
    pub(super) every: u32,
}

/// A stretched probe runs at most this much less often: a process list every minute is the least that is still useful.
pub(super) const MAX_STRETCH: u32 = 16;

/// By what the cadence of every probe that does not run each tick is multiplied, so that all probes together use at most
/// `budget_ns` of CPU time a second: the smallest power of two that does, or [`MAX_STRETCH`] when none does. What runs each
/// tick is never stretched, because ledgers need every second.
pub(super) fn stretch(costs: &[Cost], budget_ns: f64) -> u32 {
    let (each_tick, slow): (Vec<&Cost>, Vec<&Cost>) = costs.iter().partition(|cost| cost.every <= 1);
    let fixed: f64 = each_tick.iter().map(|cost| cost.mean_ns).sum();
    let movable: f64 = slow.iter().map(|cost| cost.mean_ns / f64::from(cost.every)).sum();
    let mut factor = 1;
    while factor < MAX_STRETCH && fixed + movable / f64::from(factor) > budget_ns {
        factor *= 2;
    }
    factor
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: f64 = 1e6;

    fn cost(mean_ms: f64, every: u32) -> Cost {
        Cost { mean_ns: mean_ms * MS, every }
    }

    #[test]
    fn cheap_probes_run_as_often_as_they_ask() {
        assert_eq!(stretch(&[cost(1.0, 1), cost(8.0, 2)], 10.0 * MS), 1);
    }

    #[test]
    fn slow_probes_give_way_until_all_fit() {
        assert_eq!(stretch(&[cost(1.0, 1), cost(40.0, 2)], 10.0 * MS), 4, "1 + 40 / 8 is 6, 1 + 40 / 4 was 11");
    }

    #[test]
    fn stretching_ends_where_it_stops_being_useful() {
        assert_eq!(stretch(&[cost(20.0, 1), cost(1.0, 2)], 10.0 * MS), MAX_STRETCH);
    }
}
