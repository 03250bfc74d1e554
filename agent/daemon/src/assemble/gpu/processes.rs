//! Which of the processes on a GPU are shown.

use std::cmp::Reverse;
use std::collections::HashSet;

use perfwatch_probes::gpu::{GpuDevice, GpuProcess};

/// Most that are shown of one GPU. Nobody reads more, and each tick is made, sent and kept with all that are shown.
pub(super) const MOST: usize = 64;

/// The processes of a device. One that MIG divides may list those of its instances too: they are theirs.
pub(super) fn own<'a>(device: &'a GpuDevice, all: &[&GpuDevice]) -> Vec<&'a GpuProcess> {
    let instances = all.iter().filter(|one| one.parent.as_ref() == Some(&device.uuid));
    let theirs: HashSet<u32> = instances
        .flat_map(|instance| instance.processes.as_value().into_iter().flatten())
        .map(|process| process.pid)
        .collect();
    let held = device.processes.as_value().into_iter().flatten();
    held.filter(|process| !theirs.contains(&process.pid)).collect()
}

/// Those that hold most, sorted by pid, and how many are left out.
pub(super) fn largest(mut shown: Vec<&GpuProcess>) -> (Vec<&GpuProcess>, usize) {
    let left_out = shown.len().saturating_sub(MOST);
    if left_out > 0 {
        // Of which it is not known how much they hold, last; pids decide, so that equal ones do not take turns.
        shown.select_nth_unstable_by_key(MOST, |process| (Reverse(process.used.as_value().copied()), process.pid));
        shown.truncate(MOST);
        shown.sort_unstable_by_key(|process| process.pid);
    }
    (shown, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfwatch_model::{EntityId, GpuTick, Reading, Reason, Sharing};

    const UNKNOWN: Reason = Reason::fixed("not told", "");

    fn process(pid: u32, used: Reading<u64>) -> GpuProcess {
        GpuProcess { pid, used, sm: Reading::Unavailable(UNKNOWN) }
    }

    #[test]
    fn of_a_thousand_the_largest_are_shown_and_the_others_counted() {
        let used =
            |pid: u32| if pid == 7 { Reading::Unavailable(UNKNOWN) } else { Reading::Value(u64::from(pid % 100)) };
        let processes: Vec<_> = (1..=1_000).map(|pid| process(pid, used(pid))).collect();
        let (shown, left_out) = largest(processes.iter().collect());
        assert_eq!((shown.len(), left_out), (MOST, 1_000 - MOST));
        assert!(shown.is_sorted_by_key(|process| process.pid));
        assert!(shown.iter().all(|process| process.pid % 100 >= 93), "ten of each hold as much");
        assert_eq!(shown.iter().filter(|process| process.pid % 100 == 93).map(|process| process.pid).max(), Some(393));
    }

    #[test]
    fn a_process_of_an_instance_is_not_one_of_its_gpu_too() {
        let device = |uuid: &str, parent: Option<&str>, pids: Option<&[u32]>| GpuDevice {
            entity: EntityId(1),
            uuid: uuid.to_owned(),
            parent: parent.map(str::to_owned),
            name: String::new(),
            pci: Reading::Unavailable(UNKNOWN),
            driver_version: Reading::Unavailable(UNKNOWN),
            slots: GpuTick::unknown(EntityId(1)).slots,
            processes: match pids {
                Some(pids) => Reading::Value(pids.iter().map(|pid| process(*pid, Reading::Value(1))).collect()),
                None => Reading::Unavailable(UNKNOWN),
            },
            may_have_others: false,
            sharing: Sharing::Unknown,
        };
        let devices = [
            device("GPU-1", None, Some(&[1, 2, 3, 4])),
            device("MIG-1", Some("GPU-1"), Some(&[1, 3])),
            device("MIG-2", Some("GPU-1"), None),
            device("GPU-2", None, Some(&[1, 5])),
            device("MIG-3", Some("GPU-2"), Some(&[2])),
        ];
        let all: Vec<_> = devices.iter().collect();
        let pids = |at: usize| own(&devices[at], &all).iter().map(|process| process.pid).collect::<Vec<_>>();
        assert_eq!((pids(0), pids(1)), (vec![2, 4], vec![1, 3]), "no instance has these");
        assert_eq!((pids(2), pids(3), pids(4)), (vec![], vec![1, 5], vec![2]));
    }

    #[test]
    fn few_are_all_shown_as_they_are() {
        let few = [process(9, Reading::Value(1)), process(12, Reading::Unavailable(UNKNOWN))];
        assert_eq!(largest(few.iter().collect()), (few.iter().collect(), 0));
    }
}
