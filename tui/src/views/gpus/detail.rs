//! Everything about one GPU.

use perfwatch_model::snapshot::GpuView;
use ratatui::text::Line;
use unicode_width::UnicodeWidthStr;

use super::activity::{self, Activity, Links, UNITS};
use super::graphs::{self, LABEL, Room, labelled};
use super::trouble::{self, Told};
use super::{memory, supply};
use crate::gpus::{Gpu, bare, gpus, short_name};
use crate::line::{Row, cut, flow, span};
use crate::parts::device_parts;
use crate::theme::Role;
use crate::units;
use crate::views::Scene;
use crate::views::overview::rule;
use crate::widgets::ledger_bar::{self, Detail};

/// How much of each part is drawn. Starts with all of it; [`SACRIFICES`] take away until the rest fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each part is there or not, independently; the order is in SACRIFICES"
)]
pub(super) struct Plan {
    /// Blank lines between parts.
    air: bool,
    /// What to try, of each finding that hurts.
    tries: usize,
    /// Rows of the sentence of such a finding, and of each thing to try.
    told: usize,
    /// What to try, of each other finding.
    hints: usize,
    /// Rows of any other sentence, or of a reason.
    words: usize,
    /// Units without a graph.
    other_units: bool,
    /// Rows of a graph.
    graph: usize,
    /// The times below the graphs.
    axis: bool,
    /// Of what feeds and slows it, how many graphs.
    supply: usize,
    /// Errors of the memory, XID errors.
    errors: bool,
    /// How much of its memory is in use.
    memory: bool,
    /// Processes.
    processes: usize,
    /// Units, so many that matter most.
    units: usize,
    /// Whether any kernel ran, where the units say more.
    utilization: bool,
    /// Links.
    links: Links,
    /// How far off a part of the ledger may be, though it takes a row more.
    bounds: bool,
    /// Rows for the legend of the ledger.
    legend: usize,
    /// All names that it has: the numbers tell GPUs apart, and a UUID is for those who look for it.
    names: bool,
}

const EVERYTHING: Plan = Plan {
    air: true,
    tries: 3,
    told: LONGEST,
    hints: 3,
    words: LONGEST,
    other_units: true,
    graph: TALLEST,
    axis: true,
    supply: 4,
    errors: true,
    memory: true,
    processes: 16,
    units: UNITS,
    utilization: true,
    links: Links::All,
    bounds: true,
    legend: 3,
    names: false,
};

/// What leaves when there is not room for all, first to last. What is wrong, and what to try first, stays until no graph is left.
const SACRIFICES: &[fn(&mut Plan)] = &[
    |plan| (plan.tries, plan.hints) = (1, 1),
    |plan| (plan.told, plan.words) = (3, 3),
    |plan| plan.graph = 3,
    |plan| plan.graph = 2,
    |plan| plan.processes = 8,
    |plan| plan.words = 2,
    |plan| plan.graph = 1,
    |plan| plan.air = false,
    |plan| plan.other_units = false,
    |plan| plan.bounds = false,
    |plan| plan.processes = 4,
    |plan| plan.axis = false,
    |plan| plan.links = Links::Working,
    |plan| plan.errors = false,
    |plan| plan.hints = 0,
    |plan| plan.words = 1,
    |plan| plan.processes = 2,
    |plan| plan.utilization = false,
    |plan| plan.links = Links::None,
    |plan| plan.processes = 0,
    |plan| plan.supply = 3,
    |plan| plan.supply = 2,
    |plan| plan.supply = 1,
    |plan| plan.legend = 2,
    |plan| plan.supply = 0,
    |plan| plan.legend = 1,
    |plan| plan.units = 2,
    |plan| plan.units = 1,
    |plan| plan.units = 0,
    |plan| plan.told = 2,
    |plan| plan.legend = 0,
    |plan| plan.memory = false,
    |plan| plan.told = 1,
    |plan| plan.tries = 0,
];

/// What comes back where a sacrifice made more room than was wanted, again and again as far as that goes: nothing is cut above
/// free rows.
const RETURNS: &[fn(&mut Plan)] = &[
    |plan| plan.told = (plan.told + 1).min(LONGEST),
    |plan| plan.words = (plan.words + 1).min(LONGEST),
    |plan| plan.tries = (plan.tries + 1).min(EVERYTHING.tries),
    |plan| plan.hints = (plan.hints + 1).min(EVERYTHING.hints),
];

