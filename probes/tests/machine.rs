//! What this machine may not have, from recorded trees: a clock that CPUs change, two NUMA nodes, disks and networks of large
//! and of old machines.

mod recording;

use std::fs;

use perfwatch_model::metrics::{host, io, process};
use perfwatch_model::{Attr, EntityId, EntityKind, Level, MetricDef, Number, SeriesTable};
use recording::Machine;

fn here(machine: &Machine) -> EntityId {
    machine.table.find_entity(EntityKind::Host, "here").expect("made first")
}

/// The integer of a series of the machine itself.
fn int(machine: &Machine, metric: &'static MetricDef, attrs: &[Attr]) -> Option<u64> {
    machine.value(metric, here(machine), attrs).and_then(Number::as_int)
}

fn reason<'a>(machine: &'a Machine, metric: &MetricDef) -> Option<&'a str> {
    machine.reason(metric, here(machine))
}

const READ: Attr = Attr::fixed("disk.io.direction", "read");
const WRITE: Attr = Attr::fixed("disk.io.direction", "write");
const RECEIVE: Attr = Attr::fixed("network.io.direction", "receive");

fn disk(name: &'static str) -> Attr {
    Attr::fixed("system.device", name)
}

/// One look at a file's counters at 0, and one at what they are.
fn sample_from_zero(machine: &mut Machine, file: &str) {
    let text = fs::read_to_string(machine.folder.path().join(file)).expect("present");
    let zeros: String = text.lines().map(|line| zeroed(line) + "\n").collect();
    machine.write(file, &zeros);
    machine.sample();
    machine.write(file, &text);
    machine.sample();
}

/// A line of `/proc/diskstats` or `/proc/net/dev` of a device that has not done anything.
fn zeroed(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let names = if line.contains(':') { 1 } else { 3 };
    let zeros = std::iter::repeat_n("0", words.len().saturating_sub(names));
    words.iter().copied().take(names).chain(zeros).collect::<Vec<_>>().join(" ")
}

