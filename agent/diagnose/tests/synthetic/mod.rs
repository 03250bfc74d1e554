//! A server that exists only as numbers: ticks with the signals that a test asks for, in the form in which probes and the
//! socket's listener deliver them.

#![allow(dead_code, reason = "each test binary and the benchmark use a part of it")]

use perfwatch_model::metrics::{host, server};
use perfwatch_model::tick::SLOT_NS;
use perfwatch_model::{
    Attr, Entity, EntityId, EntityKind, Histogram, MetricDef, Sample, SeriesTable, ServerTick, Slot, SparseHdr, Stage,
    Stamp, State, Tick,
};

pub(crate) const SECOND: u64 = 1_000_000_000;

/// What a synthetic server does, each second alike. Shares are of the CPUs it may use.
#[derive(Clone, Debug)]
pub(crate) struct Signals {
    pub(crate) capacity: f64,
    pub(crate) used: f64,
    pub(crate) hottest_thread: f64,
    pub(crate) throttled_periods: f64,
    pub(crate) throttled: f64,
    pub(crate) run_delay: f64,
    pub(crate) others: f64,
    /// Requests per second.
    pub(crate) arrivals: f64,
    /// Backlog growth and rejections as shares of the arrivals.
    pub(crate) growth: f64,
    pub(crate) rejected: f64,
    pub(crate) batch: f64,
    pub(crate) max_batch: Option<u32>,
    pub ready2: f64,
    /// Shares of request-seconds.
    pub(crate) stages: Vec<(Stage, f64)>,
    /// Requests at the loaders, in `data_load` and in `preprocess`, slot by slot over and over; given, they replace the
    /// shares of these stages.
    pub(crate) loaders: Vec<[f64; 2]>,
    /// Shares of time.
    pub(crate) states: Vec<(State, f64)>,
    /// Requests inside at the start.
    pub(crate) backlog: f64,
    /// Metrics that cannot be read.
    pub(crate) missing: Vec<&'static str>,
}

impl Default for Signals {
    /// Healthy, at a utilisation of about a half.
    fn default() -> Self {
        Self {
            capacity: 1.0,
            used: 0.5,
            hottest_thread: 0.4,
            throttled_periods: 0.0,
            throttled: 0.0,
            run_delay: 0.1,
            others: 0.0,
            arrivals: 200.0,
            growth: 0.0,
            rejected: 0.0,
            batch: 1.7,
            max_batch: Some(8),
            ready2: 0.45,
            stages: vec![(Stage::Compute, 0.65), (Stage::BatchWait, 0.2), (Stage::Preprocess, 0.15)],
            loaders: Vec::new(),
            states: vec![(State::Compute, 0.5), (State::Preprocess, 0.1), (State::None, 0.4)],
            backlog: 40.0,
            missing: Vec::new(),
        }
    }
}

/// Makes the ticks of some servers.
pub(crate) struct World {
    pub(crate) table: SeriesTable,
    pub(crate) second: u64,
    servers: Vec<Running>,
}

struct Running {
    entity: EntityId,
    totals: [f64; 7],
    backlog: f64,
}

impl World {
    pub(crate) fn new(servers: usize) -> Self {
        let mut table = SeriesTable::new();
        let servers = (0..servers)
            .map(|at| {
                let entity = Entity::new(EntityKind::Server, format!("model/{at}")).with("service.name", "model");
                Running { entity: table.entity(entity), totals: [0.0; 7], backlog: f64::NAN }
            })
            .collect();
        Self { table, second: 0, servers }
    }

    pub(crate) fn entity(&self, at: usize) -> EntityId {
        self.servers[at].entity
    }

    /// The next second, in which every server does the same.
    pub(crate) fn tick(&mut self, signals: &Signals) -> Tick {
        self.second += 1;
        let end = Stamp { mono_ns: self.second * SECOND, wall_ns: self.second * SECOND };
        let mut tick = Tick { end, dt_ns: SECOND, ..Tick::default() };
        for running in &mut self.servers {
            running.sample(signals, &mut Sample::new(&mut self.table, &mut tick));
            let reported = running.report(signals);
            let durations = durations(signals);
            let whole = self.table.series(&server::REQUEST_DURATION, running.entity, &[]);
            tick.histograms.push((whole, Histogram::Hdr(durations.clone())));
            let stage = [Attr::fixed("perfwatch.stage", "compute")];
            let stage = self.table.series(&server::STAGE_DURATION, running.entity, &stage);
            tick.histograms.push((stage, Histogram::Hdr(durations)));
            tick.servers.push(reported);
        }
        tick.seal();
        tick
    }

    /// The next second, in which no server reports and no process is seen.
    pub(crate) fn silence(&mut self) -> Tick {
        self.second += 1;
        let end = Stamp { mono_ns: self.second * SECOND, wall_ns: self.second * SECOND };
        Tick { end, dt_ns: SECOND, ..Tick::default() }
    }

    /// Makes the counters of the servers' processes begin anew.
    pub(crate) fn restart(&mut self) {
        self.servers.iter_mut().for_each(|running| running.totals = [0.0; 7]);
    }

