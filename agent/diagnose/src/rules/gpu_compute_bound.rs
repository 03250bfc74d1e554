//! A GPU computes as fast as it can.

use perfwatch_model::metrics::gpu;
use perfwatch_model::{MetricDef, Severity};

use super::answer::{all, at_least};
use super::{Diagnosis, GpuRule, Verdict, percent, remedy};
use crate::GpuWindow;
use crate::ledger::COMPUTE;

/// Share of the time for which it must be busy: below, it has room, whatever it does meanwhile.
pub(super) const BUSY: f64 = 0.80;
/// Share of the busy time that must be one unit's at its practical peak (.60 of what a unit could do is what the Kempner
/// Institute calls its use heavy; `agent/diagnose/README.md`).
pub(super) const OF_BUSY: f64 = 0.60;

pub(super) struct GpuComputeBound;

impl GpuRule for GpuComputeBound {
    fn id(&self) -> &'static str {
        "gpu-compute-bound"
    }

    fn summary(&self) -> &'static str {
        "A GPU computes as fast as it can"
    }

    fn needs(&self) -> &'static [&'static MetricDef] {
        &[&gpu::GRAPHICS_ACTIVE, &gpu::SM_ACTIVE, &gpu::DRAM_ACTIVE, &gpu::TENSOR_ACTIVE]
    }

    fn is_experimental(&self) -> bool {
        true
    }

    fn judge(&self, window: &GpuWindow) -> Verdict {
        let bound = all([at_least(&window.busy(), BUSY), at_least(&window.of_busy(COMPUTE), OF_BUSY)]);
        Verdict::of(bound, || diagnose(window))
    }
}

fn diagnose(window: &GpuWindow) -> Diagnosis {
    let share = |fact: &crate::Fact<f64>| percent(fact.get().unwrap_or(0.0));
    Diagnosis {
        severity: Severity::Note,
        detail: format!(
            "It was busy for {} of the time, and {} of that computed at the rate that its pipes have: larger batches will not make \
             it faster.",
            share(&window.busy()),
            share(&window.of_busy(COMPUTE)),
        ),
        evidence: window.busy_evidence("gpu.compute_of_busy", COMPUTE, BUSY, OF_BUSY),
        remedies: vec![
            remedy("compute in a smaller type (FP8, INT8)", "tensor cores do about twice as much of half the width"),
            remedy(
                "compute less: a distilled or pruned model, cached prefixes and results",
                "what is not computed is free",
            ),
            remedy(
                "fused kernels for attention and for what stands between the multiplications",
                "what the pipes wait for in between is saved",
            ),
            remedy("add a GPU", "this one does what it can"),
        ],
    }
}
