//! What a second costs the agent where a thousand processes run, and all of them are on a GPU.
//!
//! A whole agent: its probes, its journal, its snapshot; the processes are real ones that sleep, and NVML is a scripted library
//! that lists them. Beside it the same with one process. What is told is CPU time of the whole process, in a second: that of the
//! scripted library is in it, and of a real driver is not.

#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]
#![allow(clippy::disallowed_methods, reason = "the benchmark starts the processes that the agent looks at")]

use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, criterion_group, criterion_main};
use perfwatch_agent::{Agent, Config, Environment, Flags, Role, Running, SystemClock};
use perfwatch_model::Snapshot;
use serde_json::json;

/// Processes are listed each 5 s and those of a GPU each 2 s: this long has whole numbers of both.
const SAMPLE_S: u64 = 10;
/// As few as criterion takes.
const SAMPLES: u64 = 10;

/// Processes that do nothing, ended when dropped.
struct Sleepers(Vec<Child>);

impl Sleepers {
    fn start(count: usize) -> Self {
        Self((0..count).map(|_| Command::new("sleep").arg("1200").spawn().expect("sleep is in the path")).collect())
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

/// A GPU on which these hold memory and compute in turns.
fn scenario(pids: &[u32]) -> String {
    let listed: Vec<_> = pids.iter().map(|pid| json!({"pid": pid, "used": 50_000_000})).collect();
    let newest = json!({"start": 0, "per_second": 1_000_000});
    let shares: Vec<_> = pids.iter().map(|pid| json!({"pid": pid, "timestamp_us": newest, "sm": 1})).collect();
    json!({"devices": [{
        "uuid": "GPU-1", "name": "NVIDIA H100 80GB HBM3", "utilization": {"gpu": 90, "memory": 40},
        "memory": {"total": 85_520_809_984_u64, "used": 60_000_000_000_u64},
        "power_mw": 350_000, "power_limit_mw": 700_000, "temperature_c": 61,
        "clocks_mhz": {"sm": 1980, "memory": 2619}, "max_clocks_mhz": {"sm": 1980, "memory": 2619},
        "gpm": {"1": 90, "2": 80, "3": 30, "5": 60, "10": 40}, "xids": [],
        "processes": {"compute": listed}, "process_utilization": shares
    }]})
    .to_string()
}

async fn start(folder: &std::path::Path, pids: &[u32]) -> Running {
    let library = fake_nvml::install(folder, &scenario(pids)).expect("the scripted library installs");
    let flags = Flags { file: None, values: vec![("nvml_lib".to_owned(), library.display().to_string())] };
    let config = Config::load(&flags, Environment::default()).expect("a valid configuration");
    let agent = Agent::start(config, Role::Private(folder.to_owned()), Arc::new(SystemClock)).await;
    let agent = agent.expect("the agent starts");
    let mut snapshots = agent.subscribe();
    while !is_complete(&snapshots.next().await.expect("the agent runs"), pids.len() as u64) {}
    agent
}

/// Both lists are there, of the machine and of the GPU.
fn is_complete(snapshot: &Snapshot, count: u64) -> bool {
    let mut gpus = snapshot.devices.iter().filter_map(|device| device.gpu.as_ref());
    gpus.any(|gpu| {
        let listed = gpu.processes.len() as u64 + gpu.processes_left_out;
        listed == count && gpu.processes.iter().any(|process| process.name.is_some())
    })
}

fn process_cpu_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn scene(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut group = criterion.benchmark_group("a second of the agent");
    group.sampling_mode(SamplingMode::Flat).sample_size(SAMPLES as usize);
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(SAMPLES * SAMPLE_S));
    for count in [1, 1_000] {
        let sleepers = Sleepers::start(count);
        let pids: Vec<u32> = sleepers.0.iter().map(Child::id).collect();
        let folder = tempfile::tempdir().expect("a folder");
        let agent = runtime.block_on(start(folder.path(), &pids));
        group.bench_with_input(BenchmarkId::new("processes on a GPU, CPU time", count), &(), |bencher, ()| {
            bencher.iter_custom(|seconds| {
                let before = process_cpu_ns();
                runtime.block_on(async { tokio::time::sleep(Duration::from_secs(seconds)).await });
                Duration::from_nanos(process_cpu_ns() - before)
            });
        });
        runtime.block_on(agent.shutdown());
    }
    group.finish();
}

criterion_group!(benches, scene);
criterion_main!(benches);