    /// Adds what a machine with these two CPUs would show.
    pub(crate) fn sample_host(&mut self, tick: &mut Tick, busy: [f64; 2]) {
        let mut out = Sample::new(&mut self.table, tick);
        let entity = out.entity(Entity::new(EntityKind::Host, "here"));
        let count = out.series(&host::CPU_COUNT, entity, &[]);
        out.gauge_int(count, 2);
        for (cpu, busy) in busy.into_iter().enumerate() {
            for (mode, share) in [("user", busy), ("idle", 1.0 - busy)] {
                let attrs = [Attr::int("cpu.logical_number", cpu as i64), Attr::fixed("cpu.mode", mode)];
                let series = out.series(&host::CPU_CORE_TIME, entity, &attrs);
                out.counter(series, (share * (self.second * SECOND) as f64) as u64);
            }
        }
        tick.seal();
    }
}

impl Running {
    fn sample(&mut self, signals: &Signals, out: &mut Sample<'_>) {
        let gains = [
            (&server::CPU_TIME, signals.used * signals.capacity * SECOND as f64),
            (&server::CPU_RUN_DELAY, signals.run_delay * signals.capacity * SECOND as f64),
            (&server::CPU_OTHERS, signals.others * signals.capacity * SECOND as f64),
            (&server::CPU_STEAL, 0.0),
            (&server::CPU_THROTTLED, signals.throttled * signals.capacity * SECOND as f64),
            (&server::CPU_THROTTLED_PERIODS, signals.throttled_periods * 10.0),
            (&server::CPU_PERIODS, 10.0),
        ];
        for ((metric, gain), total) in gains.into_iter().zip(&mut self.totals) {
            *total += gain;
            if !missing(signals, metric, self.entity, out) {
                let series = out.series(metric, self.entity, &[]);
                out.counter(series, total.round() as u64);
            }
        }
        let gauges = [(&server::CPU_CAPACITY, signals.capacity), (&server::HOTTEST_THREAD, signals.hottest_thread)];
        for (metric, value) in gauges {
            if !missing(signals, metric, self.entity, out) {
                let series = out.series(metric, self.entity, &[]);
                out.gauge(series, value);
            }
        }
    }

    fn report(&mut self, signals: &Signals) -> ServerTick {
        if self.backlog.is_nan() {
            self.backlog = signals.backlog;
        }
        self.backlog = (self.backlog + signals.growth * signals.arrivals).max(0.0);
        let completed = (signals.arrivals * (1.0 - signals.growth - signals.rejected)).max(0.0);
        let mut tick = ServerTick::empty(self.entity);
        tick.started = signals.arrivals.round() as u64;
        tick.completed = completed.round() as u64;
        tick.failed = (signals.arrivals * signals.rejected).round() as u64;
        tick.max_batch_size = signals.max_batch;
        // Sizes next to the mean, so that they add up to it as nearly as whole requests can.
        tick.dispatches = (completed / signals.batch.max(1.0)).round() as u64;
        tick.dispatches_ready2 = (tick.dispatches as f64 * signals.ready2).round() as u64;
        let mut left = (tick.dispatches as f64 * signals.batch).round() as u64;
        for batches_left in (1..=tick.dispatches).rev() {
            let size = left / batches_left;
            tick.batch_size.record(size);
            left -= size;
        }
        for (stage, share) in &signals.stages {
            tick.in_flight[stage.index()] = (self.backlog * share).round() as u64;
        }
        tick.slots = std::array::from_fn(|at| self.slot(signals, at));
        tick
    }

    fn slot(&self, signals: &Signals, at: usize) -> Slot {
        let mut slot = Slot::default();
        for (stage, share) in &signals.stages {
            slot.stage_ns[stage.index()] = (self.backlog * share * SLOT_NS as f64) as u64;
        }
        if let Some([loading, preprocessing]) = signals.loaders.get(at % signals.loaders.len().max(1)) {
            slot.stage_ns[Stage::DataLoad.index()] = (loading * SLOT_NS as f64) as u64;
            slot.stage_ns[Stage::Preprocess.index()] = (preprocessing * SLOT_NS as f64) as u64;
        }
        for (state, share) in &signals.states {
            slot.state_ns[state.index()] = (share * SLOT_NS as f64) as u64;
        }
        let rest = SLOT_NS - slot.state_ns.iter().sum::<u64>();
        slot.state_ns[State::None.index()] += rest;
        slot
    }
}

fn missing(signals: &Signals, metric: &'static MetricDef, entity: EntityId, out: &mut Sample<'_>) -> bool {
    let missing = signals.missing.contains(&metric.name);
    if missing {
        out.unavailable(metric, entity, perfwatch_model::Reason::fixed("/proc hides it", "run as the same user"));
    }
    missing
}

fn durations(signals: &Signals) -> SparseHdr {
    let mut durations = SparseHdr::new();
    (1..=signals.arrivals as u64).for_each(|at| durations.record(at * 200_000));
    durations
}
