//! A GPU's clocks are held down.

use perfwatch_model::metrics::gpu;
use perfwatch_model::{Evidence, MetricDef, Quality, Severity};

use super::answer::{Answer, all, any, at_least};
use super::{Diagnosis, Rule, Verdict, percent, remedy};
use crate::GpuWindow;
use crate::ledger::{THROTTLED, busy_ns};

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

/// Where the driver does not count the time, the reasons that hold at the end of each tick stand for it. One look says
/// little: there must be two, or so many seconds of what they stand for.
const LOOKS_S: f64 = 1.5;

pub(super) struct GpuThrottled;

/// Whether the clocks were held down for a reason for this share of the time.
fn held_down(window: &GpuWindow, reason: &str, threshold: f64) -> Answer {
    let share = window.held_down_for(reason);
    let is_seen = share.get().is_none_or(|share| !is_seen_only(window, reason) || share * window.span_s() >= LOOKS_S);
    all([at_least(&share, threshold), Ok(is_seen)])
}

/// True where a reason is not counted but only looked at.
fn is_seen_only(window: &GpuWindow, reason: &str) -> bool {
    window.held_down_for(reason).quality == Quality::Inferred
}

fn hot(window: &GpuWindow) -> Answer {
    any([held_down(window, "hw_thermal", HARDWARE), held_down(window, "sw_thermal", WARMTH)])
}

fn braked(window: &GpuWindow) -> Answer {
    held_down(window, "hw_power_brake", HARDWARE)
}

fn capped(window: &GpuWindow) -> Answer {
    held_down(window, "sw_power_cap", POWER)
}

impl Rule<GpuWindow> for GpuThrottled {
    fn id(&self) -> &'static str {
        "gpu-throttled"
    }

    fn summary(&self) -> &'static str {
        "A GPU's clocks are held down"
    }

    fn needs(&self) -> &'static [&'static MetricDef] {
        &[&gpu::THROTTLE_TIME, &gpu::THROTTLE_ACTIVE, &gpu::CLOCK, &gpu::CLOCK_LIMIT, &gpu::FAULT]
    }

    fn judge(&self, window: &GpuWindow) -> Verdict {
        // Clocks are the whole device's, of which all this is told.
        if window.parent.is_some() {
            return Verdict::Clear;
        }
        Verdict::of(any([hot(window), braked(window), capped(window)]), || diagnose(window))
    }
}

fn diagnose(window: &GpuWindow) -> Diagnosis {
    let share = |reason| window.held_down_for(reason).get().unwrap_or(0.0);
    let for_how_long = |reason| format!("for {} of the time{}", percent(share(reason)), by_looks(window, reason));
    let (severity, why, remedies) = if braked(window) == Ok(true) {
        let brake = "hw_power_brake";
        let remedies = vec![
            remedy(
                "check the power supplies of the machine and the power budget of the rack",
                "an external signal asked the GPU to brake: it does not come from the GPU itself",
            ),
            remedy("spread the load over machines on other feeds", "the same budget then feeds fewer busy GPUs"),
        ];
        let why = format!("the power supply braked it {}", for_how_long(brake));
        (hardware_severity(share(brake)), why, remedies)
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
        if held_down(window, "hw_thermal", HARDWARE) == Ok(true) {
            let why = format!("heat made the hardware cut its clocks by half or more {}", for_how_long("hw_thermal"));
            (hardware_severity(share("hw_thermal")), why, remedies)
        } else {
            let why = format!("the driver lowered its clocks for warmth {}", for_how_long("sw_thermal"));
            (Severity::Warning, why, remedies)
        }
    } else {
        return at_power_limit(window);
    };
    let detail = format!("The GPU is held back: {why}{}.", clock(window));
    Diagnosis { severity, detail, evidence: evidence(window), remedies }
}

/// Who made the power limit lower than the GPU comes with. The lowest of the limits is the one that holds.
enum Limiter {
    Platform,
    Somebody,
    Nobody,
}