/// Rows that no sentence or reason is longer than, unless the screen is very narrow.
const LONGEST: usize = 8;
/// Most rows of a graph.
const TALLEST: usize = 4;
/// Least rows in which a detail says anything.
pub(super) const LEAST: usize = 4;
/// Columns around a title and its note that [`rule`] needs for itself.
const TITLE_MARGINS: usize = 9;
/// From this width on there are two columns: graphs at the left, the rest at the right.
const TWO_FROM: usize = 176;
/// Columns of the graphs then, with what stands beside them.
const LEFT: usize = 122;

/// As much as fits into so many rows.
pub(super) fn fitting(scene: Scene<'_>, gpu: &Gpu<'_>, width: usize, rows: usize) -> Vec<Line<'static>> {
    let mut plan = EVERYTHING;
    let mut lines = self::lines(scene, gpu, plan, width);
    for sacrifice in SACRIFICES {
        if lines.len() <= rows {
            break;
        }
        sacrifice(&mut plan);
        lines = self::lines(scene, gpu, plan, width);
    }
    for give in RETURNS {
        loop {
            let mut richer = plan;
            give(&mut richer);
            let more = if richer == plan { break } else { self::lines(scene, gpu, richer, width) };
            if more.len() > rows {
                break;
            }
            (plan, lines) = (richer, more);
        }
    }
    if lines.len() > rows && rows > 0 {
        lines.truncate(rows);
    }
    lines
}

/// All of it, of whatever height.
pub(super) fn whole(scene: Scene<'_>, gpu: &Gpu<'_>, width: usize, rows: usize) -> Vec<Line<'static>> {
    let most = usize::MAX;
    let all = Plan { processes: most, told: most, words: most, tries: most, hints: most, names: true, ..EVERYTHING };
    let of_height = |graph| lines(scene, gpu, Plan { graph, ..all }, width);
    let fitting = (2..=TALLEST).rev().map(of_height).find(|lines| lines.len() <= rows);
    fitting.unwrap_or_else(|| of_height(1))
}

fn lines(scene: Scene<'_>, gpu: &Gpu<'_>, plan: Plan, width: usize) -> Vec<Line<'static>> {
    let two = width >= TWO_FROM;
    let (left, right) = if two { (LEFT, width - LEFT) } else { (width, width) };
    let (title, names) = title(scene, gpu, plan.names, width);
    let mut lines = vec![title];
    let hurting = Told { tries: plan.tries, rows: plan.told };
    let others = Told { tries: plan.hints, rows: plan.words };
    lines.extend(trouble::lines(scene, gpu, hurting, others, width));
    lines.extend(ledger(scene, gpu, plan, width));
    let room = Room { rows: plan.graph, reason: plan.words, width: left };
    let mut graphs = Vec::new();
    if plan.units > 0 {
        let what = Activity { utilization: plan.utilization, units: plan.units, links: plan.links };
        graphs.push(activity::lines(scene, gpu, what, room));
    }
    if plan.other_units
        && let Some(part) = graphs.last_mut()
    {
        part.extend(flow(activity::other_units(scene, gpu), LABEL + 1, left));
    }
    if plan.supply > 0 {
        graphs.push(supply::lines(scene, gpu, plan.supply, Room { rows: plan.graph.min(2), ..room }));
    }
    if plan.axis
        && let Some(part) = graphs.last_mut()
    {
        part.extend(graphs::axis(scene, gpu, left));
    }
    let mut rest = Vec::new();
    if plan.memory {
        rest.push(memory::lines(scene, gpu, plan.processes, right));
    }
    if plan.errors {
        rest.push(trouble::errors(scene, gpu, Room { width: right, ..room }));
    }
    rest.push(instances(scene, gpu, right));
    rest.push(names);
    if plan.air {
        lines.push(Line::default());
    }
    if two {
        lines.extend(beside(joined(graphs, plan.air), joined(rest, plan.air), width));
    } else {
        lines.extend(joined(graphs.into_iter().chain(rest).collect(), plan.air));
    }
    lines
}

/// Parts below each other.
fn joined(mut parts: Vec<Vec<Line<'static>>>, air: bool) -> Vec<Line<'static>> {
    parts.retain(|part| !part.is_empty());
    let mut lines = Vec::new();
    for (at, part) in parts.into_iter().enumerate() {
        if air && at > 0 {
            lines.push(Line::default());
        }
        lines.extend(part);
    }
    lines
}

/// Two columns.
fn beside(left: Vec<Line<'static>>, right: Vec<Line<'static>>, width: usize) -> Vec<Line<'static>> {
    let rows = left.len().max(right.len());
    let (mut left, mut right) = (left.into_iter(), right.into_iter());
    let row = |_| {
        let mut spans = left.next().unwrap_or_default().spans;
        let taken = crate::line::spans_width(&spans);
        spans.extend(span(" ".repeat(LEFT.saturating_sub(taken)), ratatui::style::Style::new()));
        spans.extend(right.next().unwrap_or_default().spans);
        cut(spans, width)
    };
    (0..rows).map(row).collect()
}

