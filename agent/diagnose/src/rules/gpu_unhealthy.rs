//! A GPU, or its driver, is broken or about to be.

mod driver;
mod xid;

use perfwatch_model::metrics::gpu;
use perfwatch_model::{MetricDef, Quality, Reason, Remedy, Severity};

use super::{Diagnosis, Rule, Verdict, remedy};
use crate::window::{REMEMBERED_NS, evidence, seconds};
use crate::{Fact, GpuWindow};

pub(crate) use xid::says_nothing;

pub(super) struct GpuUnhealthy;

/// Why anything is done about an XID error.
const REPORTED: &str = "the driver reports it when a GPU, or what runs on it, fails";

const ID: &str = "gpu-unhealthy";
const SUMMARY: &str = "A GPU or its driver is broken, or about to be";
const NEEDS: &[&MetricDef] = &[&gpu::FAULT, &gpu::ERRORS, &gpu::XIDS];

/// A reset is refused as long as anybody has the device open, and who only looks at it does too (`nvidia-smi`'s
/// manual).
const RESET: &str = "stop every program that has the GPU open, other monitors too, then run `perfwatch gpus release` (this agent \
                     has it open), `nvidia-smi --gpu-reset` and `perfwatch gpus take`";

/// The same of one that can wait.
const RESET_LATER: &str = "reset it when its users can be stopped: every program that has it open, other monitors too; then \
     `perfwatch gpus release` (this agent has it open), `nvidia-smi --gpu-reset` and `perfwatch gpus take`";

/// What each fault means and what to do, worst first.
const FAULTS: [(&str, Severity, &str, &str, &str); 10] = [
    (
        "lost",
        Severity::Critical,
        "it has fallen off the bus",
        "drain the machine and reboot it; check power and seating, and `dmesg | grep -i xid` (79)",
        "nothing runs on it until then",
    ),
    (
        "unresponsive",
        Severity::Critical,
        "its driver does not answer in time",
        "check `dmesg | grep -i -e nvrm -e xid`; stop every program that has the GPU open, make this agent let go of it \
         (`perfwatch gpus release`; stop it where that fails), and reset it, or reboot",
        "calls into the driver hang, those of the server too",
    ),
    (
        "driver_failed",
        Severity::Critical,
        "its driver answers nothing but errors, or shows it no more",
        "`perfwatch doctor` says what is the matter and what helps; check `dmesg | grep -i nvrm`, and whether the driver was updated \
         while loaded, or a container lost its GPUs",
        "nothing new can be started on it, and what runs may be gone",
    ),
    ("reset_required", Severity::Critical, "it needs a reset", RESET, "it works again after a reset and not before"),
    (
        "row_remap_failed",
        Severity::Critical,
        "a row of its memory could not be replaced",
        "take it out of service and have it replaced",
        "it has no spare rows left: the next error hits a request",
    ),
    (
        "uncorrected",
        Severity::Critical,
        "its memory had errors that could not be corrected",
        "restart the server; if it happens again, stop every program that has the GPU open, make this agent let go of it \
         (`perfwatch gpus release`), reset it (`nvidia-smi --gpu-reset`) and run NVIDIA's field diagnostic",
        "what was in that memory is lost, and the process that used it is killed or wrong",
    ),
    (
        "recovery_needed",
        Severity::Warning,
        "its driver asks for a recovery",
        "`nvidia-smi -q | grep -i recovery` says which: a reset, a reboot or draining",
        "the driver found a fault that it cannot mend while the GPU is in use",
    ),
    (
        "row_remap_pending",
        Severity::Warning,
        "a row of its memory is to be replaced at the next reset",
        RESET_LATER,
        "until then the faulty row stays in use",
    ),
    (
        "page_retirement_pending",
        Severity::Warning,
        "a page of its memory is to be taken out of use when its driver is loaded next",
        RESET_LATER,
        "a reset loads it anew; until then the faulty page stays in use",
    ),
    (
        "pcie_link_degraded",
        Severity::Warning,
        "its PCIe link runs below what card and slot can do, while it is busy",
        "reseat the card; check slot, riser and the link speed in the BIOS (`lspci -vv | grep LnkSta`)",
        "copies between host and device take that much longer",
    ),
];
/// Faults that somebody set, of the device or of the machine that it is in, which say nothing of the device's health: told as
/// readings alone.
pub const SETTINGS: [&str; 3] = ["power_limit_lowered", "power_limit_by_platform", "clocks_locked"];

