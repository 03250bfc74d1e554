//! The device ledgers as counters, so that they leave and are kept like anything else that is measured.
//!
//! Of a server on a GPU, why its CPUs were idle is one cause, [`IDLE`]: they are not what it is limited by as long as they
//! idle, the states of the server and the ledger of its GPU tell the same, and each cause is a series.

use std::borrow::Cow;
use std::collections::BTreeMap;

use perfwatch_diagnose::Judgement;
use perfwatch_diagnose::ledger::{IDLE_UNKNOWN, NO_DEMAND, UNUSED_PARALLELISM};
use perfwatch_model::metrics::device;
use perfwatch_model::{Attr, EntityId, Ledger, Number, SeriesId, SeriesTable, Tick};

/// CPU time that a server on a GPU did not use, whatever for.
const IDLE: &str = "idle";

/// A cause that a device's time was ever given to, and how much, in nanoseconds.
#[derive(Debug)]
struct Total {
    cause: Cow<'static, str>,
    series: SeriesId,
    ns: u64,
}

/// Device-seconds by cause, since the agent's start.
#[derive(Debug, Default)]
pub(crate) struct DeviceTime {
    /// By the entity that the device belongs to: the CPUs of a server are the server's.
    devices: BTreeMap<EntityId, Vec<Total>>,
}

impl DeviceTime {
    /// Adds a tick's ledgers to the totals and writes them into that tick, which must be sealed again.
    pub(crate) fn sample(&mut self, judgement: &Judgement, table: &mut SeriesTable, tick: &mut Tick) {
        self.devices.retain(|device, _| table.entity_of(*device).is_some());
        for server in &judgement.servers {
            if let Some(ledger) = &server.tick.cpu {
                let on_gpu = tick.gpus.iter().any(|gpu| gpu.servers.contains(&server.entity));
                self.add("cpu", server.entity, ledger, if on_gpu { summed } else { apart }, table, tick);
            }
        }
        for gpu in &judgement.gpus {
            if let Some(ledger) = &gpu.tick.ledger {
                self.add("gpu", gpu.entity, ledger, apart, table, tick);
            }
        }
    }

    fn add(
        &mut self,
        kind: &'static str,
        entity: EntityId,
        ledger: &Ledger,
        cause: fn(Cow<'static, str>) -> Cow<'static, str>,
        table: &mut SeriesTable,
        tick: &mut Tick,
    ) {
        let totals = self.devices.entry(entity).or_default();
        for entry in ledger.entries() {
            let cause = cause(entry.label.clone());
            match totals.iter_mut().find(|total| total.cause == cause) {
                Some(total) => total.ns += entry.ns,
                // A cause that never took anything is no series.
                None if entry.ns == 0 => {}
                None => {
                    let attrs = [
                        Attr::fixed("perfwatch.device.kind", kind),
                        Attr::text("perfwatch.device.cause", cause.clone()),
                    ];
                    let series = table.series(&device::TIME, entity, &attrs);
                    totals.push(Total { cause, series, ns: entry.ns });
                }
            }
        }
        tick.values.extend(totals.iter().map(|total| (total.series, Number::Int(total.ns))));
    }
}

/// Each cause by itself.
fn apart(cause: Cow<'static, str>) -> Cow<'static, str> {
    cause
}

/// All idle time as one.
fn summed(cause: Cow<'static, str>) -> Cow<'static, str> {
    let idle = [NO_DEMAND, UNUSED_PARALLELISM, IDLE_UNKNOWN].contains(&cause.as_ref()) || cause.starts_with("starved.");
    if idle { Cow::Borrowed(IDLE) } else { cause }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfwatch_model::{Entity, EntityKind, Quality, Split};

    fn ledger(used: u64, waited: u64) -> Ledger {
        let mut split = Split::of(used + waited + 10);
        split.take("used", used, Quality::Counter);
        split.take("run_queue_wait", waited, Quality::Counter);
        split.rest("no_demand", Quality::Sdk)
    }

    fn by_cause(table: &SeriesTable, tick: &Tick) -> Vec<(String, u64)> {
        let cause = |series| {
            let attrs = &table.series_of(series).expect("it lives").attrs;
            attrs.iter().find(|attr| attr.key == "perfwatch.device.cause").expect("each has one").value.to_string()
        };
        tick.values
            .iter()
            .map(|(series, number)| (cause(*series), number.as_int().expect("counters are whole")))
            .collect()
    }

    #[test]
    fn the_causes_of_every_tick_sum_to_the_capacity_and_none_is_a_series_before_it_takes_anything() {
        let mut table = SeriesTable::new();
        let server = table.entity(Entity::new(EntityKind::Server, "shop/1"));
        let mut device = DeviceTime::default();
        let mut tick = Tick::default();
        device.add("cpu", server, &ledger(90, 0), apart, &mut table, &mut tick);
        assert_eq!(by_cause(&table, &tick), [("used".to_owned(), 90), ("no_demand".to_owned(), 10)]);
        let mut tick = Tick::default();
        device.add("cpu", server, &ledger(0, 30), apart, &mut table, &mut tick);
        let totals = by_cause(&table, &tick);
        assert_eq!(totals.iter().map(|(_, ns)| ns).sum::<u64>(), 100 + 40);
        assert!(totals.contains(&("used".to_owned(), 90)), "a total stands where nothing is added: {totals:?}");
    }

    #[test]
    fn why_the_cpus_of_a_server_on_a_gpu_were_idle_is_one_cause() {
        let mut table = SeriesTable::new();
        let server = table.entity(Entity::new(EntityKind::Server, "shop/1"));
        let mut split = Split::of(100);
        split.take("used", 50, Quality::Counter);
        split.take("starved.queue", 20, Quality::Sdk);
        split.take("idle_unknown", 10, Quality::Sdk);
        let (mut device, mut tick) = (DeviceTime::default(), Tick::default());
        device.add("cpu", server, &split.rest("no_demand", Quality::Sdk), summed, &mut table, &mut tick);
        assert_eq!(by_cause(&table, &tick), [("used".to_owned(), 50), ("idle".to_owned(), 50)]);
    }

    #[test]
    fn a_server_that_retired_is_forgotten() {
        let mut table = SeriesTable::new();
        let server = table.entity(Entity::new(EntityKind::Server, "shop/1"));
        let mut device = DeviceTime::default();
        device.add("cpu", server, &ledger(1, 0), apart, &mut table, &mut Tick::default());
        table.retire(server);
        let mut engine = perfwatch_diagnose::Engine::new(perfwatch_diagnose::Config::default());
        let judgement = engine.push(&Tick::default(), &table);
        device.sample(&judgement, &mut table, &mut Tick::default());
        assert!(device.devices.is_empty());
    }
}
