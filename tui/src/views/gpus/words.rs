//! What a GPU has and what holds it down, in words.

use perfwatch_model::snapshot::GpuView;

use crate::gpus::Gpu;
use crate::line::truncate;
use crate::theme::{Role, Theme};
use crate::units;
use crate::views::Scene;

/// Faults, worst first: name, words for a list, words, role.
#[rustfmt::skip]
const FAULTS: &[(&str, &str, &str, Role)] = &[
    ("lost", "lost", "it has fallen off the bus", Role::Crit),
    ("unresponsive", "no answer", "its driver does not answer in time", Role::Crit),
    ("driver_failed", "bad driver", "its driver answers nothing but errors, or shows it no more", Role::Crit),
    ("reset_required", "needs reset", "it needs a reset", Role::Crit),
    ("row_remap_failed", "bad memory", "a row of its memory could not be replaced", Role::Crit),
    ("recovery_needed", "recovery", "its driver asks for a recovery", Role::Crit),
    ("row_remap_pending", "row waits", "a row of its memory is to be replaced at the next reset", Role::Warn),
    ("page_retirement_pending", "page waits", "a page of its memory is to be taken out of use when its driver is loaded next", Role::Warn),
    ("pcie_link_degraded", "slow link", "its PCIe link is slower than device and slot allow", Role::Warn),
    ("power_limit_lowered", "low limit", "its power limit was set below the default", Role::Warn),
    ("power_limit_by_platform", "capped", "its machine holds the power limit below what is set", Role::Warn),
    ("clocks_locked", "locked", "somebody locked its clocks below the highest", Role::Warn),
];

/// Reasons for clocks held down, from what hurts and names a cause to what somebody chose: name, words, role.
#[rustfmt::skip]
const REASONS: &[(&str, &str, Role)] = &[
    ("hw_thermal", "heat", Role::Crit),
    ("hw_power_brake", "power brake", Role::Crit),
    ("sw_thermal", "warmth", Role::Warn),
    ("sw_power_cap", "power limit", Role::Warn),
    ("hw_slowdown", "slowdown", Role::Crit),
    ("sync_boost", "sync boost", Role::Warn),
    ("application_clocks", "set clocks", Role::Dim),
    ("display_clocks", "display", Role::Dim),
];

/// Shares of a tick below this are not worth a word.
const LITTLE: f64 = 0.005;

/// A fault in words for a list, words, and its role. One that is not known here keeps its name.
pub(crate) fn fault(name: &str) -> (String, String, Role) {
    match FAULTS.iter().find(|(known, ..)| *known == name) {
        Some((_, short, words, role)) => ((*short).to_owned(), (*words).to_owned(), *role),
        None => (name.replace('_', " "), name.replace('_', " "), Role::Warn),
    }
}

/// Whether a fault is what somebody set: it says nothing of the device's health.
pub(crate) fn is_setting(name: &str) -> bool {
    ["power_limit_lowered", "power_limit_by_platform", "clocks_locked"].contains(&name)
}

/// The worst of a device's faults.
pub(crate) fn worst_fault(gpu: &GpuView) -> Option<&str> {
    let place = |name: &str| FAULTS.iter().position(|(known, ..)| *known == name).unwrap_or(FAULTS.len());
    gpu.faults.iter().map(String::as_str).min_by_key(|name| place(name))
}

/// What a reason for clocks held down is called, and its role.
pub(super) fn reason(name: &str) -> (String, Role) {
    match REASONS.iter().find(|(known, ..)| *known == name) {
        Some((_, words, role)) => ((*words).to_owned(), *role),
        None => (name.replace('_', " "), Role::Warn),
    }
}

fn place(name: &str) -> usize {
    REASONS.iter().position(|(known, ..)| *known == name).unwrap_or(REASONS.len())
}

/// Why the clocks are, or were in the newest tick, held down, longest first, with the share of the tick where that is counted.
/// A slowdown is not named beside the heat or the brake that it comes from.
pub(super) fn held_down(gpu: &GpuView) -> Vec<(&str, Option<f64>)> {
    let counted = gpu.throttled.iter().filter(|one| one.share >= LITTLE);
    let mut reasons: Vec<_> = counted.map(|one| (one.reason.as_str(), Some(one.share))).collect();
    let now = gpu.throttle_reasons.iter().map(String::as_str);
    let uncounted: Vec<_> = now.filter(|now| reasons.iter().all(|(known, _)| known != now)).collect();
    reasons.extend(uncounted.into_iter().map(|now| (now, None)));
    if reasons.iter().any(|(name, _)| ["hw_thermal", "hw_power_brake"].contains(name)) {
        reasons.retain(|(name, _)| *name != "hw_slowdown");
    }
    reasons.sort_by(|(a, x), (b, y)| y.unwrap_or(0.0).total_cmp(&x.unwrap_or(0.0)).then(place(a).cmp(&place(b))));
    reasons
}

