//! The machine: CPUs, memory, pressure, GPUs.

use perfwatch_model::snapshot::{DeviceView, GpuView};
use ratatui::text::{Line, Span};

use super::{Plan, rule};
use crate::line::{Row, span};
use crate::theme::Role;
use crate::units;
use crate::views::Scene;
use crate::widgets::gauge::{gauge, scarce};
use crate::widgets::sparkline::{columns, sparkline};

/// Columns of a gauge, its ends apart.
const GAUGE: usize = 10;
/// Columns of a sparkline.
const TRAIL: usize = 10;
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
    let mut row = Row::new().left(0, share(scene, "cpu", host.cpu_utilization, Role::Ok));
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
    row = row.left(1, share(scene, "mem", memory, memory.map_or(Role::Ok, scarce)));
    if let Some(total) = host.memory_total_bytes {
        row = row.tight(5, span(format!("of {}", units::bytes(total as f64)), theme.style(Role::Dim)));
    }
    if let Some(steal) = host.cpu_steal.filter(|steal| *steal >= 0.005) {
        row = row.left(2, span(format!("steal {}", units::percent(steal)), theme.style(Role::Warn)));
    }
    row.line(width)
}

/// `name ▕███  ▏ 42 %`, or the name and n/a in the same columns.
fn share(scene: Scene<'_>, name: &str, value: Option<f64>, role: Role) -> Vec<Span<'static>> {
    let mut spans = span(format!("{name} "), scene.theme.style(Role::Dim));
    match value {
        Some(value) => {
            spans.extend(gauge(value, GAUGE, role, scene.theme));
            spans.push(Span::raw(format!("{:>6}", units::percent(value))));
        }
        None => spans.extend(span(format!("{:<width$}", "n/a", width = GAUGE + 8), scene.theme.style(Role::Dim))),
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
    let gpus: Vec<(&DeviceView, &GpuView)> =
        scene.snapshot.devices.iter().filter_map(|device| Some((device, device.gpu.as_ref()?))).collect();
    if gpus.is_empty() {
        let Some(why) = reason(scene, "hw.gpu.utilization", None) else { return Vec::new() };
        let text = format!("GPU n/a  {why}");
        return vec![Row::new().left(0, span(text, theme.style(Role::Dim))).line(width)];
    }
    if !plan.gpu_lines && gpus.len() > 1 {
        let shares = columns(gpus.iter().map(|(_, gpu)| gpu.utilization.unwrap_or(f64::NAN)), theme);
        let known: Vec<f64> = gpus.iter().filter_map(|(_, gpu)| gpu.utilization).collect();
        let mean = known.iter().sum::<f64>() / known.len() as f64;
        let row = Row::new()
            .left(0, span(format!("{} GPUs", gpus.len()), theme.style(Role::Text)))
            .left(0, span(shares, theme.style(Role::Ok)))
            .left(1, span(format!("busy {} on average", units::percent(mean)), theme.style(Role::Text)));
        return vec![row.line(width)];
    }
    gpus.into_iter().enumerate().map(|(index, (device, gpu))| line(scene, plan, index, device, gpu, width)).collect()
}

fn line(scene: Scene<'_>, plan: Plan, index: usize, device: &DeviceView, gpu: &GpuView, width: usize) -> Line<'static> {
    let theme = scene.theme;
    let text = theme.style(Role::Text);
    let dim = theme.style(Role::Dim);
    // A reason takes the place of the picture that there is none of.
    let busy = match reason(scene, "hw.gpu.utilization", Some(&device.id)).filter(|_| gpu.utilization.is_none()) {
        Some(why) => span(format!("busy n/a {why}"), dim),
        None => share(scene, "busy", gpu.utilization, Role::Ok),
    };
    let mut row = Row::new()
        .left(0, span(format!("GPU {index}"), theme.style(Role::Strong)))
        .tight(6, span(short_name(&device.name), dim))
        .left(0, busy);
    if !gpu.throttle_reasons.is_empty() {
        let why = format!("{} {}", theme.pick("▼", "V"), gpu.throttle_reasons.join(", "));
        row = row.right(1, span(why, theme.style(Role::Crit)));
    }
    if !plan.gpu_details {
        return row.line(width);
    }
    let memory = match (gpu.memory_used_bytes, gpu.memory_limit_bytes) {
        (Some(used), Some(limit)) if limit > 0 => Some(used as f64 / limit as f64),
        _ => None,
    };
    row = row.left(2, share(scene, "mem", memory, memory.map_or(Role::Ok, scarce)));
    if let Some(limit) = gpu.memory_limit_bytes {
        row = row.tight(7, span(format!("of {}", units::bytes(limit as f64)), dim));
    }
    if let Some(temperature) = gpu.temperature_celsius {
        row = row.left(3, span(format!("{} °C", units::digits(temperature)), text));
    }
    if let Some(power) = gpu.power_watts {
        let limit = gpu.power_limit_watts.map(|limit| format!(" of {}", units::digits(limit))).unwrap_or_default();
        row = row.left(4, span(format!("{}{limit} W", units::digits(power)), text));
    }
    if let Some(clock) = gpu.sm_clock_hertz {
        row = row.left(5, span(units::hertz(clock), text));
    }
    row.line(width)
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

/// `NVIDIA H100 80GB HBM3` is `H100` to everybody.
fn short_name(name: &str) -> String {
    let name = name.strip_prefix("NVIDIA ").unwrap_or(name);
    let name = name.strip_prefix("GeForce ").unwrap_or(name);
    let mut words = name.split(' ');
    let first = words.next().unwrap_or_default();
    if first == "RTX" { format!("RTX {}", words.next().unwrap_or_default()) } else { first.to_owned() }
}

/// Why a metric has no value.
fn reason(scene: Scene<'_>, metric: &str, entity: Option<&str>) -> Option<String> {
    let matches = |missing: &&perfwatch_model::snapshot::Unavailable| {
        missing.metric == metric && entity.is_none_or(|entity| missing.entity == entity)
    };
    scene.snapshot.unavailable.iter().find(matches).map(|missing| missing.reason.clone())
}
