//! Latency over time: columns are ticks, the newest at the right edge and never rescaled; rows are equal steps of log
//! latency; a cell is the fuller the more requests fell into it, by `log(1 + count)`.

use ratatui::style::{Modifier, Style};
use ratatui::text::Span;

use crate::history::Column;
use crate::theme::{HEAT_LEVELS, Role, Theme};

/// Octaves per row, finest first: ×2, and coarser where all that was seen would not fit.
const STEPS: [i32; 4] = [1, 2, 4, 8];
/// Bounds are powers of 2 to within rounding; this keeps one that is exactly on an edge below it.
const EDGE: f64 = 1e-6;

/// Which latencies the rows stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Octaves per row.
    step: i32,
    /// The uppermost row reaches up to `2^(top · step)` seconds.
    top: i32,
    rows: usize,
}

impl Scale {
    /// The finest scale on which all of these columns fit into so many rows, their range in the middle; around a second
    /// when they are empty. Where even the coarsest does not, the lowest row takes what is below. No row, no scale.
    pub fn fit<'a>(columns: impl Iterator<Item = &'a Column>, rows: usize) -> Option<Self> {
        let (low, high) = range(columns).unwrap_or((0.0, 0.0));
        let fitting = STEPS.into_iter().find_map(|step| {
            let (bottom, top) = (row_number(low, step), row_number(high, step));
            let spare = i32::try_from(rows).ok()? - (top - bottom + 1);
            (spare >= 0).then(|| Self { step, top: top + spare / 2, rows })
        });
        let [.., coarsest] = STEPS;
        let cut_off = Self { step: coarsest, top: row_number(high, coarsest), rows };
        fitting.or((rows > 0).then_some(cut_off))
    }

    /// Rows that these columns need at ×2 per row.
    pub fn needed<'a>(columns: impl Iterator<Item = &'a Column>) -> usize {
        range(columns).map_or(0, |(low, high)| (row_number(high, 1) - row_number(low, 1) + 1) as usize)
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The factor from one row to the next.
    pub fn factor(&self) -> u64 {
        1 << self.step
    }

    /// The latency up to which a row reaches, in seconds; rows count from the top.
    pub fn bound(&self, row: usize) -> f64 {
        f64::from((self.top - row as i32) * self.step).exp2()
    }

    /// The row of a bucket with this log2 of its upper bound; those outside go to the nearest.
    pub fn row(&self, bound: f64) -> usize {
        (self.top - row_number(bound, self.step)).clamp(0, self.rows as i32 - 1) as usize
    }

    /// Requests per row, from the top.
    pub fn counts(&self, column: &Column) -> Vec<u64> {
        let mut counts = vec![0_u64; self.rows];
        for (bound, count) in column.buckets() {
            let row = &mut counts[self.row(*bound)];
            *row = row.saturating_add(*count);
        }
        counts
    }
}

fn row_number(bound: f64, step: i32) -> i32 {
    (bound / f64::from(step) - EDGE).ceil() as i32
}

/// The lowest and the highest bound.
fn range<'a>(columns: impl Iterator<Item = &'a Column>) -> Option<(f64, f64)> {
    let bounds = columns.flat_map(Column::buckets).map(|(bound, _)| *bound);
    bounds.fold(None, |range: Option<(f64, f64)>, bound| {
        Some(range.map_or((bound, bound), |(low, high)| (low.min(bound), high.max(bound))))
    })
}

/// How full a cell is: 0 for nothing, 1 for anything, [`HEAT_LEVELS`] for as much as `most`.
pub fn level(count: u64, most: u64) -> usize {
    if count == 0 {
        return 0;
    }
    let share = (count as f64).ln_1p() / (most.max(count) as f64).ln_1p();
    ((share * HEAT_LEVELS as f64).ceil() as usize).clamp(1, HEAT_LEVELS)
}

/// One column of the picture.
#[derive(Clone, Copy, Debug)]
pub enum Slice<'a> {
    /// Before anything was seen.
    Before,
    /// The server reported nothing.
    Unknown,
    /// What it reported.
    Known(&'a Column),
}

/// The picture, a row of spans per row of the scale. `marked` says which columns carry ticks at their p50 and p99, by place;
/// `cursor` is the place of the column that stands out.
pub fn heatmap(
    slices: &[Slice<'_>],
    scale: Scale,
    most: u64,
    cursor: Option<usize>,
    marked: impl Fn(usize) -> bool,
    theme: Theme,
) -> Vec<Vec<Span<'static>>> {
    let mut rows: Vec<Vec<(char, Style)>> = vec![Vec::with_capacity(slices.len()); scale.rows()];
    for (place, slice) in slices.iter().enumerate() {
        let mut cells = cells(*slice, scale, most, marked(place), theme);
        if cursor == Some(place) {
            for (_, style) in &mut cells {
                *style = style.add_modifier(Modifier::REVERSED);
            }
        }
        rows.iter_mut().zip(cells).for_each(|(row, cell)| row.push(cell));
    }
    rows.into_iter().map(runs).collect()
}

