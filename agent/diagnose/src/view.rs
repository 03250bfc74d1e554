//! Judgements as the parts of a snapshot.

mod coarse;

use perfwatch_model::metrics::server;
use perfwatch_model::snapshot::{
    BatchView, CacheView, CauseEntry, CpuView, DeviceView, ErrorKindView, GroupView, HostView, LatencyView, LedgerView,
    ServerView, StageView, TokensView,
};
use perfwatch_model::{EntityId, SparseHdr};

use crate::engine::{Judgement, ServerJudgement};
use coarse::{latency_buckets, size_buckets};

/// Kinds of errors that are shown per server.
const ERROR_KINDS: usize = 5;

impl Judgement {
    /// Seconds that ledgers, latencies and rates cover: the longest of any server's window; 0 without a server.
    pub fn window_s(&self) -> f64 {
        self.servers.iter().map(|server| server.window.span_s()).fold(0.0, f64::max)
    }

    /// The machine. Its name is for the caller to know.
    pub fn host(&self, name: impl Into<String>) -> HostView {
        let host = &self.host;
        let used = |(total, available): (u64, u64)| total.saturating_sub(available);
        HostView {
            name: name.into(),
            cpus: host.cpus.get().map_or(0, |cpus| cpus as u32),
            cpu_utilization: host.utilization.get(),
            per_cpu_utilization: host.per_cpu.iter().map(crate::Fact::get).collect(),
            cpu_steal: host.steal.get(),
            memory_used_bytes: host.memory_total.get().zip(host.memory_available.get()).map(used),
            memory_total_bytes: host.memory_total.get(),
            cpu_pressure: host.pressure.cpu.get(),
            memory_pressure: host.pressure.memory.get(),
            io_pressure: host.pressure.io.get(),
        }
    }

    /// One CPU device per server, in the order of the servers.
    pub fn devices(&self) -> Vec<DeviceView> {
        self.servers.iter().map(ServerJudgement::device).collect()
    }

    /// Where a GPU's time went, by its id (`gpu:<UUID>`).
    pub fn gpu_ledger(&self, id: &str) -> Option<LedgerView<CauseEntry>> {
        let window = &self.gpus.iter().find(|gpu| gpu.id == id)?.window;
        let ledger = window.ledger.as_ref()?;
        let mut view: LedgerView<CauseEntry> = ledger.into();
        for entry in &mut view.entries {
            let (less, more) = window.bounds.of(&entry.cause);
            if less > 0 || more > 0 {
                entry.low_ns = Some(entry.ns.saturating_sub(less));
                entry.high_ns = Some((entry.ns + more).min(view.interval_ns));
            }
        }
        Some(view)
    }

    /// The servers. `pids` tells the process ids of a server's workers.
    pub fn servers(&self, pids: impl Fn(EntityId) -> Vec<u32>) -> Vec<ServerView> {
        self.servers.iter().map(|server| server.view(pids(server.entity))).collect()
    }

    /// Ids of the rules that cannot decide about some server, each once, in order.
    pub fn undecided_rules(&self) -> Vec<String> {
        let mut rules: Vec<String> = Vec::new();
        for undecided in &self.undecided {
            if !rules.iter().any(|known| known == undecided.rule) {
                rules.push(undecided.rule.to_owned());
            }
        }
        rules
    }
}

impl ServerJudgement {
    /// The server's CPUs: `cpu:<server id>`.
    pub fn device(&self) -> DeviceView {
        let cpu = &self.window.cpu;
        let id = self.id.strip_prefix("server:").unwrap_or(&self.id);
        DeviceView {
            id: format!("cpu:{id}"),
            kind: "cpu".to_owned(),
            name: format!("CPUs of {}", self.name),
            ledger: self.window.cpu_ledger.as_ref().map(Into::into),
            cpu: Some(CpuView {
                capacity_cpus: cpu.capacity.get(),
                used_cpus: cpu.used.get().zip(cpu.capacity.get()).map(|(share, cpus)| share * cpus),
                hottest_thread: cpu.hottest_thread.get(),
                throttled_periods: cpu.throttled_periods.get(),
            }),
            gpu: None,
        }
    }

