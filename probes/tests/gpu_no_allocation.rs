//! In the steady state neither a tick of GPUs nor the NVML thread allocates. Alone in its binary: it replaces the allocator.

mod rig;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use perfwatch_model::{GpuSlot, Reading};
use serde_json::json;

use rig::{Bench, install, temp};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, counting what any thread asks of it. The scripted NVML has an allocator of its own.
struct Counting;

#[allow(unsafe_code, reason = "an allocator cannot be replaced without")]
// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Nine devices, of which one has no GPM, and counters of its link that are read each tenth of a second, and the last supports next to nothing, or fails: absence must cost nothing either.
fn scenario() -> String {
    let device = |index: u32| {
        json!({
            "uuid": format!("GPU-{index}"), "utilization": {"gpu": {"cycle": [60, 97]}, "memory": 40},
            "memory": {"total": 85_520_809_984_u64, "used": {"cycle": [7_000_000, 8_000_000]}},
            "power_mw": 350_000, "power_limit_mw": 700_000, "energy_mj": {"start": 5, "per_second": 350_000},
            "temperature_c": 61, "clocks_mhz": {"sm": 1980, "memory": 2619}, "max_clocks_mhz": {"sm": 1980, "memory": 2619},
            "encoder": 0, "decoder": 7, "throttle_reasons": 4,
            "pcie": {"generation": 5, "width": 16, "max_generation": 5, "max_width": 16},
            "processes": {"compute": [{"pid": 9, "used": 700}, {"pid": 7}], "graphics": [], "mps": [{"pid": 9, "used": 5}]},
            "process_utilization": [{"pid": 9, "timestamp_us": {"start": 5, "per_second": 1_000_000}, "sm": 80}],
            "gpm": {"1": 90, "2": 80, "10": 40, "20": 900, "21": 100}, "xids": [[0, 31]],
            // Every other one is of before Hopper.
            "temperature_limits_c": if index.is_multiple_of(2) { json!({"gpu_max": 85}) } else { json!({}) },
            "temperature_margin_c": {"cycle": [24, 23]},
            "fields": [{"id": 74, "type": "unsigned_long_long", "value": {"start": 0, "per_second": 1000}},
                {"id": 145, "type": "unsigned_int", "value": 0}]
        })
    };
    let mut devices: Vec<_> = (0..7).map(device).collect();
    let samples = json!({"percent": {"cycle": [20, 70]}, "period_ms": 50});
    let link = json!({"generation": 3, "width": 16, "max_generation": 3, "max_width": 16});
    let bytes = json!({"rates": [[0, 5e9]], "full_at": 4_294_967_296_u64});
    let counters = json!([{"id": 197, "type": "unsigned_int", "value": bytes}, {"id": 198, "type": "unsigned_int", "value": bytes}]);
    devices.push(json!({"uuid": "GPU-7", "utilization": {"gpu": 60, "memory": 40}, "utilization_samples": samples,
        "pcie": link, "fields": counters}));
    // What a driver refuses, or answers with a code that nobody knows, it does each time.
    let refusals = json!({"nvmlDeviceGetTemperature": "NO_PERMISSION", "nvmlDeviceGetPowerUsage": 27,
        "nvmlDeviceGetUtilizationRates": "TIMEOUT", "nvmlDeviceGetProcessUtilization": "NO_PERMISSION"});
    devices.push(json!({"uuid": "GPU-8", "errors": refusals, "processes": {"compute": [{"pid": 7}]}}));
    json!({"devices": devices}).to_string()
}

#[test]
fn gpus_are_sampled_without_an_allocation_in_the_steady_state() {
    let dir = temp();
    let mut bench = Bench::open(install(dir.path(), &scenario()), |_| ());
    // By the real clock at first and in the end: drivers sample utilisation by it.
    bench.sample_now();
    // Twice each thing that is done seldom: limits each 30 s.
    for tick in 0..70 {
        if tick % 20 == 0 {
            std::thread::sleep(Duration::from_millis(250));
        }
        bench.sample();
    }
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let values: usize = (0..70)
        .map(|tick| {
            // GPM wants 100 ms between two samples, and power 500 ms of energy.
            if tick % 35 == 0 {
                std::thread::sleep(Duration::from_millis(600));
            }
            bench.sample();
            bench.tick.values.len()
        })
        .sum();
    bench.sample_now();
    let allocated = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert!(values > 70 * 7 * 30, "{values} values");
    let rows = &bench.probe.devices()[0].processes;
    assert!(matches!(rows, Reading::Value(rows) if rows.len() == 2), "{rows:?}");
    let slots = &bench.probe.devices()[7].slots;
    assert!(slots.iter().any(GpuSlot::is_known), "{slots:?}");
    assert!(slots.iter().any(|slot| slot.link.get().is_some()), "{slots:?}");
    assert_eq!(allocated, 0, "in 70 ticks of {values} values");
    sample_old_drivers_in_a_namespace();
}

/// The same by a driver that lacks calls, in a pid namespace of our own, whether the pids are of it or not.
fn sample_old_drivers_in_a_namespace() {
    let device = json!({"uuid": "GPU-a", "memory": {"total": 9000, "used": 5}, "processes": {"compute": [{"pid": 9}]}});
    let missing = [
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetComputeRunningProcesses_v3",
        "nvmlDeviceGetGraphicsRunningProcesses_v3",
        "nvmlDeviceGetMPSComputeRunningProcesses_v3",
        "nvmlDeviceGetMPSComputeRunningProcesses_v2",
    ];
    let scenario = json!({"driver": "470.256.02", "missing": missing, "devices": [device]}).to_string();
    for is_ours in [true, false] {
        let dir = temp();
        if is_ours {
            std::fs::create_dir_all(dir.path().join("9/fd")).expect("created");
            std::fs::write(dir.path().join("9/status"), "Tgid:\t9\n").expect("written");
            std::os::unix::fs::symlink("/dev/nvidia0", dir.path().join("9/fd/3")).expect("linked");
        }
        let mut bench = Bench::open(install(dir.path(), &scenario), |context| {
            (context.host_pids, context.proc) = (false, dir.path().to_owned());
        });
        for _ in 0..70 {
            bench.sample();
        }
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..20 {
            bench.sample();
        }
        let allocated = ALLOCATIONS.load(Ordering::Relaxed) - before;
        assert_eq!(bench.probe.devices()[0].processes.as_value().is_some(), is_ours);
        assert_eq!(allocated, 0, "where the pids are ours: {is_ours}");
    }
}
