//! What sampling costs.

use std::time::Instant;

use nvml_wrapper::Nvml;
use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::gpm::gpm_metrics_get;
use perfwatch_model::Stamp;
use rustix::time::{ClockId, clock_gettime};

use crate::watch::{Watch, card, now};

/// How often each thing is done.
const TIMES: u32 = 100;
/// What is read seldom is read each 30 s of the clock that a sample is given.
const ALL_FAMILIES_NS: u64 = 30_000_000_000;
/// As long as GPM takes to refresh its counters.
const REFRESH_MS: u64 = 110;

/// What the probe asks GPM for, as far as the wrapper knows it.
const METRICS: [GpmMetricId; 13] = [
    GpmMetricId::GraphicsUtil,
    GpmMetricId::SmUtil,
    GpmMetricId::SmOccupancy,
    GpmMetricId::IntegerUtil,
    GpmMetricId::AnyTensorUtil,
    GpmMetricId::DramBwUtil,
    GpmMetricId::Fp64Util,
    GpmMetricId::Fp32Util,
    GpmMetricId::Fp16Util,
    GpmMetricId::PcieTxPerSec,
    GpmMetricId::PcieRxPerSec,
    GpmMetricId::NvlinkTotalRxPerSec,
    GpmMetricId::NvlinkTotalTxPerSec,
];

/// CPU time of this thread, in nanoseconds.
fn cpu_ns() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[test]
fn what_a_sample_and_a_round_of_gpm_cost() {
    let _alone = crate::alone();
    let card = card();
    println!("{} ({})\n", card.name, card.uuid);
    println!("| what | wall, µs | CPU, µs |\n|---|---|---|");
    let row = |what: &str, wall_ns: f64, cpu_ns: f64| {
        println!("| {what} | {:.0} | {:.0} |", wall_ns / 1e3 / f64::from(TIMES), cpu_ns / 1e3 / f64::from(TIMES));
    };

    let mut watch = Watch::open();
    watch.probe.allow(0);
    let mut at = now();
    let (mut wall_ns, cpu_before) = (0.0, cpu_ns() + watch.probe.own_threads_cpu_ns());
    for _ in 0..TIMES {
        at = Stamp { mono_ns: at.mono_ns + ALL_FAMILIES_NS, wall_ns: at.wall_ns + ALL_FAMILIES_NS };
        let began = Instant::now();
        watch.sample_at(at);
        wall_ns += began.elapsed().as_nanos() as f64;
    }
    let cpu = cpu_ns() + watch.probe.own_threads_cpu_ns() - cpu_before;
    row(&format!("a sample of all families, {} devices", watch.probe.devices().len()), wall_ns, cpu as f64);

    let nvml = Nvml::init().expect("the probe could");
    let device = nvml.device_by_uuid(card.uuid.as_str()).expect("nvidia-smi lists it");
    if !device.gpm_support().is_ok_and(|supported| supported) {
        println!("| a round of GPM | not supported | |");
        return;
    }
    let mut older = device.gpm_sample().expect("it is supported");
    let (mut wall_ns, mut cpu) = (0.0, 0);
    for _ in 0..TIMES {
        std::thread::sleep(std::time::Duration::from_millis(REFRESH_MS));
        let (began, cpu_before) = (Instant::now(), cpu_ns());
        let newer = device.gpm_sample().expect("it is supported");
        let told = gpm_metrics_get(&nvml, &older, &newer, &METRICS).expect("it is supported");
        wall_ns += began.elapsed().as_nanos() as f64;
        cpu += cpu_ns() - cpu_before;
        assert_eq!(told.len(), METRICS.len());
        older = newer;
    }
    row("a round of GPM, one device", wall_ns, cpu as f64);
}
