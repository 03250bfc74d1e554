//! The machine: CPUs, memory, pressure, GPUs.

use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

use super::{Plan, rule};
use crate::gpus::{Gpu, gpus as gpus_of, short_name};
use crate::line::{Row, span, truncate};
use crate::theme::Role;
use crate::units;
use crate::views::Scene;
use crate::views::gpus::words;
use crate::widgets::gauge::{gauge, scarce};
use crate::widgets::sparkline::{columns, sparkline};

/// Columns of a gauge, its ends apart.
const GAUGE: usize = 10;
/// Columns of a share in percent.
const NUMBER: usize = 5;
/// Columns of a reason for which pictures leave, and those below which it says nothing.
const REASON: usize = 24;
const LEAST_REASON: usize = 8;
/// Columns of a sparkline.
const TRAIL: usize = 10;
/// Columns of what holds a GPU's clocks down.
const HELD_DOWN: usize = 24;
/// More CPUs than this get no bar each.
const MAX_CORES: usize = 32;

pub(super) fn lines(scene: Scene<'_>, plan: Plan, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if plan.host {
        lines.push(host(scene, plan, width));
    }
    if plan.pressure {
        lines.extend(pressure(scene, width));
    }
    if plan.gpus {
        lines.extend(gpus(scene, plan, width));
    }
    if plan.agent {
        lines.push(agent(scene, width));
    }
    if plan.titles && !lines.is_empty() {
        let host = &scene.snapshot.host;
        let cpus = if host.cpus == 1 { "1 CPU".to_owned() } else { format!("{} CPUs", host.cpus) };
        lines.insert(0, rule(scene, "Machine", &cpus, width));
    }
    lines
}

