//! Makes a snapshot of a tick and its judgement.

mod absences;
mod gpu;
mod gpus_of;
mod slowest;

use perfwatch_diagnose::Judgement;
use perfwatch_model::snapshot::{AgentView, DeviceView, PlaceView, SCHEMA_VERSION, ServerView};
use perfwatch_model::{EntityId, MetricDef, Reason, SeriesTable, Snapshot, Tick};
use perfwatch_probes::ProcessList;

use crate::scheduler::{ProbeSet, TICK_NS};
use crate::servers::Servers;
use crate::time::rfc3339;
use absences::Absences;
use gpu::GpuHandles;
use gpus_of::gpus_of;
use slowest::Slowest;

/// Ledgers, latencies and rates cover at most this much.
const WINDOW_S: f64 = 10.0;

/// Remembers what does not change from tick to tick.
pub(crate) struct Assembler {
    host_name: String,
    started_mono_ns: u64,
    absences: Absences,
    gpus: GpuHandles,
    slowest: Slowest,
}

impl Assembler {
    /// `closed` are the metrics of probes that could not be opened.
    pub(crate) fn new(
        host_name: String,
        started_mono_ns: u64,
        host: EntityId,
        closed: impl Iterator<Item = (&'static MetricDef, Reason)>,
    ) -> Self {
        Self {
            host_name,
            started_mono_ns,
            absences: Absences::new(host, closed),
            gpus: GpuHandles::default(),
            slowest: Slowest::default(),
        }
    }

    /// Everything but what the agent knows of itself, which the caller fills in.
    pub(crate) fn snapshot(
        &mut self,
        tick: &Tick,
        table: &SeriesTable,
        judgement: &Judgement,
        servers: &Servers,
        probes: &ProbeSet,
        covered_ns: u64,
    ) -> Snapshot {
        self.absences.update(tick, table);
        self.gpus.refresh(table);
        self.slowest.update(tick, (WINDOW_S * 1e9) as u64);
        // Without a server nothing has a window but the machine's history.
        let covered = (covered_ns as f64 / 1e9).min(WINDOW_S);
        let window_s = if judgement.servers.is_empty() { covered } else { judgement.window_s() };
        let mut devices = self.gpus.devices(tick, table, probes);
        devices.extend(judgement.devices());
        Snapshot {
            schema_version: SCHEMA_VERSION,
            time: rfc3339(tick.end.wall_ns),
            window_s,
            host: judgement.host(self.host_name.as_str()),
            servers: server_views(judgement, servers, &self.slowest, &devices, probes.processes()),
            devices,
            findings: judgement.findings.clone(),
            undecided: judgement.undecided_rules(),
            unavailable: self.absences.views(table),
            agent: AgentView {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                uptime_s: tick.end.mono_ns.saturating_sub(self.started_mono_ns) as f64 / 1e9,
                interval_s: TICK_NS as f64 / 1e9,
                store: "memory".to_owned(),
                ..AgentView::default()
            },
        }
    }
}

fn server_views(
    judgement: &Judgement,
    servers: &Servers,
    slowest: &Slowest,
    devices: &[DeviceView],
    processes: Option<&ProcessList>,
) -> Vec<ServerView> {
    let all_pids = servers.all_pids();
    let mut views = judgement.servers(|entity| servers.pids(entity));
    for (view, judged) in views.iter_mut().zip(&judgement.servers) {
        view.slowest = slowest.of(judged.entity);
        if let Some(live) = servers.watched_process(judged.entity) {
            "process".clone_into(&mut view.kind);
            view.live = live;
        }
        let gpus = gpus_of(&view.pids, servers.given_gpus(judged.entity), &all_pids, devices, processes);
        let place = PlaceView { gpus, ..servers.place(judged.entity) };
        view.place = (place != PlaceView::default()).then_some(place);
        servers.complete(judged.entity, view);
    }
    views
}
