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
    /// Somebody may be watched whom nobody wants any more.
    changed: bool,
}

impl WatchedProcesses {
    pub(super) fn new(wanted: Vec<Watch>) -> Self {
        Self { wanted, watched: Vec::new(), changed: false }
    }

    /// Other processes from now on. Who is not among them retires with the next list; what was measured of him stays.
    pub(super) fn want(&mut self, wanted: Vec<Watch>) {
        self.changed |= self.wanted != wanted;
        self.wanted = wanted;
    }

    fn drop_unwanted(&mut self, list: &ProcessList, table: &mut SeriesTable) {
        let mut watched = std::mem::take(&mut self.watched);
        watched.retain(|watched| {
            // One that is not in the list has ended, and lingers as those do who were wanted to their end.
            let row = list.get(watched.pid).filter(|row| row.start == watched.start);
            let stays = row.is_none_or(|row| self.wants(row)) && !self.wanted.is_empty();
            if !stays {
                tracing::info!(pid = watched.pid, "process watched no more");
                table.retire(watched.entity);
            }
            stays
        });
        self.watched = watched;
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
        if let Some(list) = list.filter(|list| self.changed && !list.rows.is_empty()) {
            self.drop_unwanted(list, table);
            self.changed = false;
        }
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
            // A pid given out anew while the old process lingers is the same entity: the newcomer takes it over.
            self.watched.retain(|watched| watched.entity != entity);
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn row(pid: u32, parent: u32, name: &str) -> ProcessRow {
        ProcessRow { pid, parent, start: u64::from(pid) * 10, name: name.to_owned(), ..ProcessRow::default() }
    }

    fn list(rows: &[ProcessRow]) -> ProcessList {
        ProcessList { rows: rows.to_vec() }
    }

    fn pids(watched: &WatchedProcesses) -> Vec<u32> {
        watched.pids().flat_map(|(_, pids)| pids).collect()
    }

    #[test]
    fn processes_are_found_by_name_or_pid_and_workers_belong_to_their_parent() {
        let mut table = SeriesTable::new();
        let mut watched = WatchedProcesses::new(vec![Watch::Name("serve".to_owned()), Watch::Pid(9)]);
        let rows = [row(2, 1, "serve"), row(3, 2, "serve"), row(4, 3, "serve"), row(5, 1, "other"), row(9, 1, "odd")];
        watched.discover(Some(&list(&rows)), &[], &mut table);
        watched.discover(Some(&list(&rows)), &[], &mut table);
        assert_eq!(pids(&watched), [2, 9]);
        assert!(table.find_entity(EntityKind::Server, "serve/2").is_some());
    }

    #[test]
    fn a_process_that_speaks_for_itself_is_not_watched_twice() {
        let mut table = SeriesTable::new();
        let mut watched = WatchedProcesses::new(vec![Watch::Name("serve".to_owned())]);
        let rows = list(&[row(2, 1, "serve"), row(3, 1, "serve")]);
        watched.discover(Some(&rows), &[3], &mut table);
        assert_eq!(pids(&watched), [2]);
        watched.discover(Some(&rows), &[2, 3], &mut table);
        assert!(pids(&watched).is_empty() && table.find_entity(EntityKind::Server, "serve/2").is_none());
    }

    #[test]
    fn another_wish_retires_who_is_not_in_it_and_keeps_who_is() {
        let mut table = SeriesTable::new();
        let mut watched = WatchedProcesses::new(vec![Watch::Pid(2), Watch::Pid(3)]);
        let rows = list(&[row(2, 1, "serve"), row(3, 1, "other"), row(4, 1, "more")]);
        watched.discover(Some(&rows), &[], &mut table);
        let kept = watched.pids().next().expect("watched").0;
        watched.want(vec![Watch::Name("serve".to_owned()), Watch::Pid(4)]);
        watched.discover(Some(&rows), &[], &mut table);
        assert_eq!(pids(&watched), [2, 4]);
        assert_eq!(watched.pids().next().expect("watched").0, kept, "the same entity, so the same series");
        assert!(table.find_entity(EntityKind::Server, "other/3").is_none());
        watched.want(Vec::new());
        watched.discover(Some(&rows), &[], &mut table);
        assert!(pids(&watched).is_empty());
    }

    #[test]
    fn a_process_that_ended_lingers_a_minute_and_its_pid_may_come_back_as_another() {
        let mut table = SeriesTable::new();
        let mut watched = WatchedProcesses::new(vec![Watch::Pid(2)]);
        watched.discover(Some(&list(&[row(2, 1, "serve"), row(7, 1, "x")])), &[], &mut table);
        let (entity, _) = watched.pids().next().expect("watched");
        let anew = |start| list(&[ProcessRow { start, ..row(2, 1, "serve") }]);
        watched.discover(Some(&anew(66)), &[], &mut table);
        assert_eq!((pids(&watched), watched.is_there(entity)), (vec![2], Some(true)));
        watched.discover(Some(&list(&[row(7, 1, "x")])), &[], &mut table);
        assert_eq!(watched.is_there(entity), Some(false));
        watched.retire(100 * SECOND, &mut table);
        watched.retire(159 * SECOND, &mut table);
        assert_eq!(watched.is_there(entity), Some(false));
        watched.retire(160 * SECOND, &mut table);
        assert!(watched.is_there(entity).is_none() && table.entity_of(entity).is_none());
        watched.discover(Some(&anew(77)), &[], &mut table);
        assert_eq!(pids(&watched), [2]);
    }
}