fn host(scene: Scene<'_>, plan: Plan, width: usize) -> Line<'static> {
    let theme = scene.theme;
    let host = &scene.snapshot.host;
    let mut row = Row::new().left(0, share(scene, "cpu", host.cpu_utilization, Role::Ok, GAUGE));
    if plan.trails {
        let trail = sparkline(scene.app.history().cpu.iter(), TRAIL, theme);
        row = row.tight(4, span(trail, theme.style(Role::Accent)));
    }
    if (2..=MAX_CORES).contains(&host.per_cpu_utilization.len()) {
        let cores = columns(host.per_cpu_utilization.iter().map(|share| share.unwrap_or(f64::NAN)), theme);
        row = row.left(3, span(cores, theme.style(Role::Ok)));
    }
    let memory = match (host.memory_used_bytes, host.memory_total_bytes) {
        (Some(used), Some(total)) if total > 0 => Some(used as f64 / total as f64),
        _ => None,
    };
    row = row.left(1, share(scene, "mem", memory, memory.map_or(Role::Ok, scarce), GAUGE));
    if let Some(total) = host.memory_total_bytes {
        row = row.tight(5, span(format!("of {}", units::bytes(total as f64)), theme.style(Role::Dim)));
    }
    if let Some(steal) = host.cpu_steal.filter(|steal| *steal >= 0.005) {
        row = row.left(2, span(format!("steal {}", units::percent(steal)), theme.style(Role::Warn)));
    }
    row.line(width)
}

/// `name ▕███  ▏ 42 %`, or the name and n/a in the same columns; without a gauge only in so many as a number takes.
fn share(scene: Scene<'_>, name: &str, value: Option<f64>, role: Role, cells: usize) -> Vec<Span<'static>> {
    let theme = scene.theme;
    let mut spans = span(format!("{name} "), theme.style(Role::Dim));
    match value {
        Some(value) if cells == 0 => {
            let role = if role == Role::Ok { Role::Text } else { role };
            spans.extend(span(format!("{:>NUMBER$}", units::percent(value)), theme.style(role)));
        }
        Some(value) => {
            spans.extend(gauge(value, cells, role, theme));
            spans.push(Span::raw(format!("{:>width$}", units::percent(value), width = NUMBER + 1)));
        }
        None => {
            let columns = if cells == 0 { NUMBER } else { cells + NUMBER + 3 };
            spans.extend(span(format!("{:<columns$}", "n/a"), theme.style(Role::Dim)));
        }
    }
    spans
}

fn pressure(scene: Scene<'_>, width: usize) -> Option<Line<'static>> {
    let host = &scene.snapshot.host;
    let theme = scene.theme;
    let all = [("cpu", host.cpu_pressure), ("memory", host.memory_pressure), ("I/O", host.io_pressure)];
    let dim = theme.style(Role::Dim);
    if all.iter().all(|(_, value)| value.is_none()) {
        let why = reason(scene, "perfwatch.pressure.time", None)?;
        return Some(Row::new().left(0, span(format!("pressure n/a  {why}"), dim)).line(width));
    }
    let mut row = Row::new().left(0, span("tasks waited for", dim));
    for (rank, (name, value)) in all.into_iter().enumerate() {
        let text = value.map_or("n/a".to_owned(), units::percent);
        let hurts = value.is_some_and(|share| share >= 0.10);
        let style = theme.style(if hurts { Role::Warn } else { Role::Text });
        row = row.left(rank as u8, vec![Span::styled(format!("{name} "), dim), Span::styled(text, style)]);
    }
    Some(row.left(4, span("of the time (PSI)", dim)).line(width))
}

fn gpus(scene: Scene<'_>, plan: Plan, width: usize) -> Vec<Line<'static>> {
    let theme = scene.theme;
    let gpus = gpus_of(scene.snapshot);
    if gpus.is_empty() {
        let Some(why) = reason(scene, "hw.gpu.utilization", None) else { return Vec::new() };
        let text = format!("GPU n/a  {why}");
        return vec![Row::new().left(0, span(text, theme.style(Role::Dim))).line(width)];
    }
    if !plan.gpu_lines && gpus.len() > 1 {
        return vec![all_gpus(scene, &gpus, width)];
    }
    each(scene, plan, &gpus, width)
}

/// All GPUs in one line. Instances are counted apart and are not in the average: each is a part of a GPU that is in it, and a
/// seventh of a GPU would weigh as much as a whole one.
fn all_gpus(scene: Scene<'_>, gpus: &[Gpu<'_>], width: usize) -> Line<'static> {
    let theme = scene.theme;
    let (instances, whole): (Vec<_>, Vec<_>) = gpus.iter().partition(|gpu| gpu.instance);
    let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    let mut name = count(whole.len(), "GPU");
    if !instances.is_empty() {
        name = format!("{name}, {}", count(instances.len(), "instance"));
    }
    let shares = columns(whole.iter().map(|gpu| gpu.view.utilization.unwrap_or(f64::NAN)), theme);
    let known: Vec<f64> = whole.iter().filter_map(|gpu| gpu.view.utilization).collect();
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    let utilization = match known.len() {
        0 => "util n/a".to_owned(),
        all if all == whole.len() => format!("util {} on average", units::percent(mean)),
        some => format!("util {} on average of {some}", units::percent(mean)),
    };
    Row::new()
        .left(0, span(name, theme.style(Role::Text)))
        .left(0, span(shares, theme.style(Role::Ok)))
        .left(1, span(utilization, theme.style(if known.is_empty() { Role::Dim } else { Role::Text })))
        .line(width)
}

/// How short the numbers of a GPU are written.
#[derive(Clone, Copy)]
struct Short {
    /// Columns of the gauge of the utilisation; 0 draws none.
    utilization: usize,
    /// Columns of that of the memory.
    memory: usize,
    /// The limit beside the watts.
    limit: bool,
}

/// From long to short: pictures leave before numbers.
const SHORT: [Short; 5] = [
    Short { utilization: GAUGE, memory: GAUGE, limit: true },
    Short { utilization: GAUGE, memory: 0, limit: true },
    Short { utilization: GAUGE / 2, memory: 0, limit: true },
    Short { utilization: 0, memory: 0, limit: true },
    Short { utilization: 0, memory: 0, limit: false },
];

/// The highest rank of a number that is worth more than a picture; what is of a higher one may leave.
const NUMBERS: u8 = 4;
/// The rank of what leaves first.
const LAST: u8 = 7;

/// A line each, with the same items and as short as the one that needs it most, so that numbers line up.
fn each(scene: Scene<'_>, plan: Plan, gpus: &[Gpu<'_>], width: usize) -> Vec<Line<'static>> {
    let room = width.saturating_sub(2);
    let rows = |short| gpus.iter().map(|gpu| numbers(scene, plan, gpu, short)).collect::<Vec<_>>();
    let fit = |rows: &[(Row, Option<String>)], rank| {
        let reason = |why: &Option<String>| why.as_ref().map_or(0, |why| why.width().min(REASON) + 2);
        rows.iter().all(|(row, why)| row.width_of(rank) + reason(why) <= room)
    };
    let fitting = SHORT.iter().map(|short| rows(*short)).find(|rows| fit(rows, NUMBERS));
    let rows = fitting.unwrap_or_else(|| rows(SHORT[SHORT.len() - 1]));
    let rank = (NUMBERS..=LAST).rev().find(|rank| fit(&rows, *rank)).unwrap_or(NUMBERS);
    let line = |(row, why): (Row, Option<String>)| {
        let row = row.up_to(rank);
        let left = room.saturating_sub(row.width_of(rank) + 2);
        // The reason is cut, no number is.
        let why = why.filter(|why| why.width().min(LEAST_REASON) <= left).map(|why| truncate(&why, left));
        row.left(0, why.map(|why| span(why, scene.theme.style(Role::Dim))).unwrap_or_default()).line(width)
    };
    rows.into_iter().map(line).collect()
}

