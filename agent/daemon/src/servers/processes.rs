//! Processes that are watched as servers without using the SDK.

use perfwatch_model::{Entity, EntityId, EntityKind, SeriesTable};
use perfwatch_probes::{ProcessList, ProcessRow};

use crate::config::Watch;

/// How long a process that has ended stays on the screen.
const LINGER_NS: u64 = 60_000_000_000;

struct Watched {
    entity: EntityId,
    pid: u32,
    start: u64,
    /// When it was first missed.
    gone: Gone,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Gone {
    No,
    Just,
    Since(u64),
}

/// The processes that `watch` names. A server of this kind is one process and what it started: its CPU ledger is whole, and
/// the idle part of it is `idle_unknown`, because nothing tells what its requests do.
pub(super) struct WatchedProcesses {
    wanted: Vec<Watch>,
    watched: Vec<Watched>,
}

impl WatchedProcesses {
    pub(super) fn new(wanted: Vec<Watch>) -> Self {
        Self { wanted, watched: Vec::new() }
    }

    /// `instrumented` are the pids that speak for themselves; they are not watched a second time.
    pub(super) fn discover(&mut self, list: Option<&ProcessList>, instrumented: &[u32], table: &mut SeriesTable) {
        self.watched.retain(|watched| {
            let stays = !instrumented.contains(&watched.pid);
            if !stays {
                table.retire(watched.entity);
            }
            stays
        });
        let Some(list) = list.filter(|list| !self.wanted.is_empty() && !list.rows.is_empty()) else { return };
        for watched in &mut self.watched {
            let there = list.get(watched.pid).is_some_and(|row| row.start == watched.start && row.state != 'Z');
            watched.gone = match (there, watched.gone) {
                (true, _) => Gone::No,
                (false, Gone::No) => Gone::Just,
                (false, gone) => gone,
            };
        }
        for row in &list.rows {
            let known = self.watched.iter().any(|watched| watched.pid == row.pid && watched.start == row.start);
            if known || instrumented.contains(&row.pid) || !self.wants(row) || self.is_inside_another(row, list) {
                continue;
            }
            let entity = Entity::new(EntityKind::Server, format!("{}/{}", row.name, row.pid))
                .with("service.name", row.name.clone())
                .with("service.instance.id", row.pid.to_string())
                .with("process.pid", row.pid);
            let entity = table.entity(entity);
            tracing::info!(pid = row.pid, name = row.name, "process watched");
            self.watched.push(Watched { entity, pid: row.pid, start: row.start, gone: Gone::No });
        }
    }

    fn wants(&self, row: &ProcessRow) -> bool {
        row.state != 'Z'
            && self.wanted.iter().any(|watch| match watch {
                Watch::Pid(pid) => *pid == row.pid,
                Watch::Name(name) => *name == row.name,
            })
    }

    /// A worker that its parent started belongs to the parent's server.
    fn is_inside_another(&self, row: &ProcessRow, list: &ProcessList) -> bool {
        let mut parent = row.parent;
        // The list is a snapshot of a changing tree; the bound keeps a pid that was given out anew from closing a circle.
        for _ in 0..32 {
            let Some(above) = list.get(parent) else { return false };
            if self.wants(above) {
                return true;
            }
            parent = above.parent;
        }
        false
    }

    pub(super) fn pids(&self) -> impl Iterator<Item = (EntityId, Vec<u32>)> {
        self.watched.iter().map(|watched| (watched.entity, vec![watched.pid]))
    }

    pub(super) fn is_there(&self, entity: EntityId) -> Option<bool> {
        self.watched.iter().find(|watched| watched.entity == entity).map(|watched| watched.gone == Gone::No)
    }

    pub(super) fn retire(&mut self, mono_ns: u64, table: &mut SeriesTable) {
        self.watched.retain_mut(|watched| {
            if watched.gone == Gone::Just {
                watched.gone = Gone::Since(mono_ns);
            }
            let stays = !matches!(watched.gone, Gone::Since(since) if mono_ns.saturating_sub(since) >= LINGER_NS);
            if !stays {
                table.retire(watched.entity);
            }
            stays
        });
    }
}
