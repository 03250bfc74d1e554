//! A GPU computes as fast as it can.

use perfwatch_model::{MetricDef, Severity};

use super::{Diagnosis, GpuRule, Verdict, bound, remedy};
use crate::GpuWindow;
use crate::ledger::COMPUTE;

pub(super) struct GpuComputeBound;

impl GpuRule for GpuComputeBound {
    fn id(&self) -> &'static str {
        "gpu-compute-bound"
    }

    fn summary(&self) -> &'static str {
        "A GPU computes as fast as it can"
    }

    fn needs(&self) -> &'static [&'static MetricDef] {
        bound::NEEDS
    }

    fn is_experimental(&self) -> bool {
        true
    }

    fn judge(&self, window: &GpuWindow) -> Verdict {
        Verdict::of(bound::by(window, COMPUTE), || diagnose(window))
    }
}

fn diagnose(window: &GpuWindow) -> Diagnosis {
    let [busy, of_busy] = bound::shares(window, COMPUTE);
    Diagnosis {
        severity: Severity::Note,
        detail: format!(
            "It was busy for {busy} of the time, and {of_busy} of that computed at the rate that its pipes have: larger batches will \
             not make it faster.",
        ),
        evidence: bound::evidence(window, "gpu.compute_of_busy", COMPUTE),
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
