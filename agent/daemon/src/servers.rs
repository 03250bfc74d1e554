//! Which servers there are, and what becomes of what they send.

mod gpus;
mod places;
mod processes;

use std::collections::HashMap;

use perfwatch_model::snapshot::{PlaceView, ServerView};
use perfwatch_model::{EntityId, GpuTick, SeriesTable, Sharing, Tick};
use perfwatch_probes::ProcessList;
use perfwatch_probes::gpu::GpuDevice;

use crate::config::Watch;
use crate::intake::Intake;
use crate::probe_socket::{ProbeSocket, Receipt, ServerBook};
pub(crate) use gpus::Owners;
use places::Places;
pub(crate) use places::{container, group_path, pod};
use processes::WatchedProcesses;

/// Every server that is watched: SDK clients, senders of OTLP, and processes that the configuration names.
pub(crate) struct Servers {
    socket: ProbeSocket,
    book: ServerBook,
    processes: WatchedProcesses,
    intake: Intake,
    places: Places,
    /// What the probes were last told.
    told: Vec<(EntityId, Vec<u32>)>,
    /// The same by pid.
    by_pid: HashMap<u32, EntityId>,
    /// GPUs, and the servers that were given each.
    given: Vec<(EntityId, Vec<EntityId>)>,
    /// Malformed input and the like is counted by the socket; what does not fit the table, by the book.
    dropped: [(&'static str, u64); 10],
}

impl Servers {
    pub(crate) fn new(socket: ProbeSocket, watch: Vec<Watch>, intake: Intake) -> Self {
        Self {
            socket,
            book: ServerBook::new(),
            processes: WatchedProcesses::new(watch),
            intake,
            places: Places::default(),
            told: Vec::new(),
            by_pid: HashMap::new(),
            given: Vec::new(),
            dropped: [
                ("probe_malformed", 0),
                ("probe_oversized", 0),
                ("probe_refused", 0),
                ("probe_series", 0),
                ("probe_names", 0),
                ("probe_servers", 0),
                ("probe_late", 0),
                ("otlp_rejected", 0),
                ("otlp_series", 0),
                ("otlp_deferred", 0),
            ],
        }
    }

    /// Takes in who came and went, and looks for processes to watch in a new process list.
    pub(crate) fn discover(&mut self, list: Option<&ProcessList>, table: &mut SeriesTable) {
        self.take_in(table);
        let mut instrumented: Vec<u32> = self.book.served().flat_map(|served| pids(&served.workers)).collect();
        instrumented.extend(self.intake.pids().into_iter().flat_map(|(_, pids)| pids));
        self.processes.discover(list, &instrumented, table);
    }

    /// Other processes to watch, from the next list of processes on.
    pub(crate) fn watch(&mut self, wanted: Vec<Watch>) {
        self.processes.want(wanted);
    }

    fn take_in(&mut self, table: &mut SeriesTable) {
        while let Ok(event) = self.socket.events.try_recv() {
            self.book.take(event, table);
        }
    }

    /// Servers and their pids, when they are others than at the last call.
    pub(crate) fn changed_watch_set(&mut self) -> Option<&[(EntityId, Vec<u32>)]> {
        let served: Vec<_> = self.book.served().collect();
        let instrumented = served.iter().map(|served| (served.entity, pids(&served.workers)));
        let now: Vec<_> = instrumented.chain(self.processes.pids()).chain(self.intake.pids()).collect();
        self.places.refresh(now.iter().map(|(entity, pids)| {
            let served = served.iter().find(|served| served.entity == *entity);
            (*entity, &pids[..], served.map_or(&[][..], |served| &served.workers))
        }));
        if now == self.told {
            return None;
        }
        self.by_pid = gpus::by_pid(&now);
        self.told = now;
        Some(&self.told)
    }

    /// The pids of a server, as this agent sees them.
    pub(crate) fn pids(&self, entity: EntityId) -> Vec<u32> {
        self.told.iter().find(|(known, _)| *known == entity).map_or_else(Vec::new, |(_, pids)| pids.clone())
    }

    /// What the GPUs did in the tick that was just sampled, and which servers are on each.
    pub(crate) fn gpus<'a>(
        &mut self,
        devices: impl Iterator<Item = &'a GpuDevice>,
        processes: Option<&ProcessList>,
    ) -> Vec<GpuTick> {
        let devices: Vec<&GpuDevice> = devices.collect();
        let wanted = || self.told.iter().map(|(entity, _)| (*entity, self.places.given(*entity)));
        self.given = devices.iter().map(|device| (device.entity, gpus::given(device, &devices, wanted()))).collect();
        let owners = self.owners(processes);
        let tick = |(device, (_, given)): (&&GpuDevice, &(_, Vec<EntityId>))| {
            let mut tick = gpus::gpu_tick(device, &owners, given);
            // Also while the driver says nothing: its instances stand beside it, and its time is theirs.
            if devices.iter().any(|part| part.parent.as_ref() == Some(&device.uuid)) {
                tick.sharing = Sharing::Mig;
            }
            tick
        };
        devices.iter().zip(&self.given).map(tick).collect()
    }

    /// Whether a server was given a GPU, as of the last tick.
    pub(crate) fn was_given(&self, server: EntityId, gpu: EntityId) -> bool {
        self.given.iter().any(|(device, servers)| *device == gpu && servers.contains(&server))
    }

    /// Finds the server that a process belongs to.
    pub(crate) fn owners<'a>(&'a self, processes: Option<&'a ProcessList>) -> Owners<'a> {
        Owners::new(&self.by_pid, processes)
    }

    /// What a server runs in; its GPUs are for the caller to add.
    pub(crate) fn place(&self, entity: EntityId) -> PlaceView {
        self.places.of(entity).cloned().unwrap_or_default()
    }

    /// Whether a server that is watched without the SDK is there; `None` for an SDK client.
    pub(crate) fn watched_process(&self, entity: EntityId) -> Option<bool> {
        self.processes.is_there(entity)
    }

    /// Adds to a tick what servers sent for it. The receipts are to be committed once the tick is kept.
    #[must_use = "the SDKs wait for their receipts"]
    pub(crate) fn close(&mut self, tick: &mut Tick, table: &mut SeriesTable) -> Vec<Receipt> {
        self.take_in(table);
        let receipts = self.book.close(tick, table);
        let own: Vec<EntityId> = self.book.served().map(|served| served.entity).collect();
        self.intake.close(tick, table, &|entity| own.contains(&entity));
        receipts
    }

    /// Forgets watched processes that have been gone for long enough; the book does so for its own servers.
    pub(crate) fn retire(&mut self, mono_ns: u64, table: &mut SeriesTable) {
        self.processes.retire(mono_ns, table);
        self.intake.retire(mono_ns, table);
    }

    /// Adds to a server's view what it sent by OTLP.
    pub(crate) fn complete(&self, entity: EntityId, view: &mut ServerView) {
        self.intake.complete(entity, view);
    }

    /// SDK sessions that are connected.
    pub(crate) fn sessions(&self) -> u64 {
        self.socket.counters.read().connected
    }

    /// What had to be dropped since the start, by reason.
    pub(crate) fn dropped(&mut self) -> &[(&'static str, u64)] {
        let counts = self.socket.counters.read();
        let otlp = self.intake.counts();
        let now = [
            counts.malformed,
            counts.oversized,
            counts.refused,
            counts.series_dropped,
            self.book.series_refused(),
            self.book.servers_refused(),
            self.book.flushes_late(),
            otlp.rejected,
            otlp.series,
            otlp.deferred,
        ];
        for ((_, count), now) in self.dropped.iter_mut().zip(now) {
            *count = now;
        }
        &self.dropped
    }
}

/// The pids of workers as this agent sees them, sorted. A worker in a pid namespace that it cannot see has none here.
fn pids(workers: &[crate::probe_socket::WorkerUsage]) -> Vec<u32> {
    let mut pids: Vec<u32> = workers.iter().filter_map(|worker| worker.peer.pid).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}
