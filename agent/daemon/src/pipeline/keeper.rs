//! The thread that keeps ticks. It alone may wait for a disk; the tick thread hands over and goes on.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use perfwatch_model::metrics::agent;
use perfwatch_model::snapshot::AgentView;
use perfwatch_model::{
    Entity, EntityId, EntityKind, Finding, Histogram, Number, Reason, Sample, SeriesId, SeriesTable, SparseHdr, Tick,
};
use perfwatch_store::failpoint::{self, Point};
use perfwatch_store::{Commit, Journal, Kept, LedgerOf, Place, Progress, Reader};

use crate::error::Error;
use crate::probe_socket::Receipt;
use crate::ship::{Plan, Ship, Shipped, Status};
use crate::time::rfc3339;

/// Ticks that may wait for a disk that hangs. Beyond, the two oldest become one: totals stay exact, detail is lost.
const MAX_BEHIND: usize = 64;
/// What the outbox gets at the end: one attempt at a request that is already encoded, and a retry.
pub(super) const DELIVER_WITHIN: Duration = Duration::from_secs(5);

/// A closed tick on its way into the journal.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) tick: Arc<Tick>,
    pub(super) table: Arc<SeriesTable>,
    pub(super) receipts: Vec<Receipt>,
    pub(super) ledgers: Vec<LedgerOf>,
    pub(super) findings: Vec<Finding>,
    /// The two lines above are what the diagnosis made of this very tick.
    pub(super) judged: bool,
    /// No further one comes.
    pub(super) last: bool,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Batch>,
    /// Something was delivered, or never will be.
    settled: bool,
    closed: bool,
    /// The thread is no more.
    dead: bool,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to the keeping thread. Dropped, it lets that thread finish what it has.
#[derive(Debug)]
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    reader: Reader,
    shipped: Status,
    ended: Receiver<()>,
    thread: Option<JoinHandle<()>>,
    entity: EntityId,
    size: SeriesId,
}

impl Keeper {
    pub(crate) fn start(journal: Journal, export: &Plan, table: &mut SeriesTable) -> Result<Self, Error> {
        Self::start_with(journal, export, table, keep)
    }

    fn start_with(mut journal: Journal, export: &Plan, table: &mut SeriesTable, keep: Keep) -> Result<Self, Error> {
        let shared = Arc::<Shared>::default();
        let (end, ended) = mpsc::channel();
        let reader = journal.reader();
        let ship = {
            let shared = Arc::clone(&shared);
            let wake = move || {
                shared.queue().settled = true;
                shared.changed.notify_one();
            };
            Ship::start(export, &mut journal, wake).map_err(|error| Error::Export(error.to_string()))?
        };
        let shipped = ship.status();
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("perfwatch-keep".to_owned())
                .spawn(move || run(journal, ship, &shared, &end, keep))
                .map_err(Error::Thread)?
        };
        let entity = table.entity(Entity::new(EntityKind::Agent, "perfwatch"));
        let size = table.series(&agent::JOURNAL_SIZE, entity, &[]);
        Ok(Self { shared, reader, shipped, ended, thread: Some(thread), entity, size })
    }

    /// Hands a tick over. Its receipts are committed once it is kept.
    pub(super) fn keep(&self, batch: Batch) {
        let mut queue = self.shared.queue();
        if queue.dead {
            return release(batch);
        }
        queue.waiting.push_back(batch);
        if queue.waiting.len() > MAX_BEHIND
            && let (Some(oldest), Some(next)) = (queue.waiting.pop_front(), queue.waiting.pop_front())
        {
            queue.waiting.push_front(join(oldest, next));
        }
        drop(queue);
        self.shared.changed.notify_one();
    }

    /// How export goes.
    pub(super) fn shipped(&self) -> Shipped {
        self.shipped.now()
    }

    /// Where the history is and how far back it reaches, for the snapshot.
    pub(super) fn tell(&self, agent: &mut AgentView) {
        let status = self.reader.status();
        agent.store = status.place.to_string();
        agent.seconds_since = status.seconds_since_wall_ns.map(rfc3339);
        agent.minutes_since = status.minutes_since_wall_ns.map(rfc3339);
    }

    /// Series whose totals were forgotten for want of room.
    pub(super) fn series_forgotten(&self) -> u64 {
        self.reader.status().series_forgotten
    }

    /// Says how large the journal is, or why it is not written.
    pub(super) fn sample(&self, table: &mut SeriesTable, tick: &mut Tick) {
        let status = self.reader.status();
        let mut out = Sample::new(table, tick);
        match status.place {
            Place::Memory => {}
            Place::Disk(_) => out.gauge_int(self.size, status.bytes),
            Place::Refused { path, reason } => {
                let text = format!("history is in memory only, {} cannot be used: {reason}", path.display());
                let cure = "make the place writable or set journal.path, and start the agent again";
                out.unavailable(&agent::JOURNAL_SIZE, self.entity, Reason::new(text, cure).by_failure());
            }
            Place::Dead { reason } => {
                let text = format!("nothing is kept any more: {reason}");
                let cure = "start the agent again, and report what its log says";
                out.unavailable(&agent::JOURNAL_SIZE, self.entity, Reason::new(text, cure).by_failure());
            }
            Place::Failing { path, reason, ticks_at_risk } => {
                let text =
                    format!("{} cannot be written, {ticks_at_risk} ticks are in memory only: {reason}", path.display());
                let cure = "make room there; the journal goes on by itself";
                out.unavailable(&agent::JOURNAL_SIZE, self.entity, Reason::new(text, cure).by_failure());
            }
        }
    }

    /// Lets the thread keep what it has and waits for it, at most this long.
    pub(super) fn finish(mut self, within: Duration) {
        self.close();
        match self.ended.recv_timeout(within) {
            Err(mpsc::RecvTimeoutError::Timeout) => {
                tracing::error!("the journal's disk hangs; the last ticks are not in it");
            }
            // The sender is gone with the thread.
            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
                    tracing::error!("the journal's thread could not be joined");
                }
            }
        }
    }

    fn close(&self) {
        self.shared.queue().closed = true;
        self.shared.changed.notify_one();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.close();
    }
}

