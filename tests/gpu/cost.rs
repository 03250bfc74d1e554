//! What sampling costs.

use std::time::{Duration, Instant};

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::gpm::gpm_metrics_get;
use nvml_wrapper::{Device, Nvml};
use perfwatch_model::Stamp;
use rustix::time::{ClockId, clock_gettime};

use crate::raw;
use crate::watch::{Watch, card, now};

/// How often each thing is done.
const TIMES: u32 = 100;
/// What is read seldom is read each 30 s of the clock that a sample is given.
const ALL_FAMILIES_NS: u64 = 30_000_000_000;
/// As long as GPM takes to refresh its counters.
const REFRESH: Duration = Duration::from_millis(110);
/// Seconds for which the probe runs as in an agent.
const SECONDS: u32 = 10;
/// What the driver answers while nothing else is asked; a mean would hide the call that took a second.
const HEAD: &str = "| what | median, µs | 99 of 100, µs | longest, µs | CPU, µs |\n|---|---|---|---|---|";

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

/// Does it over and over, and says how long it took. `cpu` is a clock of those who do it.
fn row(what: &str, pause: Duration, cpu: impl Fn() -> u64, mut work: impl FnMut() -> bool) {
    let (mut walls, mut cpu_ns, mut failed) = (Vec::new(), 0, 0);
    for _ in 0..TIMES {
        std::thread::sleep(pause);
        let (began, before) = (Instant::now(), cpu());
        failed += u32::from(!work());
        walls.push(began.elapsed().as_nanos() as f64 / 1e3);
        cpu_ns += cpu() - before;
    }
    walls.sort_by(f64::total_cmp);
    let at = |share: usize| walls[(walls.len() - 1) * share / 100];
    let failed = if failed == 0 { String::new() } else { format!(" ({failed} of {TIMES} failed)") };
    let cpu = cpu_ns as f64 / 1e3 / f64::from(TIMES);
    say!("| {what}{failed} | {:.1} | {:.1} | {:.1} | {cpu:.1} |", at(50), at(99), at(100));
}

#[test]
fn what_a_sample_and_a_round_of_gpm_cost() {
    let _alone = crate::alone();
    let card = card();
    let mut watch = Watch::open();
    let devices = watch.probe.devices().len();
    say!("{} ({}), {devices} devices\n\n{HEAD}", card.name, card.uuid);
    watch.probe.allow(0);
    let mut at = now();
    // Whoever works on it: this thread asks, the probe's answers.
    let before = watch.probe.own_threads_cpu_ns();
    row("a sample of all families, without the CPU time of the probe's thread", Duration::ZERO, cpu_ns, || {
        at = Stamp { mono_ns: at.mono_ns + ALL_FAMILIES_NS, wall_ns: at.wall_ns + ALL_FAMILIES_NS };
        watch.sample_at(at);
        true
    });
    let thread = (watch.probe.own_threads_cpu_ns() - before) as f64 / 1e3 / f64::from(TIMES);
    say!("| … that thread's part of it | | | | {thread:.1} |");

    let nvml = Nvml::init().expect("the probe could");
    let device = nvml.device_by_uuid(card.uuid.as_str()).expect("nvidia-smi lists it");
    gpm(&nvml, &device);
    each_call(&nvml, &device);

    // Opened anew: the clock of the one above is ahead by an hour.
    let mut watch = Watch::open();
    let (before, asked) = (watch.probe.own_threads_cpu_ns(), cpu_ns());
    (0..SECONDS).for_each(|_| watch.sample_next_second());
    let cpu = watch.probe.own_threads_cpu_ns() - before + cpu_ns() - asked;
    say!(
        "\na second of the probe at its own pace, GPM each 100 ms: {:.0} µs of CPU time, {:.3} % of a core, {devices} devices",
        cpu as f64 / 1e3 / f64::from(SECONDS),
        cpu as f64 / 1e7 / f64::from(SECONDS)
    );
}

fn gpm(nvml: &Nvml, device: &Device<'_>) {
    let mut older = match device.gpm_sample() {
        Ok(sample) => sample,
        Err(error) => return say!("| a round of GPM: {error} | | | | |"),
    };
    row("a round of GPM", REFRESH, cpu_ns, || {
        let Ok(newer) = device.gpm_sample() else { return false };
        let told = gpm_metrics_get(nvml, &older, &newer, &METRICS);
        older = newer;
        told.is_ok()
    });
}

/// The calls of a second, each alone.
fn each_call(nvml: &Nvml, device: &Device<'_>) {
    let call = |what: &str, work: &mut dyn FnMut() -> bool| row(what, Duration::from_millis(5), cpu_ns, work);
    call("nvmlDeviceGetUtilizationRates", &mut || device.utilization_rates().is_ok());
    call("nvmlDeviceGetMemoryInfo_v2", &mut || device.memory_info().is_ok());
    call("nvmlDeviceGetPowerUsage", &mut || device.power_usage().is_ok());
    call("nvmlDeviceGetTotalEnergyConsumption", &mut || device.total_energy_consumption().is_ok());
    call("nvmlDeviceGetTemperature", &mut || device.temperature(TemperatureSensor::Gpu).is_ok());
    call("nvmlDeviceGetMarginTemperature", &mut || raw::margin(nvml, device).is_ok());
    call("nvmlDeviceGetClockInfo, SM", &mut || device.clock_info(Clock::SM).is_ok());
    call("nvmlDeviceGetCurrentClocksThrottleReasons", &mut || device.current_throttle_reasons().is_ok());
    call("nvmlDeviceGetEnforcedPowerLimit", &mut || device.enforced_power_limit().is_ok());
    call("nvmlDeviceGetCurrPcieLinkWidth", &mut || device.current_pcie_link_width().is_ok());
    call("nvmlDeviceGetEncoderUtilization", &mut || device.encoder_utilization().is_ok());
    call("nvmlDeviceGetComputeRunningProcesses_v3, twice", &mut || device.running_compute_processes().is_ok());
    // Nothing new is an answer.
    call("nvmlDeviceGetProcessUtilization, twice", &mut || {
        let told = device.process_utilization_stats(0);
        told.is_ok() || matches!(told, Err(nvml_wrapper::error::NvmlError::NotFound))
    });
    call(&format!("nvmlDeviceGetFieldValues, {} fields", raw::FIELDS.len()), &mut || {
        raw::fields(nvml, device).is_ok_and(|(code, _)| code == 0)
    });
    let set = nvml.create_event_set();
    let set = set.and_then(|set| device.register_events(EventTypes::CRITICAL_XID_ERROR, set).map_err(|e| e.error));
    if let Ok(set) = set {
        call("nvmlEventSetWait_v2 of 0 ms", &mut || {
            matches!(set.wait(0), Ok(_) | Err(nvml_wrapper::error::NvmlError::Timeout))
        });
    }
}
