//! The heatmap with its axes, and what stands beside it: numbers of the window, or the second under the cursor.

use perfwatch_model::snapshot::ServerView;
use ratatui::text::{Line, Span};

use super::{Plan, numbers, rule};
use crate::history::{Column, Columns, LENGTH};
use crate::line::{cut, span, truncate};
use crate::theme::Role;
use crate::units;
use crate::views::Scene;
use crate::widgets::gauge::bar;
use crate::widgets::heatmap::{P50, P99, Scale, Slice, heatmap};
use crate::wording;

/// Columns of a latency at the left.
const LABEL: usize = 7;
/// Columns of what stands beside the heatmap.
const SIDE: usize = 25;
/// Between it and the heatmap.
const GAP: usize = 2;
/// From this width on there is something beside the heatmap.
const SIDE_FROM: usize = 60;
/// From this width on there are both numbers and a histogram.
const BOTH_FROM: usize = 110;
/// However few octaves there are to show: what stands beside the heatmap needs rows as well.
const LEAST_WANTED: usize = 8;
/// Ticks between two times of the axis; twice as many on a wide one.
const EVERY: usize = 10;
/// Columns of a bar of the histogram.
const BAR: usize = 10;

/// Rows that [`lines`] takes.
pub(super) fn height(plan: Plan, width: usize) -> usize {
    1 + plan.heat + usize::from(plan.axis) + usize::from(width < SIDE_FROM)
}

/// Rows that the heatmap could use.
pub(super) fn wanted(scene: Scene<'_>, server: &ServerView, width: usize) -> usize {
    let window = Window::new(scene, server, cells(width));
    Scale::needed(window.known()).max(LEAST_WANTED)
}

/// Whether anything is known of the last minutes.
pub(super) fn has_past(scene: Scene<'_>, server: &ServerView) -> bool {
    columns(scene, server).is_some_and(|columns| columns.iter().flatten().next().is_some())
}

/// How many things stand beside the heatmap.
fn sides(width: usize) -> usize {
    match width {
        BOTH_FROM.. => 2,
        SIDE_FROM.. => 1,
        _ => 0,
    }
}

/// Columns of the heatmap.
fn cells(width: usize) -> usize {
    width.saturating_sub(LABEL + 3 + sides(width) * (SIDE + GAP)).min(LENGTH)
}

fn columns<'a>(scene: Scene<'a>, server: &ServerView) -> Option<&'a Columns> {
    scene.app.history().servers.get(&server.id).map(|trails| &trails.latency)
}

/// What is seen of time.
struct Window<'a> {
    columns: Option<&'a Columns>,
    /// Places in the picture.
    cells: usize,
    /// Ticks before the newest at which the picture ends: more than 0 only to keep the cursor in it.
    end: usize,
    /// Ticks before the newest at which the cursor stands.
    cursor: Option<usize>,
    interval_s: f64,
}

impl<'a> Window<'a> {
    fn new(scene: Scene<'a>, server: &ServerView, cells: usize) -> Self {
        let cursor = scene.app.cursor().filter(|_| cells > 0);
        let end = cursor.map_or(0, |ticks| (ticks + 1).saturating_sub(cells));
        let interval = scene.snapshot.agent.interval_s;
        let interval_s = if interval > 0.0 && interval.is_finite() { interval } else { 1.0 };
        Self { columns: columns(scene, server), cells, end, cursor, interval_s }
    }

    /// Ticks before the newest of a place in the picture.
    fn ticks(&self, place: usize) -> usize {
        self.end + self.cells - 1 - place
    }

    fn cursor_place(&self) -> Option<usize> {
        self.cursor.map(|ticks| self.cells - 1 - (ticks - self.end))
    }

    /// Every column in the picture that is known.
    fn known(&self) -> impl Iterator<Item = &'a Column> + '_ {
        (0..self.cells).filter_map(|place| self.columns?.before(self.ticks(place)))
    }

    fn slice(&self, place: usize) -> Slice<'a> {
        let Some(columns) = self.columns else { return Slice::Before };
        let ticks = self.ticks(place);
        match columns.before(ticks) {
            Some(column) => Slice::Known(column),
            None if ticks < columns.iter().len() => Slice::Unknown,
            None => Slice::Before,
        }
    }
}

