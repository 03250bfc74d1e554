//! The recent past, for sparklines and heatmaps: two minutes of a few numbers per thing, not of whole snapshots.

mod columns;
mod gpus;

use std::collections::{BTreeMap, VecDeque};

use crate::held_down::held_down;
use crate::plain::Clean;
pub use columns::{Column, Columns};
pub use gpus::GpuTrails;
pub(crate) use gpus::both_ways;

/// Samples kept per number.
pub const LENGTH: usize = 120;

/// One number over time; NaN where there was none.
#[derive(Clone, Debug, Default)]
pub struct Trail(VecDeque<f64>);

impl Trail {
    /// Oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = f64> + '_ {
        self.0.iter().copied()
    }

    fn advance(&mut self, steps: usize) {
        for _ in 0..steps {
            if self.0.len() == LENGTH {
                self.0.pop_front();
            }
            self.0.push_back(f64::NAN);
        }
    }

    fn put(&mut self, value: Option<f64>) {
        if self.0.is_empty() {
            self.0.push_back(f64::NAN);
        }
        if let (Some(newest), Some(value)) = (self.0.back_mut(), value) {
            *newest = value;
        }
    }

    fn is_forgotten(&self) -> bool {
        self.0.iter().all(|value| value.is_nan())
    }
}

/// What is followed of a server.
#[derive(Clone, Debug, Default)]
pub struct ServerTrails {
    /// Requests per second.
    pub requests: Trail,
    /// 50th percentile of latency, seconds.
    pub p50: Trail,
    /// 90th percentile of latency, seconds.
    pub p90: Trail,
    /// 99th percentile of latency, seconds.
    pub p99: Trail,
    /// 99.9th percentile of latency, seconds.
    pub p999: Trail,
    /// Requests inside.
    pub in_flight: Trail,
    /// Requests per second that ended in an error.
    pub errors: Trail,
    /// Requests per second that went away without an end.
    pub cancelled: Trail,
    /// Latency of the requests that ended in each tick.
    pub latency: Columns,
}

impl ServerTrails {
    fn all(&mut self) -> [&mut Trail; 8] {
        [
            &mut self.requests,
            &mut self.p50,
            &mut self.p90,
            &mut self.p99,
            &mut self.p999,
            &mut self.in_flight,
            &mut self.errors,
            &mut self.cancelled,
        ]
    }

    fn advance(&mut self, steps: usize) {
        self.all().into_iter().for_each(|trail| trail.advance(steps));
        self.latency.advance(steps);
    }

    fn is_forgotten(&mut self) -> bool {
        self.all().iter().all(|trail| trail.is_forgotten()) && self.latency.iter().all(|column| column.is_none())
    }
}

/// Everything that is followed.
#[derive(Clone, Debug, Default)]
pub struct History {
    newest: Option<i64>,
    now: u64,
    /// Share of all CPU time.
    pub cpu: Trail,
    /// By server id.
    pub servers: BTreeMap<String, ServerTrails>,
    /// By device id.
    pub gpus: BTreeMap<String, GpuTrails>,
}

impl History {
    /// Takes in a snapshot. One that comes late leaves the gap that it is; one for the same instant replaces.
    pub fn push(&mut self, snapshot: &Clean) {
        let steps = self.steps_to(snapshot);
        self.now += steps as u64;
        self.cpu.advance(steps);
        self.servers.values_mut().for_each(|trails| trails.advance(steps));
        self.gpus.values_mut().for_each(|trails| trails.advance(steps));

        self.cpu.put(snapshot.host.cpu_utilization);
        for server in &snapshot.servers {
            let trails = self.servers.entry(server.id.clone()).or_default();
            trails.requests.put(server.requests_per_s);
            let latency = server.latency.as_ref();
            trails.p50.put(latency.map(|latency| latency.p50_s));
            trails.p90.put(latency.map(|latency| latency.p90_s));
            trails.p99.put(latency.map(|latency| latency.p99_s));
            trails.p999.put(latency.and_then(|latency| latency.p999_s));
            trails.errors.put(server.errors_per_s);
            trails.cancelled.put(server.cancelled_per_s);
            trails.latency.put(server.latency_buckets.as_deref().map(Column::new));
            trails.in_flight.put(server.in_flight.map(|count| count as f64));
        }
        for device in &snapshot.devices {
            if let Some(gpu) = &device.gpu {
                let held_down = held_down(snapshot, device).map(|held| held.share);
                self.gpus.entry(device.id.clone()).or_default().put(gpu, held_down);
            }
        }
        self.servers.retain(|_, trails| !trails.is_forgotten());
        self.gpus.retain(|_, trails| !trails.is_forgotten());
    }