#[test]
fn each_cpu_has_its_clock_and_policy_is_the_tightest_of_all() {
    let mut machine = Machine::start("two-nodes", "frequency");
    machine.sample();
    let of = |machine: &Machine, cpu| int(machine, &host::CPU_FREQUENCY, &[Attr::int("cpu.logical_number", cpu)]);
    assert_eq!([0, 1, 2, 3].map(|cpu| of(&machine, cpu)), [2.1, 3.5, 0.8, 1.6].map(|ghz| Some((ghz * 1e9) as u64)));
    let mean = machine.value(&host::CPU_FREQUENCY_MEAN, here(&machine), &[]);
    assert_eq!(mean, Some(Number::Float(2e9)));
    assert_eq!(machine.int(&host::CPU_FREQUENCY_LIMIT, here(&machine)), 2_800_000_000);
    // A driver that cannot tell writes so, and a CPU is unplugged: neither is a clock of 0.
    machine.write("sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "<unknown>\n");
    machine.write("sys/devices/system/cpu/online", "0-2\n");
    machine.sample();
    assert_eq!([1, 3].map(|cpu| of(&machine, cpu)), [None, None]);
    assert_eq!(machine.value(&host::CPU_FREQUENCY_MEAN, here(&machine), &[]), Some(Number::Float(1.45e9)));
    for cpu in 0..3 {
        machine.write(&format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq"), "<unknown>\n");
    }
    machine.sample();
    assert!(machine.value(&host::CPU_FREQUENCY_MEAN, here(&machine), &[]).is_none());
    assert!(reason(&machine, &host::CPU_FREQUENCY_MEAN).is_some());
}

#[test]
fn two_nodes_tell_their_cpus_their_memory_and_what_was_allocated_elsewhere() {
    let mut machine = Machine::start("two-nodes", "numa");
    machine.sample();
    let node = |number| Attr::int("perfwatch.numa.node", number);
    let used = |machine: &Machine, number| {
        int(machine, &host::NUMA_MEMORY, &[node(number), Attr::fixed("system.memory.state", "used")])
    };
    assert_eq!([0, 1].map(|at| used(&machine, at)), [Some(77_824_000 * 1024), Some(16_384_000 * 1024)]);
    let cpus = |list| Attr::fixed("perfwatch.numa.cpus", list);
    assert_eq!(int(&machine, &host::NUMA_CPUS, &[node(0), cpus("0-1")]), Some(2));
    assert_eq!(int(&machine, &host::NUMA_CPUS, &[node(1), cpus("2-3")]), Some(2));
    let foreign = [node(1), Attr::fixed("perfwatch.numa.allocation", "foreign")];
    assert_eq!(int(&machine, &host::NUMA_ALLOCATIONS, &foreign), Some(1500));
    assert_eq!(machine.int(&host::NUMA_MISSES, here(&machine)), 1540);
    // A CPU is unplugged; the counters are switched off, then a whole node.
    machine.write("sys/devices/system/node/node1/cpulist", "2\n");
    machine.write("proc/sys/vm/numa_stat", "0\n");
    machine.sample();
    assert_eq!(int(&machine, &host::NUMA_CPUS, &[node(1), cpus("2")]), Some(1));
    assert_eq!(int(&machine, &host::NUMA_CPUS, &[node(1), cpus("2-3")]), None);
    assert_eq!(int(&machine, &host::NUMA_MISSES, &[]), None);
    assert!(reason(&machine, &host::NUMA_MISSES).is_some_and(|text| text.contains("does not count")));
    machine.write("proc/sys/vm/numa_stat", "1\n");
    fs::remove_dir_all(machine.folder.path().join("sys/devices/system/node/node1")).expect("present");
    machine.write("sys/devices/system/node/online", "0\n");
    machine.sample();
    assert_eq!((used(&machine, 1), used(&machine, 0).is_some()), (None, true));
    assert_eq!(machine.int(&host::NUMA_MISSES, here(&machine)), 1540, "a sum never goes back");
}

#[test]
fn the_sums_are_over_real_disks_and_what_is_made_of_them_has_series_of_its_own() {
    let mut machine = Machine::start("two-nodes", "disk");
    machine.sample();
    assert_eq!(int(&machine, &io::DISKS_IO, &[READ]), Some(0), "what was before the agent is not its to tell");
    assert_eq!(machine.value(&io::DISKS_BUSIEST, here(&machine), &[]), None, "the first look has no interval");
    let mut machine = Machine::start("two-nodes", "disk");
    sample_from_zero(&mut machine, "proc/diskstats");
    assert_eq!(int(&machine, &io::DISKS_IO, &[READ]), Some(88_000 * 512));
    assert_eq!(int(&machine, &io::DISKS_OPERATIONS, &[WRITE]), Some(2000));
    assert_eq!(int(&machine, &io::DISKS_OPERATION_TIME, &[READ]), Some(4_400_000_000));
    assert_eq!(int(&machine, &io::DISK_IO, &[disk("nvme0n1"), WRITE]), Some(160_000 * 512));
    assert_eq!(int(&machine, &io::DISK_MERGED, &[disk("nvme0n1"), READ]), Some(10));
    assert_eq!(int(&machine, &io::DISK_IO_TIME, &[disk("nvme1n1")]), Some(300_000_000));
    assert_eq!(int(&machine, &io::DISK_OPERATIONS, &[disk("dm-0"), READ]), Some(800));
    for unwanted in ["nvme0n1p1", "loop0"] {
        assert_eq!(int(&machine, &io::DISK_IO, &[disk(unwanted), READ]), None, "{unwanted}");
    }
}

#[test]
fn disks_come_and_go_counters_begin_anew_and_no_sum_goes_back() {
    let mut machine = Machine::start("two-nodes", "disk");
    let line =
        |disk: &str, sectors: u64, busy_ms: u64| format!(" 259 0 {disk} 1 0 {sectors} 1 0 0 0 0 0 {busy_ms} 1\n");
    let first = u64::from(u32::MAX) - 99;
    machine.write("proc/diskstats", &(line("nvme0n1", 1000, first) + &line("nvme1n1", 500, 0)));
    machine.sample();
    assert_eq!(int(&machine, &io::DISKS_IO, &[READ]), Some(0));
    // One disk is pulled; the milliseconds of the other are full (a fifth of a second after it began to be busy).
    machine.write("proc/diskstats", &line("nvme0n1", 1100, 100));
    machine.sample();
    assert_eq!(int(&machine, &io::DISKS_IO, &[READ]), Some(100 * 512));
    assert_eq!(int(&machine, &io::DISK_IO, &[disk("nvme1n1"), READ]), None);
    assert_eq!(machine.value(&io::DISKS_BUSIEST, here(&machine), &[]), Some(Number::Float(0.2)));
    assert_eq!(int(&machine, &io::DISK_IO_TIME, &[disk("nvme0n1")]), Some(200 * 1_000_000));
    // Another comes under the same name, with 70 sectors of its own.
    machine.write("proc/diskstats", &(line("nvme0n1", 1100, 100) + &line("nvme1n1", 70, 0)));
    machine.sample();
    assert_eq!(int(&machine, &io::DISKS_IO, &[READ]), Some(170 * 512));
    assert_eq!(int(&machine, &io::DISK_IO, &[disk("nvme1n1"), READ]), Some(70 * 512));
    // All are gone: nothing was read for all we know, and nothing goes back.
    machine.write("proc/diskstats", "");
    machine.sample();
    assert_eq!(int(&machine, &io::DISKS_IO, &[READ]), Some(170 * 512));
    assert_eq!(machine.value(&io::DISKS_BUSIEST, here(&machine), &[]), None);
}

#[test]
fn a_machine_without_disks_says_so_instead_of_zero() {
    let mut machine = Machine::start("two-nodes", "disk");
    machine.write("proc/diskstats", "   7       0 loop0 11 0 22 1 0 0 0 0 0 4 1\n");
    machine.sample();
    assert!(machine.tick.values.is_empty());
    assert!(reason(&machine, &io::DISKS_IO).is_some_and(|text| text.contains("no disk")));
}

#[test]
fn an_old_kernel_is_read_as_far_as_it_goes() {
    let mut disks = Machine::start("linux-3.10", "disk");
    sample_from_zero(&mut disks, "proc/diskstats");
    assert_eq!(int(&disks, &io::DISKS_IO, &[READ]), Some(2000 * 512), "the partition is not counted again");
    let mut paging = Machine::start("linux-3.10", "paging");
    paging.sample();
    let fault = |kind| Attr::fixed("system.paging.fault.type", kind);
    assert_eq!(int(&paging, &host::PAGING_FAULTS, &[fault("minor")]), Some(975));
    assert_eq!(int(&paging, &host::OOM_KILLS, &[]), None);
    assert!(reason(&paging, &host::OOM_KILLS).is_some());
    let mut queue = Machine::start("linux-3.10", "run_queue");
    queue.sample();
    assert_eq!(queue.int(&host::CONTEXT_SWITCHES, here(&queue)), 5000);
    assert!(reason(&queue, &host::RUN_DELAY).is_some_and(|text| text.contains("wait for a CPU")));
}

#[test]
fn swap_is_what_is_used_of_it_and_what_moved() {
    let mut machine = Machine::start("two-nodes", "paging");
    machine.sample();
    let state = |name| Attr::fixed("system.paging.state", name);
    assert_eq!(int(&machine, &host::PAGING_USAGE, &[state("used")]), Some(2 << 30));
    assert_eq!(int(&machine, &host::PAGING_USAGE, &[state("free")]), Some(6 << 30));
    let out = Attr::fixed("system.paging.direction", "out");
    assert_eq!(int(&machine, &host::PAGING_OPERATIONS, std::slice::from_ref(&out)), Some(524_288));
    assert_eq!(machine.int(&host::OOM_KILLS, here(&machine)), 3);
    // Without swap in the kernel the lines are missing, which is not the same as nothing swapped.
    machine.write("proc/vmstat", "pgfault 1000100\npgmajfault 2500\n");
    machine.sample();
    assert_eq!(int(&machine, &host::PAGING_OPERATIONS, &[out]), None);
    assert!(reason(&machine, &host::PAGING_OPERATIONS).is_some());
}

#[test]
fn threads_that_wait_are_counted_and_an_unplugged_cpu_takes_nothing_away() {
    let mut machine = Machine::start("two-nodes", "run_queue");
    machine.sample();
    assert_eq!(machine.int(&host::RUN_DELAY, here(&machine)), 10_000_000_000);
    assert_eq!(machine.int(&host::THREADS_BLOCKED, here(&machine)), 2);
    assert_eq!(machine.int(&host::PROCESS_CREATED, here(&machine)), 90_211);
    machine.write("proc/schedstat", "version 17\ncpu0 0 0 0 0 0 0 9000000000 1500000000 5100\n");
    machine.sample();
    assert_eq!(machine.int(&host::RUN_DELAY, here(&machine)), 10_500_000_000);
    // A sandbox that shows the file and counts nothing in it.
    machine.write("proc/schedstat", "version 15\ncpu0 0 0 0 0 0 0 0 0 0\n");
    machine.sample();
    assert!(machine.value(&host::RUN_DELAY, here(&machine), &[]).is_none());
    let mut load = Machine::start("two-nodes", "load");
    load.sample();
    assert_eq!(load.value(&host::LOAD_1M, here(&load), &[]), Some(Number::Float(3.2)));
    assert_eq!((load.int(&host::THREADS_RUNNABLE, here(&load)), load.int(&host::THREADS, here(&load))), (4, 1410));
}

#[test]
fn bonds_and_containers_are_not_counted_beside_the_cards_that_carry_them() {
    let mut machine = Machine::start("two-nodes", "network");
    sample_from_zero(&mut machine, "proc/net/dev");
    assert_eq!(int(&machine, &io::NETWORK_TOTAL, &[RECEIVE]), Some(1_003_000));
    assert_eq!(int(&machine, &io::NETWORK_TOTAL_DROPPED, &[RECEIVE]), Some(2));
    assert_eq!(int(&machine, &io::NETWORK_TOTAL_ERRORS, &[Attr::fixed("network.io.direction", "transmit")]), Some(3));
    let interface = |name| Attr::fixed("network.interface.name", name);
    assert_eq!(int(&machine, &io::NETWORK_IO, &[interface("bond0"), RECEIVE]), Some(1_003_000));
    assert_eq!(int(&machine, &io::NETWORK_PACKETS, &[disk("eno1"), RECEIVE]), Some(900));
    assert_eq!(int(&machine, &io::NETWORK_IO, &[interface("veth12ab"), RECEIVE]), None);
}

#[test]
fn in_a_container_its_only_interface_is_the_outward_one_and_alone_with_the_loopback_there_is_none() {
    let folder = "linux-3.10";
    let mut machine = Machine::start(folder, "network");
    let mut bytes = |lines: &[(&str, u64)]| received(&mut machine, lines);
    assert_eq!(bytes(&[("lo", 5), ("eth0", 100)]), Some(0));
    assert_eq!(bytes(&[("lo", 5), ("eth0", 140)]), Some(40));
    // It goes down, and comes up again with counters of its own.
    assert_eq!(bytes(&[("lo", 6)]), Some(40));
    assert_eq!(bytes(&[("lo", 6), ("eth0", 30)]), Some(70));
    let mut alone = Machine::start(folder, "network");
    assert_eq!(received(&mut alone, &[("lo", 5)]), None);
    assert!(reason(&alone, &io::NETWORK_TOTAL).is_some_and(|text| text.contains("loopback")));
}

fn interface_line(name: &str, bytes: u64) -> String {
    format!("{name}: {bytes} 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n")
}

/// What all outward interfaces received, once these have received so much.
fn received(machine: &mut Machine, lines: &[(&str, u64)]) -> Option<u64> {
    let lines: String = lines.iter().map(|(name, bytes)| interface_line(name, *bytes)).collect();
    machine.write("proc/net/dev", &lines);
    machine.sample();
    int(machine, &io::NETWORK_TOTAL, &[RECEIVE])
}

#[test]
fn a_card_that_is_lent_to_a_container_or_renamed_is_not_counted_again_when_it_is_back() {
    let mut machine = Machine::start("two-nodes", "network");
    let eno2 = machine.folder.path().join("sys/class/net/eno2");
    let away = machine.folder.path().join("away");
    assert_eq!(received(&mut machine, &[("lo", 1), ("eno1", 1000), ("eno2", 500)]), Some(0));
    fs::rename(&eno2, &away).expect("writable");
    for _ in 0..5 {
        assert_eq!(received(&mut machine, &[("lo", 1), ("eno1", 1000)]), Some(0));
    }
    // The container moved 300 bytes with it, which are the container's.
    fs::rename(&away, &eno2).expect("writable");
    assert_eq!(received(&mut machine, &[("lo", 1), ("eno1", 1000), ("eno2", 800)]), Some(0));
    assert_eq!(received(&mut machine, &[("lo", 1), ("eno1", 1000), ("eno2", 810)]), Some(10));
    // Its driver is loaded anew, and it counts from 0.
    fs::rename(&eno2, &away).expect("writable");
    assert_eq!(received(&mut machine, &[("lo", 1), ("eno1", 1000)]), Some(10));
    fs::rename(&away, &eno2).expect("writable");
    assert_eq!(received(&mut machine, &[("lo", 1), ("eno1", 1000), ("eno2", 7)]), Some(17));
    let of = |name| Attr::fixed("network.interface.name", name);
    assert_eq!(int(&machine, &io::NETWORK_IO, &[of("eno2"), RECEIVE]), Some(17), "the sum is that of its parts");
    machine.write("sys/class/net/ens7/device/vendor", "0x15b3\n");
    assert_eq!(received(&mut machine, &[("lo", 1), ("eno1", 1000), ("ens7", 7)]), Some(17));
    assert_eq!(received(&mut machine, &[("lo", 1), ("eno1", 1000), ("ens7", 27)]), Some(37));
    assert_eq!(int(&machine, &io::NETWORK_IO, &[of("ens7"), RECEIVE]), Some(20), "since it has this name");
}

#[test]
fn a_virtual_function_is_not_counted_beside_the_card_it_serves_even_if_it_comes_late() {
    let mut machine = Machine::start("two-nodes", "network");
    let lines = |card, function| interface_line("eno1", card) + &interface_line("enP1s1", function);
    machine.write("proc/net/dev", &interface_line("eno1", 100));
    for _ in 0..10 {
        machine.sample();
    }
    machine.write("sys/class/net/enP1s1/device/vendor", "0x15b3\n");
    machine.write("proc/net/dev", &lines(150, 40));
    machine.sample();
    machine.write("sys/class/net/enP1s1/master/device/vendor", "0x1414\n");
    machine.write("proc/net/dev", &lines(160, 50));
    machine.sample();
    let total = int(&machine, &io::NETWORK_TOTAL, &[RECEIVE]).expect("there is a card");
    machine.write("proc/net/dev", &lines(1160, 1050));
    machine.sample();
    assert_eq!(int(&machine, &io::NETWORK_TOTAL, &[RECEIVE]), Some(total + 1000));
    let of = Attr::fixed("network.interface.name", "enP1s1");
    assert_eq!(int(&machine, &io::NETWORK_IO, &[of, RECEIVE]), Some(1010), "it has a series of its own");
}

#[test]
fn a_card_that_comes_after_the_agent_takes_the_sum_over_from_what_is_made_of_it() {
    let mut machine = Machine::start("linux-3.10", "network");
    let mut bytes = |lines: &[(&str, u64)], hardware: Option<&str>| {
        if let Some(name) = hardware {
            machine.write(&format!("sys/class/net/{name}/device/vendor"), "0x8086\n");
        }
        machine
            .write("proc/net/dev", &lines.iter().map(|(name, bytes)| interface_line(name, *bytes)).collect::<String>());
        machine.sample();
        int(&machine, &io::NETWORK_TOTAL, &[RECEIVE])
    };
    // Without sysfs nothing is hardware; the tree has none.
    assert_eq!(bytes(&[("flannel.1", 10)], None), Some(0));
    assert_eq!(bytes(&[("flannel.1", 20), ("ens5", 900)], Some("ens5")), Some(10));
    for _ in 0..3 {
        bytes(&[("flannel.1", 20), ("ens5", 900)], None);
    }
    let before = bytes(&[("flannel.1", 20), ("ens5", 900)], None).expect("outward");
    assert_eq!(bytes(&[("flannel.1", 520), ("ens5", 1400)], None), Some(before + 500));
}

#[test]
fn the_paths_to_a_disk_and_the_disk_are_counted_once() {
    let mut machine = Machine::start("two-nodes", "disk");
    for name in ["nvme1c0n1", "nvme1c1n1", "nvme12c0n1"] {
        machine.write(&format!("sys/block/{name}/device/model"), "x\n");
    }
    let line = |disk: &str, sectors: u64| format!(" 259 0 {disk} 1 0 {sectors} 1 0 0 0 0 0 1 1\n");
    let lines = line("nvme0n1", 1) + &line("nvme1c0n1", 10) + &line("nvme1c1n1", 20) + &line("nvme1n1", 30);
    machine.write("proc/diskstats", &lines);
    sample_from_zero(&mut machine, "proc/diskstats");
    assert_eq!(int(&machine, &io::DISKS_IO, &[READ]), Some(31 * 512));
    for (name, sectors) in [("nvme1n1", 30), ("nvme1c1n1", 20)] {
        assert_eq!(int(&machine, &io::DISK_IO, &[disk(name), READ]), Some(sectors * 512), "{name}");
    }
}

#[test]
fn containers_that_come_and_go_make_no_series() {
    let mut machine = Machine::start("two-nodes", "network");
    machine.sample();
    let before = machine.tick.values.len();
    for round in 0..600 {
        let id = format!("{round:012x}");
        let ends =
            ["veth", "eni", "azv", "gke", "vnet", "tap", "br-"].map(|end| interface_line(&(end.to_owned() + &id), 1));
        machine.write("proc/net/dev", &(ends.concat() + &interface_line("eno1", 1)));
        machine.sample();
    }
    let named = |table: &SeriesTable| table.len();
    let series = named(&machine.table);
    machine.write("proc/net/dev", "veth_x: 1 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n");
    machine.sample();
    assert_eq!(named(&machine.table), series);
    assert!(machine.tick.values.len() < before && reason(&machine, &io::NETWORK_IO).is_none());
}

#[test]
fn a_watched_process_tells_what_it_read_where_it_faulted_and_how_often_it_changed() {
    let mut machine = Machine::start("v2-pod", "process");
    machine.serve(4021);
    let io = |read| {
        format!(
            "rchar: 9\nwchar: 9\nsyscr: 1\nsyscw: 1\nread_bytes: {read}\nwrite_bytes: 8192\ncancelled_write_bytes: 0\n"
        )
    };
    let status =
        |voluntary| format!("Name:\tpython3\nvoluntary_ctxt_switches:\t{voluntary}\nnonvoluntary_ctxt_switches:\t3\n");
    machine.write("proc/4021/io", &io(4096));
    machine.write("proc/4021/task/4021/status", &status(10));
    machine.write("proc/4021/task/4022/status", &status(20));
    machine.sample();
    let entity = machine.table.find_entity(EntityKind::Process, "4021:123456").expect("watched");
    let of = |machine: &Machine, metric, key, value| {
        machine.value(metric, entity, &[Attr::fixed(key, value)]).and_then(Number::as_int)
    };
    machine.write("proc/4021/io", &io(5000));
    machine.write("proc/4021/task/4022/status", &status(27));
    machine.sample();
    assert_eq!(of(&machine, &process::DISK_IO, "disk.io.direction", "read"), Some(5000));
    assert_eq!(of(&machine, &process::DISK_IO, "disk.io.direction", "write"), Some(8192));
    let switch = "process.context_switch.type";
    assert_eq!(of(&machine, &process::CONTEXT_SWITCHES, switch, "voluntary"), Some(7), "since it is watched");
    assert_eq!(of(&machine, &process::CONTEXT_SWITCHES, switch, "involuntary"), Some(0));
    assert_eq!(of(&machine, &process::PAGING_FAULTS, "system.paging.fault.type", "minor"), Some(900));
    // What the kernel shows only to those who may debug the process.
    let mut other = Machine::start("v2-pod", "process");
    other.serve(4021);
    other.sample();
    let entity = other.table.find_entity(EntityKind::Process, "4021:123456").expect("watched");
    assert!(other.reason(&process::DISK_IO, entity).is_some_and(|text| text.contains("reads and writes")));
    assert!(other.reason(&process::CONTEXT_SWITCHES, entity).is_some(), "this recording has none");
}

/// A pod's agent exports at most 150 series by default: the machine's part of them does not grow with its devices.
#[test]
fn a_large_machine_leaves_as_few_series_by_default_as_a_small_one() {
    let count = |name: &str| {
        let mut machine = Machine::start("two-nodes", name);
        machine.sample();
        machine.sample();
        let level = |id| machine.table.series_of(id).expect("living").metric.level;
        machine.tick.values.iter().filter(|(id, _)| level(*id) == Level::Default).count()
    };
    let new = ["disk", "frequency", "load", "network", "numa", "paging", "run_queue"];
    let counts = new.map(|name| (name, count(name)));
    let sum: usize = counts.iter().map(|(_, count)| count).sum();
    assert_eq!(sum, 20, "{counts:?}");
}
