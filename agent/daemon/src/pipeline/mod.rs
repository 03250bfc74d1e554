//! What happens to a tick: sampled, filled with what servers sent, kept, judged, shown, shipped.

mod keeper;
mod thread;

use std::sync::Arc;
use std::time::Duration;

use perfwatch_diagnose::{Engine, Judgement};
use perfwatch_export::Exporter;
use perfwatch_model::{Clock, Finding, Sample, SeriesTable, Stamp, Tick};
use perfwatch_store::failpoint::{self, Point};

use crate::assemble::Assembler;
use crate::feed::{Published, Publisher};
use crate::history::History;
use crate::own::{FindingGauges, Health, OwnMetrics};
use crate::probe_socket::Receipt;
use crate::scheduler::{CLOSE_AFTER_NS, Due, ProbeSet};
use crate::servers::Servers;

use keeper::Batch;

pub(crate) use keeper::Keeper;
pub(crate) use thread::TickThread;

/// Everything that the tick thread owns. Nothing in it waits for anybody.
pub(crate) struct Pipeline {
    pub(crate) table: SeriesTable,
    pub(crate) probes: ProbeSet,
    pub(crate) servers: Servers,
    pub(crate) history: Arc<History>,
    pub(crate) keeper: Keeper,
    pub(crate) engine: Engine,
    pub(crate) assembler: Assembler,
    pub(crate) exporter: Exporter,
    pub(crate) publisher: Publisher,
    pub(crate) own: OwnMetrics,
    pub(crate) gauges: FindingGauges,
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
        self.publish(&tick, &judgement);
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
        self.servers.discover(self.probes.processes(), &mut self.table);
        if let Some(watched) = self.servers.changed_watch_set() {
            self.probes.watch(watched);
        }
        self.probes.sample(now, &mut Sample::new(&mut self.table, &mut tick));
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
        let tick = Arc::new(tick);
        let table = self.history.push(Arc::clone(&tick), &self.table, now.mono_ns);
        self.keeper.keep(Batch { tick: Arc::clone(&tick), table, receipts });
        failpoint::pass(Point::TickHandedOver);
        let judgement = self.engine.push(&tick, &self.table);
        self.publish(&tick, &judgement);
        self.findings = judgement.findings;
        self.exporter.offer(&tick, &self.table, &self.findings);
        self.servers.retire(tick.end.mono_ns, &mut self.table);
    }

    /// Closes what is left when the agent stops, for the exporter and the journal alone: an interval this short would
    /// mislead the rest.
    fn close_last(&mut self, mut tick: Tick) {
        let receipts = self.complete(&mut tick);
        self.exporter.offer(&tick, &self.table, &self.findings);
        let table = Arc::new(self.table.clone());
        self.keeper.keep(Batch { tick: Arc::new(tick), table, receipts });
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
        let mut drops: Vec<(&'static str, u64)> = self.exporter.dropped().into_iter().collect();
        drops.extend_from_slice(self.servers.dropped());
        drops.push(("journal_series", self.keeper.series_forgotten()));
        let health =
            Health { late_ns: self.late_ns, missed: self.missed, sessions: self.servers.sessions(), drops: &drops };
        self.own.sample(&health, self.probes.totals(), table, tick);
        self.keeper.sample(table, tick);
        tick.seal();
        receipts
    }

    fn publish(&mut self, tick: &Tick, judgement: &Judgement) {
        let covered_ns = self.history.with_ring(perfwatch_store::Ring::covered_ns);
        let mut snapshot =
            self.assembler.snapshot(tick, &self.table, judgement, &self.servers, &self.probes, covered_ns);
        let newest = self.own.newest();
        let agent = &mut snapshot.agent;
        agent.cpu_cores = newest.cpu_cores;
        agent.rss_bytes = newest.rss;
        agent.dropped = newest.dropped;
        agent.late_s = self.late_ns as f64 / 1e9;
        agent.ticks_missed = self.missed;
        agent.probes = self.probes.views();
        agent.exports = self.exporter.views();
        agent.store = self.keeper.place();
        self.publisher.send_replace(Some(Arc::new(Published::new(snapshot))));
    }
}

/// What is left of a pipeline when its thread has ended.
pub(crate) struct Remains {
    exporter: Exporter,
    keeper: Keeper,
    table: SeriesTable,
}

impl Remains {
    /// Keeps what waits for the journal. Blocks.
    #[must_use]
    pub(crate) fn kept(self, within: Duration) -> Unsent {
        failpoint::pass(Point::Stopping);
        self.keeper.finish(within);
        failpoint::pass(Point::Stopped);
        Unsent { exporter: self.exporter, table: self.table }
    }
}

/// What is left then.
pub(crate) struct Unsent {
    exporter: Exporter,
    table: SeriesTable,
}

impl Unsent {
    /// Sends what waits for export.
    pub(crate) async fn flush(mut self, within: Duration) {
        self.exporter.flush(&self.table, within).await;
    }
}

/// The clock that the tick thread waits by.
pub(crate) type SharedClock = Arc<dyn Clock>;
