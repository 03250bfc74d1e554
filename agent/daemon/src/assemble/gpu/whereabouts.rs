//! What the processes on GPUs run in: read once of each, not each tick.

use std::collections::HashMap;
use std::path::Path;

use perfwatch_probes::ProcessList;
use perfwatch_probes::gpu::GpuProcess;

use crate::servers::{container, group_path, pod};

/// What a process runs in.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Whereabout {
    /// Hexadecimal id of its container.
    pub(super) container: Option<String>,
    /// UID of its pod.
    pub(super) pod: Option<String>,
    /// Its pid in there, where it has another one than here.
    pub(super) pid: Option<u32>,
}

/// Most processes that are looked up in a tick: the tick waits for it. The others have their turn in the next ones.
const LOOKED_UP_PER_TICK: usize = 64;
/// How long one is remembered that is not seen any more: a driver that does not answer for a moment names no process at all.
const KEPT_NS: u64 = 60_000_000_000;

#[derive(Debug)]
struct Known {
    /// The time at which the process began: pids come again.
    start: Option<u64>,
    seen_ns: u64,
    place: Whereabout,
}

/// By pid.
#[derive(Debug, Default)]
pub(super) struct Whereabouts(HashMap<u32, Known>);

impl Whereabouts {
    /// Reads where processes are that are new, and forgets those that have been gone for long.
    pub(super) fn update<'a>(
        &mut self,
        processes: impl Iterator<Item = &'a GpuProcess>,
        list: Option<&ProcessList>,
        now_ns: u64,
    ) {
        self.update_by(processes, list, now_ns, |pid| look(Path::new("/proc"), pid));
    }

    fn update_by<'a>(
        &mut self,
        processes: impl Iterator<Item = &'a GpuProcess>,
        list: Option<&ProcessList>,
        now_ns: u64,
        mut look: impl FnMut(u32) -> Whereabout,
    ) {
        let mut left = LOOKED_UP_PER_TICK;
        for GpuProcess { pid, .. } in processes {
            let start = list.and_then(|list| list.get(*pid)).map(|row| row.start);
            match self.0.get_mut(pid).filter(|known| known.start == start) {
                Some(known) => known.seen_ns = now_ns,
                // Another process had the pid.
                None if left == 0 => _ = self.0.remove(pid),
                None => {
                    left -= 1;
                    self.0.insert(*pid, Known { start, seen_ns: now_ns, place: look(*pid) });
                }
            }
        }
        self.0.retain(|_, known| now_ns.saturating_sub(known.seen_ns) < KEPT_NS);
    }

    pub(super) fn of(&self, pid: u32) -> Option<&Whereabout> {
        self.0.get(&pid).map(|known| &known.place)
    }
}

/// Of a process that is gone, or that may not be looked at, nothing is known.
fn look(proc: &Path, pid: u32) -> Whereabout {
    let folder = proc.join(pid.to_string());
    let groups = std::fs::read_to_string(folder.join("cgroup")).unwrap_or_default();
    let path = group_path(&groups).unwrap_or_default();
    let status = std::fs::read_to_string(folder.join("status")).unwrap_or_default();
    // From our namespace to its own, outermost first.
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let inner = pids.and_then(|pids| pids.split_whitespace().next_back()?.parse().ok());
    Whereabout { container: container(path), pod: pod(path), pid: inner.filter(|inner| *inner != pid) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfwatch_model::{Reading, Reason};
    use perfwatch_probes::ProcessRow;

    const ID: &str = "4fd3c3a85fdf0a1be7a31d2cc3fdbf05cc2f3f25bfd3fcd9dbcd19c1d8cb0a61";

    #[test]
    fn a_process_in_a_pod_is_told_with_its_pid_in_there() {
        let proc = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(proc.path().join("4242")).expect("writable");
        let path = format!("/kubepods/burstable/pod1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed/{ID}");
        std::fs::write(proc.path().join("4242/cgroup"), format!("0::{path}\n")).expect("writable");
        std::fs::write(proc.path().join("4242/status"), "Name:\tvllm\nNSpid:\t4242\t17\t1\n").expect("writable");
        let place = look(proc.path(), 4242);
        assert_eq!(place.container.as_deref(), Some(ID));
        assert_eq!((place.pod.as_deref(), place.pid), (Some("1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed"), Some(1)));
        assert_eq!(look(proc.path(), 5), Whereabout::default());
    }

    fn process(pid: u32) -> GpuProcess {
        GpuProcess { pid, used: Reading::Value(1), sm: Reading::Unavailable(Reason::fixed("not told", "")) }
    }

    #[test]
    fn a_process_is_looked_up_once_and_forgotten_when_it_has_been_gone_for_long() {
        let mut places = Whereabouts::default();
        let mut looked_up = Vec::new();
        let mut update = |places: &mut Whereabouts, pids: &[u32], second: u64| {
            let processes: Vec<_> = pids.iter().copied().map(process).collect();
            places.update_by(processes.iter(), None, second * 1_000_000_000, |pid| {
                looked_up.push(pid);
                Whereabout::default()
            });
        };
        // The same process may be on two GPUs.
        update(&mut places, &[1, 1, 2], 1);
        update(&mut places, &[], 2);
        update(&mut places, &[2], 50);
        assert!(places.of(1).is_some() && places.of(2).is_some(), "one look without an answer forgets nothing");
        update(&mut places, &[2], 61);
        assert!(places.of(1).is_none() && places.of(2).is_some());
        assert_eq!(looked_up, [1, 2]);
    }

    #[test]
    fn many_new_processes_are_looked_up_in_turns() {
        let mut places = Whereabouts::default();
        let processes: Vec<_> = (1..=150).map(process).collect();
        let looked_up = [1, 2, 3, 4].map(|second| {
            let mut count = 0;
            places.update_by(processes.iter(), None, second * 1_000_000_000, |_| {
                count += 1;
                Whereabout::default()
            });
            count
        });
        assert_eq!(looked_up, [LOOKED_UP_PER_TICK, LOOKED_UP_PER_TICK, 22, 0]);
    }

    #[test]
    fn a_pid_that_comes_again_is_another_process() {
        let mut places = Whereabouts::default();
        let row = |start| ProcessRow { pid: 5, parent: 1, start, name: "python3".to_owned(), ..ProcessRow::default() };
        let mut update = |start, name: &str| {
            let list = ProcessList { rows: vec![row(start)] };
            let place = |_| Whereabout { container: Some(name.to_owned()), ..Whereabout::default() };
            places.update_by([process(5)].iter(), Some(&list), 1, place);
            places.of(5).and_then(|place| place.container.clone())
        };
        assert_eq!(update(1, "one").as_deref(), Some("one"));
        assert_eq!(update(1, "two").as_deref(), Some("one"));
        assert_eq!(update(2, "two").as_deref(), Some("two"));
    }
}
