//! Servers: the list when there are several, and numbers and ledgers of the one that is selected.

use perfwatch_model::snapshot::{GroupView, LatencyView, ServerView};
use ratatui::text::{Line, Span};

use super::{Plan, list, rule};
use crate::history::{ServerTrails, Trail};
use crate::line::{Row, flow, span, truncate};
use crate::parts::{self, Part};
use crate::theme::Role;
use crate::units;
use crate::views::Scene;
use crate::views::latency::told;
use crate::widgets::ledger_bar::{self, Detail};
use crate::widgets::sparkline::sparkline;
use crate::wording;

/// Columns before a bar, for its name.
const LABEL: usize = 9;
/// Columns of a sparkline.
const TRAIL: usize = 10;

/// How to put a server on the screen: two lines of Python.
const PYTHON: &[&str] = &["server = perfwatch.Server(\"my-model\")", "with server.request() as request:"];
/// The same in Rust.
const RUST: &[&str] =
    &["let server = perfwatch_sdk::Server::builder(\"my-model\").start();", "let request = server.request();"];

pub(super) fn lines(scene: Scene<'_>, plan: Plan, width: usize) -> Vec<Line<'static>> {
    let servers = &scene.snapshot.servers;
    let Some(server) = servers.get(scene.app.server_index()) else {
        return invitation(scene, plan.titles, width);
    };
    let mut lines = Vec::new();
    if servers.len() > 1 && plan.servers > 0 {
        lines.extend(list::lines(scene, plan, width));
    }
    if plan.titles {
        lines.push(rule(scene, &server.name, &origin(server), width));
    }
    lines.extend(numbers(scene, server, plan, width));
    lines.extend(ledgers(scene, server, plan, width));
    if plan.stages && !server.stages.is_empty() {
        if plan.air {
            lines.push(Line::default());
        }
        lines.extend(stages(scene, server, width));
    }
    lines
}

/// Where a server's numbers come from.
fn origin(server: &ServerView) -> String {
    let mut words = vec![if server.kind == "sdk" { "SDK".to_owned() } else { server.kind.clone() }];
    match server.pids.as_slice() {
        [] => words.extend(server.pid.map(|pid| format!("pid {pid}"))),
        [pid] => words.push(format!("pid {pid}")),
        [first, rest @ ..] => words.push(format!("pid {first} and {} more", rest.len())),
    }
    words.extend(server.group.as_ref().and_then(memory_trouble));
    if !server.live {
        words.push("silent for more than 3 s".to_owned());
    }
    words.join(", ")
}

/// Share of its memory limit from which a server is worth a word: the kernel reclaims hard from about there.
const MEMORY_SCARCE: f64 = 0.9;

/// What a server that nobody else sees tells of its memory, when that is bad.
fn memory_trouble(group: &GroupView) -> Option<String> {
    if let Some(killed) = group.oom_kills.filter(|killed| *killed > 0) {
        return Some(format!("{killed} killed for want of memory"));
    }
    let limit = group.memory_limit_bytes.filter(|limit| *limit > 0)?;
    let share = group.memory_bytes? as f64 / limit as f64;
    let scarce = share >= MEMORY_SCARCE || group.memory_limit_hits.is_some_and(|hits| hits > 0);
    scarce.then(|| format!("memory {} of its limit", units::percent(share.min(1.0))))
}

/// Rates and latencies, in two lines; in one where there is no room.
fn numbers(scene: Scene<'_>, server: &ServerView, plan: Plan, width: usize) -> Vec<Line<'static>> {
    if plan.second_line {
        let mut lines = vec![rates(scene, server, plan, width), latencies(scene, server, plan, width)];
        if plan.told {
            lines.extend(told::tokens(scene, server, width));
            lines.extend(told::outcomes(scene, server, width));
        }
        return lines;
    }
    let Some(latency) = &server.latency else { return vec![rates(scene, server, plan, width)] };
    let [p50, _, p99, _] = percentiles(scene, latency);
    let row = Row::new()
        .left(0, number(scene, server.requests_per_s.map(units::digits), " req/s"))
        .left(2, p50)
        .left(1, p99)
        .left(3, number(scene, server.in_flight.map(units::count), " in flight"));
    vec![row.line(width)]
}

fn rates(scene: Scene<'_>, server: &ServerView, plan: Plan, width: usize) -> Line<'static> {
    let theme = scene.theme;
    let failing = server.errors_per_s.is_some_and(|rate| rate > 0.0);
    let errors = server.errors_per_s.map_or("n/a errors".to_owned(), |rate| format!("{} err/s", units::digits(rate)));
    let mut row = Row::new()
        .left(0, number(scene, server.requests_per_s.map(units::digits), " req/s"))
        .tight(7, trail(scene, server, plan, |trails| &trails.requests))
        .left(3, number(scene, server.in_flight.map(units::count), " in flight"))
        .tight(8, trail(scene, server, plan, |trails| &trails.in_flight))
        .left(2, span(errors, theme.style(if failing { Role::Crit } else { Role::Text })));
    if let Some(batch) = &server.batch {
        let most = batch.max_size.map(|max| format!(" of {max}")).unwrap_or_default();
        row = row
            .left(5, number(scene, Some(format!("batch {}", units::digits(batch.mean_size))), &most))
            .tight(9, span(format!("× {}/s", units::digits(batch.per_s)), theme.style(Role::Dim)));
    }
    row.line(width)
}

fn latencies(scene: Scene<'_>, server: &ServerView, plan: Plan, width: usize) -> Line<'static> {
    let Some(latency) = &server.latency else {
        let why = "latency n/a: no request ended in the window";
        return Row::new().left(0, span(why, scene.theme.style(Role::Dim))).line(width);
    };
    let [p50, p90, p99, max] = percentiles(scene, latency);
    Row::new()
        .left(1, p50)
        .tight(8, trail(scene, server, plan, |trails| &trails.p50))
        .left(3, p90)
        .left(0, p99)
        .tight(7, trail(scene, server, plan, |trails| &trails.p99))
        .left(4, max)
        .line(width)
}

/// The recent past of one of a server's numbers; nothing where sparklines had to leave.
fn trail(scene: Scene<'_>, server: &ServerView, plan: Plan, pick: fn(&ServerTrails) -> &Trail) -> Vec<Span<'static>> {
    match scene.app.history().servers.get(&server.id) {
        Some(trails) if plan.trails => {
            span(sparkline(pick(trails).iter(), TRAIL, scene.theme), scene.theme.style(Role::Accent))
        }
        _ => Vec::new(),
    }
}

fn percentiles(scene: Scene<'_>, latency: &LatencyView) -> [Vec<Span<'static>>; 4] {
    [("p50", latency.p50_s), ("p90", latency.p90_s), ("p99", latency.p99_s), ("max", latency.max_s)].map(
        |(name, seconds)| {
            vec![
                Span::styled(format!("{name} "), scene.theme.style(Role::Dim)),
                Span::styled(units::duration(seconds), scene.theme.style(Role::Strong)),
            ]
        },
    )
}

fn number(scene: Scene<'_>, value: Option<String>, unit: &str) -> Vec<Span<'static>> {
    let value = value.unwrap_or_else(|| "n/a".to_owned());
    vec![Span::styled(value, scene.theme.style(Role::Strong)), Span::raw(unit.to_owned())]
}

fn ledgers(scene: Scene<'_>, server: &ServerView, plan: Plan, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if plan.titles {
        let note = format!("last {}", units::interval(scene.snapshot.window_s));
        lines.push(rule(scene, "Where the time went", &note, width));
    }
    let devices = parts::devices_of(scene.snapshot, server);
    let shown = devices.len().min(plan.devices);
    for (label, device) in devices.iter().take(shown) {
        let parts = device.ledger.as_ref().map(parts::device_parts);
        let used = device.cpu.as_ref().and_then(|cpu| Some(wording::cpus_used(cpu.used_cpus?, cpu.capacity_cpus?)));
        lines.extend(ledger(scene, label, parts, used, plan, width));
    }
    if devices.len() > shown && plan.titles {
        let more = devices.len() - shown;
        let more = format!("{:LABEL$}and {more} more {}", "", if more == 1 { "GPU" } else { "GPUs" });
        lines.push(Row::new().left(0, span(more, scene.theme.style(Role::Dim))).line(width));
    }
    if devices.is_empty() {
        lines.extend(ledger(scene, "DEVICE", None, None, plan, width));
    }
    let parts = server.ledger.as_ref().map(parts::request_parts);
    let inside = server.ledger.as_ref().filter(|_| scene.snapshot.window_s > 0.0).map(|ledger| {
        let mean = ledger.interval_ns as f64 / 1e9 / scene.snapshot.window_s;
        format!("{} at a time", units::digits(mean))
    });
    lines.extend(ledger(scene, "REQUESTS", parts, inside, plan, width));
    lines
}

/// One bar with its name, a note at its end, and its legend below.
fn ledger(
    scene: Scene<'_>,
    label: &str,
    parts: Option<Vec<Part>>,
    note: Option<String>,
    plan: Plan,
    width: usize,
) -> Vec<Line<'static>> {
    let theme = scene.theme;
    let label = span(format!("{label:<LABEL$}"), theme.style(Role::Strong));
    let Some(parts) = parts else {
        let why = span("n/a: nothing can be said yet", theme.style(Role::Dim));
        return vec![Row::new().left(0, [label, why].concat()).line(width)];
    };
    let note = note.filter(|_| width >= 60).map(|note| format!("{note:>NOTE$}")).unwrap_or_default();
    let taken = LABEL + 2 + if note.is_empty() { 0 } else { unicode_width::UnicodeWidthStr::width(note.as_str()) + 2 };
    let bar = ledger_bar::bar(&parts, width.saturating_sub(taken), theme);
    let row = Row::new().left(0, [label, bar].concat()).right(1, span(note, theme.style(Role::Dim)));
    let mut lines = vec![row.line(width)];
    lines.extend(legend(scene, &parts, plan.legend, width));
    lines
}

/// Columns kept for the note at the end of a bar, so that bars below each other are equally long.
const NOTE: usize = 15;

/// The legend in at most `rows` lines: when it needs more, the smallest parts leave and are counted instead.
fn legend(scene: Scene<'_>, parts: &[Part], rows: usize, width: usize) -> Vec<Line<'static>> {
    let indent = if width >= 60 { LABEL + 1 } else { 1 };
    let detail = if width < 60 { Detail::Short } else { Detail::Words };
    let lines = |dropped| flow(ledger_bar::legend(parts, detail, scene.theme, dropped), indent, width);
    let fitting = (0..parts.len()).map(lines).find(|lines| lines.len() <= rows);
    fitting.unwrap_or_else(|| lines(0).into_iter().take(rows).collect())
}

fn stages(scene: Scene<'_>, server: &ServerView, width: usize) -> Vec<Line<'static>> {
    let theme = scene.theme;
    let dim = theme.style(Role::Dim);
    let name = |text: &str| format!("{:<LABEL$}{:<16}", "", truncate(text, 16));
    let mut lines = vec![
        Row::new()
            .left(0, span(name("by stage"), dim))
            .left(1, span(format!("{:>8}", "p50"), dim))
            .left(2, span(format!("{:>8}", "p90"), dim))
            .left(1, span(format!("{:>8}", "p99"), dim))
            .left(3, span(format!("{:>8}", "max"), dim))
            .line(width),
    ];
    for stage in &server.stages {
        let time = |seconds: f64| format!("{:>8}", units::duration(seconds));
        let text = theme.style(Role::Text);
        let row = Row::new()
            .left(0, span(name(&parts::stage_words(&stage.stage)), text))
            .left(1, span(time(stage.latency.p50_s), text))
            .left(2, span(time(stage.latency.p90_s), text))
            .left(1, span(time(stage.latency.p99_s), theme.style(Role::Strong)))
            .left(3, span(time(stage.latency.max_s), text));
        lines.push(row.line(width));
    }
    lines
}

/// What to do when there is nothing to watch.
pub(in crate::views) fn invitation(scene: Scene<'_>, title: bool, width: usize) -> Vec<Line<'static>> {
    let theme = scene.theme;
    let mut lines = Vec::new();
    if title {
        lines.push(rule(scene, "No model server yet", "", width));
    }
    let words = |text: &str| {
        crate::line::wrap(text, width.saturating_sub(2))
            .into_iter()
            .map(|line| Row::new().left(0, span(line, theme.style(Role::Text))).line(width))
            .collect::<Vec<_>>()
    };
    lines.extend(words("Two lines put a server on this screen, in Python, Rust or C:"));
    lines.extend(two_lines(scene, width));
    lines.extend(words(if width > 60 {
        "To see it on a real model server now: perfwatch demo"
    } else {
        "See it now: perfwatch demo"
    }));
    lines
}

/// What a server has to say to be seen; on a narrow screen only in the language that fits.
pub(in crate::views) fn two_lines(scene: Scene<'_>, width: usize) -> Vec<Line<'static>> {
    let wide = width > 76;
    let style = scene.theme.style(Role::Accent);
    let line = |name: &str, code: &str| {
        let name = if wide { format!("{name:<7}") } else { String::new() };
        let name = span(format!("  {name}"), scene.theme.style(Role::Dim));
        Row::new().left(0, [name, span(code.to_owned(), style)].concat()).line(width)
    };
    let mut lines = vec![line("Python", PYTHON[0]), line("", PYTHON[1])];
    if wide {
        lines.extend([line("Rust", RUST[0]), line("", RUST[1])]);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_a_word_only_when_it_is_scarce() {
        let group = |memory, hits, killed| GroupView {
            memory_bytes: Some(memory),
            memory_limit_bytes: Some(1_000),
            memory_limit_hits: Some(hits),
            oom_kills: Some(killed),
            ..GroupView::default()
        };
        assert_eq!(memory_trouble(&group(500, 0, 0)), None);
        assert_eq!(memory_trouble(&group(950, 0, 0)).as_deref(), Some("memory 95 % of its limit"));
        assert_eq!(memory_trouble(&group(500, 3, 0)).as_deref(), Some("memory 50 % of its limit"));
        assert_eq!(memory_trouble(&group(500, 3, 2)).as_deref(), Some("2 killed for want of memory"));
        assert_eq!(memory_trouble(&GroupView { memory_limit_bytes: None, ..group(500, 3, 0) }), None, "no limit");
    }
}