/// A busy GPU at the limit that it comes with is well used: what that costs is told, and who wants it back has to change the work
/// or the limit.
fn at_power_limit(window: &GpuWindow) -> Diagnosis {
    let has = |fault: &str| window.faults.iter().any(|known| known == fault);
    let limiter = if has("power_limit_by_platform") {
        Limiter::Platform
    } else if has("power_limit_lowered") {
        Limiter::Somebody
    } else {
        Limiter::Nobody
    };
    let limit = window.power_limit.get().map(|watts| format!(" of {watts:.0} W")).unwrap_or_default();
    let cap = percent(window.held_down_for("sw_power_cap").get().unwrap_or(0.0));
    let meaning = match limiter {
        Limiter::Platform => "and that is below the one that is set: the machine that it is in caps its power",
        Limiter::Somebody => "and that is below the one that it comes with: capacity is given away",
        Limiter::Nobody => "which is normal under full load at the limit that it comes with",
    };
    let detail = format!(
        "The GPU was at its power limit{limit} for {cap} of the time{}, {meaning}{}{}.",
        by_looks(window, "sw_power_cap"),
        clock(window),
        cost(window)
    );
    let raise = match limiter {
        Limiter::Platform => remedy(
            "check the power cap of the chassis (its BMC, the rack's power management); of a laptop the power profile, and whether \
             it runs on battery",
            "the limit that is set on the GPU is higher, so raising that one changes nothing (`nvidia-smi -q -d POWER` shows both)",
        ),
        Limiter::Somebody => remedy(
            "set the limit back to the default (`nvidia-smi -q -d POWER` shows both), once it is known why it was lowered",
            "somebody chose it: for the power or the cooling of the machine or the rack",
        ),
        Limiter::Nobody => remedy(
            "leave it, unless capacity is short; a limit below the highest that the card allows can be raised \
             (`nvidia-smi -q -d POWER`, `-pl WATTS`)",
            "the highest clock is for loads that draw less; the last watts give the least",
        ),
    };
    let less_work = remedy(
        "use fewer bits per weight (FP8, INT8), or batches that read weights once for more requests",
        "the same answers then take less energy",
    );
    Diagnosis { severity: Severity::Note, detail, evidence: evidence(window), remedies: vec![raise, less_work] }
}

/// What a share of the time rests on, in words, where it is not counted.
fn by_looks(window: &GpuWindow, reason: &str) -> &'static str {
    if is_seen_only(window, reason) { " (seen at the end of each tick: this driver does not count it)" } else { "" }
}

/// How fast the SMs ran, in words.
fn clock(window: &GpuWindow) -> String {
    let share = window.clock.get().map(|share| format!("; the SMs ran at {} of their highest clock", percent(share)));
    share.unwrap_or_default()
}

/// What that took of the busy time, in words. It is as much as it would be if all of it went with the clock of the SMs but
/// what moved data as fast as the memory can; what waits for the memory in between loses less.
fn cost(window: &GpuWindow) -> String {
    let ledger = window.ledger.as_ref().filter(|ledger| busy_ns(ledger) > 0);
    let share = ledger.map(|ledger| ledger.ns(THROTTLED) as f64 / busy_ns(ledger) as f64);
    let said = share.filter(|share| *share > 0.0).map(|share| {
        format!(
            ", which costs at most {} of its busy time, and less where it waits for its memory, whose clock stays",
            percent(share)
        )
    });
    said.unwrap_or_default()
}

fn evidence(window: &GpuWindow) -> Vec<Evidence> {
    let reasons =
        [("hw_thermal", HARDWARE), ("sw_thermal", WARMTH), ("hw_power_brake", HARDWARE), ("sw_power_cap", POWER)];
    let names = [
        "gpu.held_down.hw_thermal",
        "gpu.held_down.sw_thermal",
        "gpu.held_down.hw_power_brake",
        "gpu.held_down.sw_power_cap",
    ];
    let held_down = reasons.iter().zip(names).filter_map(|((reason, threshold), name)| {
        window.evidence(name, &window.held_down_for(reason), Some(*threshold), "1")
    });
    held_down.chain(window.evidence("gpu.clock_share", &window.clock, None, "1")).collect()
}

fn hardware_severity(share: f64) -> Severity {
    if share >= SEVERE { Severity::Critical } else { Severity::Warning }
}
