//! A GPU's clocks are held down.

use perfwatch_model::MetricDef;
use perfwatch_model::Severity;
use perfwatch_model::metrics::gpu;

use super::answer::{Answer, any, at_least};
use super::{Diagnosis, GpuRule, Verdict, percent, remedy};
use crate::GpuWindow;

/// Share of the time for which the hardware must have cut the clocks by half or more. It does so to protect itself, so that
/// any of it is too much; single samples at a change of the performance state are not (`nvml.h`).
const HARDWARE: f64 = 0.01;
/// Share of the time for which the driver must have lowered the clocks for warmth. It steps down in small parts, and does so
/// for a moment at the end of a long load.
const WARMTH: f64 = 0.10;
/// Share of the time at the power limit from which that is worth a note. A busy device at its limit works as it was built to.
const POWER: f64 = 0.50;
/// A quarter of the time at half of the clocks or less is capacity that users miss.
const SEVERE: f64 = 0.25;

pub(super) struct GpuThrottled;

fn hot(window: &GpuWindow) -> Answer {
    any([
        at_least(&window.held_down_for("hw_thermal"), HARDWARE),
        at_least(&window.held_down_for("sw_thermal"), WARMTH),
    ])
}

fn braked(window: &GpuWindow) -> Answer {
    at_least(&window.held_down_for("hw_power_brake"), HARDWARE)
}

fn capped(window: &GpuWindow) -> Answer {
    at_least(&window.held_down_for("sw_power_cap"), POWER)
}

impl GpuRule for GpuThrottled {
    fn id(&self) -> &'static str {
        "gpu-throttled"
    }

    fn summary(&self) -> &'static str {
        "A GPU's clocks are held down"
    }

    fn needs(&self) -> &'static [&'static MetricDef] {
        &[&gpu::THROTTLE_TIME, &gpu::CLOCK, &gpu::CLOCK_LIMIT]
    }

    fn judge(&self, window: &GpuWindow) -> Verdict {
        Verdict::of(any([hot(window), braked(window), capped(window)]), || diagnose(window))
    }
}

fn diagnose(window: &GpuWindow) -> Diagnosis {
    let share = |reason| window.held_down_for(reason).get().unwrap_or(0.0);
    let clock = window.clock.get().map(|share| format!("; the SMs ran at {} of their highest clock", percent(share)));
    let clock = clock.unwrap_or_default();
    let (thermal, warm) = (share("hw_thermal"), share("sw_thermal"));
    let (severity, why, remedies) = if braked(window) == Ok(true) {
        let brake = share("hw_power_brake");
        let remedies = vec![
            remedy(
                "check the power supplies of the machine and the power budget of the rack",
                "an external signal asked the GPU to brake: it does not come from the GPU itself",
            ),
            remedy("spread the load over machines on other feeds", "the same budget then feeds fewer busy GPUs"),
        ];
        (hardware_severity(brake), format!("the power supply braked it for {} of the time", percent(brake)), remedies)
    } else if hot(window) == Ok(true) {
        let remedies = vec![
            remedy(
                "check cooling: blocked air flow, fans, filters, the room's temperature",
                "the GPU is warmer than it may run",
            ),
            remedy("move load to a cooler GPU or machine", "a GPU that is held down serves less for the same power"),
            remedy(
                "lower the power limit until the clocks hold still (`nvidia-smi -pl WATTS`)",
                "a steady lower clock gives steadier latency than one that is cut again and again",
            ),
        ];
        let why = if thermal >= HARDWARE {
            format!("heat made the hardware cut its clocks by half or more for {} of the time", percent(thermal))
        } else {
            format!("the driver lowered its clocks for warmth for {} of the time", percent(warm))
        };
        let severity = if thermal >= HARDWARE { hardware_severity(thermal) } else { Severity::Warning };
        (severity, why, remedies)
    } else {
        let limit = window.power_limit.get().map(|watts| format!(" of {watts:.0} W")).unwrap_or_default();
        let cap = share("sw_power_cap");
        let remedies = vec![
            remedy(
                "raise the power limit if it is below the default (`nvidia-smi -q -d POWER` shows both)",
                "a busy GPU at its default limit works as it was built to; one below it gives capacity away",
            ),
            remedy(
                "use fewer bits per weight (FP8, INT8), or batches that read weights once for more requests",
                "the same answers then take less energy",
            ),
        ];
        (Severity::Note, format!("it was at its power limit{limit} for {} of the time", percent(cap)), remedies)
    };
    let evidence =
        [("hw_thermal", HARDWARE), ("sw_thermal", WARMTH), ("hw_power_brake", HARDWARE), ("sw_power_cap", POWER)];
    let names = [
        "gpu.held_down.hw_thermal",
        "gpu.held_down.sw_thermal",
        "gpu.held_down.hw_power_brake",
        "gpu.held_down.sw_power_cap",
    ];
    let held_down = evidence.iter().zip(names).filter_map(|((reason, threshold), name)| {
        window.evidence(name, &window.held_down_for(reason), Some(*threshold), "1")
    });
    Diagnosis {
        severity,
        detail: format!("The GPU is held back: {why}{clock}."),
        evidence: held_down.chain(window.evidence("gpu.clock_share", &window.clock, None, "1")).collect(),
        remedies,
    }
}

fn hardware_severity(share: f64) -> Severity {
    if share >= SEVERE { Severity::Critical } else { Severity::Warning }
}
