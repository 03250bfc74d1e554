//! A probe of GPUs with all that an agent would give it, and a scripted NVML under it.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use perfwatch_model::{
    Attr, Entity, EntityId, EntityKind, MetricDef, Number, Reason, Sample, SeriesTable, Stamp, Tick,
};
use perfwatch_probes::gpu::{GpuContext, GpuProbe, Vendor, nvidia::Nvidia};
use rustix::time::ClockId;

/// 2026-01-02 03:04:05 UTC.
pub(crate) const START_NS: u64 = 1_767_323_045_000_000_000;

/// A probe with the table, tick and clock that an agent would give it.
pub(crate) struct Bench {
    pub(crate) probe: Box<dyn GpuProbe>,
    pub(crate) table: SeriesTable,
    pub(crate) tick: Tick,
    pub(crate) host: EntityId,
    pub(crate) now: Stamp,
}

impl Bench {
    /// Healthy scenarios wait as long as a busy machine needs; only the tests of a hung driver shorten it.
    pub(crate) const PATIENT: Duration = Duration::from_secs(20);

    pub(crate) fn open(library: PathBuf, change: impl FnOnce(&mut GpuContext)) -> Self {
        let mut table = SeriesTable::new();
        let host = table.entity(Entity::new(EntityKind::Host, "test"));
        let mut context = GpuContext {
            host,
            nvml_lib: Some(library),
            budget: Self::PATIENT,
            host_pids: true,
            proc: PathBuf::from("/proc"),
            nvidia_kernel_driver: false,
            nvidia_gpus: PathBuf::new(),
            pci_devices: PathBuf::new(),
            in_container: false,
        };
        change(&mut context);
        let now = Stamp { mono_ns: 1_000_000_000, wall_ns: START_NS };
        Self { probe: Nvidia.open(&context), table, tick: Tick::default(), host, now }
    }

    pub(crate) fn sample(&mut self) {
        self.sample_after(1);
    }

    pub(crate) fn sample_after(&mut self, seconds: u64) {
        self.now.mono_ns += seconds * 1_000_000_000;
        self.now.wall_ns += seconds * 1_000_000_000;
        self.take();
    }

    /// Samples at the real time, by which GPM is sampled between ticks and drivers sample utilisation.
    pub(crate) fn sample_now(&mut self) {
        self.now = Stamp { mono_ns: real_ns(), wall_ns: of_clock(ClockId::Realtime) };
        self.take();
    }

    fn take(&mut self) {
        self.tick.clear();
        self.probe.sample(self.now, &mut Sample::new(&mut self.table, &mut self.tick));
        self.tick.seal();
    }

    pub(crate) fn gpu(&self, uuid: &str) -> EntityId {
        self.table.find_entity(EntityKind::Gpu, uuid).expect("the GPU has an entity")
    }

    pub(crate) fn value(&self, metric: &MetricDef, uuid: &str, attrs: &[Attr]) -> Option<Number> {
        self.tick.value(self.table.find(metric, self.gpu(uuid), attrs).expect("the series is known"))
    }

    /// What is told of the machine, if it is.
    pub(crate) fn of_machine(&self, metric: &MetricDef, attrs: &[Attr]) -> Option<Number> {
        self.tick.value(self.table.find(metric, self.host, attrs)?)
    }

    pub(crate) fn reasons(&self, metric: &MetricDef, entity: EntityId) -> Vec<&Reason> {
        let absent = self.tick.absent.iter();
        absent
            .filter(|absence| absence.metric == metric.name && absence.entity == entity)
            .map(|absence| &absence.reason)
            .collect()
    }

    /// The one reason for which a metric is missing.
    pub(crate) fn reason(&self, metric: &MetricDef, entity: EntityId) -> &Reason {
        let reasons = self.reasons(metric, entity);
        assert_eq!(reasons.len(), 1, "{} is called unavailable once: {reasons:?}", metric.name);
        reasons[0]
    }
}

/// `CLOCK_MONOTONIC`.
pub(crate) fn real_ns() -> u64 {
    of_clock(ClockId::Monotonic)
}

fn of_clock(clock: ClockId) -> u64 {
    let now = rustix::time::clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

pub(crate) fn install(dir: &Path, scenario: &str) -> PathBuf {
    fake_nvml::install(dir, scenario).expect("the fake NVML installs")
}

pub(crate) fn temp() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temp dir")
}

pub(crate) const GENERAL: Attr = Attr::fixed("hw.gpu.task", "general");
pub(crate) const TYPE: Attr = Attr::fixed("hw.type", "gpu");

pub(crate) fn clock(which: &'static str) -> Attr {
    Attr::fixed("perfwatch.gpu.clock", which)
}

pub(crate) fn fault(which: &'static str) -> Attr {
    Attr::fixed("perfwatch.gpu.fault", which)
}

pub(crate) fn state(which: &'static str) -> Attr {
    Attr::fixed("hw.state", which)
}

pub(crate) fn throttle(reason: &'static str) -> Attr {
    Attr::fixed("perfwatch.gpu.throttle.reason", reason)
}

/// Samples as the seconds of the agent's clock pass, until it is as `wanted`.
pub(crate) fn wait_for(bench: &mut Bench, wanted: impl Fn(&Bench) -> bool) {
    let started = now();
    loop {
        bench.sample();
        if wanted(bench) {
            return;
        }
        assert!(started.elapsed() < Duration::from_mins(1), "nothing came: {:?}", bench.tick.absent.first());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Tries a claim about time up to three times: a machine that others use too may be late at one, and what is wrong is so at each.
pub(crate) fn at_one_of_three_tries(claim: impl Fn() + std::panic::RefUnwindSafe) {
    for _ in 0..2 {
        if std::panic::catch_unwind(&claim).is_ok() {
            return;
        }
    }
    claim();
}

#[allow(clippy::disallowed_methods, reason = "a test that a call returns in time needs the real clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
