//! Where an interval went: one stacked bar, and its legend in percent that add to 100.

use perfwatch_model::ledger::proportional;
use ratatui::text::Span;

use crate::parts::{Certainty, Part};
use crate::theme::{Role, Theme};

/// The parts as `cells` columns, in order, shared by largest remainder so that they fill the bar exactly.
pub(crate) fn bar(parts: &[Part], cells: usize, theme: Theme) -> Vec<Span<'static>> {
    let Some(shares) = proportional(cells as u64, parts.iter().map(|part| part.ns)) else {
        let nothing = theme.pick("·", ".").repeat(cells);
        return vec![Span::styled(nothing, theme.style(Role::Dim))];
    };
    let mut spans = Vec::with_capacity(parts.len());
    for (part, share) in parts.iter().zip(shares) {
        if share == 0 {
            continue;
        }
        let style = if part.letter { theme.fill(part.role) } else { theme.style(part.role) };
        spans.push(Span::styled(cells_of(part, share as usize, theme), style));
    }
    spans
}

/// What a model says, not a measurement, is hatched.
fn cells_of(part: &Part, count: usize, theme: Theme) -> String {
    let glyph = theme.pick(part.glyph, part.ascii);
    let hatch = theme.pick('╱', '/');
    (0..count).map(|at| if part.certainty == Certainty::Modelled && at % 2 == 1 { hatch } else { glyph }).collect()
}

/// How much a legend says of each part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Fewer words.
    Short,
    /// Its words.
    Words,
    /// Its words, and how far off its number may be: `12 % (3–20)`.
    Bounds,
}

/// `glyph words percent` for the parts that took any time, in the bar's order, but for the `dropped` smallest, which share
/// one item at the end. The percentages are whole and add to 100. With none dropped, parts that round to nothing share one
/// item as well if they are several. `≈` marks what follows from an assumption.
pub(crate) fn legend(parts: &[Part], detail: Detail, theme: Theme, dropped: usize) -> Vec<Vec<Span<'static>>> {
    let percents = percents(parts);
    let whole: u64 = parts.iter().map(|part| part.ns).sum();
    let mut by_size: Vec<usize> = (0..parts.len()).filter(|at| parts[*at].ns > 0).collect();
    by_size.sort_by_key(|at| parts[*at].ns);
    let tiny = by_size.iter().filter(|at| percents[**at] == 0).count();
    let hidden = if dropped > 0 {
        dropped
    } else if tiny > 1 {
        tiny
    } else {
        0
    };
    let hidden = &by_size[..hidden.min(by_size.len())];
    let mut items = Vec::with_capacity(parts.len());
    for (at, (part, percent)) in parts.iter().zip(&percents).enumerate() {
        if part.ns == 0 || hidden.contains(&at) {
            continue;
        }
        let sign = if part.certainty == Certainty::Measured { "" } else { theme.pick("≈", "~") };
        let number = if *percent == 0 { " <1 %".to_owned() } else { format!(" {sign}{percent} %") };
        let style = if part.letter { theme.fill(part.role) } else { theme.style(part.role) };
        let mut item = vec![
            Span::styled(theme.pick(part.glyph, part.ascii).to_string(), style),
            Span::raw(format!(" {}", if detail == Detail::Short { &part.short } else { &part.words })),
            Span::styled(number, theme.style(Role::Strong)),
        ];
        if let Some(bounds) = part.bounds.filter(|_| detail == Detail::Bounds) {
            item.push(Span::styled(between(bounds, whole, *percent, theme), theme.style(Role::Dim)));
        }
        items.push(item);
    }
    if !hidden.is_empty() {
        let sum: u64 = hidden.iter().map(|at| percents[*at]).sum();
        let percent = if sum == 0 { "under 1 %".to_owned() } else { format!("{sum} %") };
        items.push(vec![Span::styled(format!("+{} {percent}", hidden.len()), theme.style(Role::Dim))]);
    }
    items
}

/// ` (3–20)`: whole percentages on either side of the one that is shown.
fn between((low, high): (u64, u64), whole: u64, percent: u64, theme: Theme) -> String {
    let share = |ns: u64| (ns as f64 * 100.0 / whole as f64).round() as u64;
    format!(" ({}{}{})", share(low).min(percent), theme.pick("–", "-"), share(high).max(percent))
}

