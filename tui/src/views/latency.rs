//! How long requests take: every second of the last two minutes, what a request's time goes into, and the slowest ones.

mod batches;
mod heat;
mod numbers;
mod slowest;
pub(super) mod told;
mod waterfall;

use perfwatch_model::snapshot::ServerView;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::overview::{invitation, rule, two_lines};
use super::{Arrows, Scene, View, put};
use crate::line::{Row, span, wrap};
use crate::plain::Clean;
use crate::theme::Role;
use crate::units;

/// The second view.
pub(super) struct Latency;

/// How much of each part is drawn. Starts with all of it; [`SACRIFICES`] take away until the rest fits.
#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each part is there or not, independently; the order is in SACRIFICES"
)]
struct Plan {
    /// Blank lines between parts.
    air: bool,
    /// Titles of the parts below the heatmap.
    titles: bool,
    /// Rows of the heatmap.
    heat: usize,
    /// The times below it.
    axis: bool,
    /// Sizes of batches.
    batches: bool,
    /// Tokens, caches, kinds of errors.
    told: bool,
    /// Rows for stages: one bar for all when it is 1.
    stages: usize,
    /// Slow requests.
    slowest: usize,
}

const EVERYTHING: Plan =
    Plan { air: true, titles: true, heat: 14, axis: true, batches: true, told: true, stages: 12, slowest: 5 };

/// What leaves when there is not room for all, first to last.
const SACRIFICES: &[fn(&mut Plan)] = &[
    |plan| plan.slowest = 3,
    |plan| plan.air = false,
    |plan| plan.heat = 12,
    |plan| plan.heat = 10,
    |plan| plan.slowest = 2,
    |plan| plan.heat = 8,
    |plan| plan.stages = 6,
    |plan| plan.slowest = 1,
    |plan| plan.batches = false,
    |plan| plan.stages = 4,
    |plan| plan.told = false,
    |plan| plan.slowest = 0,
    |plan| plan.heat = 6,
    |plan| plan.titles = false,
    |plan| plan.stages = 1,
    |plan| plan.heat = 5,
    |plan| plan.stages = 0,
    |plan| plan.heat = 4,
    |plan| plan.axis = false,
    |plan| plan.heat = 3,
];

impl View for Latency {
    fn name(&self) -> &'static str {
        "latency"
    }

    fn title(&self) -> &'static str {
        "Latency"
    }

    fn count(&self, _snapshot: &Clean) -> usize {
        0
    }

    fn arrows(&self) -> Arrows {
        Arrows::Seconds
    }

    fn draw(&self, scene: Scene<'_>, area: Rect, buffer: &mut Buffer) {
        let (width, height) = (usize::from(area.width), usize::from(area.height));
        let Some(server) = scene.snapshot.servers.get(scene.app.server_index()) else {
            put(&invitation(scene, true, width), area, buffer);
            return;
        };
        if let Some(lines) = unseen(scene, server, width) {
            put(&lines, area, buffer);
            return;
        }
        let mut plan = EVERYTHING;
        let mut below = below(scene, server, plan, width);
        for sacrifice in SACRIFICES {
            if heat::height(plan, width) + below.len() <= height {
                break;
            }
            sacrifice(&mut plan);
            below = self::below(scene, server, plan, width);
        }
        // Rows that are left over go to the heatmap as long as they make its steps finer.
        let spare = height.saturating_sub(heat::height(plan, width) + below.len());
        plan.heat += spare.min(heat::wanted(scene, server, width).saturating_sub(plan.heat));
        let mut lines = heat::lines(scene, server, plan, width);
        lines.extend(below);
        put(&lines, area, buffer);
    }
}

/// Why there is nothing to draw of a server, and what would change that; `None` when there is something.
fn unseen(scene: Scene<'_>, server: &ServerView, width: usize) -> Option<Vec<Line<'static>>> {
    if heat::has_past(scene, server) {
        return None;
    }
    let (why, cure) = if !server.live {
        ("It has sent nothing for more than 3 s: it ended, hangs, or cannot reach the agent's socket.", false)
    } else if server.kind == "process" {
        ("Only its process is watched, so its requests are not seen. Two lines in the server show them:", true)
    } else {
        return None;
    };
    let mut lines = vec![rule(scene, &heat::heading(scene, server), "n/a", width)];
    for line in wrap(why, width.saturating_sub(2)) {
        lines.push(Row::new().left(0, span(line, scene.theme.style(Role::Text))).line(width));
    }
    if cure {
        lines.extend(two_lines(scene, width));
    }
    Some(lines)
}

/// Everything below the heatmap.
fn below(scene: Scene<'_>, server: &ServerView, plan: Plan, width: usize) -> Vec<Line<'static>> {
    let window = format!("last {}", units::interval(scene.snapshot.window_s));
    let mut parts = Vec::new();
    let stages = waterfall::lines(scene, server, plan.stages, width);
    if !stages.is_empty() {
        let note = match waterfall::mean_s(server) {
            Some(mean) => format!("{} on average, {window}", units::duration(mean)),
            None => window.clone(),
        };
        let title = "Where the time of a request goes";
        parts.push(titled(scene, plan.titles.then_some(title), &note, stages, width));
    }
    let batches = if plan.batches { batches::line(scene, server, width) } else { None };
    let (tokens, outcomes) = if plan.told {
        (told::tokens(scene, server, width), told::outcomes(scene, server, width))
    } else {
        (None, None)
    };
    let numbers: Vec<Line<'static>> = [tokens, batches, outcomes].into_iter().flatten().collect();
    if !numbers.is_empty() {
        parts.push(numbers);
    }
    let slow = slowest::lines(scene, server, plan.slowest, width);
    if !slow.is_empty() {
        parts.push(titled(scene, plan.titles.then_some("Slowest requests"), &window, slow, width));
    }
    let mut lines = Vec::new();
    for part in parts {
        if plan.air {
            lines.push(Line::default());
        }
        lines.extend(part);
    }
    lines
}

fn titled(
    scene: Scene<'_>,
    title: Option<&str>,
    note: &str,
    lines: Vec<Line<'static>>,
    width: usize,
) -> Vec<Line<'static>> {
    title.map(|title| rule(scene, title, note, width)).into_iter().chain(lines).collect()
}

#[cfg(test)]
mod tests;
