//! What the two rules have in common that say which unit a busy GPU is bound by.

use perfwatch_model::metrics::gpu;
use perfwatch_model::{Evidence, MetricDef};

use super::answer::{Answer, all, at_least};
use super::percent;
use crate::GpuWindow;

/// Share of the time for which it must be busy: below, it has room, whatever it does meanwhile.
const BUSY: f64 = 0.80;
/// Share of the busy time that must be one unit's at its practical peak (.60 of what a unit could do is what the Kempner
/// Institute calls its use heavy; `agent/diagnose/README.md`).
const OF_BUSY: f64 = 0.60;

/// The metrics that tell it.
pub(super) const NEEDS: &[&MetricDef] =
    &[&gpu::GRAPHICS_ACTIVE, &gpu::SM_ACTIVE, &gpu::DRAM_ACTIVE, &gpu::TENSOR_ACTIVE];

/// Whether it is busy, and mostly with this.
pub(super) fn by(window: &GpuWindow, cause: &str) -> Answer {
    all([at_least(&window.busy(), BUSY), at_least(&window.of_busy(cause), OF_BUSY)])
}

/// How busy it was, and how much of that with this, in words.
pub(super) fn shares(window: &GpuWindow, cause: &str) -> [String; 2] {
    [window.busy(), window.of_busy(cause)].map(|share| percent(share.get().unwrap_or(0.0)))
}

/// The same against their thresholds.
pub(super) fn evidence(window: &GpuWindow, name: &'static str, cause: &str) -> Vec<Evidence> {
    let busy = window.evidence("gpu.busy", &window.busy(), Some(BUSY), "1");
    busy.into_iter().chain(window.evidence(name, &window.of_busy(cause), Some(OF_BUSY), "1")).collect()
}
