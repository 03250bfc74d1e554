//! Merges the flushes of all workers of a server into its part of a tick.
//!
//! A server is (service, instance); each of its sessions is one process. Counters, distributions and occupancy add up.
//! Which tick a flush belongs to is decided by its end: what comes after its tick was closed still enters the running totals
//! and the exported distributions, never a closed tick's slots.

mod catalog;
mod gained;
mod inside;
mod slots;
mod slow;
mod totals;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use perfwatch_model::tick::{SLOT_NS, SLOTS, ServerTick};
use perfwatch_model::{Entity, EntityId, EntityKind, SeriesTable, Stage, Tick};
use perfwatch_store::failpoint::{self, Point};
use perfwatch_wire::limits::SESSION_BYTES;
use perfwatch_wire::message::{self, ControlGroup, Flush};

use self::catalog::Catalog;
use self::inside::{Inside, Told};
use self::slots::Worker;
use self::totals::Totals;
use super::{Delivery, Event, Peer, Receipt};

/// A flush that covers more than this was made after an absence: its counts enter the totals and not the tick, where they
/// would look like a burst. The SDK keeps slots for as long.
const ON_TIME_NS: u64 = 2_000_000_000;
/// A flush that ends this much after the tick comes from another clock (a time namespace) or means harm. It enters the totals
/// at once: waiting for its tick it would wait for ever.
const AHEAD_NS: u64 = 5_000_000_000;
/// A slow request says itself when it ended: one that a late flush brings, or the first after an absence, is shown as long as
/// screens look back. Counts beside it would be another second's.
const SLOW_FOR_NS: u64 = 120_000_000_000;
/// Ticks for which a server without sessions is kept: a restart within a minute goes on with the same series.
const KEEP_TICKS: u32 = 60;
/// Flushes that wait for the tick that they belong to; an SDK sends one per second.
const MAX_WAITING: usize = 64;

type SessionId = [u8; SESSION_BYTES];

/// What one process of a server says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerUsage {
    /// Who it is.
    pub peer: Arc<Peer>,
    /// CPU time since its session began, in nanoseconds; `None` until a flush said so.
    pub cpu_ns: Option<u64>,
    /// Time its threads waited for a CPU since its session began, in nanoseconds; `None` until a flush said so.
    pub run_delay_ns: Option<u64>,
    /// CPUs its threads may use, as a kernel list; empty until a flush said so.
    pub cpus_allowed: String,
    /// Threads alive.
    pub threads: u32,
    /// What its control group got in the time that its newest flush covers, seen from inside; `None` where it sees none.
    /// Processes in the same group say the same.
    pub control_group: Option<ControlGroup>,
}

/// A server and its processes, for the probe that measures what they get.
#[derive(Clone, Debug, PartialEq)]
pub struct Served {
    /// The server.
    pub entity: EntityId,
    /// Its connected processes.
    pub workers: Vec<WorkerUsage>,
}

#[derive(Debug)]
struct Session {
    usage: WorkerUsage,
    connected: bool,
    /// Start of its first flush: before it, the session says nothing about the server.
    since_ns: Option<u64>,
    waiting: VecDeque<(Box<Flush>, Receipt)>,
    in_flight: [u64; Stage::COUNT],
}

#[derive(Debug)]
struct Server {
    entity: EntityId,
    sessions: HashMap<SessionId, Session>,
    totals: Totals,
    inside: Inside,
    stage_names: Arc<[String]>,
    idle_ticks: u32,
}

/// Servers known at once, those that left a minute ago included. A thousand on one machine is beyond anything real; who
/// joins under ever new names must not fill the memory.
const MAX_SERVERS: usize = 1_024;

/// All servers that speak to this agent.
#[derive(Debug, Default)]
pub struct ServerBook {
    servers: BTreeMap<(String, String), Server>,
    catalog: Catalog,
    flushes_late: u64,
    refused: u64,
}

