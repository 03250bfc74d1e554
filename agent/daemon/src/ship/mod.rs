//! Export on the keeping thread: what a tick's transaction holds for it, and what waits in the outbox.
//!
//! Nothing is sent before it is kept: a request, the state of the streams in it and the tick that made it due are in one
//! transaction. Afterwards it waits in the outbox until its lane says that it is over, and its row goes with the next
//! transaction. A kill in between sends the same bytes again, which for cumulative data is no harm. In memory everything is
//! the same, without the transaction.

mod convert;
mod counts;
mod line;
mod own;
mod status;
#[cfg(test)]
mod tests;

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use perfwatch_export::{
    Encoded, Encoder, Exported, Lane, Observer, OtlpConfig, RetryPolicy, Settled, Signal, StartError, Step,
};
use perfwatch_model::{Clock as _, Finding, SeriesTable, Tick};
use perfwatch_store::failpoint::{self, Point};
use perfwatch_store::{
    DeadLetter, ExportCursor, Journal, Outgoing, Parcel, ParcelInfo, Place, Restored, Shipper, Totals,
};
use tokio::runtime::Handle;

use crate::clock::SystemClock;

use convert::Seen;
use counts::{Counts, reason};
use line::{Line, Waiting};

pub(crate) use own::ExportMetrics;
pub(crate) use status::{Shipped, Status};

/// What may wait in memory alone, whatever the outbox may have on disk.
const MAX_IN_MEMORY: u64 = 16_000_000;
/// Larger parts of requests are counted as refused and not kept as dead letters.
const MAX_DEAD: usize = 64 << 10;
/// Dead letters that wait for a disk; the journal keeps no more either.
const MAX_DEAD_WAITING: usize = 256;
/// How long requests of a signal that has no endpoint any more are kept: no backend takes what is older.
const ORPHANED_FOR_NS: u64 = 24 * 3_600 * 1_000_000_000;
/// Of a small journal's database, what the outbox may take.
const SHARE: u64 = 4;

/// What export is to do.
pub(crate) struct Plan {
    pub(crate) otlp: OtlpConfig,
    pub(crate) full: bool,
    /// Most bytes of the outbox.
    pub(crate) cap: u64,
    pub(crate) retry: RetryPolicy,
    /// Where the lanes run; without one there are none.
    pub(crate) runtime: Option<Handle>,
}

#[cfg(test)]
impl Plan {
    /// Nothing is exported.
    pub(crate) fn none() -> Self {
        let otlp = OtlpConfig::from_lookup(|_| None).expect("no variable is wrong");
        Self { otlp, full: false, cap: u64::MAX, retry: RetryPolicy::default(), runtime: None }
    }
}

/// Export as the keeping thread has it.
pub(crate) struct Ship {
    encoder: Encoder,
    /// For metrics and for logs.
    lines: Vec<Line>,
    /// What a former agent left for signals that have no endpoint now.
    orphans: Vec<ParcelInfo>,
    outgoing: Outgoing,
    cursor: Option<ExportCursor>,
    counts: Counts,
    cap: u64,
    in_memory: bool,
    next_id: u64,
    reports: Receiver<(u64, Settled)>,
    table: Arc<SeriesTable>,
    findings: Vec<Finding>,
    last: bool,
    now_wall_ns: u64,
    status: Arc<Mutex<Shipped>>,
}