    /// The number of the newest tick; it grows by one per tick, those that did not come included.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// How many ticks are remembered.
    pub fn len(&self) -> usize {
        self.cpu.0.len()
    }

    /// True before the first snapshot.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn steps_to(&mut self, snapshot: &Clean) -> usize {
        let now = seconds_of_day(&snapshot.time);
        let before = std::mem::replace(&mut self.newest, now);
        let (Some(now), Some(before)) = (now, before) else { return 1 };
        let passed = (now - before).rem_euclid(86_400);
        if passed > 43_200 {
            return 1; // The clock was set back.
        }
        let interval = if snapshot.agent.interval_s > 0.0 { snapshot.agent.interval_s } else { 1.0 };
        ((passed as f64 / interval).round() as usize).min(LENGTH)
    }
}

/// Seconds since midnight of an RFC 3339 time.
pub(crate) fn seconds_of_day(time: &str) -> Option<i64> {
    let field = |at: usize| time.get(at..at + 2)?.parse::<i64>().ok();
    Some(field(11)? * 3600 + field(14)? * 60 + field(17)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    fn at(time: &str, cpu: f64) -> Clean {
        let mut snapshot = fixtures::healthy();
        snapshot.time = format!("2026-03-04T{time}Z");
        snapshot.host.cpu_utilization = Some(cpu);
        snapshot.into()
    }

    fn cpu(history: &History) -> Vec<Option<f64>> {
        history.cpu.iter().map(|value| (!value.is_nan()).then_some(value)).collect()
    }

    #[test]
    fn a_gap_in_time_is_a_gap_in_the_graph() {
        let mut history = History::default();
        history.push(&at("23:59:58", 0.1));
        history.push(&at("00:00:01", 0.2));
        assert_eq!(cpu(&history), [Some(0.1), None, None, Some(0.2)]);
    }

    #[test]
    fn a_gap_in_time_is_a_gap_in_the_heatmap() {
        let mut history = History::default();
        history.push(&at("10:00:00", 0.1));
        history.push(&at("10:00:02", 0.1));
        let latency = &history.servers["server:toy-mlp/4121"].latency;
        assert_eq!(latency.iter().map(|column| column.is_some()).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(latency.before(0).map(Column::count), latency.before(2).map(Column::count));
    }

    #[test]
    fn the_same_instant_twice_counts_once() {
        let mut history = History::default();
        history.push(&at("10:00:00", 0.1));
        history.push(&at("10:00:00", 0.3));
        assert_eq!(cpu(&history), [Some(0.3)]);
    }

    #[test]
    fn no_more_than_two_minutes_are_kept_and_what_left_is_forgotten() {
        let mut history = History::default();
        for second in 0..300 {
            history.push(&at(&format!("10:{:02}:{:02}", second / 60, second % 60), 0.5));
        }
        assert_eq!(history.cpu.iter().count(), LENGTH);
        assert_eq!(history.servers.len(), 1);
        let mut gone = fixtures::healthy();
        gone.servers.clear();
        gone.time = "2026-03-04T11:00:00Z".to_owned();
        history.push(&gone.into());
        assert!(history.servers.is_empty());
    }
}
