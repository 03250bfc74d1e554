//! What XID errors mean: numbers under which the driver reports that a GPU, or what runs on it, failed.

use perfwatch_model::Severity;

use super::RESET;

/// What there is to do at once, by NVIDIA's catalogue of XID errors ("immediate action",
/// `docs.nvidia.com/deploy/xid-errors`).
#[derive(Clone, Copy)]
enum Act {
    Reset,
    Reboot,
    Restart,
    RestartFirst,
    LookUp,
}

/// Those of the device, by code: critical where nothing is right until a reset or a reboot, by that catalogue and
/// DCGM's health checks (`DcgmHealthWatch`), and what each means. DCGM fails a device for 94 too; by the catalogue only
/// the program that it ended is the worse for it. For 109 the catalogue says reset, and devices that several programs share
/// (MPS, time slices) report it in good health: NVIDIA's own plugin for Kubernetes goes on with such a device.
const XIDS: [(i64, Severity, Act, &str); 19] = [
    (46, Severity::Critical, Act::Reset, "it stopped processing"),
    (48, Severity::Critical, Act::Reset, "an error of its memory that could not be corrected"),
    (62, Severity::Critical, Act::Reset, "one of its own processors halted"),
    (64, Severity::Critical, Act::Reset, "a row of its memory that could not be replaced"),
    (74, Severity::Critical, Act::Reset, "an error of an NVLink, of its own or of the device at the other end"),
    (79, Severity::Critical, Act::Reboot, "it fell off the bus"),
    (95, Severity::Critical, Act::Reset, "an error of its memory that reached more than one process"),
    (110, Severity::Critical, Act::Reset, "a security fault, mostly of the hardware"),
    (119, Severity::Critical, Act::Reset, "its own processor (GSP) did not answer"),
    (120, Severity::Critical, Act::Reset, "its own processor (GSP) failed"),
    (136, Severity::Critical, Act::Reset, "an NVLink that could not be brought up"),
    (140, Severity::Critical, Act::Reset, "an error of its memory that was neither corrected nor fenced off"),
    (143, Severity::Critical, Act::Reset, "it could not be initialised"),
    (158, Severity::Critical, Act::Reset, "it ran into a timeout that it does not come back from"),
    (63, Severity::Warning, Act::LookUp, "a row of its memory that is to be replaced"),
    (92, Severity::Warning, Act::LookUp, "corrected errors of its memory at a high rate"),
    (94, Severity::Warning, Act::Restart, "an error of its memory that ended one process"),
    (109, Severity::Warning, Act::RestartFirst, "it did not get from one process' work to the next in time"),
    (32, Severity::Warning, Act::LookUp, "a corrupted stream of commands, mostly for a bad PCIe link"),
];
/// Those of programs: an exception in a kernel, an illegal access, a fault of its own, an end by force, an exception of a video
/// decoder, an error in the use of an engine, an illegal access over `NVLink`. The device is none the worse.
const OF_PROGRAMS: [i64; 7] = [13, 31, 43, 45, 68, 69, 137];
/// What the driver asks for has changed, to nothing as well: what it asks for is a fault of its own, as long as it does.
const RECOVERY_CHANGED: i64 = 154;

/// True for an XID error that says nothing of the device's health by itself.
pub(crate) fn says_nothing(code: i64) -> bool {
    code == RECOVERY_CHANGED || OF_PROGRAMS.contains(&code)
}

const RESTART_FIRST: &str =
    "restart the program that it ended; if it comes again, reset the GPU when its users can be stopped";

/// How bad an XID error of the device is, what it means, and what to do at once, if there is anything.
pub(super) fn meaning(code: i64) -> (Severity, &'static str, Option<&'static str>) {
    let other = (code, Severity::Warning, Act::LookUp, "the driver, or something on the GPU, failed");
    let (_, severity, act, said) = XIDS.into_iter().find(|(known, ..)| *known == code).unwrap_or(other);
    let first = match act {
        Act::Reset => Some(RESET),
        Act::Reboot => Some("drain the machine and reboot it"),
        Act::Restart => Some("restart the program that it ended, and reset the GPU when its users can be stopped"),
        Act::RestartFirst => Some(RESTART_FIRST),
        Act::LookUp => None,
    };
    (severity, said, first)
}

/// How to learn more of such errors.
pub(super) fn look_up(codes: impl Iterator<Item = i64>) -> String {
    let codes: Vec<String> = codes.map(|code| code.to_string()).collect();
    format!(
        "look up XID {} in NVIDIA's catalogue, and `dmesg | grep -i xid` for the process that is named there",
        codes.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_listed_once_and_as_one_of_the_device_or_of_programs() {
        let codes = || XIDS.iter().map(|(code, ..)| *code).chain(OF_PROGRAMS).chain([RECOVERY_CHANGED]);
        let mut once: Vec<i64> = codes().collect();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), codes().count());
    }

    #[test]
    fn a_switch_that_took_too_long_asks_for_a_restart_and_for_a_reset_if_it_comes_again() {
        let (severity, _, action) = meaning(109);
        let action = action.expect("there is something to do");
        assert_eq!(severity, Severity::Warning);
        let (restart, reset) = (action.find("restart the program"), action.find("if it comes again, reset"));
        assert!(restart.is_some() && restart < reset, "{action}");
    }

    #[test]
    fn what_needs_a_reset_or_a_reboot_is_critical_and_nothing_else_is() {
        for (code, severity, act, _) in XIDS {
            let is_critical = matches!(act, Act::Reset | Act::Reboot);
            assert_eq!(severity == Severity::Critical, is_critical, "XID {code}");
        }
        assert_eq!(meaning(999).0, Severity::Warning);
    }
}