impl ServerBook {
    /// An empty book.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what happened on the probe socket.
    pub fn take(&mut self, event: Event, table: &mut SeriesTable) {
        match event {
            Event::Joined(peer) => match self.session(&peer, table) {
                Some(session) => session.connected = true,
                None => self.refused += 1,
            },
            Event::Left(peer) => {
                let server = self.servers.get_mut(&key(&peer));
                if let Some(session) = server.and_then(|server| server.sessions.get_mut(&peer.session)) {
                    // A newer connection of the same session joined before the older one was found dead.
                    session.connected = !Arc::ptr_eq(&session.usage.peer, &peer);
                }
            }
            Event::Flush(Delivery { peer, flush, receipt }) => {
                if let Some(session) = self.session(&peer, table) {
                    // One that joined while the book was full gets in with a later flush.
                    session.connected |= Arc::ptr_eq(&session.usage.peer, &peer);
                    if session.waiting.len() < MAX_WAITING {
                        session.waiting.push_back((flush, receipt));
                    } // Else the receipt drops, and the SDK sends it again.
                } else {
                    receipt.refuse(&format!("this agent watches {MAX_SERVERS} servers already"));
                }
            }
        }
    }

    /// The peer's session; `None` when its server would be one too many.
    fn session(&mut self, peer: &Arc<Peer>, table: &mut SeriesTable) -> Option<&mut Session> {
        let key = key(peer);
        if self.servers.len() >= MAX_SERVERS && !self.servers.contains_key(&key) {
            return None;
        }
        let server = self.servers.entry(key).or_insert_with(|| {
            let (service, instance) = (&peer.hello.service, &peer.hello.instance);
            let entity = Entity::new(EntityKind::Server, format!("{service}/{instance}"))
                .with("service.name", service.clone())
                .with("service.instance.id", instance.clone());
            let entity = table.entity(entity);
            Server {
                entity,
                sessions: HashMap::new(),
                totals: Totals::new(entity, table),
                inside: Inside::new(entity),
                stage_names: Arc::default(),
                idle_ticks: 0,
            }
        });
        server.idle_ticks = 0;
        let session = server.sessions.entry(peer.session).or_insert_with(|| Session {
            usage: WorkerUsage {
                peer: Arc::clone(peer),
                cpu_ns: None,
                run_delay_ns: None,
                cpus_allowed: String::new(),
                threads: 0,
                control_group: None,
            },
            connected: false,
            since_ns: None,
            waiting: VecDeque::new(),
            in_flight: [0; Stage::COUNT],
        });
        if !session.connected {
            session.usage.peer = Arc::clone(peer);
        }
        Some(session)
    }

    /// Closes the servers' part of the tick that ends at `tick.end`: appends their [`ServerTick`]s, running totals and
    /// distributions, and returns the receipts to commit once the tick is kept.
    ///
    /// `tick.values` and `tick.histograms` are appended to unsorted; whoever closes the tick sorts them.
    #[must_use = "the SDKs wait for their receipts"]
    pub fn close(&mut self, tick: &mut Tick, table: &mut SeriesTable) -> Vec<Receipt> {
        let end_ns = tick.end.mono_ns;
        let mut receipts = Vec::new();
        let mut gone = Vec::new();
        for (key, server) in &mut self.servers {
            let mut told = Vec::new();
            let closed =
                server.close(end_ns, table, &mut self.catalog, &mut receipts, &mut self.flushes_late, &mut told);
            // Also by what a process calls itself: one that was found that way has the probe's series.
            let out_of_sight = |session: &Session| session.usage.peer.pid.is_none();
            if server.sessions.values().all(out_of_sight) {
                server.inside.report(&told, tick, table);
            }
            server.sessions.retain(|_, session| session.connected || !session.waiting.is_empty());
            tick.servers.push(closed);
            server.totals.report(tick);
            server.idle_ticks = if server.sessions.is_empty() { server.idle_ticks + 1 } else { 0 };
            if server.idle_ticks > KEEP_TICKS {
                gone.push(key.clone());
            }
        }
        for key in gone {
            if let Some(server) = self.servers.remove(&key) {
                table.retire(server.entity);
            }
        }
        receipts
    }

    /// The servers that are connected and their processes.
    pub fn served(&self) -> impl Iterator<Item = Served> + '_ {
        self.servers.values().map(|server| Served {
            entity: server.entity,
            workers: server.sessions.values().filter(|s| s.connected).map(|s| s.usage.clone()).collect(),
        })
    }

    /// Flushes whose tick was closed before they came, or never comes; they are in the totals only.
    pub fn flushes_late(&self) -> u64 {
        self.flushes_late
    }

    /// Sessions whose server would have been one too many.
    pub fn servers_refused(&self) -> u64 {
        self.refused
    }

    /// Distributions of servers' own that were dropped: their name is not one that metrics may have, or there are too
    /// many.
    pub fn series_refused(&self) -> u64 {
        self.catalog.refused()
    }
}

