//! Both versions of control groups, and servers inside them, from recorded trees that the tests let move on.

mod recording;

use std::fs;

use perfwatch_model::metrics::{host as metrics, process, server};
use perfwatch_model::{Attr, Entity, EntityKind, Number, SeriesTable};
use perfwatch_probes::{ProbeContext, host};
use recording::Machine;

const POD: &str = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod7f.slice";
const CONTAINER: &str =
    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod7f.slice/cri-containerd-3c1.scope";

fn v2_stat(periods: u64, throttled: u64, us: u64) -> String {
    format!("usage_usec 6500000\nnr_periods {periods}\nnr_throttled {throttled}\nthrottled_usec {us}\n")
}

#[test]
fn version_2_gives_the_tightest_limit_of_the_ancestors() {
    let mut machine = Machine::start("v2-pod", "cgroup");
    machine.serve(4021);
    machine.sample();
    let group = machine.cgroup(CONTAINER);
    assert_eq!(machine.value(&metrics::CGROUP_CPU_LIMIT, group, &[]), Some(Number::Float(1.5)));
    // The container has no memory limit of its own, its pod has.
    assert_eq!(machine.int(&metrics::CGROUP_MEMORY_LIMIT, group), 4 << 30);
    assert_eq!(machine.int(&metrics::CGROUP_MEMORY_USAGE, group), 600_000_000);
    assert_eq!(machine.int(&metrics::CGROUP_CPU_TIME, group), 6_000_000_000);
    let event =
        |name| machine.value(&metrics::CGROUP_MEMORY_EVENTS, group, &[Attr::fixed("perfwatch.cgroup.event", name)]);
    assert_eq!((event("oom_kill"), event("high")), (Some(Number::Int(1)), Some(Number::Int(4))));
    let stalls = [Attr::fixed("perfwatch.pressure.resource", "memory"), Attr::fixed("perfwatch.pressure.kind", "full")];
    assert_eq!(machine.value(&metrics::PRESSURE_TIME, group, &stalls), Some(Number::Int(1_000_000)));
}

#[test]
fn a_group_without_a_limit_says_so_and_not_that_it_cannot_be_read() {
    let mut machine = Machine::start("v2-pod", "cgroup");
    machine.sample();
    let own = machine.cgroup("/system.slice/perfwatch.service");
    assert_eq!(machine.reason(&metrics::CGROUP_CPU_LIMIT, own), Some(&*host::NO_QUOTA.text));
    assert!(machine.reason(&metrics::CGROUP_MEMORY_LIMIT, own).is_some_and(|text| text.contains("no memory limit")));
    assert!(machine.reason(&metrics::CGROUP_THROTTLED_TIME, own).is_none());
}

#[test]
fn throttling_by_the_pods_limit_counts_and_throttling_by_both_counts_once() {
    let mut machine = Machine::start("v2-pod", "cgroup");
    machine.serve(4021);
    machine.sample();
    let group = machine.cgroup(CONTAINER);
    assert_eq!(machine.int(&metrics::CGROUP_THROTTLED_TIME, group), 0, "what was before is not ours");
    machine.write(&format!("cgroup{POD}/cpu.stat"), &v2_stat(510, 12, 1_100_000));
    machine.write(&format!("cgroup{CONTAINER}/cpu.stat"), &v2_stat(510, 22, 1_000_000));
    machine.sample();
    assert_eq!(machine.int(&metrics::CGROUP_THROTTLED_TIME, group), 300_000_000);
    assert_eq!(machine.int(&metrics::CGROUP_THROTTLED_PERIODS, group), 5);
    assert_eq!(machine.int(&metrics::CGROUP_PERIODS, group), 10);
    // A counter that goes back (the group was made anew) takes nothing away.
    machine.write(&format!("cgroup{POD}/cpu.stat"), &v2_stat(0, 0, 0));
    machine.sample();
    assert_eq!(machine.int(&metrics::CGROUP_THROTTLED_TIME, group), 300_000_000);
}

