//! A GPU computes as fast as its clocks let it.

use perfwatch_model::{Evidence, MetricDef, Severity};

use super::{Diagnosis, Rule, Verdict, bound, remedy};
use crate::GpuWindow;
use crate::ledger::{COMPUTE, MEMORY_BANDWIDTH, SM_IDLE_RESIDENT, SM_STALLED};

pub(super) struct GpuComputeBound;

impl Rule<GpuWindow> for GpuComputeBound {
    fn id(&self) -> &'static str {
        "gpu-compute-bound"
    }

    fn summary(&self) -> &'static str {
        "A GPU computes as fast as its clocks let it"
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
            "It was busy for {busy} of the time, and {of_busy} of that computed at the rate that its pipes have: larger \
             batches will not make it faster."
        ),
        evidence: bound::evidence(window, "gpu.compute_of_busy", COMPUTE).into_iter().chain(rest(window)).collect(),
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

/// What the rest of its busy time was.
fn rest(window: &GpuWindow) -> impl Iterator<Item = Evidence> {
    let parts = [
        ("gpu.memory_bandwidth_of_busy", MEMORY_BANDWIDTH),
        ("gpu.sm_stalled_of_busy", SM_STALLED),
        ("gpu.sm_idle_of_busy", SM_IDLE_RESIDENT),
    ];
    parts.into_iter().filter_map(|(name, cause)| window.evidence(name, &window.of_busy(cause), None, "1"))
}