/// Of the reasons for clocks held down the one that hurts most, whichever was longest, as `▼ 40 % heat`; without its share where
/// that takes more than so many columns.
pub(in crate::views) fn worst_reason(gpu: &GpuView, theme: Theme, longest: usize) -> Option<(String, Role)> {
    let (name, share) = held_down(gpu).into_iter().min_by_key(|(name, _)| place(name))?;
    let (words, role) = reason(name);
    let mark = theme.pick("▼", "V");
    let whole = share.map(|share| format!("{mark} {} {words}", units::percent(share)));
    let fits = |text: &String| unicode_width::UnicodeWidthStr::width(text.as_str()) <= longest;
    Some((whole.filter(fits).unwrap_or_else(|| truncate(&format!("{mark} {words}"), longest)), role))
}

/// Why a GPU has no value of a metric: its own reason, or its machine's.
pub(super) fn why(scene: Scene<'_>, gpu: &Gpu<'_>, metric: &str) -> Option<String> {
    let missing = || scene.snapshot.unavailable.iter().filter(|missing| missing.metric == metric);
    let own = missing().find(|missing| missing.entity == gpu.device.id);
    own.or_else(|| missing().find(|missing| missing.entity.starts_with("host:"))).map(|missing| missing.reason.clone())
}

/// The same below the utilisation, whose reason stands first: one that is not another is not told again.
pub(super) fn why_besides(scene: Scene<'_>, gpu: &Gpu<'_>, metric: &str) -> Option<String> {
    why(scene, gpu, metric).map(|reason| besides(scene, gpu, reason))
}

/// A reason, unless it is the utilisation's.
pub(super) fn besides(scene: Scene<'_>, gpu: &Gpu<'_>, reason: String) -> String {
    let is_told =
        gpu.view.utilization.is_none() && why(scene, gpu, "hw.gpu.utilization").is_some_and(|told| told == reason);
    if is_told { "for the same reason".to_owned() } else { reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfwatch_model::snapshot::ThrottleView;

    #[test]
    fn what_held_longest_comes_first_and_a_slowdown_goes_with_its_cause() {
        let throttled = [("sw_power_cap", 0.2), ("hw_thermal", 0.6), ("sync_boost", 0.0)];
        let gpu = GpuView {
            throttled: throttled.map(|(reason, share)| ThrottleView { reason: reason.to_owned(), share }).to_vec(),
            throttle_reasons: ["hw_slowdown", "hw_thermal", "application_clocks"].map(str::to_owned).to_vec(),
            ..GpuView::default()
        };
        let expected = [("hw_thermal", Some(0.6)), ("sw_power_cap", Some(0.2)), ("application_clocks", None)];
        assert_eq!(held_down(&gpu), expected);
    }

    #[test]
    fn what_hurts_most_is_told_where_there_is_room_for_one_reason() {
        let throttled = [("sw_thermal", 0.85), ("hw_thermal", 0.5)];
        let throttled = throttled.map(|(reason, share)| ThrottleView { reason: reason.to_owned(), share }).to_vec();
        let gpu = GpuView { throttled, ..GpuView::default() };
        let worst = |longest| worst_reason(&gpu, Theme::default(), longest);
        assert_eq!(worst(24), Some(("▼ 50 % heat".to_owned(), Role::Crit)));
        assert_eq!(worst(8), Some(("▼ heat".to_owned(), Role::Crit)));
        assert_eq!(worst_reason(&GpuView::default(), Theme::default(), 24), None);
    }

    #[test]
    fn the_worst_fault_is_named_and_one_of_a_newer_agent_keeps_its_name() {
        let gpu = |faults: &[&str]| GpuView {
            faults: faults.iter().map(|fault| (*fault).to_owned()).collect(),
            ..GpuView::default()
        };
        assert_eq!(worst_fault(&gpu(&["new_one", "row_remap_pending", "lost"])), Some("lost"));
        assert_eq!(worst_fault(&gpu(&["new_one"])), Some("new_one"));
        assert_eq!(fault("new_one").0, "new one");
    }
}
