//! Batches: how many, how large, and their sizes as a small histogram.

use perfwatch_model::snapshot::{BatchView, ServerView};
use ratatui::text::{Line, Span};

use crate::line::{Row, span};
use crate::theme::Role;
use crate::units;
use crate::views::Scene;
use crate::widgets::sparkline::columns;

/// Batches up to this size have a bar each; larger ones share one per power of 2.
const EACH: u64 = 16;

/// One line; `None` for a server that forms no batches.
pub(super) fn line(scene: Scene<'_>, server: &ServerView, width: usize) -> Option<Line<'static>> {
    let batch = server.batch.as_ref()?;
    let theme = scene.theme;
    let dim = theme.style(Role::Dim);
    let most = batch.max_size.map(|max| format!(" of {max}")).unwrap_or_default();
    let mut row = Row::new()
        .left(0, span("BATCHES", theme.style(Role::Strong)))
        .left(0, vec![Span::raw(format!("{}/s", units::digits(batch.per_s)))])
        .left(
            0,
            vec![
                Span::styled("mean ", dim),
                Span::styled(units::digits(batch.mean_size), theme.style(Role::Strong)),
                Span::raw(most),
            ],
        );
    let sizes = sizes(batch);
    if !sizes.is_empty() {
        row = row.left(2, histogram(scene, &sizes));
    }
    let ready = format!("2 or more stood ready: {}", units::percent(batch.ready2));
    Some(row.left(3, span(ready, dim)).line(width))
}

/// (name, count) of every size up to the largest there is or may be, those that did not occur included.
fn sizes(batch: &BatchView) -> Vec<(String, u64)> {
    let Some(counts) = batch.sizes.as_ref().filter(|sizes| !sizes.is_empty()) else { return Vec::new() };
    let seen = counts.iter().map(|(size, _)| *size).max().unwrap_or(0);
    let largest = seen.max(u64::from(batch.max_size.unwrap_or(0)));
    let mut bins: Vec<(String, u64, u64)> = Vec::new();
    let mut low = 1;
    while low <= largest && bins.len() < 64 {
        let high = if largest <= EACH { low } else { low.checked_next_power_of_two().unwrap_or(u64::MAX) };
        let name = if low == high { low.to_string() } else { format!("{low}–{high}") };
        bins.push((name, low, high));
        low = high.saturating_add(1);
    }
    bins.into_iter()
        .map(|(name, low, high)| {
            let inside = counts.iter().filter(|(size, _)| (low..=high).contains(size));
            (name, inside.fold(0, |sum: u64, (_, count)| sum.saturating_add(*count)))
        })
        .collect()
}

/// `1▂ 2▅ 3█ 4▂`.
fn histogram(scene: Scene<'_>, sizes: &[(String, u64)]) -> Vec<Span<'static>> {
    let theme = scene.theme;
    let most = sizes.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    let bars = columns(sizes.iter().map(|(_, count)| *count as f64 / most as f64), theme);
    let mut spans = Vec::new();
    for ((name, _), bar) in sizes.iter().zip(bars.chars()) {
        let gap = if spans.is_empty() { "" } else { " " };
        spans.push(Span::styled(format!("{gap}{name}"), theme.style(Role::Dim)));
        spans.push(Span::styled(bar.to_string(), theme.style(Role::Accent)));
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(max_size: Option<u32>, sizes: &[(u64, u64)]) -> BatchView {
        BatchView { per_s: 1.0, mean_size: 1.0, max_size, ready2: 0.0, sizes: Some(sizes.to_vec()) }
    }

    fn text(batch: &BatchView) -> String {
        sizes(batch).iter().map(|(name, count)| format!("{name}:{count} ")).collect()
    }

    #[test]
    fn small_batches_have_a_bar_each_and_what_did_not_occur_is_seen_to_be_missing() {
        assert_eq!(text(&batch(Some(4), &[(1, 5), (3, 7)])), "1:5 2:0 3:7 4:0 ");
        assert_eq!(text(&batch(None, &[(2, 5)])), "1:0 2:5 ");
        assert_eq!(text(&batch(Some(4), &[])), "");
    }

    #[test]
    fn large_batches_are_grouped_by_powers_of_two() {
        assert_eq!(
            text(&batch(Some(32), &[(1, 1), (3, 2), (4, 3), (9, 4), (32, 5)])),
            "1:1 2:0 3–4:5 5–8:0 9–16:4 17–32:5 "
        );
    }

    #[test]
    fn absurd_sizes_end() {
        assert!(sizes(&batch(Some(u32::MAX), &[(u64::MAX, u64::MAX), (0, 1)])).len() <= 66);
    }
}
