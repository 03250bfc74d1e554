//! The first screen: where the time of devices and requests went, and what to do about it.

mod findings;
mod list;
mod machine;
mod server;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::{Arrows, Scene, View, put};
use crate::line::{Row, span};
use crate::plain::Clean;
use crate::theme::Role;
pub(super) use findings::verdict;
pub(super) use server::{invitation, two_lines};

/// The first view.
pub(super) struct Overview;

/// How much of each part is drawn. Starts with all of it; [`SACRIFICES`] take away until the rest fits.
#[derive(Clone, Copy, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each part is there or not, independently; the order is in SACRIFICES"
)]
pub(super) struct Plan {
    /// Table of stages, with percentiles of each.
    stages: bool,
    /// A line about perfwatch itself.
    agent: bool,
    /// Tokens, caches, kinds of errors.
    told: bool,
    /// Blank lines between parts.
    air: bool,
    /// Shares of time in which tasks waited for a resource.
    pressure: bool,
    /// CPU and memory of the machine.
    host: bool,
    /// Memory, power and temperature beside a GPU's utilisation.
    gpu_details: bool,
    /// Sparklines.
    trails: bool,
    /// A line per GPU; else all in one.
    gpu_lines: bool,
    /// Titles between the parts.
    titles: bool,
    /// A title over the list of servers.
    list_title: bool,
    /// Servers in the list, when there are several.
    servers: usize,
    /// Rows for the legend of one ledger.
    legend: usize,
    /// Bars of devices.
    devices: usize,
    /// GPUs at all.
    gpus: bool,
    /// The second line of numbers of the server.
    second_line: bool,
}

const EVERYTHING: Plan = Plan {
    stages: true,
    agent: true,
    told: true,
    air: true,
    pressure: true,
    host: true,
    gpu_details: true,
    trails: true,
    gpu_lines: true,
    titles: true,
    list_title: true,
    servers: 8,
    legend: 3,
    devices: 8,
    gpus: true,
    second_line: true,
};

/// What leaves when there is not room for all, first to last.
const SACRIFICES: &[fn(&mut Plan)] = &[
    |plan| plan.agent = false,
    |plan| plan.stages = false,
    |plan| plan.air = false,
    |plan| plan.pressure = false,
    |plan| plan.told = false,
    |plan| plan.list_title = false,
    |plan| plan.servers = 4,
    |plan| plan.host = false,
    |plan| plan.gpu_details = false,
    |plan| plan.legend = 2,
    |plan| plan.gpu_lines = false,
    |plan| plan.devices = 3,
    |plan| plan.titles = false,
    |plan| plan.gpus = false,
    |plan| plan.trails = false,
    |plan| plan.servers = 2,
    |plan| plan.devices = 1,
    |plan| plan.legend = 1,
    |plan| plan.servers = 0,
    |plan| plan.second_line = false,
];

impl View for Overview {
    fn name(&self) -> &'static str {
        "overview"
    }

    fn title(&self) -> &'static str {
        "Overview"
    }

    fn count(&self, _snapshot: &Clean) -> usize {
        0
    }

    fn arrows(&self) -> Arrows {
        Arrows::Findings
    }

    fn draw(&self, scene: Scene<'_>, area: Rect, buffer: &mut Buffer) {
        let (width, height) = (usize::from(area.width), usize::from(area.height));
        let (plan, mut lines) = fitting(scene, width, height);
        let mut left = height.saturating_sub(lines.len());
        if plan.titles && left > 1 {
            lines.push(rule(scene, "Findings", "", width));
            left -= 1;
        }
        lines.extend(findings::lines(scene, width, left));
        put(&lines, area, buffer);
    }
}