/// How a tick is kept.
type Keep = fn(&mut Journal, &mut Ship, Batch);

fn run(mut journal: Journal, mut ship: Ship, shared: &Shared, _end: &Sender<()>, keep: Keep) {
    // What a former agent left need not wait for the first tick.
    ship.settle(&journal);
    loop {
        let mut queue = shared.queue();
        while queue.waiting.is_empty() && !queue.closed && !queue.settled {
            queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let closed = queue.closed;
        let settled = std::mem::take(&mut queue.settled);
        let batch = queue.waiting.pop_front();
        drop(queue);
        let step = || match batch {
            Some(batch) => {
                keep(&mut journal, &mut ship, batch);
                ship.settle(&journal);
                true
            }
            None if closed => {
                ship.finish(&mut journal, DELIVER_WITHIN);
                false
            }
            None => {
                debug_assert!(settled, "there is a reason to be awake");
                ship.settle(&journal);
                true
            }
        };
        // What the panic left half done is never written: the journal on disk ends with the tick before.
        match catch_unwind(AssertUnwindSafe(step)) {
            Ok(true) => {}
            Ok(false) => return,
            Err(panic) => {
                let said = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let said = said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                tracing::error!(said, "the journal's thread panicked; nothing is kept any more");
                journal.reader().declare_dead(format!("the journal's thread panicked: {said}"));
                let mut queue = shared.queue();
                queue.dead = true;
                return queue.waiting.drain(..).for_each(release);
            }
        }
    }
}

/// Lets the SDKs go on where nobody keeps what they sent: the live view has it, and they would send it for ever.
fn release(batch: Batch) {
    batch.receipts.into_iter().for_each(Receipt::commit);
}

/// Keeps one tick and tells the SDKs. The totals, the sessions and the tick are in one transaction, so a receipt is never
/// given for what a kill could take back, and what was kept is never asked for again.
fn keep(journal: &mut Journal, ship: &mut Ship, batch: Batch) {
    failpoint::pass(Point::TickTaken);
    let Batch { tick, table, receipts, ledgers, findings, judged, last } = batch;
    ship.expect(Arc::clone(&table), findings.clone(), last);
    let sessions: Vec<_> =
        receipts.iter().filter_map(Receipt::claim).map(|(session, seq)| Progress { session, seq }).collect();
    let commit =
        Commit { tick: &tick, table: &table, sessions: &sessions, ledgers: &ledgers, findings: &findings, judged };
    let kept = journal.commit(&commit, ship);
    for receipt in receipts {
        match kept {
            Kept::OnDisk => receipt.commit_durably(),
            Kept::InMemory => receipt.commit(),
        }
    }
}

/// Two neighbours as one: the later's values, the earlier's where it has none, the gains of both.
fn join(older: Batch, newer: Batch) -> Batch {
    let mut tick = (*newer.tick).clone();
    tick.dt_ns += older.tick.dt_ns;
    let missing: Vec<(SeriesId, Number)> =
        older.tick.values.iter().filter(|(series, _)| newer.tick.value(*series).is_none()).copied().collect();
    tick.values.extend(missing);
    for (series, gained) in &older.tick.histograms {
        match (tick.histograms.iter_mut().find(|(known, _)| known == series), gained) {
            (Some((_, Histogram::Hdr(all))), Histogram::Hdr(gained)) => {
                let mut sum = SparseHdr::new();
                sum.add(all);
                sum.add(gained);
                *all = sum;
            }
            // Bounds may differ between the two: each stays what it was.
            _ => tick.histograms.push((*series, gained.clone())),
        }
    }
    tick.seal();
    let mut receipts = older.receipts;
    receipts.extend(newer.receipts);
    let mut ledgers = newer.ledgers;
    for older in older.ledgers {
        match ledgers.iter_mut().find(|newer| newer.entity == older.entity && newer.kind == older.kind) {
            Some(newer) => newer.ledger.add(&older.ledger),
            None => ledgers.push(older),
        }
    }
    // What was judged were the two, each for itself.
    let (findings, judged, last) = (newer.findings, false, newer.last);
    Batch { tick: Arc::new(tick), table: newer.table, receipts, ledgers, findings, judged, last }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfwatch_model::metrics::server;
    use perfwatch_store::Amount;

    fn batch(table: &mut SeriesTable, count: u64) -> Batch {
        let shop = table.entity(Entity::new(EntityKind::Server, "shop/1"));
        let requests = table.series(&server::REQUESTS_STARTED, shop, &[]);
        let latency = table.series(&server::REQUEST_DURATION, shop, &[]);
        let mut gained = SparseHdr::new();
        gained.record(count);
        let tick = Tick {
            dt_ns: 1_000_000_000,
            values: vec![(requests, Number::Int(count))],
            histograms: vec![(latency, Histogram::Hdr(gained))],
            ..Tick::default()
        };
        Batch {
            tick: Arc::new(tick),
            table: Arc::new(table.clone()),
            receipts: vec![Receipt::detached()],
            ledgers: Vec::new(),
            findings: Vec::new(),
            judged: true,
            last: false,
        }
    }

    #[test]
    fn ticks_that_had_to_be_joined_add_up_to_the_same() {
        let mut table = SeriesTable::new();
        let batches: Vec<_> = (1..=5).map(|count| batch(&mut table, count)).collect();
        let joined = batches.into_iter().reduce(join).expect("five");
        assert_eq!((joined.tick.dt_ns, joined.receipts.len()), (5_000_000_000, 5));
        let mut journal = Journal::in_memory(0);
        let reader = journal.reader();
        let mut ship = Ship::start(&Plan::none(), &mut journal, || {}).expect("nothing to connect to");
        keep(&mut journal, &mut ship, joined);
        let totals = reader.query(None, None);
        let amounts: Vec<_> = totals.iter().map(|total| &total.amount).collect();
        let [Amount::Counter(5), Amount::Histogram(all)] = amounts.as_slice() else { panic!("{amounts:?}") };
        assert_eq!((all.count(), all.hdr.sum()), (5, 15));
    }

    #[test]
    fn a_thread_that_panics_is_told_of_and_holds_nobody_up() {
        let mut table = SeriesTable::new();
        let journal = Journal::in_memory(0);
        let reader = journal.reader();
        let keeper = Keeper::start_with(journal, &Plan::none(), &mut table, |_, _, _| panic!("a broken tick"))
            .expect("a thread");
        keeper.keep(batch(&mut table, 1));
        assert!(matches!(keeper.ended.recv(), Err(mpsc::RecvError)), "the thread ends");
        let mut told = AgentView::default();
        keeper.tell(&mut told);
        assert_eq!(told.store, "memory (the journal's thread panicked: a broken tick)");
        assert_eq!(reader.status().place.to_string(), told.store, "for queries as well");
        let mut tick = Tick::default();
        keeper.sample(&mut table, &mut tick);
        let [absence] = tick.absent.as_slice() else { panic!("{:?}", tick.absent) };
        assert!(absence.reason.text.contains("nothing is kept any more"), "{absence:?}");
        (2..100).for_each(|count| keeper.keep(batch(&mut table, count)));
        assert!(keeper.shared.queue().waiting.is_empty());
    }

    #[test]
    fn what_was_handed_over_is_kept_before_the_end() {
        let mut table = SeriesTable::new();
        let journal = Journal::in_memory(0);
        let reader = journal.reader();
        let keeper = Keeper::start(journal, &Plan::none(), &mut table).expect("a thread");
        for count in 1..=50 {
            keeper.keep(batch(&mut table, count));
        }
        keeper.finish(Duration::from_mins(1));
        let total = reader.query(Some(server::REQUESTS_STARTED.name), None);
        assert_eq!(total[0].amount, Amount::Counter(50));
    }
}
