//! What one look at the machine costs, beside what it costs with `sysinfo` and `procfs`.
//!
//! `cargo bench -p perfwatch-probes`. Values are hot: the loop has the kernel's and the CPU's caches to itself. In an agent
//! that wakes once a second the same work takes two to five times as long.
#![allow(missing_docs, reason = "the macro's function has none")]
#![allow(clippy::disallowed_methods, reason = "the benchmark starts the processes that it looks at")]

use std::hint::black_box;
use std::path::Path;
use std::process::{Child, Command};

use criterion::{Criterion, criterion_group, criterion_main};
use perfwatch_model::{Entity, EntityId, EntityKind, Sample, SeriesTable, Stamp, Tick};
use perfwatch_probes::{Probe, ProbeContext, host};
use procfs::{Current, CurrentSI};
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

/// Some of the host probes on the running machine.
struct Probes {
    table: SeriesTable,
    open: Vec<Box<dyn Probe>>,
    served: EntityId,
    tick: Tick,
    second: u64,
}

impl Probes {
    fn open(names: &[&str]) -> Self {
        Self::open_in(names, None)
    }

    fn open_in(names: &[&str], recorded: Option<&str>) -> Self {
        let mut table = SeriesTable::new();
        let here = table.entity(Entity::new(EntityKind::Host, "here"));
        let served = table.entity(Entity::new(EntityKind::Server, "served"));
        let mut context = ProbeContext::live(here);
        if let Some(tree) = recorded {
            let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(tree);
            (context.proc, context.cgroup, context.sys) = (tree.join("proc"), tree.join("cgroup"), tree.join("sys"));
        }
        let kinds = host::PROBES.iter().filter(|kind| names.contains(&kind.name()));
        let open = kinds.filter_map(|kind| kind.open(&context, &mut table).ok()).collect();
        Self { table, open, served, tick: Tick::default(), second: 0 }
    }

    fn watch(&mut self, pids: &[u32]) {
        for probe in &mut self.open {
            probe.watch(&[(self.served, pids.to_vec())]);
        }
    }

    fn sample(&mut self) -> usize {
        self.second += 1;
        self.tick.clear();
        let now = Stamp { mono_ns: self.second * 1_000_000_000, wall_ns: 0 };
        for probe in &mut self.open {
            probe.sample(now, &mut Sample::new(&mut self.table, &mut self.tick));
        }
        self.tick.values.len()
    }
}

/// Processes that do nothing, ended when dropped.
struct Sleepers(Vec<Child>);

