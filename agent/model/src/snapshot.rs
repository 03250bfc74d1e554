//! What perfwatch knows at one instant, as one JSON document.
//!
//! This is the only format in which the agent speaks to the terminal UI, `perfwatch snapshot --json`, `perfwatch why` and
//! `/v1/snapshot`; the schema in `tests/fixtures/snapshot.schema.json` holds it stable. Units are SI, names `snake_case`,
//! entities `kind:id`; `null` means that there is no value, and `unavailable` says why.

mod agent;
mod gpu;
mod told;

use serde::{Deserialize, Serialize};

pub use agent::{AgentView, ExportView, OutboxView, ProbeView};
pub use gpu::{
    ErrorCountsView, GpuActivityView, GpuPipesView, GpuProcessView, GpuView, PcieView, ThrottleView, TransferView,
    XidView,
};
pub use told::{CacheView, ErrorKindView, TokensView};

use crate::{AbsenceKind, Finding, Ledger, Quality};

/// Version of the schema. It grows by optional fields; a change of meaning raises it.
pub const SCHEMA_VERSION: u32 = 1;

/// Everything at one instant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// End of the newest tick, RFC 3339, UTC.
    pub time: String,
    /// Seconds that ledgers, latencies and rates cover: up to 10, fewer just after the start.
    pub window_s: f64,
    /// The machine.
    pub host: HostView,
    /// GPUs, and one CPU device per CPU-only server.
    pub devices: Vec<DeviceView>,
    /// Model servers.
    pub servers: Vec<ServerView>,
    /// What is wrong, worst first.
    pub findings: Vec<Finding>,
    /// Rules that cannot decide yet, by id: too little history, or a reading is missing.
    pub undecided: Vec<String>,
    /// What could not be measured, why, and what would give it.
    pub unavailable: Vec<Unavailable>,
    /// perfwatch itself: its cost and its health.
    pub agent: AgentView,
}

impl Snapshot {
    /// Whether there is anything that findings are about: a server or a GPU. Without, that there are none says nothing.
    pub fn has_subjects(&self) -> bool {
        !self.servers.is_empty() || self.devices.iter().any(|device| device.gpu.is_some())
    }
}

/// The machine, as far as the agent can see it.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct HostView {
    /// Host name.
    pub name: String,
    /// Online logical CPUs.
    pub cpus: u32,
    /// Share of all CPU time that was not idle, 0 to 1.
    pub cpu_utilization: Option<f64>,
    /// The same per logical CPU.
    pub per_cpu_utilization: Vec<Option<f64>>,
    /// Share of CPU time that a hypervisor gave to others, 0 to 1.
    pub cpu_steal: Option<f64>,
    /// Memory in use: total less available.
    pub memory_used_bytes: Option<u64>,
    /// Memory there is.
    pub memory_total_bytes: Option<u64>,
    /// Share of time in which some task waited for a CPU (PSI), 0 to 1.
    pub cpu_pressure: Option<f64>,
    /// Share of time in which some task waited for memory (PSI), 0 to 1.
    pub memory_pressure: Option<f64>,
    /// Share of time in which some task waited for I/O (PSI), 0 to 1.
    pub io_pressure: Option<f64>,
}

/// A ledger on the wire: entries sum to `interval_ns` exactly.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LedgerView<E> {
    /// Capacity (device) or occupancy (server) of the window, in nanoseconds.
    pub interval_ns: u64,
    /// The parts.
    pub entries: Vec<E>,
}

/// Part of a device's time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CauseEntry {
    /// What the time went into.
    pub cause: String,
    /// How much of it.
    pub ns: u64,
    /// How this is known.
    pub quality: Quality,
    /// The least that it could be where an assumption decided between causes; absent where none did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub low_ns: Option<u64>,
    /// The most that it could be then.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub high_ns: Option<u64>,
}

impl CauseEntry {
    /// A part that is as exact as its readings.
    pub fn new(cause: impl Into<String>, ns: u64, quality: Quality) -> Self {
        Self { cause: cause.into(), ns, quality, low_ns: None, high_ns: None }
    }
}

