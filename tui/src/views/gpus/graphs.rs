//! Numbers of a GPU over the last two minutes, as graphs that share their time.

use ratatui::text::{Line, Span};

use crate::gpus::Gpu;
use crate::history::{GpuTrails, LENGTH, Trail};
use crate::line::{Row, cut, flow, span, spans_width, wrap_in};
use crate::theme::Role;
use crate::units;
use crate::views::Scene;
use crate::widgets::sparkline::{cells, plot};

/// Columns before a graph, for its name.
pub(super) const LABEL: usize = 10;
/// Columns of the newest value.
const VALUE: usize = 9;
/// From this width on there is room for words beside the graphs.
const NOTES_FROM: usize = 96;
/// Columns of such words, at least.
const NOTES: usize = 14;

/// One number over time.
pub(super) struct Graph<'a> {
    pub(super) name: &'static str,
    pub(super) metric: &'static str,
    pub(super) trail: Option<&'a Trail>,
    /// What is as high as the graph; without, the largest that is shown.
    pub(super) top: Option<f64>,
    pub(super) role: Role,
    pub(super) value: Option<f64>,
    pub(super) written: fn(f64) -> String,
    /// What stands beside it; the highest rank leaves first.
    pub(super) notes: Vec<(u8, Vec<Span<'static>>)>,
}

/// Columns of the graphs.
fn graph_cells(scene: Scene<'_>, width: usize) -> usize {
    let beside = LABEL + VALUE + 4 + if width >= NOTES_FROM { NOTES + 2 } else { 0 };
    width.saturating_sub(beside).min(cells(LENGTH, scene.theme))
}

/// What there is room for.
#[derive(Clone, Copy)]
pub(super) struct Room {
    /// Rows of a graph.
    pub(super) rows: usize,
    /// Rows of a reason.
    pub(super) reason: usize,
    /// Columns of all.
    pub(super) width: usize,
}

/// The times below the graphs; `None` where there is no graph.
pub(super) fn axis(scene: Scene<'_>, gpu: &Gpu<'_>, width: usize) -> Option<Line<'static>> {
    trails(scene, gpu)?;
    let columns = graph_cells(scene, width);
    let interval = scene.snapshot.agent.interval_s;
    let interval = if interval > 0.0 && interval.is_finite() { interval } else { 1.0 };
    let per_cell = LENGTH as f64 / cells(LENGTH, scene.theme) as f64;
    let ago = |columns: usize| format!("-{}", units::interval((columns as f64 * per_cell * interval).round()));
    let (oldest, middle, now) = (ago(columns), ago(columns / 2), "now");
    let spare = columns.saturating_sub(oldest.len() + middle.len() + now.len());
    let text = if spare >= 4 {
        let before = (columns / 2).saturating_sub(oldest.len() + middle.len() / 2);
        let after = spare.saturating_sub(before);
        format!("{oldest}{:before$}{middle}{:after$}{now}", "", "")
    } else {
        format!("{now:>columns$}")
    };
    Some(cut(span(format!(" {:LABEL$}{text}", ""), scene.theme.style(Role::Dim)), width))
}

/// The recent past of a GPU, where anything of it is known.
pub(super) fn trails<'a>(scene: Scene<'a>, gpu: &Gpu<'_>) -> Option<&'a GpuTrails> {
    scene.app.history().gpus.get(&gpu.device.id)
}

/// Items beside a name, in the columns of the graphs; nothing where there is none.
pub(super) fn labelled(
    scene: Scene<'_>,
    name: &str,
    items: Vec<Vec<Span<'static>>>,
    width: usize,
) -> Vec<Line<'static>> {
    let mut lines = flow(items, LABEL + 1, width);
    if let Some(indent) = lines.first_mut().and_then(|line| line.spans.first_mut()) {
        *indent = Span::styled(format!(" {name:<LABEL$}"), scene.theme.style(Role::Text));
    }
    lines
}

