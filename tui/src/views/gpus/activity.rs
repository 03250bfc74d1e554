//! What a GPU's units and links did.

use perfwatch_model::snapshot::PcieView;
use ratatui::text::{Line, Span};

use super::graphs::{Graph, Room, drawn, largest, trails};
use super::words;
use crate::gpus::Gpu;
use crate::history::{GpuTrails, Trail, both_ways};
use crate::line::span;
use crate::theme::Role;
use crate::units;
use crate::views::Scene;

/// The largest value of a graph that shows only its shape is not quite as high as it, so that a steady one is no wall.
const HEADROOM: f64 = 1.25;
/// Rank of what a graph shows, in words: it leaves before its numbers do.
const EXPLAINED: u8 = 5;
/// Graphs that are no links, that of whether any kernel ran apart.
pub(super) const UNITS: usize = 3;

/// What is drawn beside the units.
#[derive(Clone, Copy)]
pub(super) struct Activity {
    /// Whether any kernel ran, even where the units say more.
    pub(super) utilization: bool,
    /// Units, so many that matter most.
    pub(super) units: usize,
    /// Links.
    pub(super) links: Links,
}

/// Which links are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Links {
    All,
    /// Over which anything went of late.
    Working,
    None,
}

/// Units and links.
pub(super) fn lines(scene: Scene<'_>, gpu: &Gpu<'_>, what: Activity, room: Room) -> Vec<Line<'static>> {
    let view = gpu.view;
    let units = view.activity.unwrap_or_default();
    let trails = trails(scene, gpu);
    let share = |name, metric, trail: fn(&GpuTrails) -> &Trail, value, what: &'static str| Graph {
        name,
        metric,
        trail: trails.map(trail),
        top: Some(1.0),
        role: Role::Ok,
        value,
        written: units::percent,
        notes: vec![(EXPLAINED, span(what, scene.theme.style(Role::Dim)))],
    };
    let link = |name, metric, trail: fn(&GpuTrails) -> &Trail, transmit, receive, lanes| Graph {
        name,
        metric,
        trail: trails.map(trail),
        top: trails.and_then(|trails| largest(trail(trails))).map(|most| most * HEADROOM),
        role: Role::Accent,
        // Where one direction alone is known, it stands; which one it is stands beside it.
        value: both_ways(transmit, receive).or(transmit).or(receive),
        written: |rate| format!("{}/s", units::bytes(rate)),
        notes: vec![(2, both(scene, transmit, receive)), lanes],
    };
    let (pcie, nvlink) = (view.pcie.unwrap_or_default(), view.nvlink.unwrap_or_default());
    let graphs = [
        share("util", "hw.gpu.utilization", |trails| &trails.utilization, view.utilization, "a kernel ran"),
        share("SM", "perfwatch.gpu.sm.active", |trails| &trails.sm, units.sm_active, "of SMs had work"),
        share("tensor", "perfwatch.gpu.tensor.active", |trails| &trails.tensor, units.tensor_active, "of its cycles"),
        share("DRAM", "perfwatch.gpu.dram.active", |trails| &trails.dram, units.dram_active, "of its cycles"),
        link(
            "PCIe",
            "hw.gpu.io",
            |trails| &trails.pcie,
            pcie.transmit_bytes_per_s,
            pcie.receive_bytes_per_s,
            lanes(scene, &pcie),
        ),
        link(
            "NVLink",
            "perfwatch.gpu.nvlink.io",
            |trails| &trails.nvlink,
            nvlink.transmit_bytes_per_s,
            nvlink.receive_bytes_per_s,
            (0, Vec::new()),
        ),
    ];
    let at_work = |graph: &Graph<'_>| {
        let moved = |rate: f64| rate >= 1.0;
        graph.value.is_some_and(moved) || graph.trail.and_then(largest).is_some_and(moved)
    };
    let is_drawn = |at: usize, graph: &Graph<'_>| match (at, what.links) {
        (0, _) => what.utilization || units.sm_active.is_none(),
        (at, _) if at <= UNITS => at <= what.units,
        (_, Links::All) => true,
        (_, Links::Working) => at_work(graph),
        (_, Links::None) => false,
    };
    let drawn_ones = graphs.into_iter().enumerate().filter(|(at, graph)| is_drawn(*at, graph));
    let graphs: Vec<_> = drawn_ones.map(|(_, graph)| graph).collect();
    drawn(scene, gpu, &graphs, words::why, room)
}

/// Other units, in words.
pub(super) fn other_units(scene: Scene<'_>, gpu: &Gpu<'_>) -> Vec<Vec<Span<'static>>> {
    let Some(units) = gpu.view.activity else { return Vec::new() };
    let pipes = units.pipes;
    let all = [
        ("SM occupancy", units.sm_occupancy),
        ("FP16", pipes.fp16),
        ("FP32", pipes.fp32),
        ("FP64", pipes.fp64),
        ("integers", pipes.int),
        ("kernel resident", units.graphics_active),
    ];
    let item = |(name, share): (&str, Option<f64>)| {
        vec![Span::styled(format!("{name} "), scene.theme.style(Role::Dim)), Span::raw(units::percent(share?))].into()
    };
    all.into_iter().filter_map(item).collect()
}

/// How much went and came.
fn both(scene: Scene<'_>, transmit: Option<f64>, receive: Option<f64>) -> Vec<Span<'static>> {
    let rate = |rate: Option<f64>| rate.map_or("n/a".to_owned(), |rate| format!("{}/s", units::bytes(rate)));
    if transmit.is_none() && receive.is_none() {
        return Vec::new();
    }
    let text = format!("out {}  in {}", rate(transmit), rate(receive));
    span(text, scene.theme.style(Role::Text))
}

/// `gen 5 ×16`, with what it could have where it has less lanes: that matters more than how much goes over them. An idle
/// link runs at a lower generation to save power.
fn lanes(scene: Scene<'_>, pcie: &PcieView) -> (u8, Vec<Span<'static>>) {
    let generation = pcie.generation.map(|generation| match pcie.generation_max {
        Some(most) if most > generation => format!("gen {generation} of {most}"),
        _ => format!("gen {generation}"),
    });
    let narrow = pcie.width.zip(pcie.width_max).is_some_and(|(width, most)| width < most);
    let width = pcie.width.map(|width| match pcie.width_max {
        Some(most) if narrow => format!("×{width} of ×{most}"),
        _ => format!("×{width}"),
    });
    let text = [generation, width].into_iter().flatten().collect::<Vec<_>>().join(" ");
    let (rank, role) = if narrow { (1, Role::Warn) } else { (3, Role::Dim) };
    (rank, span(text, scene.theme.style(role)))
}