#[test]
fn a_group_that_was_made_anew_is_read_anew_and_one_without_a_server_is_forgotten() {
    let mut machine = Machine::start("v2-pod", "cgroup");
    machine.serve(4021);
    machine.sample();
    machine.cgroup(CONTAINER);
    // The server said goodbye, and its process lives on.
    machine.leave();
    machine.sample();
    assert_eq!(machine.table.find_entity(EntityKind::Cgroup, CONTAINER), None);
    machine.serve(4021);
    machine.sample();
    // Between two looks the service is started anew.
    machine.make_anew(&format!("cgroup{CONTAINER}"));
    machine.fork(4021, 5021);
    machine.write(
        &format!("cgroup{CONTAINER}/cpu.stat"),
        "usage_usec 250\nnr_periods 1\nnr_throttled 0\nthrottled_usec 0\n",
    );
    machine.write(&format!("cgroup{CONTAINER}/memory.current"), "4096\n");
    machine.serve(5021);
    machine.sample();
    let group = machine.cgroup(CONTAINER);
    assert_eq!(machine.int(&metrics::CGROUP_CPU_TIME, group), 250_000);
    assert_eq!(machine.int(&metrics::CGROUP_MEMORY_USAGE, group), 4096);
}

#[test]
fn a_server_that_is_started_anew_in_a_group_of_the_same_name_has_the_quota_of_the_new_one() {
    let mut machine = Machine::start("v2-pod", "served");
    let served = machine.serve(4021);
    machine.sample();
    machine.write(&format!("cgroup{CONTAINER}/cpu.stat"), &v2_stat(510, 28, 1_000_000));
    machine.sample();
    assert_eq!(machine.int(&server::CPU_THROTTLED, served), 100_000_000);
    machine.make_anew(&format!("cgroup{CONTAINER}"));
    machine.write(&format!("cgroup{CONTAINER}/cpu.max"), "50000 100000\n");
    machine.write(&format!("cgroup{CONTAINER}/cpu.stat"), &v2_stat(3, 1, 200_000));
    machine.fork(4021, 5021);
    machine.probe.watch(&[(served, vec![5021])]);
    machine.sample();
    assert_eq!(machine.value(&server::CPU_QUOTA, served, &[]), Some(Number::Float(0.5)));
    assert_eq!(machine.int(&server::CPU_THROTTLED, served), 100_000_000, "what was before is not ours");
    machine.write(&format!("cgroup{CONTAINER}/cpu.stat"), &v2_stat(5, 2, 300_000));
    machine.sample();
    assert_eq!(machine.int(&server::CPU_THROTTLED, served), 200_000_000, "and goes on");
}

#[test]
fn version_1_is_read_through_a_containers_own_mounts() {
    let mut machine = Machine::start("v1-docker", "cgroup");
    machine.sample();
    let group = machine.cgroup("/docker/9f2");
    assert_eq!(machine.value(&metrics::CGROUP_CPU_LIMIT, group, &[]), Some(Number::Float(0.7)));
    assert_eq!(machine.int(&metrics::CGROUP_CPU_TIME, group), 123_456_789_012);
    assert_eq!(machine.int(&metrics::CGROUP_MEMORY_LIMIT, group), 1 << 30);
    let event =
        |name| machine.value(&metrics::CGROUP_MEMORY_EVENTS, group, &[Attr::fixed("perfwatch.cgroup.event", name)]);
    assert_eq!((event("max"), event("oom_kill"), event("high")), (Some(Number::Int(17)), Some(Number::Int(2)), None));
    assert!(machine.reason(&metrics::PRESSURE_TIME, group).is_some_and(|text| text.contains("version 1")));
    machine.write("cgroup/cpu,cpuacct/cpu.stat", "nr_periods 110\nnr_throttled 67\nthrottled_time 5700000000\n");
    machine.sample();
    assert_eq!(machine.int(&metrics::CGROUP_THROTTLED_TIME, group), 700_000_000);
    assert_eq!(machine.int(&metrics::CGROUP_THROTTLED_PERIODS, group), 7);
}