fn cells(slice: Slice<'_>, scale: Scale, most: u64, marked: bool, theme: Theme) -> Vec<(char, Style)> {
    let mut cells = vec![(' ', Style::new()); scale.rows()];
    match slice {
        Slice::Before => {}
        Slice::Unknown => {
            if let Some(lowest) = cells.last_mut() {
                *lowest = ('?', theme.style(Role::Dim));
            }
        }
        Slice::Known(column) => {
            for (cell, count) in cells.iter_mut().zip(scale.counts(column)) {
                let level = level(count, most);
                if level > 0 {
                    *cell = (theme.shade(level), theme.heat(level));
                }
            }
            // The median last: where both fall into one row, it is the one that is missed.
            for (q, tick) in [(0.99, P99), (0.5, P50)] {
                if let Some(bound) = column.quantile(q).filter(|_| marked) {
                    cells[scale.row(bound)] = (theme.pick(tick.0, tick.1), theme.style(Role::Strong));
                }
            }
        }
    }
    cells
}

/// The tick at a column's median, and in ASCII.
pub const P50: (char, char) = ('━', '5');
/// The tick at its 99th percentile.
pub const P99: (char, char) = ('╍', '9');

/// Cells of one style become one span.
fn runs(cells: Vec<(char, Style)>) -> Vec<Span<'static>> {
    let mut spans: Vec<Span<'static>> = Vec::new();
    for (glyph, style) in cells {
        match spans.last_mut() {
            Some(last) if last.style == style => last.content.to_mut().push(glyph),
            _ => spans.push(Span::styled(glyph.to_string(), style)),
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(rows: &[Vec<Span<'_>>]) -> Vec<String> {
        rows.iter().map(|row| row.iter().map(|span| span.content.as_ref()).collect()).collect()
    }

    #[test]
    fn rows_are_octaves_and_the_newest_column_is_at_the_right() {
        let old = Column::new(&[(0.25, 1)]);
        let new = Column::new(&[(0.25, 3), (1.0, 100), (std::f64::consts::SQRT_2, 1)]);
        let columns = [&old, &new];
        let scale = Scale::fit(columns.into_iter(), 4).expect("there are rows");
        assert_eq!([0, 1, 2, 3].map(|row| (scale.bound(row) * 1e3) as u64), [2000, 1000, 500, 250]);
        let slices = [Slice::Before, Slice::Unknown, Slice::Known(&old), Slice::Known(&new)];
        let picture = text(&heatmap(&slices, scale, 100, None, |_| false, Theme::default()));
        assert_eq!(picture, ["   ░", "   █", "    ", " ?░▒"]);
    }

    #[test]
    fn the_scale_gets_coarser_only_when_it_must() {
        let column = Column::new(&[(0.001, 1), (1.0, 1)]);
        let scale = |rows| Scale::fit([&column].into_iter(), rows).expect("there are rows");
        assert_eq!(Scale::needed([&column].into_iter()), 10);
        assert_eq!([10, 9, 5, 1].map(|rows| scale(rows).factor()), [2, 4, 4, 256]);
        assert_eq!(Scale::fit([&column].into_iter(), 0), None);
    }

    #[test]
    fn ticks_stand_at_the_median_and_the_99th_percentile_of_their_column() {
        let column = Column::new(&[(0.25, 60), (0.5, 35), (1.0, 4), (2.0, 1)]);
        let scale = Scale::fit([&column].into_iter(), 4).expect("there are rows");
        let slices = [Slice::Known(&column), Slice::Known(&column)];
        let picture = text(&heatmap(&slices, scale, 60, None, |place| place == 1, Theme::default()));
        assert_eq!(picture, ["░░", "▒╍", "██", "█━"]);
    }

    #[test]
    fn one_request_among_many_is_seen() {
        assert_eq!([level(0, 1000), level(1, 1_000_000), level(1000, 1000), level(5, 0)], [0, 1, 4, 4]);
    }

    proptest! {
        #[test]
        fn every_request_is_in_some_row(
            buckets in prop::collection::vec((1e-9_f64..1e9, 1_u64..1000), 0..60),
            rows in 1_usize..20,
        ) {
            let column = Column::new(&buckets);
            let scale = Scale::fit([&column].into_iter(), rows).expect("there are rows");
            prop_assert_eq!(scale.counts(&column).iter().sum::<u64>(), column.count());
            let picture = heatmap(&[Slice::Known(&column)], scale, column.count(), Some(0), |_| true, Theme::default());
            prop_assert_eq!(picture.len(), rows);
        }
    }
}
