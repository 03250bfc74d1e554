//! A GPU, or its driver, is broken or about to be.

use perfwatch_model::metrics::gpu;
use perfwatch_model::{MetricDef, Quality, Reason, Severity};

use super::{Diagnosis, GpuRule, Verdict, remedy};
use crate::{Fact, GpuWindow};

pub(super) struct GpuUnhealthy;

/// What each fault means and what to do, worst first.
const FAULTS: [(&str, Severity, &str, &str, &str); 9] = [
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
        "its driver does not answer",
        "check `dmesg | grep -i -e nvrm -e xid`; reset the GPU or reboot",
        "calls into the driver hang, those of the server too",
    ),
    (
        "driver_failed",
        Severity::Critical,
        "its driver answers nothing but errors",
        "`perfwatch doctor` says which; check `dmesg | grep -i nvrm`, and whether the driver was updated while loaded",
        "nothing new can be started on it, and what runs may be gone",
    ),
    (
        "reset_required",
        Severity::Critical,
        "it needs a reset",
        "stop its users and run `nvidia-smi --gpu-reset`",
        "it works again after a reset and not before",
    ),
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
        "restart the server; if it happens again, reset the GPU and run NVIDIA's field diagnostic",
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
        "reset it when its users can be stopped (`nvidia-smi --gpu-reset`)",
        "until then the faulty row stays in use",
    ),
    (
        "pcie_link_degraded",
        Severity::Warning,
        "its PCIe link runs below what card and slot can do, while it is busy",
        "reseat the card; check slot, riser and the link speed in the BIOS (`lspci -vv | grep LnkSta`)",
        "copies between host and device take that much longer",
    ),
];
/// Faults that somebody set, which say nothing of the device's health: told as readings alone.
pub(crate) const SETTINGS: [&str; 2] = ["power_limit_lowered", "clocks_locked"];

/// XID errors that are the device's own, and how DCGM rates them (`DcgmHealthWatch`): what each means.
const XIDS: [(i64, Severity, &str); 12] = [
    (48, Severity::Critical, "an error of its memory that could not be corrected"),
    (64, Severity::Critical, "a row of its memory that could not be replaced"),
    (74, Severity::Critical, "an error of its NVLink"),
    (79, Severity::Critical, "it fell off the bus"),
    (95, Severity::Critical, "an error of its memory that reached more than one process"),
    (119, Severity::Critical, "its own processor (GSP) did not answer"),
    (120, Severity::Critical, "its own processor (GSP) failed"),
    (140, Severity::Critical, "an error of its memory that was not recovered"),
    (63, Severity::Warning, "a row of its memory that is to be replaced"),
    (92, Severity::Warning, "corrected errors of its memory at a high rate"),
    (94, Severity::Warning, "an error of its memory that ended one process"),
    (32, Severity::Warning, "a corrupted command stream"),
];
/// Those of programs: an illegal access, a kernel that failed, a process that was killed. The device is none the worse.
const OF_PROGRAMS: [i64; 4] = [13, 31, 43, 45];
/// What any other is.
const OTHER_XID: (Severity, &str) = (Severity::Warning, "the driver, or something on the GPU, failed");

impl GpuRule for GpuUnhealthy {
    fn id(&self) -> &'static str {
        "gpu-unhealthy"
    }

    fn summary(&self) -> &'static str {
        "A GPU or its driver is broken, or about to be"
    }

    fn needs(&self) -> &'static [&'static MetricDef] {
        &[&gpu::FAULT, &gpu::ERRORS, &gpu::XIDS]
    }

    fn judge(&self, window: &GpuWindow) -> Verdict {
        let uncorrected = window.uncorrected.unwrap_or(0);
        let has = |fault: &str| match fault {
            "uncorrected" => uncorrected > 0,
            fault => window.faults.iter().any(|known| known == fault),
        };
        let of_device = FAULTS
            .iter()
            .filter(|(fault, ..)| has(fault))
            .map(|(_, severity, said, action, why)| (*severity, (*said).to_owned(), (*action).to_owned(), *why));
        let of_driver = window.xids.iter().filter(|(code, _)| !OF_PROGRAMS.contains(code)).map(|(code, count)| {
            let known = XIDS.iter().find(|(known, ..)| known == code).map(|(_, severity, said)| (*severity, *said));
            let (severity, said) = known.unwrap_or(OTHER_XID);
            let times = if *count == 1 { String::new() } else { format!(", {count} times") };
            let action =
                format!("look up XID {code} in NVIDIA's list, and `dmesg | grep -i xid` for the process it names");
            (
                severity,
                format!("XID {code}{times}: {said}"),
                action,
                "the driver reports it when a GPU, or what runs on it, fails",
            )
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
        // What there is none of is no evidence, and may not be counted at all.
        let fact = |value: u64| match value {
            0 => Fact::missing("there is none"),
            value => Fact::known(value as f64, Quality::Counter),
        };
        let xids = window.xids.iter().filter(|(code, _)| !OF_PROGRAMS.contains(code)).map(|(_, count)| count).sum();
        let faults = window.faults.iter().filter(|fault| !SETTINGS.contains(&fault.as_str())).count();
        let (faults, xids) = (fact(faults as u64), fact(xids));
        let uncorrected = window.uncorrected.map(fact);
        let evidence = [
            window.evidence("gpu.faults", &faults, Some(1.0), "{fault}"),
            window.evidence("gpu.xids", &xids, Some(1.0), "{error}"),
            uncorrected.and_then(|errors| window.evidence("gpu.uncorrected_errors", &errors, Some(1.0), "{error}")),
        ];
        Verdict::Firing(Diagnosis {
            severity: *severity,
            detail: format!("The GPU is not well: {}.", said.join("; ")),
            evidence: evidence.into_iter().flatten().collect(),
            remedies: found.iter().map(|(_, _, action, why)| remedy(action.clone(), why)).collect(),
        })
    }
}