    /// The server, with the process ids of its workers.
    pub fn view(&self, pids: Vec<u32>) -> ServerView {
        let window = &self.window;
        ServerView {
            id: self.id.clone(),
            kind: "sdk".to_owned(),
            name: self.name.clone(),
            pid: pids.first().copied(),
            pids,
            live: self.live,
            ledger: window.request_ledger.as_ref().map(Into::into),
            latency: latency(&window.duration),
            // A tick without a report says nothing about how many requests ended in it.
            latency_buckets: self.tick.facts.slots.value().map(|_| latency_buckets(&self.tick.facts.duration)),
            slowest: Vec::new(),
            stages: window
                .stage_durations
                .iter()
                .filter_map(|(stage, durations)| Some(StageView { stage: stage.clone(), latency: latency(durations)? }))
                .collect(),
            requests_per_s: window.load.completions.get(),
            errors_per_s: window.load.failures.get(),
            errors_by_kind: self.error_kinds(),
            cancelled_per_s: window.load.cancellations.get(),
            arrivals_per_s: window.load.arrivals.get(),
            in_flight: window.load.in_flight.get(),
            batch: self.batch(),
            tokens: window.told.tokens.map(|[input_per_s, output_per_s]| TokensView { input_per_s, output_per_s }),
            time_to_first_token: latency(&window.told.first_token),
            inter_token: latency(&window.told.inter_token),
            cache: window.told.lookups.map(|[hits, misses]| cache(hits, misses)),
            place: None,
            group: self.group(),
        }
    }

    fn group(&self) -> Option<GroupView> {
        let group = &self.window.group;
        group.is_told().then(|| GroupView {
            memory_bytes: group.memory.get(),
            memory_limit_bytes: group.memory_limit.get(),
            memory_limit_hits: group.limit_hits,
            oom_kills: group.oom_kills,
            cpu_pressure: group.cpu_pressure.get(),
            memory_pressure: group.memory_pressure.get(),
            io_pressure: group.io_pressure.get(),
        })
    }

    fn error_kinds(&self) -> Vec<ErrorKindView> {
        let worst = self.window.told.errors.iter().take(ERROR_KINDS);
        worst.map(|(kind, per_s)| ErrorKindView { kind: kind.clone(), per_s: *per_s }).collect()
    }

    fn batch(&self) -> Option<BatchView> {
        let batch = &self.window.batch;
        Some(BatchView {
            per_s: batch.dispatches.get()? as f64 / self.window.span_s(),
            mean_size: batch.mean.get()?,
            max_size: batch.configured_max,
            ready2: batch.ready2.get()?,
            sizes: Some(size_buckets(&batch.sizes)),
        })
    }
}

/// Look-ups per second that hit and that missed.
fn cache(hits: f64, misses: f64) -> CacheView {
    let lookups_per_s = hits + misses;
    CacheView { lookups_per_s, hit_ratio: (lookups_per_s > 0.0).then(|| hits / lookups_per_s) }
}

/// A distribution of durations in nanoseconds; `None` when it is empty.
fn latency(durations: &SparseHdr) -> Option<LatencyView> {
    let unit = server::REQUEST_DURATION.unit.scale();
    let quantile = |q| durations.quantile(q).map(|ns| ns as f64 * unit);
    Some(LatencyView {
        count: durations.count(),
        sum_s: durations.sum() as f64 * unit,
        p50_s: quantile(0.5)?,
        p90_s: quantile(0.9)?,
        p99_s: quantile(0.99)?,
        p999_s: quantile(0.999),
        max_s: durations.max()? as f64 * unit,
    })
}