#[test]
fn version_1_writes_its_largest_number_for_no_limit() {
    let mut machine = Machine::start("v1-docker", "cgroup");
    machine.write("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    machine.write("cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    machine.sample();
    let group = machine.cgroup("/docker/9f2");
    assert!(machine.value(&metrics::CGROUP_MEMORY_LIMIT, group, &[]).is_none());
    assert_eq!(machine.reason(&metrics::CGROUP_CPU_LIMIT, group), Some(&*host::NO_QUOTA.text));
}

#[test]
fn a_limit_that_cannot_be_read_is_not_the_same_as_none() {
    let mut machine = Machine::start("v2-pod", "cgroup");
    machine.serve(4021);
    machine.sample();
    let group = machine.cgroup(CONTAINER);
    let limits = |machine: &Machine| {
        [&metrics::CGROUP_CPU_LIMIT, &metrics::CGROUP_MEMORY_LIMIT].map(|metric| {
            machine.value(metric, group, &[]).ok_or_else(|| machine.reason(metric, group).map(str::to_owned))
        })
    };
    assert!(limits(&machine).iter().all(Result::is_ok));
    for file in ["cpu.max", "memory.max"] {
        machine.write(&format!("cgroup{CONTAINER}/{file}"), "");
    }
    machine.sample();
    for limit in limits(&machine) {
        let why = limit.expect_err("unknown").expect("and told");
        assert!(why.contains("cannot be read"), "{why}");
    }
}

/// `/proc/pid/stat` with this much user time.
fn stat(pid: u32, ticks: u64) -> String {
    format!(
        "{pid} (python3) S 1 1 1 0 -1 0 0 0 0 0 {ticks} 40 7 8 20 0 2 0 123456 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 17 1 0 0\n"
    )
}

/// `/proc/stat` of four CPUs with this much user time each.
fn cpus(user: [u64; 4]) -> String {
    use std::fmt::Write;
    let mut text = format!("cpu  {} 0 0 9000 0 0 0 0 0 0\n", user.iter().sum::<u64>());
    for (cpu, user) in user.iter().enumerate() {
        let _ = writeln!(text, "cpu{cpu} {user} 0 0 2000 0 0 0 {} 0 0", user / 100);
    }
    text
}

#[test]
fn a_server_is_its_tree_and_others_are_who_else_ran_on_its_cpus() {
    let mut machine = Machine::start("v2-pod", "served");
    machine.write("proc/stat", &cpus([300; 4]));
    let served = machine.serve(4021);
    machine.sample();
    // The server may use CPUs 0 and 1, the loader it started CPU 2.
    assert_eq!(machine.int(&server::CPU_CAPACITY, served), 3);
    assert_eq!(machine.value(&server::CPU_QUOTA, served, &[]), Some(Number::Float(1.5)));
    assert_eq!((machine.int(&server::CPU_TIME, served), machine.int(&server::CPU_OTHERS, served)), (0, 0));
    // In one second the server runs .3 s, its loader .5 s; the three CPUs ran 2 s; CPU 3 is none of its business.
    machine.write("proc/stat", &cpus([400, 350, 350, 400]));
    machine.write("proc/4021/stat", &stat(4021, 280));
    machine.write("proc/4025/stat", &stat(4025, 300));
    machine.write("proc/4021/task/4022/schedstat", "1300000001 95000001 150\n");
    machine.write(&format!("cgroup{CONTAINER}/cpu.stat"), &v2_stat(510, 28, 1_000_000));
    machine.sample();
    assert_eq!(machine.int(&server::CPU_TIME, served), 800_000_000);
    assert_eq!(machine.int(&server::CPU_OTHERS, served), 1_200_000_000);
    assert_eq!(machine.int(&server::CPU_STEAL, served), 10_000_000);
    assert_eq!(machine.int(&server::CPU_RUN_DELAY, served), 75_000_000);
    assert_eq!(machine.value(&server::HOTTEST_THREAD, served, &[]), Some(Number::Float(0.3)));
    assert_eq!(machine.int(&server::CPU_THROTTLED, served), 100_000_000);
    assert_eq!(machine.int(&server::CPU_THROTTLED_PERIODS, served), 8);
}

#[test]
fn a_cpu_that_is_unplugged_leaves_the_capacity() {
    let mut machine = Machine::start("v1-docker", "served");
    let served = machine.serve(31);
    machine.sample();
    assert_eq!(machine.int(&server::CPU_CAPACITY, served), 4);
    let four = cpus([300; 4]);
    let three: String = four.split_inclusive('\n').filter(|line| !line.starts_with("cpu2")).collect();
    machine.write("proc/stat", &three);
    machine.sample();
    assert_eq!(machine.int(&server::CPU_CAPACITY, served), 3);
}

#[test]
fn threads_and_processes_that_end_take_nothing_away() {
    let mut machine = Machine::start("v2-pod", "served");
    let served = machine.serve(4021);
    machine.sample();
    machine.write("proc/4021/task/4022/schedstat", "1300000001 95000001 150\n");
    machine.write("proc/4025/stat", &stat(4025, 300));
    machine.sample();
    assert_eq!(machine.int(&server::CPU_RUN_DELAY, served), 75_000_000);
    fs::remove_dir_all(machine.folder.path().join("proc/4021/task/4022")).expect("present");
    fs::remove_dir_all(machine.folder.path().join("proc/4025")).expect("present");
    machine.write("proc/4021/task/4021/children", "");
    machine.sample();
    assert_eq!(machine.int(&server::CPU_RUN_DELAY, served), 75_000_000);
    assert_eq!(machine.int(&server::CPU_TIME, served), 500_000_000);
}

#[test]
fn what_cannot_be_read_has_a_reason_and_no_value() {
    let mut machine = Machine::start("v2-pod", "served");
    let served = machine.serve(4021);
    machine.write("proc/4021/task/4022/schedstat", "0 0 0\n");
    machine.write("proc/4021/task/4021/schedstat", "0 0 0\n");
    machine.write("proc/4025/task/4025/schedstat", "0 0 0\n");
    machine.write("proc/stat", "intr 0\n");
    machine.sample();
    machine.write("proc/4021/stat", &stat(4021, 280));
    machine.sample();
    for metric in [&server::CPU_RUN_DELAY, &server::CPU_OTHERS, &server::CPU_STEAL] {
        assert!(machine.value(metric, served, &[]).is_none(), "{}", metric.name);
        assert!(machine.reason(metric, served).is_some(), "{}", metric.name);
    }
    let gone = machine.serve(9999);
    machine.sample();
    assert!(machine.reason(&server::CPU_CAPACITY, gone).is_some_and(|text| text.contains("not visible")));
    assert!(machine.tick.values.is_empty());
}

#[test]
fn a_server_started_by_another_is_its_own() {
    let mut machine = Machine::start("v2-pod", "served");
    let parent = machine.table.entity(Entity::new(EntityKind::Server, "parent"));
    let child = machine.table.entity(Entity::new(EntityKind::Server, "child"));
    machine.probe.watch(&[(parent, vec![4021]), (child, vec![4025])]);
    machine.sample();
    machine.write("proc/4025/stat", &stat(4025, 300));
    machine.sample();
    assert_eq!(machine.int(&server::CPU_TIME, parent), 0);
    assert_eq!(machine.int(&server::CPU_TIME, child), 500_000_000);
    assert_eq!((machine.int(&server::CPU_CAPACITY, parent), machine.int(&server::CPU_CAPACITY, child)), (2, 1));
}

#[test]
fn a_process_that_is_no_longer_named_leaves_with_what_it_started() {
    let mut machine = Machine::start("v2-pod", "served");
    let served = machine.serve(4021);
    machine.sample();
    assert_eq!(machine.int(&server::CPU_CAPACITY, served), 3);
    machine.probe.watch(&[(served, vec![])]);
    machine.sample();
    assert!(machine.tick.values.is_empty());
    // Found as a child first and named as another server's later, it changes hands.
    let other = machine.table.entity(Entity::new(EntityKind::Server, "other"));
    machine.probe.watch(&[(served, vec![4021])]);
    machine.sample();
    machine.probe.watch(&[(served, vec![4021]), (other, vec![4025])]);
    machine.sample();
    assert_eq!((machine.int(&server::CPU_CAPACITY, served), machine.int(&server::CPU_CAPACITY, other)), (2, 1));
}

#[test]
fn a_server_that_is_moved_is_followed_and_keeps_what_it_was_denied() {
    let mut machine = Machine::start("v2-pod", "served");
    let served = machine.serve(4021);
    machine.sample();
    machine.write(&format!("cgroup{CONTAINER}/cpu.stat"), &v2_stat(510, 28, 1_000_000));
    machine.sample();
    machine.write("proc/4021/cgroup", "0::/system.slice/perfwatch.service\n");
    machine.sample();
    assert_eq!(machine.int(&server::CPU_THROTTLED, served), 100_000_000);
    assert_eq!(machine.reason(&server::CPU_QUOTA, served), Some(&*host::NO_QUOTA.text));
    // Outside of the agent's cgroup namespace: what was known is no longer, and nothing is made up.
    machine.write("proc/4021/cgroup", "0::/../other.slice\n");
    machine.sample();
    assert!(machine.value(&server::CPU_THROTTLED, served, &[]).is_none());
    assert!(machine.reason(&server::CPU_THROTTLED, served).is_some_and(|text| text.contains("not visible")));
}

#[test]
fn a_kernel_without_pressure_stall_information_is_reported_with_the_cure() {
    let empty = tempfile::tempdir().expect("a temporary folder");
    let mut table = SeriesTable::new();
    let here = table.entity(Entity::new(EntityKind::Host, "here"));
    let at = || empty.path().into();
    let context = ProbeContext { proc: at(), cgroup: at(), sys: at(), host: here };
    let (_, closed) = host::open_all(&context, &mut table);
    let (_, reason) = closed.iter().find(|(name, _)| *name == "pressure").expect("not opened");
    assert!(reason.cure.contains("CONFIG_PSI"), "{reason:?}");
}

#[test]
fn the_process_list_is_redacted_and_only_watched_processes_become_series() {
    let mut machine = Machine::start("v2-pod", "process");
    machine.write("proc/4025/cmdline", "evil\0\x1b[2J\0");
    machine.serve(4021);
    machine.sample();
    let list = machine.probe.processes().expect("this probe lists them");
    assert_eq!(list.get(4021).expect("listed").command, "python3 serve.py --api-key [redacted]");
    assert_eq!(list.get(4025).expect("listed").command, "", "nobody watches it, so its memory is left alone");
    assert_eq!(list.rows.len(), 2);
    let entity = machine.table.find_entity(EntityKind::Process, "4021:123456").expect("watched");
    assert!(machine.table.find_entity(EntityKind::Process, "4025:123456").is_none());
    assert_eq!(machine.int(&process::THREAD_COUNT, entity), 2);
    machine.write("proc/4021/stat", &stat(4021, 300));
    machine.sample();
    assert_eq!(machine.probe.processes().expect("lists").get(4021).expect("listed").cpus, Some(0.5));
}

#[test]
fn idle_time_that_goes_back_and_cpus_that_come_and_go_keep_the_counters_rising() {
    let mut machine = Machine::start("v1-docker", "cpu");
    let host = machine.table.find_entity(EntityKind::Host, "here").expect("made first");
    let idle = [Attr::fixed("cpu.mode", "idle")];
    machine.sample();
    let before = machine.value(&metrics::CPU_TIME, host, &idle).and_then(Number::as_int).expect("has a value");
    machine.write("proc/stat", "cpu  1010 20 300 7990 40 5 10 3 50 0\ncpu0 250 5 75 1990 10 2 3 1 0 0\n");
    machine.sample();
    assert_eq!(machine.value(&metrics::CPU_TIME, host, &idle).and_then(Number::as_int), Some(before));
    assert_eq!(machine.int(&metrics::CPU_COUNT, host), 1);
    let core = |cpu| [Attr::int("cpu.logical_number", cpu), Attr::fixed("cpu.mode", "user")];
    assert!(machine.value(&metrics::CPU_CORE_TIME, host, &core(0)).is_some());
    assert!(machine.value(&metrics::CPU_CORE_TIME, host, &core(3)).is_none(), "an unplugged CPU has no value");
}