/// Which GPU it is and how it is shared; with `all` by each of its names, in a line of their own at the end where the title is full.
fn title(scene: Scene<'_>, gpu: &Gpu<'_>, all: bool, width: usize) -> (Line<'static>, Vec<Line<'static>>) {
    let kind = if gpu.instance { "MIG instance" } else { "GPU" };
    let heading = format!("{kind} {}: {}", gpu.number, gpu.device.name);
    let place = gpu.view.pci_bus_id.as_ref().map(|bus| format!("PCI {bus}"));
    let names: Vec<_> = place.into_iter().chain(all.then(|| bare(&gpu.device.id).to_owned())).collect();
    let mut notes: Vec<_> = sharing(gpu.view).into_iter().chain(names.clone()).collect();
    let free = width.saturating_sub(heading.width() + TITLE_MARGINS);
    while !notes.is_empty() && notes.join(", ").width() > free {
        notes.pop();
    }
    let title = rule(scene, &heading, &notes.join(", "), width);
    let mut rest = Vec::new();
    if all && names.iter().any(|name| !notes.contains(name)) {
        let names = names.into_iter().map(|name| span(name, scene.theme.style(Role::Dim)));
        rest = labelled(scene, "names", names.collect(), width);
    }
    (title, rest)
}

fn sharing(view: &GpuView) -> Option<String> {
    let processes = view.processes.len() as u64 + view.processes_left_out;
    let known = view.processes_unknown.is_none();
    Some(match view.sharing.as_deref()? {
        "alone" if known && processes == 0 => "no process".to_owned(),
        "alone" if known => "one process".to_owned(),
        "alone" => "one process at most".to_owned(),
        "time_sliced" if known => format!("{processes} processes in turns"),
        "time_sliced" => "several processes in turns".to_owned(),
        "mps" if known => format!("{processes} processes at once (MPS)"),
        "mps" => "several processes at once (MPS)".to_owned(),
        "mig" => "divided by MIG".to_owned(),
        other => other.replace('_', " "),
    })
}

fn ledger(scene: Scene<'_>, gpu: &Gpu<'_>, plan: Plan, width: usize) -> Vec<Line<'static>> {
    let theme = scene.theme;
    let label = span(format!("{:<LABEL$}", "time"), theme.style(Role::Strong));
    let Some(ledger) = &gpu.device.ledger else {
        let why = if gpu.cut { "of each instance, not of the whole" } else { "n/a: nothing can be said yet" };
        return vec![Row::new().left(0, [label, span(why, theme.style(Role::Dim))].concat()).line(width)];
    };
    let parts = device_parts(ledger);
    let note = if width >= 60 { format!("last {}", units::interval(scene.snapshot.window_s)) } else { String::new() };
    let cells = width.saturating_sub(LABEL + 4 + note.len());
    let bar = ledger_bar::bar(&parts, cells, theme);
    let row = Row::new().left(0, [label, bar].concat()).right(1, span(note, theme.style(Role::Dim)));
    let narrow = width < 60;
    let indent = if narrow { 1 } else { LABEL + 1 };
    let legend = |detail, dropped| flow(ledger_bar::legend(&parts, detail, theme, dropped), indent, width);
    let detail = if narrow { Detail::Short } else { Detail::Words };
    let fitting = (0..parts.len()).map(|dropped| legend(detail, dropped)).find(|lines| lines.len() <= plan.legend);
    let mut words = fitting.unwrap_or_else(|| legend(detail, 0).into_iter().take(plan.legend).collect());
    let bounded = legend(Detail::Bounds, 0);
    // That all numbers are there is worth more than how far off some are.
    if !narrow && bounded.len() <= if plan.bounds { plan.legend } else { words.len() } {
        words = bounded;
    }
    [vec![row.line(width)], words].concat()
}

/// The instances of a device that MIG divides.
fn instances(scene: Scene<'_>, gpu: &Gpu<'_>, width: usize) -> Vec<Line<'static>> {
    let all = gpus(scene.snapshot);
    let own = all.iter().filter(|one| one.instance && one.view.parent.as_ref() == Some(&gpu.device.id));
    let items: Vec<_> = own
        .map(|one| {
            let name = format!("{} {}", one.number, short_name(&one.device.name));
            span(name, scene.theme.style(Role::Text))
        })
        .collect();
    labelled(scene, "instances", items, width)
}
