//! A GPU works as fast as its memory lets it.

use perfwatch_model::metrics::gpu;
use perfwatch_model::{MetricDef, Severity};

use super::answer::{all, at_least};
use super::gpu_compute_bound::{BUSY, OF_BUSY};
use super::{Diagnosis, GpuRule, Verdict, percent, remedy};
use crate::GpuWindow;
use crate::ledger::MEMORY_BANDWIDTH;

pub(super) struct GpuMemoryBandwidthBound;

impl GpuRule for GpuMemoryBandwidthBound {
    fn id(&self) -> &'static str {
        "gpu-memory-bandwidth-bound"
    }

    fn summary(&self) -> &'static str {
        "A GPU works as fast as its memory lets it"
    }

    fn needs(&self) -> &'static [&'static MetricDef] {
        &[&gpu::GRAPHICS_ACTIVE, &gpu::SM_ACTIVE, &gpu::DRAM_ACTIVE, &gpu::TENSOR_ACTIVE]
    }

    fn is_experimental(&self) -> bool {
        true
    }

    fn judge(&self, window: &GpuWindow) -> Verdict {
        let bound = all([at_least(&window.busy(), BUSY), at_least(&window.of_busy(MEMORY_BANDWIDTH), OF_BUSY)]);
        Verdict::of(bound, || diagnose(window))
    }
}

fn diagnose(window: &GpuWindow) -> Diagnosis {
    let share = |fact: &crate::Fact<f64>| percent(fact.get().unwrap_or(0.0));
    Diagnosis {
        severity: Severity::Note,
        detail: format!(
            "It was busy for {} of the time, and {} of that moved data at the rate that its memory has. Tokens of a language model \
             are generated that way: it is what to expect, and more compute would not help.",
            share(&window.busy()),
            share(&window.of_busy(MEMORY_BANDWIDTH)),
        ),
        evidence: window.busy_evidence("gpu.memory_bandwidth_of_busy", MEMORY_BANDWIDTH, BUSY, OF_BUSY),
        remedies: vec![
            remedy(
                "serve more requests at a time: larger batches, more sequences",
                "the weights are read once for all of them",
            ),
            remedy("quantise the weights (FP8, INT8, INT4)", "half of the bytes are read in half of the time"),
            remedy(
                "quantise the KV cache to 8 bits, or share it (prefix caching)",
                "long contexts are read for each token",
            ),
            remedy("speculative decoding", "several tokens come of one pass over the weights"),
        ],
    }
}
