//! One GPU tick of eight devices: from the probe's question to the sealed tick, NVML replaced by a scripted library.
//!
//! It measures what perfwatch adds to the driver's own time: the wrapper, the hand-over to the NVML thread and back, the sample.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use perfwatch_model::{Entity, EntityKind, Sample, SeriesTable, Stamp, Tick};
use perfwatch_probes::gpu::{GpuContext, Vendor, nvidia::Nvidia};
use serde_json::json;

fn eight_gpus() -> String {
    let fields: Vec<_> = [82, 197, 198, 94, 74, 76, 269, 270, 271, 3, 4, 142, 143, 144, 145, 230]
        .map(|id| json!({"id": id, "type": "unsigned_long_long", "value": {"start": 0, "per_second": 1000}}))
        .into();
    let device = |index: u32| {
        json!({
            "uuid": format!("GPU-{index}"), "name": "NVIDIA H100 80GB HBM3", "pci": format!("00000000:{index:02X}:00.0"),
            "utilization": {"gpu": {"cycle": [10, 97]}, "memory": 40},
            "memory": {"total": 85_520_809_984_u64, "used": 70_000_000_000_u64},
            "power_mw": {"cycle": [350_000, 690_000]}, "power_limit_mw": 700_000,
            "energy_mj": {"start": 1_000_000, "per_second": 690_000}, "temperature_c": 61,
            "clocks_mhz": {"sm": 1980, "memory": 2619}, "max_clocks_mhz": {"sm": 1980, "memory": 2619},
            "application_clocks_mhz": {"graphics": 1980, "memory": 2619},
            "default_application_clocks_mhz": {"graphics": 1980, "memory": 2619}, "encoder": 0, "decoder": 0,
            "pcie": {"generation": 5, "width": 16, "max_generation": 5, "max_width": 16}, "throttle_reasons": 4,
            "processes": {"compute": [{"pid": 4242, "used": 70_000_000_000_u64}], "graphics": [], "mps": []},
            "process_utilization": [{"pid": 4242, "timestamp_us": {"start": 0, "per_second": 1_000_000}, "sm": 80}],
            "gpm": {"1": 90, "2": 80, "3": 30, "4": 1, "5": 60, "10": 40, "11": 0, "12": 5, "13": 5}, "xids": [],
            "fields": fields
        })
    };
    json!({"devices": (0..8).map(device).collect::<Vec<_>>()}).to_string()
}

fn gpu_tick(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temp dir");
    let library = fake_nvml::install(dir.path(), &eight_gpus()).expect("installs");
    let mut table = SeriesTable::new();
    let mut tick = Tick::default();
    let host = table.entity(Entity::new(EntityKind::Host, "bench"));
    let context = GpuContext { host_pids: true, ..GpuContext::live(host, Some(library)) };
    let mut probe = Nvidia.open(&context);
    let mut mono_ns = 0;
    let mut sample = || {
        mono_ns += 1_000_000_000;
        tick.clear();
        probe.sample(Stamp { mono_ns, wall_ns: mono_ns }, &mut Sample::new(&mut table, &mut tick));
        tick.seal();
        tick.values.len()
    };
    assert!(sample() > 8 * 12, "the devices are read");
    // GPM is asked no more often than each 100 ms, so that a tick at once after another goes without.
    criterion.bench_function("gpu_tick/8_devices_without_gpm", |bencher| bencher.iter(|| black_box(sample())));
    let mut group = criterion.benchmark_group("gpu_tick");
    group.sample_size(10).bench_function("8_devices", |bencher| {
        bencher.iter_custom(|ticks| {
            (0..ticks)
                .map(|_| {
                    std::thread::sleep(Duration::from_millis(110));
                    let started = now();
                    black_box(sample());
                    started.elapsed()
                })
                .sum()
        });
    });
    group.finish();
}

#[allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn now() -> Instant {
    Instant::now()
}

criterion_group!(benches, gpu_tick);
criterion_main!(benches);
