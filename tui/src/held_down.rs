//! For how much of the newest tick a GPU's clocks were held down.

use perfwatch_model::Snapshot;
use perfwatch_model::snapshot::DeviceView;

/// The reasons of which the time counts, as ledgers and rules take them: the others are settings, or come beside these.
const REASONS: [&str; 5] = ["sw_power_cap", "sync_boost", "sw_thermal", "hw_thermal", "hw_power_brake"];

/// The share of the longest reason. Reasons overlap, so they are not added.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct HeldDown {
    pub(crate) share: f64,
    /// Counted by the driver; else the whole tick or nothing of it, by what held at its end.
    pub(crate) is_counted: bool,
}

/// Of one device; `None` where neither is told.
pub(crate) fn held_down(snapshot: &Snapshot, device: &DeviceView) -> Option<HeldDown> {
    let gpu = device.gpu.as_ref()?;
    let counted = gpu.throttled.iter().map(|one| HeldDown { share: one.share, is_counted: true });
    let is_counted = |reason: &str| gpu.throttled.iter().any(|one| one.reason == reason);
    let holds = |reason: &&&str| gpu.throttle_reasons.iter().any(|now| now == **reason);
    let inferred = |share| HeldDown { share, is_counted: false };
    let now = REASONS.iter().filter(|reason| !is_counted(reason)).find(holds).map(|_| inferred(1.0));
    let longest = counted.chain(now).reduce(|a, b| if b.share > a.share { b } else { a });
    longest.or_else(|| knows_reasons(snapshot, device).then(|| inferred(0.0)))
}

/// Whether it is told what holds the clocks down now, be it nothing.
fn knows_reasons(snapshot: &Snapshot, device: &DeviceView) -> bool {
    let missing = |metric: &str| {
        snapshot.unavailable.iter().any(|missing| missing.metric == metric && missing.entity == device.id)
    };
    // A reading is a value or the reason why there is none. An agent that tells neither of the time knows nothing of it.
    missing("perfwatch.gpu.throttle.time") && !missing("perfwatch.gpu.throttle.active")
}

#[cfg(test)]
mod tests {
    use perfwatch_model::snapshot::ThrottleView;

    use super::*;
    use crate::fixtures;

    fn told(counted: &[(&str, f64)], now: &[&str]) -> Option<HeldDown> {
        let snapshot = fixtures::without_gpm();
        let mut device = snapshot.devices[0].clone();
        let gpu = device.gpu.as_mut().expect("a GPU");
        let view = |(reason, share): &(&str, f64)| ThrottleView { reason: (*reason).to_owned(), share: *share };
        gpu.throttled = counted.iter().map(view).collect();
        gpu.throttle_reasons = now.iter().map(|reason| (*reason).to_owned()).collect();
        held_down(&snapshot, &device)
    }

    #[test]
    fn what_is_not_counted_follows_from_what_holds_now() {
        let inferred = |share| Some(HeldDown { share, is_counted: false });
        assert_eq!(told(&[], &["sw_thermal"]), inferred(1.0));
        assert_eq!(told(&[], &["application_clocks"]), inferred(0.0), "a setting holds nothing down");
        assert_eq!(told(&[("sw_power_cap", 0.2)], &["sw_thermal"]), inferred(1.0), "another reason than is counted");
    }

    #[test]
    fn what_is_counted_stands_whatever_holds_now_and_overlapping_reasons_are_not_added() {
        let counted = |share| Some(HeldDown { share, is_counted: true });
        assert_eq!(told(&[("sw_power_cap", 0.4), ("sw_thermal", 0.7)], &["sw_thermal"]), counted(0.7));
        assert_eq!(told(&[("sw_thermal", 0.0)], &[]), counted(0.0));
    }

    #[test]
    fn where_nothing_tells_there_is_no_number() {
        let snapshot = fixtures::hung();
        assert_eq!(held_down(&snapshot, &snapshot.devices[0]), None);
    }
}