/// Title, heatmap, times; the numbers below where there is no room beside it.
pub(super) fn lines(scene: Scene<'_>, server: &ServerView, plan: Plan, width: usize) -> Vec<Line<'static>> {
    let (sides, cells) = (sides(width), cells(width));
    let window = Window::new(scene, server, cells);
    let Some(scale) = Scale::fit(window.known(), plan.heat) else { return Vec::new() };
    let most = window.known().flat_map(|column| scale.counts(column)).max().unwrap_or(0);
    let mut lines = vec![title(scene, server, &window, scale, most, width)];

    let slices: Vec<Slice<'_>> = (0..cells).map(|place| window.slice(place)).collect();
    // Every other tick, so that what lies under a mark is seen beside it; the same ticks as time goes on.
    let now = scene.app.history().now();
    let marked = |place: usize| now.saturating_sub(window.ticks(place) as u64).is_multiple_of(2);
    let mut picture = heatmap(&slices, scale, most, window.cursor_place(), marked, scene.theme);
    if let Some(note) = why_empty(server, most) {
        write_over(scene, &mut picture, note, cells);
    }
    let rows = plan.heat + usize::from(plan.axis);
    let beside = beside(scene, server, &window, scale, sides, rows);
    let dim = scene.theme.style(Role::Dim);
    for (row, cells) in picture.into_iter().enumerate() {
        let bound = units::duration(scale.bound(row));
        let label = format!(" {bound:>LABEL$}{}", scene.theme.pick("┤", "|"));
        lines.push(joined(vec![Span::styled(label, dim)], cells, beside.get(row), width));
    }
    if plan.axis {
        let label = format!(" {:>LABEL$}{}", "", scene.theme.pick("└", "+"));
        let times = axis(scene, &window);
        lines.push(joined(vec![Span::styled(label, dim)], times, beside.get(plan.heat), width));
    }
    if sides == 0 {
        lines.push(match window.cursor {
            Some(ticks) => second_in_a_line(scene, &window, ticks, width),
            None => numbers::line(scene, server, width),
        });
    }
    lines
}

fn joined(
    mut left: Vec<Span<'static>>,
    cells: Vec<Span<'static>>,
    beside: Option<&Vec<Span<'static>>>,
    width: usize,
) -> Line<'static> {
    left.extend(cells);
    left.extend(beside.into_iter().flatten().cloned());
    cut(left, width)
}

fn title(
    scene: Scene<'_>,
    server: &ServerView,
    window: &Window<'_>,
    scale: Scale,
    most: u64,
    width: usize,
) -> Line<'static> {
    let theme = scene.theme;
    let interval = units::interval(window.interval_s);
    let (least, full) = (theme.shade(1), theme.shade(crate::theme::HEAT_LEVELS));
    let (p50, p99) = (theme.pick(P50.0, P50.1), theme.pick(P99.0, P99.1));
    let dot = theme.pick("·", ".");
    let note = if most == 0 {
        format!("a column is {interval}")
    } else {
        let requests = units::counted("{request}", most as f64);
        let factor = scale.factor();
        let most = units::count(most);
        let legend = format!("{least} 1 {full} {most} {requests} {dot} {p50} p50 {p99} p99");
        if width < BOTH_FROM { legend } else { format!("{legend} {dot} a column is {interval}, a row ×{factor}") }
    };
    rule(scene, &heading(scene, server), &note, width)
}

/// Whose latency it is, and how it is with that server.
pub(super) fn heading(scene: Scene<'_>, server: &ServerView) -> String {
    let servers = scene.snapshot.servers.len();
    let place = if servers > 1 { format!(", {} of {servers}", scene.app.server_index() + 1) } else { String::new() };
    let silent = if server.live { "" } else { ": silent for more than 3 s" };
    format!("Latency of {}{place}{silent}", server.name)
}

/// What to say in place of a picture that has nothing in it.
fn why_empty(server: &ServerView, most: u64) -> Option<&'static str> {
    if most > 0 {
        return None;
    }
    Some(match server {
        ServerView { live: false, .. } => "n/a: the server is silent",
        ServerView { latency: Some(_), latency_buckets: None, .. } => "n/a: the agent is older than this picture",
        _ => "no request has ended yet",
    })
}

fn write_over(scene: Scene<'_>, picture: &mut [Vec<Span<'static>>], note: &str, cells: usize) {
    let middle = picture.len() / 2;
    if let Some(row) = picture.get_mut(middle) {
        let note = truncate(note, cells);
        let columns = unicode_width::UnicodeWidthStr::width(note.as_str());
        let before = (cells - columns) / 2;
        let text = format!("{:before$}{note}{:after$}", "", "", after = cells - columns - before);
        *row = span(text, scene.theme.style(Role::Dim));
    }
}

/// `-10 s` below its column, every so many; the cursor's mark goes first.
fn axis(scene: Scene<'_>, window: &Window<'_>) -> Vec<Span<'static>> {
    let dim = scene.theme.style(Role::Dim);
    let mut cells = vec![' '; window.cells];
    let cursor = window.cursor_place();
    let every = if window.cells > 6 * EVERY { 2 * EVERY } else { EVERY };
    let mut free_from = 0;
    for place in 0..window.cells {
        let ticks = window.ticks(place);
        let newest = place + 1 == window.cells;
        // The right edge is always named, also when it is not the newest tick.
        if !newest && !ticks.is_multiple_of(every) {
            continue;
        }
        let text = match ticks {
            0 => "now".to_owned(),
            _ => format!("-{}", units::interval(ticks as f64 * window.interval_s)),
        };
        let Some(start) = (place + 1).checked_sub(text.chars().count()) else { continue };
        let hit = cursor.is_some_and(|cursor| (start..=place + 1).contains(&(cursor + 1)) || cursor == place);
        if start < free_from || hit {
            continue;
        }
        cells[start..=place].iter_mut().zip(text.chars()).for_each(|(cell, c)| *cell = c);
        free_from = place + 2;
    }
    let Some(cursor) = cursor else { return span(cells.into_iter().collect::<String>(), dim) };
    let mut spans = span(cells[..cursor].iter().collect::<String>(), dim);
    spans.extend(span(scene.theme.pick("▲", "^"), scene.theme.style(Role::Strong)));
    spans.extend(span(cells[cursor + 1..].iter().collect::<String>(), dim));
    spans
}