/// Whole percentages of the parts that add to 100; zeros when there is nothing to divide.
pub(crate) fn percents(parts: &[Part]) -> Vec<u64> {
    proportional(100, parts.iter().map(|part| part.ns)).unwrap_or_else(|| vec![0; parts.len()])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parts::device_part;
    use crate::theme::ThemeName;
    use perfwatch_model::Quality;

    fn text(spans: &[Span<'_>]) -> String {
        spans.iter().map(|span| span.content.as_ref()).collect()
    }

    #[test]
    fn a_bar_is_filled_exactly_and_unknown_is_a_question_mark() {
        let parts = [
            device_part("used", 50, Quality::Counter),
            device_part("starved.data_load", 30, Quality::Sdk),
            device_part("no_demand", 10, Quality::Sdk),
            device_part("unknown", 10, Quality::Unknown),
        ];
        assert_eq!(text(&bar(&parts, 10, Theme::default())), "█████lll·?");
        assert_eq!(
            legend(&parts, Detail::Words, Theme::default(), 0).iter().map(|item| text(item)).collect::<Vec<_>>(),
            ["█ used 50 %", "l starved by data load 30 %", "· no demand 10 %", "? unknown 10 %"]
        );
    }

    #[test]
    fn what_is_modelled_is_hatched_and_marked() {
        let parts = [device_part("compute", 1, Quality::Modelled)];
        assert_eq!(text(&bar(&parts, 4, Theme::default())), "█╱█╱");
        assert_eq!(text(&legend(&parts, Detail::Words, Theme::default(), 0)[0]), "█ compute ≈100 %");
    }

    #[test]
    fn several_parts_that_round_to_nothing_share_one_item() {
        let mut parts = vec![device_part("used", 998, Quality::Counter), device_part("steal", 1, Quality::Counter)];
        let words = |parts: &[Part]| -> Vec<_> {
            legend(parts, Detail::Words, Theme::default(), 0).iter().map(|item| text(item)).collect()
        };
        assert_eq!(words(&parts), ["█ used 100 %", "Z CPU taken by hypervisor <1 %"]);
        parts.push(device_part("quota", 1, Quality::Counter));
        assert_eq!(words(&parts), ["█ used 100 %", "+2 under 1 %"]);
    }

    #[test]
    fn where_there_is_no_room_the_largest_parts_stay_and_the_sum_is_a_hundred() {
        let parts = [
            device_part("used", 60, Quality::Counter),
            device_part("quota", 1, Quality::Counter),
            device_part("starved.batch_wait", 30, Quality::Sdk),
            device_part("steal", 9, Quality::Counter),
        ];
        let items: Vec<_> = legend(&parts, Detail::Short, Theme::default(), 2).iter().map(|item| text(item)).collect();
        assert_eq!(items, ["█ used 60 %", "b batch 30 %", "+2 10 %"]);
    }

    #[test]
    fn bounds_stand_behind_their_number_and_do_not_contradict_it() {
        let mut parts = ["sm_stalled", "compute"].map(|cause| device_part(cause, 880, Quality::Inferred));
        (parts[0].ns, parts[0].bounds) = (120, Some((30, 200)));
        let words =
            |detail, theme| -> Vec<_> { legend(&parts, detail, theme, 0).iter().map(|item| text(item)).collect() };
        assert_eq!(words(Detail::Bounds, Theme::default()), ["▚ SMs stalled ≈12 % (3–20)", "█ compute ≈88 %"]);
        assert_eq!(words(Detail::Words, Theme::default())[0], "▚ SMs stalled ≈12 %");
        assert_eq!(words(Detail::Bounds, Theme::new(ThemeName::Mono, true))[0], "= SMs stalled ~12 % (3-20)");
        // What is shown was rounded so that all add to 100, and its bounds do not contradict it.
        assert_eq!(between((128, 128), 1000, 12, Theme::default()), " (12–13)");
    }

    #[test]
    fn an_empty_ledger_draws_an_empty_bar() {
        assert_eq!(text(&bar(&[], 3, Theme::default())), "···");
    }

    proptest! {
        #[test]
        fn percentages_add_to_a_hundred_and_cells_to_the_width(ns in prop::collection::vec(0_u64..1 << 40, 1..12), cells in 0_usize..300) {
            let parts: Vec<Part> = ns.iter().map(|ns| device_part("used", *ns, Quality::Counter)).collect();
            let sum = percents(&parts).iter().sum::<u64>();
            prop_assert_eq!(sum, if ns.iter().any(|ns| *ns > 0) { 100 } else { 0 });
            prop_assert_eq!(text(&bar(&parts, cells, Theme::default())).chars().count(), cells);
        }
    }
}