/// As much as leaves the findings the rows that they must have, and takes none that they then use; and what that draws.
fn fitting(scene: Scene<'_>, width: usize, height: usize) -> (Plan, Vec<Line<'static>>) {
    let drawn = |made: &[fn(&mut Plan)]| {
        let mut plan = EVERYTHING;
        for sacrifice in made {
            sacrifice(&mut plan);
        }
        (plan, above(scene, plan, width))
    };
    let rows = |(plan, lines): &(Plan, Vec<Line<'static>>)| lines.len() + usize::from(plan.titles);
    let wanted = findings::least_rows(scene, width);
    let mut made = Vec::new();
    let mut fitting = drawn(&made);
    for sacrifice in SACRIFICES {
        if rows(&fitting) + wanted <= height {
            break;
        }
        made.push(*sacrifice);
        fitting = drawn(&made);
    }
    if made.is_empty() {
        return fitting;
    }
    // One may have made more room than was wanted, or none: then what left before it comes back, the least important last.
    let told = findings::lines(scene, width, height.saturating_sub(rows(&fitting))).len();
    for at in (0..made.len()).rev() {
        let others = [&made[..at], &made[at + 1..]].concat();
        let richer = drawn(&others);
        if rows(&richer) + told <= height {
            (made, fitting) = (others, richer);
        }
    }
    fitting
}

/// Everything above the findings.
fn above(scene: Scene<'_>, plan: Plan, width: usize) -> Vec<Line<'static>> {
    let mut parts = vec![server::lines(scene, plan, width), machine::lines(scene, plan, width)];
    parts.retain(|part| !part.is_empty());
    let mut lines = Vec::new();
    for part in parts {
        lines.extend(part);
        if plan.air {
            lines.push(Line::default());
        }
    }
    lines
}

/// A title on a line across the screen, with a note at its right end.
pub(super) fn rule(scene: Scene<'_>, title: &str, note: &str, width: usize) -> Line<'static> {
    let theme = scene.theme;
    let dash = theme.pick("─", "-");
    let mut title = crate::line::truncate(title, width.saturating_sub(6));
    let mut note = note.to_owned();
    let taken = |title: &str, note: &str| {
        let note = unicode_width::UnicodeWidthStr::width(note);
        unicode_width::UnicodeWidthStr::width(title) + 5 + if note > 0 { note + 4 } else { 0 }
    };
    if taken(&title, &note) > width {
        note.clear();
    }
    if taken(&title, &note) > width {
        title.clear();
    }
    let fill = width.saturating_sub(taken(&title, &note) + 1);
    let mut row = Vec::new();
    row.extend(span(dash.repeat(2), theme.style(Role::Dim)));
    row.extend(span(format!(" {title} "), theme.style(Role::Strong)));
    row.extend(span(dash.repeat(fill), theme.style(Role::Dim)));
    if !note.is_empty() {
        row.extend(span(format!(" {note} "), theme.style(Role::Dim)));
        row.extend(span(dash.repeat(2), theme.style(Role::Dim)));
    }
    Row::new().left(0, row).line(width)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::app::{App, Event};
    use crate::feed::FeedEvent;
    use crate::fixtures;
    use crate::theme::Theme;

    fn rows(height: u16) -> String {
        let mut app = App::new(false);
        app.update(Event::Feed(FeedEvent::Snapshot(Arc::new(fixtures::everything()))));
        let area = Rect::new(0, 0, 100, height);
        let mut buffer = Buffer::empty(area);
        let snapshot = app.snapshot().expect("one was pushed");
        Overview.draw(Scene { app: &app, snapshot, theme: Theme::default() }, area, &mut buffer);
        crate::once::text(&buffer)
    }

    #[test]
    fn tokens_leave_only_where_there_are_no_free_rows_for_them() {
        let mut snapshot = fixtures::bimodal();
        snapshot.findings.push(fixtures::overload_finding());
        let mut app = App::new(false);
        app.update(Event::Feed(FeedEvent::Snapshot(Arc::new(snapshot))));
        let mut without = 0;
        for height in 16..40 {
            let area = Rect::new(0, 0, 80, height);
            let mut buffer = Buffer::empty(area);
            let snapshot = app.snapshot().expect("one was pushed");
            Overview.draw(Scene { app: &app, snapshot, theme: Theme::default() }, area, &mut buffer);
            let text = crate::once::text(&buffer);
            // Its two lines leave together.
            let blank = text.lines().filter(|line| line.trim().is_empty()).count();
            let blank = blank + usize::from(height).saturating_sub(text.lines().count());
            assert!(text.contains("TOKENS") || blank < 2, "{blank} at {height} rows:\n{text}");
            without += usize::from(!text.contains("TOKENS"));
        }
        assert!(without > 0, "somewhere there is no room for it");
    }

    #[test]
    fn what_matters_least_leaves_first_and_the_findings_stay() {
        let (stages, pressure, host, memory, bar) = ("by stage", "pressure n/a", "cpu ▕", "mem ▕", "REQUESTS");
        let mut gone = 0;
        for height in (8..50).rev() {
            let text = rows(height);
            assert!(text.contains("CPU limit is stopping") && text.contains(bar), "at {height} rows:\n{text}");
            let left = [stages, host, memory].iter().filter(|part| !text.contains(**part)).count();
            assert!(left >= gone, "something came back at {height} rows:\n{text}");
            gone = left;
            // In this order.
            assert!(!text.contains(stages) || text.contains(host), "at {height} rows:\n{text}");
            assert!(!text.contains(pressure) || text.contains(host), "at {height} rows:\n{text}");
            assert!(!text.contains(host) || text.contains(memory), "at {height} rows:\n{text}");
        }
        assert_eq!(gone, 3, "at 8 rows all of them have left");
    }
}