/// What stands beside each row, its gap included.
fn beside(
    scene: Scene<'_>,
    server: &ServerView,
    window: &Window<'_>,
    scale: Scale,
    sides: usize,
    rows: usize,
) -> Vec<Vec<Span<'static>>> {
    let mut lines = vec![Vec::new(); rows];
    let mut add = |side: Vec<Vec<Span<'static>>>| {
        for (line, cells) in lines.iter_mut().zip(side.into_iter().chain(std::iter::repeat(Vec::new()))) {
            let columns = crate::line::spans_width(&cells);
            line.push(Span::raw(" ".repeat(GAP)));
            line.extend(cells);
            line.push(Span::raw(" ".repeat(SIDE.saturating_sub(columns))));
        }
    };
    if sides == 2 || (sides == 1 && window.cursor.is_some()) {
        add(histogram(scene, window, scale));
    }
    if sides == 2 || (sides == 1 && window.cursor.is_none()) {
        add(numbers::list(scene, server, rows, SIDE));
    }
    lines
}

/// The distribution of the second under the cursor, in the rows of the heatmap; of all that is shown without one.
fn histogram(scene: Scene<'_>, window: &Window<'_>, scale: Scale) -> Vec<Vec<Span<'static>>> {
    let theme = scene.theme;
    let dim = theme.style(Role::Dim);
    let (counts, marks) = match window.cursor {
        Some(ticks) => match window.columns.and_then(|columns| columns.before(ticks)) {
            Some(column) => (scale.counts(column), marks(column, scale)),
            None => (vec![0; scale.rows()], Vec::new()),
        },
        None => (all(window, scale), Vec::new()),
    };
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let mut lines: Vec<Vec<Span<'static>>> = counts
        .iter()
        .enumerate()
        .map(|(row, count)| {
            if *count == 0 {
                return Vec::new();
            }
            let filled = bar(*count as f64 / most as f64, BAR, theme);
            let names: Vec<&str> = marks.iter().filter(|(_, at)| *at == row).map(|(name, _)| *name).collect();
            vec![
                Span::styled(format!("{filled:<BAR$}"), theme.style(Role::Accent)),
                Span::raw(format!(" {:>6}", units::count(*count))),
                Span::styled(format!(" {}", names.join(" ")), dim),
            ]
        })
        .collect();
    let total = counts.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
    lines.push(match window.cursor {
        Some(ticks) => vec![
            Span::styled(clock(scene, window, ticks), theme.style(Role::Strong)),
            Span::styled(format!("  {}", requests_of(window, ticks)), dim),
        ],
        None => span(format!("{} {} shown", units::count(total), units::counted("{request}", total as f64)), dim),
    });
    lines
}

/// Requests per row over everything in the picture.
fn all(window: &Window<'_>, scale: Scale) -> Vec<u64> {
    let mut sums = vec![0_u64; scale.rows()];
    for column in window.known() {
        for (sum, count) in sums.iter_mut().zip(scale.counts(column)) {
            *sum = sum.saturating_add(count);
        }
    }
    sums
}

/// Names of a column's percentiles, and their rows.
fn marks(column: &Column, scale: Scale) -> Vec<(&'static str, usize)> {
    let quantiles = [("p50", 0.5), ("p99", 0.99)];
    quantiles.into_iter().filter_map(|(name, q)| Some((name, scale.row(column.quantile(q)?)))).collect()
}

fn clock(scene: Scene<'_>, window: &Window<'_>, ticks: usize) -> String {
    wording::clock_before(&scene.snapshot.time, ticks as f64 * window.interval_s)
}

fn requests_of(window: &Window<'_>, ticks: usize) -> String {
    match window.columns.and_then(|columns| columns.before(ticks)) {
        Some(column) => {
            let count = column.count();
            format!("{} {}", units::count(count), units::counted("{request}", count as f64))
        }
        None => "n/a, no report".to_owned(),
    }
}

/// The second under the cursor where there is no room for its histogram.
fn second_in_a_line(scene: Scene<'_>, window: &Window<'_>, ticks: usize, width: usize) -> Line<'static> {
    let theme = scene.theme;
    let mut row = crate::line::Row::new()
        .left(0, span(clock(scene, window, ticks), theme.style(Role::Strong)))
        .left(1, span(requests_of(window, ticks), theme.style(Role::Text)));
    let column = window.columns.and_then(|columns| columns.before(ticks));
    for (rank, name, q) in [(3, "p50", 0.5), (2, "p99", 0.99)] {
        if let Some(bound) = column.and_then(|column| column.quantile(q)) {
            let text = format!("{name} ≤{}", units::duration(bound.exp2()));
            row = row.left(rank, span(text, theme.style(Role::Dim)));
        }
    }
    row.line(width)
}