/// Numbers of a GPU, and what holds its clocks down; and why it has no utilisation.
fn numbers(scene: Scene<'_>, plan: Plan, gpu: &Gpu<'_>, short: Short) -> (Row, Option<String>) {
    let theme = scene.theme;
    let (number, device, gpu) = (&gpu.number, gpu.device, gpu.view);
    let text = theme.style(Role::Text);
    let dim = theme.style(Role::Dim);
    let why = reason(scene, "hw.gpu.utilization", Some(&device.id)).filter(|_| gpu.utilization.is_none());
    // A reason takes the place of the picture that there is none of.
    let utilization = match why {
        Some(_) => span("util n/a", dim),
        None => share(scene, "util", gpu.utilization, Role::Ok, short.utilization),
    };
    let mut row = Row::new()
        .left(0, span(format!("GPU {number}"), theme.style(Role::Strong)))
        .tight(6, span(short_name(&device.name), dim))
        .left(0, utilization);
    if let Some((why, role)) = words::worst_reason(gpu, theme, HELD_DOWN) {
        row = row.right(1, span(why, theme.style(role)));
    }
    if !plan.gpu_details {
        return (row, why);
    }
    let memory = match (gpu.memory_used_bytes, gpu.memory_limit_bytes) {
        (Some(used), Some(limit)) if limit > 0 => Some(used as f64 / limit as f64),
        _ => None,
    };
    if memory.is_some() || why.is_none() {
        row = row.left(2, share(scene, "mem", memory, memory.map_or(Role::Ok, scarce), short.memory));
    }
    if let Some(limit) = gpu.memory_limit_bytes.filter(|_| memory.is_some() || why.is_none()) {
        row = row.tight(LAST, span(format!("of {}", units::bytes(limit as f64)), dim));
    }
    if let Some(temperature) = gpu.temperature_celsius {
        row = row.left(3, span(format!("{} °C", units::digits(temperature)), text));
    }
    if let Some(power) = gpu.power_watts {
        let limit = gpu.power_limit_watts.filter(|_| short.limit);
        let limit = limit.map(|limit| format!(" of {}", units::digits(limit))).unwrap_or_default();
        row = row.left(NUMBERS, span(format!("{}{limit} W", units::digits(power)), text));
    }
    if let Some(clock) = gpu.sm_clock_hertz {
        row = row.left(5, span(units::hertz(clock), text));
    }
    (row, why)
}