/// Why there is no value of a metric.
pub(super) type Why = fn(Scene<'_>, &Gpu<'_>, &str) -> Option<String>;

/// Each graph with name and numbers; where there is no value, the reason, once for neighbours that share it.
pub(super) fn drawn(scene: Scene<'_>, gpu: &Gpu<'_>, graphs: &[Graph<'_>], why: Why, room: Room) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let mut missing: Vec<(Vec<&'static str>, Option<String>)> = Vec::new();
    for graph in graphs {
        if graph.value.is_some() {
            lines.extend(missing.drain(..).flat_map(|(names, why)| absent(scene, &names, why, room)));
            lines.extend(one(scene, graph, room));
            continue;
        }
        // What was known until lately is still shown, and the reason follows.
        if graph.trail.is_some_and(|trail| trail.iter().any(f64::is_finite)) {
            lines.extend(one(scene, graph, room));
        }
        let why = why(scene, gpu, graph.metric);
        match missing.last_mut().filter(|(_, known)| *known == why) {
            Some((names, _)) => names.push(graph.name),
            None => missing.push((vec![graph.name], why)),
        }
    }
    lines.extend(missing.drain(..).flat_map(|(names, why)| absent(scene, &names, why, room)));
    lines
}

/// What is not known, and why.
pub(super) fn absent(scene: Scene<'_>, names: &[&str], why: Option<String>, room: Room) -> Vec<Line<'static>> {
    let why = why.unwrap_or_else(|| "not reported".to_owned());
    let names = names.join(", ");
    let before = if names.len() < LABEL { LABEL } else { names.len() + 2 };
    let reason = wrap_in(&why, room.width.saturating_sub(before + NA.len() + 2), room.reason.max(1));
    let line = |(row, text): (usize, String)| {
        let text = if row == 0 {
            format!("{names:<before$}{NA}{text}")
        } else {
            format!("{:indent$}{text}", "", indent = before + NA.len())
        };
        Row::new().left(0, span(text, scene.theme.style(Role::Dim))).line(room.width)
    };
    // Where there is no room for a single word, what is missing is still said.
    let reason = if reason.is_empty() { vec![String::new()] } else { reason };
    reason.into_iter().enumerate().map(line).collect()
}

/// Before a reason.
const NA: &str = "n/a  ";

fn one(scene: Scene<'_>, graph: &Graph<'_>, room: Room) -> Vec<Line<'static>> {
    let theme = scene.theme;
    let width = room.width;
    let columns = graph_cells(scene, width);
    let samples = || graph.trail.map(Trail::iter).into_iter().flatten();
    let picture = plot(samples(), columns, room.rows.max(1), graph.top, theme);
    let last = picture.len().saturating_sub(1);
    let value = graph.value.map_or("n/a".to_owned(), graph.written);
    let value = span(format!("{value:>VALUE$}"), theme.style(Role::Strong));
    let rows = picture.into_iter().enumerate().map(|(row, cells)| {
        // Words stand on the ground that the graph grows from.
        let name = if row == last { graph.name } else { "" };
        let left = [span(format!("{name:<LABEL$}"), theme.style(Role::Text)), span(cells, theme.style(graph.role))];
        let mut line = Row::new().left(0, left.concat());
        if row == last {
            line = line.left(0, value.clone());
            if width >= NOTES_FROM {
                let notes = graph.notes.iter().filter(|(_, note)| spans_width(note) > 0);
                line = notes.fold(line, |line, (rank, note)| line.left(*rank, note.clone()));
                let peak = graph.trail.and_then(largest).map(|most| format!("peak {}", (graph.written)(most)));
                line = line.left(4, span(peak.unwrap_or_default(), theme.style(Role::Dim)));
            }
        }
        line.line(width)
    });
    rows.collect()
}

/// The largest value that is remembered.
pub(super) fn largest(trail: &Trail) -> Option<f64> {
    trail.iter().filter(|value| value.is_finite()).reduce(f64::max)
}
