//! Which servers are on which GPU.

use std::collections::HashMap;

use perfwatch_model::{EntityId, GpuTick, Reading, Share};
use perfwatch_probes::ProcessList;
use perfwatch_probes::gpu::GpuDevice;

/// Generations from a process on a GPU to the one that speaks for its server.
const MAX_GENERATIONS: usize = 32;

/// Whose a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A watched server's.
    Server(EntityId),
    /// No watched server's.
    Nobody,
    /// It cannot be told.
    Unknown,
}

impl Owner {
    pub(crate) fn server(self) -> Option<EntityId> {
        match self {
            Self::Server(server) => Some(server),
            Self::Nobody | Self::Unknown => None,
        }
    }
}

/// Finds the server that a process belongs to.
pub(crate) struct Owners<'a> {
    servers: &'a HashMap<u32, EntityId>,
    processes: Option<&'a ProcessList>,
}

impl<'a> Owners<'a> {
    /// `servers` are all servers by the pids that speak for them, as [`by_pid`] makes them.
    pub(super) fn new(servers: &'a HashMap<u32, EntityId>, processes: Option<&'a ProcessList>) -> Self {
        Self { servers, processes }
    }

    /// Whose the process is: the server that it speaks for, or that started it, the nearest of its ancestors.
    pub(crate) fn of(&self, pid: u32) -> Owner {
        let mut pid = pid;
        for _ in 0..MAX_GENERATIONS {
            if let Some(server) = self.servers.get(&pid) {
                return Owner::Server(*server);
            }
            // The list is some seconds old: what is not in it may have been started since, by whomever.
            let Some(row) = self.processes.and_then(|list| list.get(pid)) else { return Owner::Unknown };
            if row.parent <= 1 {
                return Owner::Nobody;
            }
            pid = row.parent;
        }
        Owner::Unknown
    }
}

/// Servers by the pids that speak for them.
pub(super) fn by_pid(servers: &[(EntityId, Vec<u32>)]) -> HashMap<u32, EntityId> {
    servers.iter().flat_map(|(entity, pids)| pids.iter().map(|pid| (*pid, *entity))).collect()
}

/// The servers that were given a device: by UUID, or by an unambiguous beginning of one, as CUDA takes it.
pub(super) fn given<'a>(
    device: &GpuDevice,
    devices: &[&GpuDevice],
    wanted: impl Iterator<Item = (EntityId, &'a [String])>,
) -> Vec<EntityId> {
    let alike = |beginning: &str| devices.iter().filter(|device| device.uuid.starts_with(beginning)).count();
    let is_given = |uuids: &[String]| {
        uuids.iter().any(|beginning| device.uuid.starts_with(beginning.as_str()) && alike(beginning) == 1)
    };
    wanted.filter(|(_, uuids)| is_given(uuids)).map(|(server, _)| server).collect()
}