impl Rule<GpuWindow> for GpuUnhealthy {
    fn id(&self) -> &'static str {
        ID
    }

    fn summary(&self) -> &'static str {
        SUMMARY
    }

    fn needs(&self) -> &'static [&'static MetricDef] {
        NEEDS
    }

    /// Faults and incidents are not less true of a GPU that was seen for a second.
    fn is_of_the_moment(&self) -> bool {
        true
    }

    fn judge(&self, window: &GpuWindow) -> Verdict {
        let has = |fault: &str| match fault {
            "uncorrected" => window.uncorrected > 0,
            fault => window.faults.iter().any(|known| known == fault),
        };
        let of_device = FAULTS.iter().filter(|(fault, ..)| has(fault)).map(|(fault, severity, said, action, why)| {
            let when = if *fault == "uncorrected" { lately(window.uncorrected) } else { String::new() };
            (*severity, format!("{said}{when}"), Some(*action), *why)
        });
        let of_driver = window.xids.iter().map(|(code, count)| {
            let (severity, said, action) = xid::meaning(*code);
            let said = format!("XID {code}{}: {said}", lately(*count));
            (severity, said, action, REPORTED)
        });
        let mut found: Vec<_> = of_device.chain(of_driver).collect();
        found.sort_by_key(|(severity, ..)| std::cmp::Reverse(*severity));
        let Some((severity, ..)) = found.first() else {
            return if window.faults_are_told {
                Verdict::Clear
            } else {
                Verdict::Undecided(Reason::fixed("the driver says nothing of the device's health", ""))
            };
        };
        let said: Vec<&str> = found.iter().map(|(_, said, ..)| said.as_str()).collect();
        let faults = window.faults.iter().filter(|fault| !SETTINGS.contains(&fault.as_str())).count() as u64;
        let remembered_s = seconds(REMEMBERED_NS);
        // What there is none of is no evidence, and may not be counted at all.
        let counts = [
            (window.span_s(), "gpu.faults", faults, "{fault}"),
            (remembered_s, "gpu.xids", window.xids.values().sum(), "{error}"),
            (remembered_s, "gpu.uncorrected_errors", window.uncorrected, "{error}"),
        ];
        let evidence =
            counts.into_iter().filter(|(_, _, count, _)| *count > 0).filter_map(|(window_s, name, count, unit)| {
                evidence(window_s, name, &Fact::known(count as f64, Quality::Counter), Some(1.0), unit)
            });
        Verdict::Firing(Diagnosis {
            severity: *severity,
            detail: format!("The GPU is not well: {}.", said.join("; ")),
            evidence: evidence.collect(),
            remedies: remedies(&found, window),
        })
    }
}

/// What there is to do, each once: several faults may ask for the same.
fn remedies(found: &[(Severity, String, Option<&'static str>, &'static str)], window: &GpuWindow) -> Vec<Remedy> {
    let mut all: Vec<Remedy> = Vec::new();
    let actions = found.iter().filter_map(|(_, _, action, why)| Some(remedy((*action)?, why)));
    let look_up = (!window.xids.is_empty()).then(|| remedy(xid::look_up(window.xids.keys().copied()), REPORTED));
    for remedy in actions.chain(look_up) {
        if all.iter().all(|known| known.action != remedy.action) {
            all.push(remedy);
        }
    }
    all
}

/// Within what time, and how often when it was not once.
fn lately(count: u64) -> String {
    let times = if count == 1 { String::new() } else { format!(", {count} times") };
    format!(" in the last {:.0} min{times}", seconds(REMEMBERED_NS) / 60.0)
}