impl Ship {
    /// Goes on where the journal's last agent stopped. `wake` is called, from any thread, when [`Ship::settle`] has
    /// something to do.
    pub(crate) fn start(
        plan: &Plan,
        journal: &mut Journal,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, StartError> {
        let (report, reports) = mpsc::channel();
        let report = Mutex::new(report);
        let observer: Observer = Arc::new(move |number, step| match step {
            Step::Sending => failpoint::pass(Point::SendDue),
            Step::Answered => failpoint::pass(Point::SendAnswered),
            Step::Settled(settled) => {
                // Without a receiver the agent has ended.
                let _ = report.lock().unwrap_or_else(PoisonError::into_inner).send((number, settled));
                wake();
            }
        });
        let restored = journal.take_restored();
        let mut lines = Vec::new();
        for (target, signal) in [(&plan.otlp.metrics, Signal::Metrics), (&plan.otlp.logs, Signal::Logs)] {
            if let (Some(target), Some(runtime)) = (target, &plan.runtime) {
                let lane = Lane::start(target, signal, plan.retry, runtime, Arc::clone(&observer))?;
                lines.push(Line::new(lane, signal, &restored));
            }
        }
        let status = journal.reader().status();
        let in_memory = !matches!(status.place, Place::Disk(_) | Place::Failing { .. });
        let room = journal.room() / SHARE;
        let cap = if in_memory { plan.cap.min(MAX_IN_MEMORY) } else { plan.cap.min(room) };
        let Restored { accumulators, cursor, newest_parcel, counts, parcels } = restored;
        let orphans = orphans(parcels, &lines);
        let mut encoder = Encoder::new(&plan.otlp, plan.full);
        let counts = journal.with_totals(|totals| {
            let streams = accumulators.into_iter().map(|(number, kept)| (number, convert::stream(kept)));
            encoder.restore(streams, cursor.map(|cursor| cursor.wall_ns), &Seen(totals));
            Counts::restored(&counts, totals)
        });
        let mut ship = Self {
            encoder,
            lines,
            orphans,
            outgoing: Outgoing::default(),
            cursor,
            counts,
            cap,
            in_memory,
            next_id: newest_parcel + 1,
            reports,
            table: Arc::default(),
            findings: Vec::new(),
            last: false,
            now_wall_ns: status.since_wall_ns,
            status: Arc::default(),
        };
        ship.tell();
        Ok(ship)
    }

    /// How export goes, for other threads.
    pub(crate) fn status(&self) -> Status {
        Status(Arc::clone(&self.status))
    }

    /// What stands found after the tick that is about to be kept, and whether it is the last one.
    pub(crate) fn expect(&mut self, table: Arc<SeriesTable>, findings: Vec<Finding>, last: bool) {
        (self.table, self.findings, self.last) = (table, findings, last);
    }

    /// Notes what became of requests, and gives the lanes what they have room for. Writes nothing.
    pub(crate) fn settle(&mut self, journal: &Journal) {
        while let Ok((id, settled)) = self.reports.try_recv() {
            self.note(id, settled);
        }
        for line in &mut self.lines {
            for items in line.fill(journal) {
                self.counts.drop(line.signal, reason::LOST, items);
            }
        }
        self.tell();
    }

    fn note(&mut self, id: u64, settled: Settled) {
        failpoint::pass(Point::SendSettled);
        let Some((line, gone)) = self.lines.iter_mut().find_map(|line| Some((line.signal, line.remove(id)?))) else {
            return;
        };
        self.forget(&gone);
        self.counts.sent(line, settled.sent);
        self.counts.drop(line, reason::REJECTED, settled.rejected);
        for refused in settled.refused {
            let why = if refused.unanswered { reason::POISON } else { reason::REFUSED };
            self.counts.drop(line, why, refused.request.items);
            if refused.is_poison && refused.request.body.len() <= MAX_DEAD && !self.in_memory {
                self.outgoing.dead.push(DeadLetter {
                    signal: line::name(line).to_owned(),
                    refused_wall_ns: self.now_wall_ns,
                    why: refused.why,
                    items: refused.request.items,
                    body: refused.request.body.to_vec(),
                });
                if self.outgoing.dead.len() > MAX_DEAD_WAITING {
                    self.outgoing.dead.remove(0);
                }
            }
        }
    }

    /// Lets go what has waited too long for an endpoint.
    fn bury_orphans(&mut self) {
        let now = self.now_wall_ns;
        let (gone, left) = std::mem::take(&mut self.orphans)
            .into_iter()
            .partition(|orphan: &ParcelInfo| orphan.created_wall_ns.saturating_add(ORPHANED_FOR_NS) < now);
        self.orphans = left;
        for orphan in gone {
            if let Some(signal) = counts::signal(&orphan.signal) {
                self.counts.drop(signal, reason::EXPIRED, orphan.items);
            }
            self.outgoing.done.push(orphan.id);
        }
    }

    /// Its row, if it has one, is to go.
    fn forget(&mut self, gone: &Waiting) {
        let before = self.outgoing.parcels.len();
        self.outgoing.parcels.retain(|parcel| parcel.id != gone.id);
        if self.outgoing.parcels.len() == before && !self.in_memory {
            self.outgoing.done.push(gone.id);
        }
    }

    fn post(&mut self, signal: Signal, request: &Encoded) {
        let Some(line) = self.lines.iter_mut().find(|line| line.signal == signal) else { return };
        let parcel = Arc::new(Parcel {
            id: self.next_id,
            endpoint: line.lane.endpoint().to_owned(),
            signal: line::name(signal).to_owned(),
            created_wall_ns: self.now_wall_ns,
            items: request.items,
            body: request.body.to_vec(),
        });
        self.next_id += 1;
        line.add(Waiting::new(&parcel));
        self.outgoing.parcels.push(parcel);
    }

    /// Puts what is to leave into the next transaction.
    fn take(&mut self, seq: u64, exported: Exported) {
        for request in exported.metrics {
            self.post(Signal::Metrics, &request);
        }
        if let Some(request) = exported.logs {
            self.post(Signal::Logs, &request);
        }
        for (number, stream) in exported.streams {
            self.outgoing.accumulators.insert(number, stream.map(convert::accumulator));
        }
        if let Some(wall_ns) = exported.stamp_ns {
            self.cursor = Some(ExportCursor { seq, wall_ns });
            self.outgoing.cursor = self.cursor;
        }
        self.fit();
        self.outgoing.counts = self.counts.changed();
    }

    /// Drops the oldest that wait, and are not on their way just now, until the rest fits.
    fn fit(&mut self) {
        let memory = self.cap.min(MAX_IN_MEMORY);
        while self.lines.iter().map(Line::bytes).sum::<u64>() > self.cap {
            if !self.drop_oldest(|_| true) {
                break;
            }
        }
        while self.lines.iter().map(Line::undurable_bytes).sum::<u64>() > memory {
            if !self.drop_oldest(|waiting| !waiting.durable) {
                break;
            }
        }
    }

    fn drop_oldest(&mut self, wanted: impl Fn(&Waiting) -> bool) -> bool {
        let mut oldest: Vec<_> = self.lines.iter().filter_map(|line| line.oldest_idle(&wanted)).collect();
        oldest.sort_unstable();
        for id in oldest {
            let gone = self.lines.iter_mut().find_map(|line| Some((line.signal, line.withdraw(id)?)));
            if let Some((signal, gone)) = gone {
                self.forget(&gone);
                self.counts.drop(signal, reason::OVERFLOW, gone.items);
                return true;
            }
        }
        false
    }

    /// Tells the other threads how it goes.
    fn tell(&mut self) {
        let told = Shipped::of(&self.lines, &self.counts, &self.encoder, self.now_wall_ns);
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }

    /// Tries to deliver what waits, for the end. What is on disk can wait for the next agent: where nobody answers, it does.
    pub(crate) fn finish(&mut self, journal: &mut Journal, within: Duration) {
        const PATIENCE: Duration = Duration::from_millis(20);
        const WRITE_EVERY_NS: u64 = 500_000_000;
        // The last tick has exported everything; without one there is a rest.
        if !self.last {
            let table = Arc::clone(&self.table);
            let rest = journal.with_totals(|totals| self.encoder.rest(&table, &Seen(totals)));
            let seq = self.cursor.map_or(0, |cursor| cursor.seq);
            self.take(seq, rest);
            journal.write_export(self);
        }
        let now = || SystemClock.now().mono_ns;
        let end = now().saturating_add(within.as_nanos() as u64);
        let mut write_at = now().saturating_add(WRITE_EVERY_NS);
        loop {
            self.settle(journal);
            let waits = |line: &Line| line.requests() > 0 && (self.in_memory || !line.lane.is_troubled());
            if !self.lines.iter().any(waits) || now() >= end {
                break;
            }
            match self.reports.recv_timeout(PATIENCE) {
                Ok((id, settled)) => self.note(id, settled),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // Should the end come by force, what arrived is not to be sent again.
            if now() >= write_at {
                journal.write_export(self);
                write_at = now().saturating_add(WRITE_EVERY_NS);
            }
        }
        // A lane would go on with what it has in hand while this is written: it would arrive, and be sent again.
        self.lines.iter_mut().for_each(Line::recall);
        while let Ok((id, settled)) = self.reports.try_recv() {
            self.note(id, settled);
        }
        if self.in_memory {
            let left: u64 = self.lines.iter().map(Line::items).sum();
            if left > 0 {
                tracing::warn!(items = left, "export did not deliver everything before the end");
            }
            for line in self.lines.drain(..) {
                self.counts.drop(line.signal, reason::SHUTDOWN, line.items());
            }
        }
        journal.write_export(self);
        self.tell();
    }
}

/// What is for none of these lines, and the log says so.
fn orphans(parcels: Vec<ParcelInfo>, lines: &[Line]) -> Vec<ParcelInfo> {
    let served = |parcel: &ParcelInfo| lines.iter().any(|line| line::name(line.signal) == parcel.signal);
    let orphans: Vec<_> = parcels.into_iter().filter(|parcel| !served(parcel)).collect();
    if !orphans.is_empty() {
        tracing::warn!(
            requests = orphans.len(),
            "an earlier agent left requests for a signal that has no endpoint now; they wait for one, for 24 h"
        );
    }
    orphans
}

impl Shipper for Ship {
    fn before(&mut self, tick: &Tick, table: &SeriesTable, totals: &Totals) {
        self.encoder.before(tick, table, &Seen(totals));
    }

    fn after(&mut self, seq: u64, tick: &Tick, table: &SeriesTable, totals: &Totals) {
        self.now_wall_ns = tick.end.wall_ns;
        self.bury_orphans();
        let findings = std::mem::take(&mut self.findings);
        let exported = self.encoder.after(tick, table, &Seen(totals), &findings, self.last);
        self.take(seq, exported);
    }

    fn outgoing(&mut self) -> &Outgoing {
        self.outgoing.counts.extend(self.counts.changed());
        &self.outgoing
    }

    fn written(&mut self) {
        for parcel in std::mem::take(&mut self.outgoing.parcels) {
            for line in &mut self.lines {
                line.written(&parcel, self.in_memory);
            }
        }
        self.counts.written();
        self.outgoing = Outgoing::default();
    }

    fn begun_anew(&mut self) {
        for (number, stream) in self.encoder.all_streams() {
            self.outgoing.accumulators.insert(number, Some(convert::accumulator(stream)));
        }
        self.outgoing.cursor = self.cursor;
        self.outgoing.done.clear();
        for orphan in std::mem::take(&mut self.orphans) {
            if let Some(signal) = counts::signal(&orphan.signal) {
                self.counts.drop(signal, reason::LOST, orphan.items);
            }
        }
        let mut parcels = std::mem::take(&mut self.outgoing.parcels);
        for line in &mut self.lines {
            let (kept, lost) = line.begun_anew();
            parcels.extend(kept);
            for items in lost {
                self.counts.drop(line.signal, reason::LOST, items);
            }
        }
        parcels.sort_by_key(|parcel| parcel.id);
        parcels.dedup_by_key(|parcel| parcel.id);
        self.outgoing.parcels = parcels;
        self.counts.all_changed();
        self.outgoing.counts = self.counts.changed();
    }
}