/// What a device did in a tick, and which servers are on it: those whose processes, or what they started, hold memory on it; and
/// those that were `given` it, as long as it cannot be seen that they are not. Where there may be processes that are not listed,
/// neither how many there are nor what all others had is known.
pub(super) fn gpu_tick(device: &GpuDevice, owners: &Owners<'_>, given: &[EntityId]) -> GpuTick {
    let mut tick = GpuTick { slots: device.slots, sharing: device.sharing, ..GpuTick::unknown(device.entity) };
    let Reading::Value(processes) = &device.processes else {
        tick.servers = given.to_vec();
        return tick;
    };
    let are_all = !device.may_have_others;
    tick.processes = u32::try_from(processes.len()).ok().filter(|_| are_all);
    let (mut own, mut other) = (Some(0.0), are_all.then_some(0.0));
    let (mut holders, mut strangers, mut unknown) = (Vec::new(), 0, 0);
    for process in processes {
        let sum = match owners.of(process.pid) {
            Owner::Server(server) => {
                holders.push(server);
                &mut own
            }
            Owner::Nobody => {
                strangers += 1;
                &mut other
            }
            Owner::Unknown => {
                unknown += 1;
                continue;
            }
        };
        *sum = sum.zip(process.sm.as_value()).map(|(sum, share)| sum + share);
    }
    holders.sort_unstable();
    holders.dedup();
    // Who was given a GPU and holds nothing on it is not on it, as long as every process there is somebody else's. What is there
    // and nobody's may still be its: workers that left their parent, another server that it stands in front of.
    let absent = are_all && strangers + unknown == 0;
    let unseen: Vec<EntityId> = given.iter().copied().filter(|server| !holders.contains(server) && !absent).collect();
    if unknown == 0 && unseen.is_empty() {
        // Each is a mean of its own: together they may pass the whole.
        let most = own.unwrap_or(0.0) + other.unwrap_or(0.0);
        let share = |sum: Option<f64>| sum.map_or(Share::UNKNOWN, |sum: f64| Share::of(sum / most.max(1.0)));
        (tick.own_sm, tick.other_sm) = (share(own), share(other));
    }
    tick.servers = [holders, unseen].concat();
    tick.servers.sort_unstable();
    tick
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfwatch_model::tick::SLOTS;
    use perfwatch_model::{Reason, Sharing};
    use perfwatch_probes::ProcessRow;
    use perfwatch_probes::gpu::GpuProcess;

    const ONE: EntityId = EntityId(1);
    const TWO: EntityId = EntityId(2);
    const UNKNOWN: Reason = Reason::fixed("not told", "");

    fn device(uuid: &str, processes: &[(u32, Option<f64>)]) -> GpuDevice {
        let process = |(pid, sm): &(u32, Option<f64>)| GpuProcess {
            pid: *pid,
            used: Reading::Value(1),
            sm: sm.map_or(Reading::Unavailable(UNKNOWN), Reading::Value),
        };
        GpuDevice {
            entity: EntityId(9),
            uuid: uuid.to_owned(),
            parent: None,
            name: String::new(),
            pci: Reading::Unavailable(UNKNOWN),
            driver_version: Reading::Unavailable(UNKNOWN),
            slots: [perfwatch_model::GpuSlot::default(); SLOTS],
            sharing: Sharing::Alone,
            may_have_others: false,
            processes: Reading::Value(processes.iter().map(process).collect()),
        }
    }

    fn row(pid: u32, parent: u32) -> ProcessRow {
        ProcessRow { pid, parent, start: 1, ..ProcessRow::default() }
    }

    fn servers(device: &GpuDevice, servers: &[(EntityId, Vec<u32>)], list: Option<&ProcessList>) -> GpuTick {
        gpu_tick(device, &Owners::new(&by_pid(servers), list), &[])
    }

    #[test]
    fn a_process_on_a_gpu_is_its_nearest_servers() {
        // 10 is a server that started 11, which started 12; and 20, a server of its own.
        let list = ProcessList { rows: vec![row(10, 1), row(11, 10), row(12, 11), row(20, 10)] };
        let all = [(ONE, vec![10]), (TWO, vec![20])];
        assert_eq!(servers(&device("GPU-a", &[(12, None)]), &all, Some(&list)).servers, [ONE]);
        assert_eq!(servers(&device("GPU-b", &[(20, None)]), &all, Some(&list)).servers, [TWO]);
        assert_eq!(servers(&device("GPU-b", &[(20, None)]), &all, None).servers, [TWO], "without a list, itself");
        assert!(servers(&device("GPU-c", &[(99, None)]), &all, Some(&list)).servers.is_empty());
    }

    #[test]
    fn a_uuid_or_a_beginning_of_just_one_is_enough() {
        let (x, y) = (device("GPU-12-x", &[]), device("GPU-13-y", &[]));
        let of = |given: &str| -> Vec<&str> {
            let given = [given.to_owned()];
            let on =
                |device: &GpuDevice| !super::given(device, &[&x, &y], std::iter::once((ONE, &given[..]))).is_empty();
            [&x, &y].into_iter().filter(|device| on(device)).map(|device| device.uuid.as_str()).collect()
        };
        assert_eq!(of("GPU-12-x"), ["GPU-12-x"]);
        assert_eq!(of("GPU-13"), ["GPU-13-y"]);
        assert!(of("GPU-1").is_empty() && of("GPU-7").is_empty());
    }

    #[test]
    fn what_belongs_to_no_server_is_others_and_one_that_is_not_told_makes_its_sum_unknown() {
        let all = [(ONE, vec![10])];
        let list = ProcessList { rows: vec![row(10, 1), row(98, 1), row(99, 1)] };
        let told = servers(&device("GPU-a", &[(10, Some(0.5)), (98, Some(0.2)), (99, Some(0.1))]), &all, Some(&list));
        let share = |share: Share| share.get().map(|share| (share * 100.0).round());
        assert_eq!((share(told.own_sm), share(told.other_sm), told.processes), (Some(50.0), Some(30.0), Some(3)));
        let partly = servers(&device("GPU-a", &[(10, Some(0.5)), (99, None)]), &all, Some(&list));
        assert_eq!((share(partly.own_sm), partly.other_sm), (Some(50.0), Share::UNKNOWN));
        let over = servers(&device("GPU-a", &[(10, Some(0.7)), (98, Some(0.7)), (99, Some(1.0))]), &all, Some(&list));
        assert_eq!((share(over.own_sm), share(over.other_sm)), (Some(29.0), Some(71.0)), "shares of all there was");
        let foreign = GpuDevice { processes: Reading::Unavailable(UNKNOWN), ..device("GPU-a", &[]) };
        assert_eq!(servers(&foreign, &all, None), GpuTick { sharing: Sharing::Alone, ..GpuTick::unknown(EntityId(9)) });
    }

    #[test]
    fn where_there_may_be_others_neither_their_share_nor_their_number_is_known_and_who_was_given_the_gpu_may_be_one() {
        let servers = by_pid(&[(ONE, vec![10]), (TWO, vec![20])]);
        let owners = Owners::new(&servers, None);
        let partly =
            |processes: &[(u32, Option<f64>)]| GpuDevice { may_have_others: true, ..device("GPU-a", processes) };
        let told = gpu_tick(&partly(&[(10, Some(0.5))]), &owners, &[]);
        assert_eq!((told.servers, told.own_sm), (vec![ONE], Share::of(0.5)));
        assert_eq!((told.other_sm, told.processes), (Share::UNKNOWN, None));
        let told = gpu_tick(&partly(&[(10, Some(0.5))]), &owners, &[TWO]);
        assert_eq!((told.servers, told.own_sm), (vec![ONE, TWO], Share::UNKNOWN));
    }

    #[test]
    fn a_process_that_was_just_started_is_nobodys_yet_and_neither_servers_nor_others() {
        let all = [(ONE, vec![10])];
        let list = ProcessList { rows: vec![row(10, 1)] };
        // 11 is the engine that 10 started after the list was read.
        let told = servers(&device("GPU-a", &[(10, Some(0.1)), (11, Some(0.8))]), &all, Some(&list));
        assert_eq!((told.servers, told.own_sm, told.other_sm), (vec![ONE], Share::UNKNOWN, Share::UNKNOWN));
    }

    #[test]
    fn who_was_given_a_gpu_is_on_it_unless_all_that_is_there_is_seen_to_be_somebody_elses() {
        let servers = by_pid(&[(ONE, vec![10]), (TWO, vec![20])]);
        let owners = Owners::new(&servers, None);
        let on = |processes: &[(u32, Option<f64>)]| gpu_tick(&device("GPU-a", processes), &owners, &[TWO]);
        assert!(on(&[]).servers.is_empty(), "nothing is there");
        assert_eq!(on(&[(10, Some(0.5))]).servers, [ONE]);
        // A worker that left its parent may be its: then nothing there is certainly another's.
        let list = ProcessList { rows: vec![row(77, 1)] };
        let servers = by_pid(&[(TWO, vec![20])]);
        let owners = Owners::new(&servers, Some(&list));
        let told = gpu_tick(&device("GPU-a", &[(77, Some(0.9))]), &owners, &[TWO]);
        assert_eq!((told.servers, told.other_sm), (vec![TWO], Share::UNKNOWN));
        let foreign = GpuDevice { processes: Reading::Unavailable(UNKNOWN), ..device("GPU-a", &[]) };
        assert_eq!(gpu_tick(&foreign, &owners, &[TWO]).servers, [TWO], "its word is all there is");
    }
}
