//! Makes a snapshot of a tick and its judgement.

mod absences;
mod gpu;
pub(crate) mod scene;
mod slowest;

use perfwatch_diagnose::{Judgement, Recollection};
use perfwatch_model::snapshot::{AgentView, PlaceView, SCHEMA_VERSION};
use perfwatch_model::{Entity, EntityId, EntityKind, MetricDef, Reason, SeriesTable, Snapshot, Tick};

use crate::scheduler::{ProbeSet, TICK_NS};
use crate::servers::Servers;
use crate::time::rfc3339;
use absences::Absences;
use gpu::GpuHandles;
use scene::SceneWriter;
use slowest::Slowest;

/// Ledgers, latencies and rates cover at most this much.
const WINDOW_S: f64 = 10.0;

/// Makes of a tick and its judgement what both the agent and a replay can tell.
#[derive(Default)]
pub(crate) struct Teller {
    gpus: GpuHandles,
    slowest: Slowest,
}

impl Teller {
    /// A snapshot without what no tick holds: names, pids, places, what cannot be read, the agent.
    pub(crate) fn tell(&mut self, tick: &Tick, table: &SeriesTable, judgement: &Judgement) -> Snapshot {
        self.gpus.refresh(tick, table);
        self.slowest.update(tick, (WINDOW_S * 1e9) as u64);
        let mut devices = self.gpus.told(tick, table);
        for gpu in &mut devices {
            gpu.ledger = judgement.gpu_ledger(&gpu.id);
        }
        devices.extend(judgement.devices());
        let mut servers = judgement.servers(|_| Vec::new());
        for (view, judged) in servers.iter_mut().zip(&judgement.servers) {
            view.slowest = self.slowest.of(judged.entity);
        }
        Snapshot {
            schema_version: SCHEMA_VERSION,
            time: rfc3339(tick.end.wall_ns),
            window_s: judgement.window_s(),
            host: judgement.host(""),
            servers,
            devices,
            findings: judgement.findings.clone(),
            undecided: judgement.undecided_rules(),
            unavailable: Vec::new(),
            agent: AgentView::default(),
        }
    }
}

/// Remembers what does not change from tick to tick.
pub(crate) struct Assembler {
    host_name: String,
    started_mono_ns: u64,
    absences: Absences,
    teller: Teller,
    scenes: SceneWriter,
}

impl Assembler {
    /// `closed` are the metrics of probes that could not be opened; `scenes` writes what is kept of the screen.
    pub(crate) fn new(
        host_name: String,
        started_mono_ns: u64,
        host: EntityId,
        closed: impl Iterator<Item = (&'static MetricDef, Reason)>,
        scenes: SceneWriter,
    ) -> Self {
        Self { host_name, started_mono_ns, absences: Absences::new(host, closed), teller: Teller::default(), scenes }
    }

    /// What ticks tell, and with it everything but what the agent knows of itself, which the caller fills in.
    pub(crate) fn snapshot(
        &mut self,
        tick: &Tick,
        table: &SeriesTable,
        judgement: &Judgement,
        servers: &Servers,
        probes: &ProbeSet,
        covered_ns: u64,
    ) -> (Snapshot, Snapshot) {
        self.absences.update(tick, table);
        let told = self.teller.tell(tick, table, judgement);
        let mut shown = told.clone();
        if judgement.servers.is_empty() {
            // Without a server nothing has a window but the machine's history.
            shown.window_s = (covered_ns as f64 / 1e9).min(WINDOW_S);
        }
        shown.host.name.clone_from(&self.host_name);
        shown.devices.retain(|device| device.gpu.is_none());
        let mut gpus = self.teller.gpus.devices(tick, table, probes, &servers.owners(probes.processes()));
        for gpu in &mut gpus {
            gpu.ledger = judgement.gpu_ledger(&gpu.id);
        }
        shown.devices.splice(0..0, gpus);
        complete_servers(&mut shown, tick, table, judgement, servers, &self.teller.gpus);
        shown.unavailable = self.absences.views(table);
        shown.agent = AgentView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: tick.end.mono_ns.saturating_sub(self.started_mono_ns) as f64 / 1e9,
            interval_s: TICK_NS as f64 / 1e9,
            store: "memory".to_owned(),
            ..AgentView::default()
        };
        (told, shown)
    }

    /// What is to be kept with a tick, so that a replay shows it as it was shown.
    pub(crate) fn scene(
        &mut self,
        told: Snapshot,
        shown: &Snapshot,
        known: &Recollection,
        table: &SeriesTable,
    ) -> Vec<u8> {
        let lives = |entity: &Entity| matches!(entity.kind, EntityKind::Server | EntityKind::Gpu);
        let living = table.entities().filter(|(_, entity)| lives(entity)).map(|(_, entity)| entity.to_string());
        self.scenes.write(told, shown, &living.collect::<Vec<_>>(), known)
    }
}

fn complete_servers(
    shown: &mut Snapshot,
    tick: &Tick,
    table: &SeriesTable,
    judgement: &Judgement,
    servers: &Servers,
    gpus: &GpuHandles,
) {
    for (view, judged) in shown.servers.iter_mut().zip(&judgement.servers) {
        view.pids = servers.pids(judged.entity);
        view.pid = view.pids.first().copied();
        if let Some(live) = servers.watched_process(judged.entity) {
            "process".clone_into(&mut view.kind);
            view.live = live;
        }
        let on = tick
            .gpus
            .iter()
            .filter(|gpu| gpu.servers.contains(&judged.entity) || servers.was_given(judged.entity, gpu.entity));
        let gpus = gpus.named(&on.map(|gpu| gpu.entity).collect::<Vec<_>>(), table);
        let place = PlaceView { gpus, ..servers.place(judged.entity) };
        view.place = (place != PlaceView::default()).then_some(place);
        servers.complete(judged.entity, view);
    }
}