/// Part of a server's request time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageEntry {
    /// The stage that the time was spent in.
    pub stage: String,
    /// How much of it.
    pub ns: u64,
    /// How this is known.
    pub quality: Quality,
}

impl From<&Ledger> for LedgerView<CauseEntry> {
    fn from(ledger: &Ledger) -> Self {
        let entries =
            ledger.entries().iter().map(|entry| CauseEntry::new(&*entry.label, entry.ns, entry.quality)).collect();
        Self { interval_ns: ledger.interval_ns(), entries }
    }
}

impl From<&Ledger> for LedgerView<StageEntry> {
    fn from(ledger: &Ledger) -> Self {
        let entries = ledger
            .entries()
            .iter()
            .map(|entry| StageEntry { stage: entry.label.to_string(), ns: entry.ns, quality: entry.quality })
            .collect();
        Self { interval_ns: ledger.interval_ns(), entries }
    }
}

/// A GPU, or the CPUs of a CPU-only server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceView {
    /// `gpu:<uuid>` or `cpu:<server id>`.
    pub id: String,
    /// `gpu` or `cpu`.
    pub kind: String,
    /// What a person calls it.
    pub name: String,
    /// Where its time went; absent while nothing can be said.
    pub ledger: Option<LedgerView<CauseEntry>>,
    /// Present for a CPU device.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cpu: Option<CpuView>,
    /// Present for a GPU.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gpu: Option<GpuView>,
}

/// The CPUs that a server may use.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct CpuView {
    /// How many CPUs it may use: allowed ∩ cpuset ∩ online.
    pub capacity_cpus: Option<f64>,
    /// CPUs' worth of time it used.
    pub used_cpus: Option<f64>,
    /// The busiest thread's share of one CPU, 0 to 1.
    pub hottest_thread: Option<f64>,
    /// Share of quota periods in which it was throttled, 0 to 1.
    pub throttled_periods: Option<f64>,
}

/// A model server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerView {
    /// `server:<service>/<instance>`.
    pub id: String,
    /// `sdk`, or the server's lowercase name (`vllm`, `triton` …).
    pub kind: String,
    /// Service name.
    pub name: String,
    /// Process ids of its workers.
    pub pids: Vec<u32>,
    /// First of `pids`; `null` when none is known.
    pub pid: Option<u32>,
    /// False when it has sent nothing for more than 3 s.
    pub live: bool,
    /// Where its requests' time went.
    pub ledger: Option<LedgerView<StageEntry>>,
    /// Duration of requests that ended in the window.
    pub latency: Option<LatencyView>,
    /// Duration of requests that ended in the newest tick alone, as `[upper bound in seconds, count]`, ascending, without
    /// empty buckets. Bounds are steps of √2 around 1 s, from 7.6 µs (and anything shorter) to 4096 s, so that a column of a
    /// heatmap can be made of each tick and columns can be added. Empty when no request ended; absent when the server
    /// reported nothing, or the agent is older than this field.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub latency_buckets: Option<Vec<(f64, u64)>>,
    /// The slowest requests that ended in the window, slowest first, as far as the server samples them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub slowest: Vec<SlowRequestView>,
    /// Duration by stage of requests that ended in the window.
    pub stages: Vec<StageView>,
    /// Requests that ended well, per second.
    pub requests_per_s: Option<f64>,
    /// Requests that ended in an error, per second.
    pub errors_per_s: Option<f64>,
    /// Requests that ended in an error by its kind, most frequent first, at most 5; absent when none did.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub errors_by_kind: Vec<ErrorKindView>,
    /// Requests that went away without an end of their own, per second: cancelled by their client, or dropped by the server.
    /// Absent when the agent is older than this field.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cancelled_per_s: Option<f64>,
    /// Requests that began, per second.
    pub arrivals_per_s: Option<f64>,
    /// Requests inside at the end of the window.
    pub in_flight: Option<u64>,
    /// Batches, where the server reports them.
    pub batch: Option<BatchView>,
    /// Tokens; absent when the server never told of any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tokens: Option<TokensView>,
    /// From a request's arrival to its first token; absent when there was none in the window.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub time_to_first_token: Option<LatencyView>,
    /// Between two steps of a stream that brought tokens; absent when there was none in the window.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inter_token: Option<LatencyView>,
    /// Look-ups in its caches; absent when the server never told of any.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cache: Option<CacheView>,
    /// What its processes run in and on; absent when nothing of it is known, or the agent is older than this field.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub place: Option<PlaceView>,
    /// Memory and pressure of its control group as the server tells them itself; absent when the agent sees its processes,
    /// or is older than this field.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub group: Option<GroupView>,
}