impl Sleepers {
    fn start(count: usize) -> Self {
        Self((0..count).map(|_| Command::new("sleep").arg("600").spawn().expect("sleep is in the path")).collect())
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// CPU, memory and pressure: five files.
fn machine(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("machine");
    let mut five = Probes::open(&["cpu", "memory", "pressure"]);
    group.bench_function("perfwatch", |bencher| bencher.iter(|| five.sample()));
    let mut eight = Probes::open(&["cpu", "memory", "pressure", "disk", "network", "load"]);
    group.bench_function("perfwatch, eight files", |bencher| bencher.iter(|| eight.sample()));
    let mut groups_too = Probes::open(&["cpu", "memory", "pressure", "cgroup"]);
    group.bench_function("perfwatch with control groups", |bencher| bencher.iter(|| groups_too.sample()));
    group.bench_function("procfs", |bencher| {
        bencher.iter(|| {
            black_box(procfs::KernelStats::current().expect("procfs"));
            black_box(procfs::Meminfo::current().expect("procfs"));
            // Absent without CONFIG_PSI, as it is for perfwatch then.
            let _ = black_box(procfs::CpuPressure::current());
            let _ = black_box(procfs::MemoryPressure::current());
            let _ = black_box(procfs::IoPressure::current());
        });
    });
    let mut system = System::new().expect("this system is known to it");
    // It knows no pressure, and skips the CPU when asked more often than every 200 ms.
    group.bench_function("sysinfo (memory, CPU list)", |bencher| {
        bencher.iter(|| {
            system.refresh_cpu_all();
            system.refresh_memory();
        });
    });
    group.finish();
}

/// Every probe alone, and beside the five of `procfs` that read the same files.
fn each(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("each");
    for kind in host::PROBES {
        let mut probe = Probes::open(&[kind.name()]);
        // What this machine lacks has no row.
        if probe.open.is_empty() {
            continue;
        }
        probe.watch(&[std::process::id()]);
        group.bench_function(kind.name(), |bencher| bencher.iter(|| probe.sample()));
    }
    group.bench_function("procfs: diskstats", |bencher| bencher.iter(|| procfs::diskstats().expect("procfs")));
    group.bench_function("procfs: net/dev", |bencher| bencher.iter(|| procfs::net::dev_status().expect("procfs")));
    group.bench_function("procfs: loadavg", |bencher| bencher.iter(|| procfs::LoadAverage::current().expect("procfs")));
    group.bench_function("procfs: vmstat", |bencher| bencher.iter(|| procfs::vmstat().expect("procfs")));
    group.bench_function("procfs: stat", |bencher| bencher.iter(|| procfs::KernelStats::current().expect("procfs")));
    group.finish();
}

/// What machines have that this one may lack, from recorded trees of ordinary files: the arithmetic, not the kernel's part.
fn recorded(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("recorded");
    for name in ["frequency", "numa"] {
        let mut probe = Probes::open_in(&[name], Some("two-nodes"));
        group.bench_function(name, |bencher| bencher.iter(|| probe.sample()));
    }
    group.finish();
}

/// What one model server gets of the machine.
fn served(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("served");
    let threads: Vec<_> = (0..15).map(|_| std::thread::spawn(std::thread::park)).collect();
    let mut probes = Probes::open(&["served"]);
    let own = [std::process::id()];
    probes.watch(&own);
    group.bench_function("1 process, 16 threads", |bencher| bencher.iter(|| probes.sample()));
    // Told its pids again, it looks for new threads and children, as it does whenever the machine has started a task.
    group.bench_function("1 process, 16 threads, new tasks", |bencher| {
        bencher.iter(|| {
            probes.watch(&own);
            probes.sample()
        });
    });
    for thread in threads {
        thread.thread().unpark();
        thread.join().expect("parked only");
    }
    let sleepers = Sleepers::start(16);
    let pids: Vec<u32> = sleepers.0.iter().map(Child::id).collect();
    probes.watch(&pids);
    group.bench_function("16 processes", |bencher| bencher.iter(|| probes.sample()));
    group.bench_function("16 processes, new tasks", |bencher| {
        bencher.iter(|| {
            probes.watch(&pids);
            probes.sample()
        });
    });
    group.finish();
}

/// The list of all processes, filled up to 300.
fn processes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("300 processes");
    let mut probes = Probes::open(&["process"]);
    probes.sample();
    let running = probes.open[0].processes().expect("this probe lists them").rows.len();
    let _sleepers = Sleepers::start(300_usize.saturating_sub(running));
    group.bench_function("perfwatch", |bencher| bencher.iter(|| probes.sample()));
    group.bench_function("procfs", |bencher| {
        bencher.iter(|| {
            let all = procfs::process::all_processes().expect("procfs");
            all.filter_map(|process| process.ok()?.stat().ok()).map(|stat| stat.utime).sum::<u64>()
        });
    });
    let mut system = System::new().expect("this system is known to it");
    let kind = ProcessRefreshKind::nothing().with_cpu().with_memory().without_tasks();
    group.bench_function("sysinfo (CPU and memory, no tasks)", |bencher| {
        bencher.iter(|| system.refresh_processes_specifics(ProcessesToUpdate::All, true, kind));
    });
    group.finish();
}

criterion_group!(benches, machine, each, recorded, served, processes);
criterion_main!(benches);
