//! The recent past of one number. The newest sample is at the right edge and time is never rescaled: a graph that zooms
//! while one watches misleads. Height is relative to the largest sample shown, so it shows shape; the number beside it
//! says how much.

use crate::theme::{Graph, Theme};

/// The newest samples in `cells` columns: two per column in braille, one otherwise. Gaps (NaN) stay blank, and a value
/// above 0 lights at least one dot.
pub fn sparkline(samples: impl DoubleEndedIterator<Item = f64>, cells: usize, theme: Theme) -> String {
    plot(samples, cells, 1, None, theme).pop().unwrap_or_default()
}

/// The same in so many rows, uppermost first. With a `top` the height is a share of that, so that pictures below each other
/// can be compared; what is above it is as high.
pub fn plot(
    samples: impl DoubleEndedIterator<Item = f64>,
    cells: usize,
    rows: usize,
    top: Option<f64>,
    theme: Theme,
) -> Vec<String> {
    let (per_cell, levels) = match theme.graph() {
        Graph::Braille => (2, 4),
        Graph::Blocks => (1, 8),
        Graph::Ascii => (1, 5),
    };
    let mut newest: Vec<f64> = samples.rev().take(cells * per_cell).collect();
    newest.resize(cells * per_cell, f64::NAN);
    newest.reverse();
    let largest = || newest.iter().copied().filter(|value| value.is_finite()).fold(0.0_f64, f64::max);
    let top = top.filter(|top| *top > 0.0).unwrap_or_else(largest);
    let height = |value: f64| {
        let share = (value / top).min(1.0);
        if value.is_finite() && value > 0.0 { ((share * (levels * rows) as f64).round() as usize).max(1) } else { 0 }
    };
    let row = |row: usize| {
        let below = (rows - 1 - row) * levels;
        let level = |value: f64| height(value).saturating_sub(below).min(levels);
        match theme.graph() {
            Graph::Braille => newest.chunks(2).map(|pair| braille(level(pair[0]), level(pair[1]))).collect(),
            Graph::Blocks => {
                newest.iter().map(|value| [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'][level(*value)]).collect()
            }
            Graph::Ascii => newest.iter().map(|value| [' ', '.', ':', '-', '=', '#'][level(*value)]).collect(),
        }
    };
    (0..rows).map(row).collect()
}

/// Columns that so many samples take.
pub fn cells(samples: usize, theme: Theme) -> usize {
    if theme.graph() == Graph::Braille { samples.div_ceil(2) } else { samples }
}

/// One bar per value, scaled to 1: for parallel things such as CPUs, not for time. A value of 0 keeps a floor mark, so
/// that the row shows how many there are; NaN is `?`.
pub fn columns(values: impl Iterator<Item = f64>, theme: Theme) -> String {
    values
        .map(|value| {
            if !value.is_finite() {
                return '?';
            }
            let share = value.clamp(0.0, 1.0);
            if theme.is_ascii() {
                ['.', ':', '-', '=', '#'][(share * 4.0).round() as usize]
            } else {
                ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'][(share * 7.0).round() as usize]
            }
        })
        .collect()
}

/// Two bars of 0 to 4 dots in one cell.
fn braille(left: usize, right: usize) -> char {
    const LEFT: [u32; 5] = [0x00, 0x40, 0x44, 0x46, 0x47];
    const RIGHT: [u32; 5] = [0x00, 0x80, 0xA0, 0xB0, 0xB8];
    match LEFT[left.min(4)] | RIGHT[right.min(4)] {
        0 => ' ',
        dots => char::from_u32(0x2800 + dots).unwrap_or(' '),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::theme::ThemeName;

    #[test]
    fn the_newest_sample_is_at_the_right_edge_and_time_is_not_stretched() {
        let theme = Theme::default();
        assert_eq!(sparkline([1.0, 2.0, 4.0].into_iter(), 4, theme), "  ⢀⣼");
        assert_eq!(sparkline([9.0, 1.0, 1.0].into_iter(), 1, theme), "⣿", "an older peak has left");
    }

    #[test]
    fn a_little_is_not_nothing() {
        assert_eq!(sparkline([0.001, 100.0].into_iter(), 1, Theme::default()), "⣸");
        assert_eq!(sparkline([0.0, f64::NAN, 100.0].into_iter(), 3, Theme::new(ThemeName::Mono, true)), "  #");
    }

    #[test]
    fn several_rows_grow_from_below_and_a_top_makes_them_comparable() {
        let theme = Theme::default();
        assert_eq!(plot([1.0, 2.0].into_iter(), 1, 2, None, theme), ["⢸", "⣿"]);
        assert_eq!(plot([0.5, 0.5].into_iter(), 1, 1, Some(1.0), theme), ["⣤"], "half of all there could be");
        assert_eq!(plot([9.0, 0.0].into_iter(), 1, 1, Some(1.0), theme), ["⡇"], "never above the top");
        assert_eq!(plot([f64::NAN].into_iter(), 2, 2, Some(0.0), theme), ["  ", "  "]);
    }

    #[test]
    fn every_fallback_has_as_many_cells() {
        for graph in [Theme::default(), Theme::new(ThemeName::Mono, true)] {
            assert_eq!(sparkline((0..50).map(f64::from), 7, graph).chars().count(), 7);
        }
        assert_eq!(columns([0.0, 0.5, 1.0, f64::NAN].into_iter(), Theme::default()), "▁▅█?");
    }
}