/// What a server's processes run in and on.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlaceView {
    /// Path of their control group: as the agent sees it where it sees them, else as they do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cgroup: Option<String>,
    /// Hexadecimal id of their container, where the control group's path has one or the server says it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container: Option<String>,
    /// UID of their Kubernetes pod, where the control group's path has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pod: Option<String>,
    /// GPUs as [`DeviceView::id`]: those that the processes hold memory on, and those whose UUIDs they were given.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub gpus: Vec<String>,
}

/// Memory and pressure of a server's control group.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct GroupView {
    /// Memory charged to it.
    pub memory_bytes: Option<u64>,
    /// Memory it may use; `null` without a limit.
    pub memory_limit_bytes: Option<u64>,
    /// Times it reached that limit in the window.
    pub memory_limit_hits: Option<u64>,
    /// Processes killed in the window for want of memory.
    pub oom_kills: Option<u64>,
    /// Share of time in which some task waited for a CPU (PSI), 0 to 1: throttled, or behind others, its own included.
    pub cpu_pressure: Option<f64>,
    /// Share of time in which some task waited for memory (PSI), 0 to 1.
    pub memory_pressure: Option<f64>,
    /// Share of time in which some task waited for I/O (PSI), 0 to 1.
    pub io_pressure: Option<f64>,
}

/// A distribution of durations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyView {
    /// How many.
    pub count: u64,
    /// Their sum.
    pub sum_s: f64,
    /// Median.
    pub p50_s: f64,
    /// 90th percentile.
    pub p90_s: f64,
    /// 99th percentile.
    pub p99_s: f64,
    /// 99.9th percentile; absent when the agent is older than this field.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub p999_s: Option<f64>,
    /// Largest.
    pub max_s: f64,
}

/// One request that took long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlowRequestView {
    /// From arrival to the last byte sent.
    pub duration_s: f64,
    /// What that consists of, in order of the vocabulary, without stages that it did not enter.
    pub stages: Vec<SlowStageView>,
    /// Hexadecimal id of the trace that it belongs to, where the server knows one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trace_id: Option<String>,
    /// Kind of its error; absent when it ended well.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

/// Time that one request spent in one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlowStageView {
    /// The stage.
    pub stage: String,
    /// Seconds in it.
    pub s: f64,
}

/// A distribution of durations in one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageView {
    /// The stage.
    pub stage: String,
    /// How long requests spent in it.
    pub latency: LatencyView,
}

/// Batches executed in the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchView {
    /// Batches per second.
    pub per_s: f64,
    /// Mean requests per batch.
    pub mean_size: f64,
    /// Largest batch the server is configured to form.
    pub max_size: Option<u32>,
    /// Share of batches formed while two or more requests stood ready, 0 to 1.
    pub ready2: f64,
    /// Their sizes, as `[largest size, count]`, ascending, without empty buckets: each size up to 16 for itself, then powers
    /// of 2. Absent when the agent is older than this field.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sizes: Option<Vec<(u64, u64)>>,
}

/// A metric without a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unavailable {
    /// Metric name.
    pub metric: String,
    /// What it would have been about, as `kind:id`.
    pub entity: String,
    /// Why there is none.
    pub reason: String,
    /// What would give it; empty when nothing would.
    pub cure: String,
    /// What that says of the machine; [`AbsenceKind::Normal`] from an agent that does not tell.
    #[serde(default)]
    pub kind: AbsenceKind,
}

impl Unavailable {
    /// True when somebody chose that it is not measured: a gap that nobody looks for.
    pub fn is_by_choice(&self) -> bool {
        self.kind == AbsenceKind::Chosen
    }
}
