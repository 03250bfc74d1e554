//! What others used of the CPUs of a server that is out of sight: what was busy on them, by the machine's `/proc/stat`, less
//! what the server's control group used, by its own word. In a container that group is the server with all that it started;
//! in a larger one the others in it are taken for the server, so that neighbours are found too small rather than made up.

use std::collections::HashMap;

use perfwatch_model::metrics::{host, server};
use perfwatch_model::{AttrValue, EntityId, Number, SeriesId, SeriesTable, Tick};

use super::Cpus;

/// Processes tell what they used up to .3 s after the second that the machine's numbers end with. What the group is ahead
/// by that is made up for in the next seconds: taken for nothing, the ups and downs of a lone server would add up to a
/// neighbour.
const SKEW_NS: u64 = 300_000_000;

/// What can be said of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The neighbours' total is in the tick.
    Known,
    /// A flush is late: the next tick has both parts.
    Waits,
    /// The group does not say what it used, or the machine's CPUs cannot be read.
    Unknown,
}

/// What one CPU did, as running totals.
#[derive(Clone, Copy, Debug, Default)]
struct Core {
    busy_ns: u64,
    steal_ns: u64,
}

/// A server's neighbours.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    generation: Option<u64>,
    /// Which CPU a series is about, and whether it is what a hypervisor kept; idle time has no place.
    places: HashMap<SeriesId, (usize, bool)>,
    before: HashMap<usize, Core>,
    /// What its CPUs did in ticks that no flush spoke for yet.
    pending_ns: u64,
    others_ns: u64,
    steal_ns: u64,
    ahead_ns: u64,
    began: bool,
}

impl Neighbours {
    /// Appends others' CPU time and what the hypervisor kept, on these CPUs. `group_ns` is what the group gained.
    pub(super) fn report(
        &mut self,
        entity: EntityId,
        cpus: Option<Cpus>,
        group_ns: Option<u64>,
        tick: &mut Tick,
        table: &mut SeriesTable,
    ) -> Verdict {
        self.look_up(table);
        let now = self.cores(tick);
        if now.is_empty() {
            self.pause();
            return Verdict::Unknown;
        }
        let before = std::mem::replace(&mut self.before, now);
        let Some(cpus) = cpus else { return self.without_a_word() };
        for (cpu, now) in self.before.iter().filter(|(cpu, _)| cpus.contains(**cpu)) {
            // A CPU that was plugged in says nothing of this tick.
            let before = before.get(cpu).unwrap_or(now);
            self.pending_ns += now.busy_ns.saturating_sub(before.busy_ns);
            self.steal_ns += now.steal_ns.saturating_sub(before.steal_ns);
        }
        tick.values.push((table.series(&server::CPU_STEAL, entity, &[]), Number::Int(self.steal_ns)));
        let Some(group_ns) = group_ns else { return self.without_a_word() };
        let busy_ns = std::mem::take(&mut self.pending_ns);
        // The first flush speaks for a time that the machine's numbers were not compared with yet.
        if std::mem::replace(&mut self.began, true) {
            let used_ns = group_ns.saturating_add(self.ahead_ns);
            self.others_ns += busy_ns.saturating_sub(used_ns);
            self.ahead_ns = used_ns.saturating_sub(busy_ns).min(SKEW_NS * u64::from(cpus.count()));
        }
        tick.values.push((table.series(&server::CPU_OTHERS, entity, &[]), Number::Int(self.others_ns)));
        Verdict::Known
    }

    fn without_a_word(&self) -> Verdict {
        if self.began { Verdict::Waits } else { Verdict::Unknown }
    }

    /// Nobody speaks for the server: what its CPUs do meanwhile is nobody's.
    pub(super) fn pause(&mut self) {
        (self.began, self.pending_ns, self.ahead_ns) = (false, 0, 0);
        self.before.clear();
    }

    /// Finds the machine's series of each CPU again when the table changed.
    fn look_up(&mut self, table: &SeriesTable) {
        if self.generation == Some(table.generation()) {
            return;
        }
        self.generation = Some(table.generation());
        self.places.clear();
        for (id, series) in table.iter().filter(|(_, series)| series.metric.name == host::CPU_CORE_TIME.name) {
            let attr = |key| series.attrs.iter().find(|attr| attr.key == key).map(|attr| &attr.value);
            let (Some(AttrValue::Int(cpu)), Some(AttrValue::Text(mode))) =
                (attr("cpu.logical_number"), attr("cpu.mode"))
            else {
                continue;
            };
            let Ok(cpu) = usize::try_from(*cpu) else { continue };
            match mode.as_ref() {
                "idle" | "iowait" => {}
                mode => _ = self.places.insert(id, (cpu, mode == "steal")),
            }
        }
    }

    fn cores(&self, tick: &Tick) -> HashMap<usize, Core> {
        let mut cores: HashMap<usize, Core> = HashMap::new();
        for (series, number) in &tick.values {
            let (Some((cpu, is_steal)), Number::Int(ns)) = (self.places.get(series), number) else { continue };
            let core = cores.entry(*cpu).or_default();
            *(if *is_steal { &mut core.steal_ns } else { &mut core.busy_ns }) += ns;
        }
        cores
    }
}
