//! A GPU works as fast as its memory lets it.

use perfwatch_model::{MetricDef, Severity};

use super::{Diagnosis, GpuRule, Verdict, bound, remedy};
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
        bound::NEEDS
    }

    fn is_experimental(&self) -> bool {
        true
    }

    fn judge(&self, window: &GpuWindow) -> Verdict {
        Verdict::of(bound::by(window, MEMORY_BANDWIDTH), || diagnose(window))
    }
}

fn diagnose(window: &GpuWindow) -> Diagnosis {
    let [busy, of_busy] = bound::shares(window, MEMORY_BANDWIDTH);
    Diagnosis {
        severity: Severity::Note,
        detail: format!(
            "It was busy for {busy} of the time, and {of_busy} of that moved data at the rate that its memory has. Tokens of a \
             language model are generated that way: it is what to expect, and more compute would not help.",
        ),
        evidence: bound::evidence(window, "gpu.memory_bandwidth_of_busy", MEMORY_BANDWIDTH),
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