/// perfwatch itself: what it costs, where its history is, where it ships to.
fn agent(scene: Scene<'_>, width: usize) -> Line<'static> {
    let theme = scene.theme;
    let agent = &scene.snapshot.agent;
    let (text, dim) = (theme.style(Role::Text), theme.style(Role::Dim));
    let mut row = Row::new().left(0, span("perfwatch", dim));
    if let Some(cores) = agent.cpu_cores {
        row = row.left(1, span(format!("{} of a core", units::percent(cores)), text));
    }
    if let Some(rss) = agent.rss_bytes {
        row = row.left(2, span(units::bytes(rss as f64), text));
    }
    let history =
        if agent.store == "memory" { "history in memory".to_owned() } else { format!("history in {}", agent.store) };
    row = row.left(4, span(history, dim));
    let slowed = agent.probes.iter().filter(|probe| probe.stretched).count();
    if slowed > 0 {
        let words = format!("{slowed} {} slowed to stay in budget", if slowed == 1 { "probe" } else { "probes" });
        row = row.left(5, span(words, dim));
    }
    for export in &agent.exports {
        let role = if export.state == "ok" && export.dropped == 0 { Role::Text } else { Role::Warn };
        let arrow = theme.pick("→", ">");
        row = row.left(3, span(format!("{arrow} {} {}", export.endpoint, export.standing()), theme.style(role)));
    }
    row.line(width)
}

/// Why a metric has no value.
fn reason(scene: Scene<'_>, metric: &str, entity: Option<&str>) -> Option<String> {
    let matches = |missing: &&perfwatch_model::snapshot::Unavailable| {
        missing.metric == metric && entity.is_none_or(|entity| missing.entity == entity)
    };
    scene.snapshot.unavailable.iter().find(matches).map(|missing| missing.reason.clone())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use perfwatch_model::Snapshot;

    use super::*;
    use crate::app::{App, Event};
    use crate::feed::FeedEvent;
    use crate::fixtures;
    use crate::theme::Theme;

    fn in_one_line(snapshot: Snapshot) -> String {
        let mut app = App::new(false);
        app.update(Event::Feed(FeedEvent::Snapshot(Arc::new(snapshot))));
        let snapshot = app.snapshot().expect("one was pushed");
        let line = all_gpus(Scene { app: &app, snapshot, theme: Theme::default() }, &gpus_of(snapshot), 80);
        line.spans.iter().map(|span| span.content.as_ref()).collect::<String>().trim().to_owned()
    }

    fn lines_of(snapshot: &Snapshot, width: usize) -> Vec<String> {
        let mut app = App::new(false);
        app.update(Event::Feed(FeedEvent::Snapshot(Arc::new(snapshot.clone()))));
        let snapshot = app.snapshot().expect("one was pushed");
        let scene = Scene { app: &app, snapshot, theme: Theme::default() };
        gpus(scene, super::super::EVERYTHING, width).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn numbers_that_are_known_come_before_the_reason_for_one_that_is_not() {
        let lines = lines_of(&fixtures::mig(), 80);
        for part in ["GPU 0  util n/a  mem", " 78 %", "54 °C", "370 of 700 W", "NVML does not tell", "…"] {
            assert!(lines[0].contains(part), "{part}\n{lines:#?}");
        }
        let wide = lines_of(&fixtures::mig(), 160);
        assert!(wide[0].contains("W  1.75 GHz  NVML does not tell this of a GPU in MIG mode"), "{wide:#?}");
    }

    #[test]
    fn watts_and_degrees_stay_beside_what_holds_the_clocks_down() {
        let lines = lines_of(&fixtures::eight_gpus(), 80);
        for part in ["88 %", "78 %", "66 °C", "699 of 700 W", "▼ 83 % power limit"] {
            assert!(lines[1].contains(part), "{part}\n{lines:#?}");
        }
        let at = |line: &str| line.chars().position(|c| c == '°');
        assert_eq!(at(&lines[0]), at(&lines[1]), "numbers line up:\n{lines:#?}");
        assert!(lines_of(&fixtures::eight_gpus(), 66)[1].contains("699 W"), "the limit leaves first");
    }

    #[test]
    fn an_average_over_gpus_counts_no_part_of_one_beside_it() {
        let mut snapshot = fixtures::mig();
        assert!(in_one_line(snapshot.clone()).starts_with("2 GPUs, 2 instances  "));
        assert!(in_one_line(snapshot.clone()).ends_with("util 30 % on average of 1"), "the whole one alone tells");
        // A driver that does tell it of instances.
        snapshot.devices.iter_mut().filter_map(|device| device.gpu.as_mut()).for_each(|gpu| {
            gpu.utilization = Some(if gpu.parent.is_some() { 1.0 } else { 0.2 });
        });
        assert!(in_one_line(snapshot.clone()).ends_with("util 20 % on average"));
        snapshot.devices.iter_mut().filter_map(|device| device.gpu.as_mut()).for_each(|gpu| gpu.utilization = None);
        assert!(in_one_line(snapshot).ends_with("util n/a"));
    }
}