impl Server {
    fn close(
        &mut self,
        end_ns: u64,
        table: &mut SeriesTable,
        catalog: &mut Catalog,
        receipts: &mut Vec<Receipt>,
        flushes_late: &mut u64,
        told: &mut Vec<Told>,
    ) -> ServerTick {
        let start_ns = end_ns.saturating_sub(SLOT_NS * SLOTS as u64);
        let mut tick = ServerTick::empty(self.entity);
        let mut workers: Vec<Worker> = Vec::with_capacity(self.sessions.len());
        for session in self.sessions.values_mut() {
            let mut worker = Worker::default();
            let mut own = Told::default();
            let ahead = |flush: &Flush| flush.end_ns > end_ns.saturating_add(AHEAD_NS);
            while session.waiting.front().is_some_and(|(flush, _)| flush.end_ns <= end_ns || ahead(flush)) {
                let Some((flush, mut receipt)) = session.waiting.pop_front() else { break };
                worker.add(&flush, start_ns);
                self.totals.add(&flush, &mut self.stage_names, catalog, table);
                failpoint::pass(Point::FlushMerged);
                if !ahead(&flush) {
                    let shown = |slow: &&message::SlowRequest| slow.end_ns.saturating_add(SLOW_FOR_NS) > end_ns;
                    tick.slow.extend(flush.slow.iter().filter(shown).map(slow::request));
                }
                if flush.end_ns <= start_ns || ahead(&flush) {
                    *flushes_late += 1;
                } else if flush.end_ns - flush.start_ns <= ON_TIME_NS {
                    count(&mut tick, &flush);
                }
                own.add(&flush);
                session.note(&flush);
                receipt.merged();
                receipts.push(receipt);
            }
            told.push(own);
            worker.expected = session.connected.then_some(session.since_ns).flatten();
            for (sum, n) in tick.in_flight.iter_mut().zip(session.in_flight) {
                *sum = sum.saturating_add(if session.connected { n } else { 0 });
            }
            let batch = session.usage.peer.hello.max_batch_size;
            tick.max_batch_size = tick.max_batch_size.max((batch > 0).then_some(batch));
            workers.push(worker);
        }
        slow::keep_slowest(&mut tick.slow, start_ns);
        tick.slots = slots::combine(&workers, start_ns);
        tick.combined = workers.iter().filter(|worker| worker.reported()).count() > 1;
        tick.custom_stages = Arc::clone(&self.stage_names);
        self.totals.add_states(&tick.slots);
        self.totals.set_in_flight(tick.in_flight.iter().fold(0, |sum: u64, n| sum.saturating_add(*n)));
        tick
    }
}

impl Session {
    fn note(&mut self, flush: &Flush) {
        self.since_ns.get_or_insert(flush.start_ns);
        self.in_flight = [0; Stage::COUNT];
        for entry in &flush.in_flight {
            let sum = &mut self.in_flight[entry.stage as usize];
            *sum = sum.saturating_add(entry.count);
        }
        let usage = &mut self.usage;
        let more = |total: Option<u64>, gained: Option<u64>| match (total, gained) {
            (Some(total), Some(gained)) => Some(total.saturating_add(gained)),
            (total, gained) => gained.or(total),
        };
        usage.cpu_ns = more(usage.cpu_ns, flush.cpu_ns);
        usage.run_delay_ns = more(usage.run_delay_ns, flush.run_delay_ns);
        usage.threads = flush.threads;
        usage.control_group.clone_from(&flush.control_group);
        usage.cpus_allowed.clone_from(&flush.cpus_allowed);
    }
}

/// What names a server.
fn key(peer: &Peer) -> (String, String) {
    (peer.hello.service.clone(), peer.hello.instance.clone())
}

/// Adds the counts of a flush that came in time to the tick.
fn count(tick: &mut ServerTick, flush: &Flush) {
    for (sum, gained) in [
        (&mut tick.started, flush.requests_started),
        (&mut tick.completed, flush.requests_completed),
        (&mut tick.failed, flush.requests_failed),
        (&mut tick.cancelled, flush.requests_cancelled),
        (&mut tick.abandoned, flush.requests_abandoned),
        (&mut tick.dispatches, flush.dispatches),
        (&mut tick.dispatches_ready2, flush.dispatches_ready2),
    ] {
        *sum = sum.saturating_add(gained);
    }
    for histogram in flush.histograms.iter().filter(|histogram| histogram.name == "batch.size") {
        if let Some(sizes) = totals::sparse(histogram) {
            tick.batch_size.add(&sizes);
        }
    }
}

#[cfg(test)]
mod tests;
