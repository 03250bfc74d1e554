//! A GPU works as fast as its memory lets it.

use perfwatch_model::{Evidence, MetricDef, Severity};

use super::{Diagnosis, Rule, Verdict, bound, percent, remedy};
use crate::GpuWindow;
use crate::ledger::{COMPUTE, DRAM_PEAK, MEMORY_BANDWIDTH, SM_IDLE_RESIDENT, SM_STALLED};

pub(super) struct GpuMemoryBandwidthBound;

impl Rule<GpuWindow> for GpuMemoryBandwidthBound {
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
            "It was busy for {busy} of the time, and {of_busy} of that moved data as fast as its memory can ({} of the bandwidth \
             on paper counts as all of it). Tokens of a language model are generated that way: it is what to expect, and more \
             compute would not help.",
            percent(DRAM_PEAK)
        ),
        evidence: bound::evidence(window, "gpu.memory_bandwidth_of_busy", MEMORY_BANDWIDTH)
            .into_iter()
            .chain(rest(window))
            .collect(),
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

/// What the rest of its busy time was.
fn rest(window: &GpuWindow) -> impl Iterator<Item = Evidence> {
    let parts = [
        ("gpu.compute_of_busy", COMPUTE),
        ("gpu.sm_stalled_of_busy", SM_STALLED),
        ("gpu.sm_idle_of_busy", SM_IDLE_RESIDENT),
    ];
    parts.into_iter().filter_map(|(name, cause)| window.evidence(name, &window.of_busy(cause), None, "1"))
}
