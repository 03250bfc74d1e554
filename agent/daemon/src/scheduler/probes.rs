//! The open probes: when each runs, what it costs.

use perfwatch_model::snapshot::ProbeView;
use perfwatch_model::{EntityId, Sample, Stamp};
use perfwatch_probes::gpu::{GpuDevice, GpuProbe};
use perfwatch_probes::{OpenProbe, Probe, ProcessList};

use super::budget::{Cost, stretch};
use crate::clock::thread_cpu_ns;

/// Weight of the newest run in the mean: a change of cost is believed after some ten runs.
const NEWEST: f64 = 0.1;
/// Ticks between two decisions about stretching.
const DECIDE_EVERY: u64 = 10;

/// The part of the budget that GPUs may use for what they sample between ticks. Ten times a second is worth a lot, and the
/// rest must do for all that is read once.
const BETWEEN_TICKS: f64 = 0.5;

/// An opened probe of either sort.
enum Source {
    Host(Box<dyn Probe>),
    Gpu(Box<dyn GpuProbe>),
}

impl Source {
    fn probe(&mut self) -> &mut dyn Probe {
        match self {
            Self::Host(probe) => probe.as_mut(),
            Self::Gpu(probe) => probe.as_mut(),
        }
    }
}

struct Slot {
    name: &'static str,
    /// Seconds between runs that it asks for.
    every: u32,
    source: Source,
    mean_ns: f64,
    max_ns: u64,
    total_ns: u64,
    runs: u64,
}

impl Slot {
    fn is_movable(&self) -> bool {
        self.every > 1
    }
}

/// All probes that run.
pub(crate) struct ProbeSet {
    slots: Vec<Slot>,
    budget_ns: f64,
    stretch: u32,
    tick: u64,
}

impl ProbeSet {
    /// `budget` is the share of one core that all probes together may use.
    pub(crate) fn new(probes: Vec<OpenProbe>, gpus: Vec<(&'static str, Box<dyn GpuProbe>)>, budget: f64) -> Self {
        let slot = |name, every, source| Slot { name, every, source, mean_ns: 0.0, max_ns: 0, total_ns: 0, runs: 0 };
        let host = probes.into_iter().map(|open| slot(open.name, open.cadence.seconds(), Source::Host(open.probe)));
        // The vendors' libraries are asked each tick; what is slow there, the probe itself asks for less often.
        let gpus = gpus.into_iter().map(|(name, probe)| slot(name, 1, Source::Gpu(probe)));
        let mut set = Self { slots: host.chain(gpus).collect(), budget_ns: 0.0, stretch: 1, tick: 0 };
        set.set_budget(budget);
        set
    }

    /// The share of one core from now on.
    pub(crate) fn set_budget(&mut self, budget: f64) {
        self.budget_ns = budget * 1e9;
        for slot in &mut self.slots {
            if let Source::Gpu(probe) = &mut slot.source {
                probe.allow((self.budget_ns * BETWEEN_TICKS) as u64);
            }
        }
    }

    /// Runs the probes whose turn it is.
    pub(crate) fn sample(&mut self, now: Stamp, out: &mut Sample<'_>) {
        for slot in &mut self.slots {
            let every = u64::from(slot.every);
            let every = if every > 1 { every * u64::from(self.stretch) } else { every };
            if !self.tick.is_multiple_of(every) {
                continue;
            }
            let probe = slot.source.probe();
            let before = thread_cpu_ns() + probe.own_threads_cpu_ns();
            probe.sample(now, out);
            let cost = (thread_cpu_ns() + probe.own_threads_cpu_ns()).saturating_sub(before);
            slot.runs += 1;
            slot.total_ns += cost;
            slot.max_ns = slot.max_ns.max(cost);
            // The first run opens, interns and fills buffers; it says nothing about the next.
            slot.mean_ns = match slot.runs {
                1 | 2 => cost as f64,
                _ => slot.mean_ns + (cost as f64 - slot.mean_ns) * NEWEST,
            };
        }
        self.tick += 1;
        if self.tick.is_multiple_of(DECIDE_EVERY) {
            self.decide();
        }
    }

    fn decide(&mut self) {
        let cost = |slot: &Slot| Cost { mean_ns: slot.mean_ns, every: slot.every };
        let costs: Vec<_> = self.slots.iter().map(cost).collect();
        let needed = stretch(&costs, self.budget_ns);
        // Come back one step at a time and only with room to spare, or cadences would swing.
        let next = if needed < self.stretch && stretch(&costs, self.budget_ns * 0.7) < self.stretch {
            self.stretch / 2
        } else {
            needed.max(self.stretch)
        };
        if next != self.stretch {
            tracing::info!(from = self.stretch, to = next, budget_ms = self.budget_ns / 1e6, "slow probes stretched");
            self.stretch = next;
        }
    }

    /// Tells the probes which servers there are.
    pub(crate) fn watch(&mut self, servers: &[(EntityId, Vec<u32>)]) {
        for slot in &mut self.slots {
            slot.source.probe().watch(servers);
        }
    }

    /// All processes of the machine, from the probe that lists them.
    pub(crate) fn processes(&self) -> Option<&ProcessList> {
        self.slots.iter().find_map(|slot| match &slot.source {
            Source::Host(probe) => probe.processes(),
            Source::Gpu(_) => None,
        })
    }

    /// The GPUs that were seen last.
    pub(crate) fn gpus(&self) -> impl Iterator<Item = &GpuDevice> {
        self.slots
            .iter()
            .filter_map(|slot| match &slot.source {
                Source::Gpu(probe) => Some(probe.devices()),
                Source::Host(_) => None,
            })
            .flatten()
    }

    /// Total CPU time of each probe, by name.
    pub(crate) fn totals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.slots.iter().map(|slot| (slot.name, slot.total_ns))
    }

    /// What each costs and how often it runs.
    pub(crate) fn views(&self) -> Vec<ProbeView> {
        let view = |slot: &Slot| {
            let late = slot.is_movable() && self.stretch > 1;
            let every = slot.every * if late { self.stretch } else { 1 };
            let stretched = late || matches!(&slot.source, Source::Gpu(probe) if probe.is_stretched());
            ProbeView {
                name: slot.name.to_owned(),
                mean_s: slot.mean_ns / 1e9,
                max_s: slot.max_ns as f64 / 1e9,
                every_s: f64::from(every),
                stretched,
            }
        };
        self.slots.iter().map(view).collect()
    }
}
