//! What happens to a tick: sampled, filled with what servers sent, judged, kept, shown, shipped.

mod keeper;
mod thread;

use std::sync::Arc;
use std::time::Duration;

use perfwatch_diagnose::{Engine, Judgement};
use perfwatch_model::{Clock, Finding, Ledger, Sample, SeriesTable, Snapshot, Stamp, Tick};
use perfwatch_store::failpoint::{self, Point};
use perfwatch_store::{LedgerKind, LedgerOf};

use crate::assemble::Assembler;
use crate::device_time::DeviceTime;
use crate::feed::{Published, Publisher};
use crate::finding_log;
use crate::gpu_log::GpuLog;
use crate::history::History;
use crate::own::{FindingGauges, Health, OwnMetrics};
use crate::probe_socket::Receipt;
use crate::reload::{Change, Changes};
use crate::scheduler::{CLOSE_AFTER_NS, Due, ProbeSet};
use crate::servers::Servers;
use crate::ship::ExportMetrics;

use keeper::{Batch, DELIVER_WITHIN};

pub(crate) use keeper::Keeper;
pub(crate) use thread::TickThread;

/// Everything that the tick thread owns. Nothing in it waits for anybody.
pub(crate) struct Pipeline {
    pub(crate) changes: Changes,
    pub(crate) table: SeriesTable,
    pub(crate) probes: ProbeSet,
    pub(crate) servers: Servers,
    pub(crate) history: Arc<History>,
    pub(crate) keeper: Keeper,
    pub(crate) engine: Engine,
    pub(crate) assembler: Assembler,
    pub(crate) export: ExportMetrics,
    pub(crate) publisher: Publisher,
    pub(crate) own: OwnMetrics,
    pub(crate) gauges: FindingGauges,
    pub(crate) device_time: DeviceTime,
    pub(crate) gpu_log: GpuLog,
    pub(crate) findings: Vec<Finding>,
    pub(crate) missed: u64,
    pub(crate) late_ns: u64,
}

impl Pipeline {
    /// Reads everything once, so that there is something to show at once and something to compare the first tick with.
    /// This is no tick: nothing is kept or shipped.
    fn open(&mut self, now: Stamp) {
        let mut tick = self.sample(&Due { end: now, dt_ns: 0, missed: 0 }, now);
        tick.seal();
        let judgement = self.engine.push(&tick, &self.table);
        let (_, shown) = self.view(&tick, &judgement);
        self.publish(shown);
    }

    /// Takes the samples of a tick at its end.
    fn sample(&mut self, due: &Due, now: Stamp) -> Tick {
        let mut tick = self.empty_tick();
        tick.end = due.end;
        tick.dt_ns = due.dt_ns;
        self.missed += due.missed;
        if due.missed > 0 {
            tracing::warn!(missed = due.missed, covered_ms = due.dt_ns / 1_000_000, "ticks missed");
        }
        if let Some(Change { budget, watch }) = self.changes.take() {
            self.probes.set_budget(budget);
            self.servers.watch(watch);
        }
        self.servers.discover(self.probes.processes(), &mut self.table);
        if let Some(watched) = self.servers.changed_watch_set() {
            self.probes.watch(watched);
        }
        self.probes.sample(now, &mut Sample::new(&mut self.table, &mut tick));
        tick.gpus = self.servers.gpus(self.probes.gpus(), self.probes.processes());
        tick
    }

    /// A tick with room for as much as the last one held, so that probes push without allocating.
    fn empty_tick(&self) -> Tick {
        let (values, absent) = self
            .history
            .with_ring(|ring| ring.latest().map_or((0, 0), |last| (last.values.capacity(), last.absent.capacity())));
        Tick { values: Vec::with_capacity(values), absent: Vec::with_capacity(absent), ..Tick::default() }
    }

    /// Closes a tick at `now`: nothing that comes later enters it.
    fn close(&mut self, mut tick: Tick, now: Stamp) {
        let span = tracing::info_span!("tick", values = tick.values.len(), absent = tick.absent.len());
        let _entered = span.enter();
        let due = tick.end.mono_ns + CLOSE_AFTER_NS;
        self.late_ns = now.mono_ns.saturating_sub(due);
        let receipts = self.complete(&mut tick);
        failpoint::pass(Point::TickClosed);
        let judgement = self.engine.push(&tick, &self.table);
        self.device_time.sample(&judgement, &mut self.table, &mut tick);
        tick.seal();
        let (told, shown) = self.view(&tick, &judgement);
        let known = self.engine.recollection(&self.table);
        tick.scene = self.assembler.scene(told, &shown, &known, &self.table);
        let tick = Arc::new(tick);
        let table = self.history.push(Arc::clone(&tick), &self.table, now.mono_ns);
        let (ledgers, findings) = (ledgers(&judgement), judgement.findings.clone());
        let (judged, last) = (true, false);
        self.keeper.keep(Batch { tick: Arc::clone(&tick), table, receipts, ledgers, findings, judged, last });
        failpoint::pass(Point::TickHandedOver);
        self.publish(shown);
        finding_log::tell(&self.findings, &judgement.findings);
        self.findings = judgement.findings;
        self.servers.retire(tick.end.mono_ns, &mut self.table);
    }

