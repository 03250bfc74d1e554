//! What feeds a GPU, and what slows it.

use ratatui::text::{Line, Span};

use super::graphs::{Graph, Room, drawn, trails};
use super::words;
use crate::gpus::Gpu;
use crate::held_down::held_down;
use crate::line::span;
use crate::theme::Role;
use crate::units;
use crate::views::Scene;

/// As high as the graph of the temperature: about where every GPU slows down.
const HOT: f64 = 100.0;

/// Power, clock, heat, and for how much of the time the clocks were held down; of these, so many that matter most.
pub(super) fn lines(scene: Scene<'_>, gpu: &Gpu<'_>, most: usize, room: Room) -> Vec<Line<'static>> {
    let view = gpu.view;
    let trails = trails(scene, gpu);
    let dimmed = |text: Option<String>| vec![(1, span(text.unwrap_or_default(), scene.theme.style(Role::Dim)))];
    let reasons = words::held_down(view);
    let held = held_down(scene.snapshot, gpu.device);
    let hurts = reasons.first().map_or(Role::Ok, |(reason, _)| words::reason(reason).1);
    let memory = dimmed(view.memory_temperature_celsius.map(|degrees| format!("memory {} °C", units::digits(degrees))));
    let graphs = [
        Graph {
            name: "heat",
            metric: "hw.temperature",
            trail: trails.map(|trails| &trails.temperature),
            top: Some(HOT),
            role: Role::Accent,
            value: view.temperature_celsius,
            written: |degrees| format!("{} °C", units::digits(degrees)),
            notes: [(2, headroom(scene, view.temperature_margin_celsius))].into_iter().chain(memory).collect(),
        },
        Graph {
            name: "power",
            metric: "hw.power",
            trail: trails.map(|trails| &trails.power),
            top: view.power_limit_watts,
            role: Role::Accent,
            value: view.power_watts,
            written: |watts| format!("{} W", units::digits(watts)),
            notes: vec![(1, limit(scene, view.power_limit_watts, view.default_power_limit_watts))],
        },
        Graph {
            name: "SM clock",
            metric: "perfwatch.gpu.clock.frequency",
            trail: trails.map(|trails| &trails.sm_clock),
            top: view.sm_clock_limit_hertz,
            role: Role::Accent,
            value: view.sm_clock_hertz,
            written: units::hertz,
            notes: dimmed(view.sm_clock_limit_hertz.map(|most| format!("of {}", units::hertz(most)))),
        },
        Graph {
            name: "held down",
            metric: "perfwatch.gpu.throttle.time",
            trail: trails.map(|trails| &trails.held_down),
            top: Some(1.0),
            role: hurts,
            value: held.map(|held| held.share),
            written: if held.is_some_and(|held| held.is_counted) { units::percent } else { inferred },
            notes: vec![(1, reasons_in_words(scene, &reasons))],
        },
    ];
    // Degrees and watts stand in the list as well.
    let first = graphs.len().saturating_sub(most);
    drawn(scene, gpu, &graphs[first..], words::why_besides, room)
}

/// A share that no counter tells.
fn inferred(share: f64) -> String {
    format!("≈{}", units::percent(share))
}

/// `11 below its limit`, which is what matters about degrees. Which limit that is, of those that slow it down, is the device's to say.
fn headroom(scene: Scene<'_>, margin: Option<f64>) -> Vec<Span<'static>> {
    let Some(margin) = margin.map(f64::round) else { return Vec::new() };
    let degrees = units::digits(margin.abs());
    let (text, role) = match margin {
        margin if margin > 0.0 => (format!("{degrees} below its limit"), Role::Dim),
        margin if margin < 0.0 => (format!("{degrees} above its limit"), Role::Warn),
        _ => ("at its limit".to_owned(), Role::Warn),
    };
    span(text, scene.theme.style(role))
}

/// `of 700 W`; the default beside it where somebody set another.
fn limit(scene: Scene<'_>, limit: Option<f64>, default: Option<f64>) -> Vec<Span<'static>> {
    let Some(limit) = limit else { return Vec::new() };
    let mut spans = span(format!("of {} W", units::digits(limit)), scene.theme.style(Role::Dim));
    if let Some(default) = default.filter(|default| (default - limit).abs() >= 1.0) {
        let text = format!(", by default {} W", units::digits(default));
        spans.extend(span(text, scene.theme.style(if default > limit { Role::Warn } else { Role::Dim })));
    }
    spans
}

/// `power limit 83 %, heat 40 %`; without a share what holds now and is not counted.
fn reasons_in_words(scene: Scene<'_>, reasons: &[(&str, Option<f64>)]) -> Vec<Span<'static>> {
    let mut spans = Vec::new();
    for (at, (name, share)) in reasons.iter().enumerate() {
        let (words, role) = words::reason(name);
        let share = share.map_or(" now".to_owned(), |share| format!(" {}", units::percent(share)));
        let comma = if at > 0 { ", " } else { "" };
        spans.extend(span(format!("{comma}{words}{share}"), scene.theme.style(role)));
    }
    spans
}