    /// Closes what is left when the agent stops, for the exporter and the journal alone: an interval this short would
    /// mislead the rest.
    fn close_last(&mut self, mut tick: Tick) {
        let receipts = self.complete(&mut tick);
        let table = Arc::new(self.table.clone());
        let (ledgers, findings) = (Vec::new(), self.findings.clone());
        let (judged, last) = (false, true);
        self.keeper.keep(Batch { tick: Arc::new(tick), table, receipts, ledgers, findings, judged, last });
    }

    /// Adds what the servers sent, what stands found, and what the agent itself used.
    fn complete(&mut self, tick: &mut Tick) -> Vec<Receipt> {
        let receipts = self.servers.close(tick, &mut self.table);
        let table = &mut self.table;
        let entity_of = |finding: &Finding| {
            let (kind, id) = finding.entity.split_once(':')?;
            // The ledger of a server's CPUs belongs to the server.
            let kind = if kind == "cpu" { "server" } else { kind };
            table.entities().find(|(_, entity)| entity.kind.name() == kind && entity.id == id).map(|(at, _)| at)
        };
        let standing: Vec<_> = self.findings.iter().filter_map(|found| Some((found, entity_of(found)?))).collect();
        self.gauges.sample(standing.into_iter(), table, tick);
        let mut drops: Vec<(&'static str, u64)> = self.servers.dropped().to_vec();
        drops.push(("journal_series", self.keeper.series_forgotten()));
        let health =
            Health { late_ns: self.late_ns, missed: self.missed, sessions: self.servers.sessions(), drops: &drops };
        self.own.sample(&health, self.probes.totals(), table, tick);
        self.keeper.sample(table, tick);
        self.export.sample(&self.keeper.shipped(), table, tick);
        tick.seal();
        receipts
    }

    /// What the tick tells, and what is shown of it.
    fn view(&mut self, tick: &Tick, judgement: &Judgement) -> (Snapshot, Snapshot) {
        let held_ns = self.history.with_ring(perfwatch_store::Ring::covered_ns);
        let covered_ns = held_ns.saturating_add(tick.dt_ns);
        let (told, mut shown) =
            self.assembler.snapshot(tick, &self.table, judgement, &self.servers, &self.probes, covered_ns);
        let newest = self.own.newest();
        let agent = &mut shown.agent;
        agent.cpu_cores = newest.cpu_cores;
        agent.rss_bytes = newest.rss;
        let shipped = self.keeper.shipped();
        agent.dropped = newest.dropped + shipped.dropped_now;
        agent.late_s = self.late_ns as f64 / 1e9;
        agent.ticks_missed = self.missed;
        agent.probes = self.probes.views();
        agent.exports = shipped.views;
        self.keeper.tell(agent);
        self.gpu_log.tell(&shown, &self.probes);
        (told, shown)
    }

    fn publish(&self, shown: Snapshot) {
        self.publisher.send_replace(Some(Arc::new(Published::new(shown))));
    }
}

/// A tick's ledgers, for the journal.
pub(crate) fn ledgers(judgement: &Judgement) -> Vec<LedgerOf> {
    let of = |entity: &str, kind, ledger: &Option<Ledger>| {
        ledger.clone().map(|ledger| LedgerOf { entity: entity.to_owned(), kind, ledger })
    };
    let each = judgement.servers.iter().flat_map(|server| {
        let [cpu, requests] = [LedgerKind::Cpu, LedgerKind::Requests];
        [of(&server.id, cpu, &server.tick.cpu), of(&server.id, requests, &server.tick.requests)]
    });
    let gpus = judgement.gpus.iter().map(|gpu| of(&gpu.id, LedgerKind::Gpu, &gpu.tick.ledger));
    each.chain(gpus).flatten().collect()
}

/// What is left of a pipeline when its thread has ended.
pub(crate) struct Remains {
    keeper: Keeper,
}

impl Remains {
    /// Keeps what waits for the journal, and delivers what waits for export, each for at most so long. Blocks.
    pub(crate) fn finish(self, keep_within: Duration) {
        failpoint::pass(Point::Stopping);
        self.keeper.finish(keep_within + DELIVER_WITHIN);
        failpoint::pass(Point::Stopped);
    }
}

/// The clock that the tick thread waits by.
pub(crate) type SharedClock = Arc<dyn Clock>;
