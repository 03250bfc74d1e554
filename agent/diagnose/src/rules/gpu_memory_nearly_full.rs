//! A GPU's memory fills up.

use perfwatch_model::metrics::gpu;
use perfwatch_model::{MetricDef, Severity};

use super::answer::{Answer, all, at_least};
use super::{Diagnosis, GpuRule, Verdict, percent, remedy};
use crate::GpuWindow;

/// Share of the memory in use from which little is left: 4 GiB of 80, less than one more sequence of a long prompt takes on a
/// large model.
const FULL: f64 = 0.95;
/// Bytes by which it must have grown in the window. A server that takes its memory at the start (vLLM, Triton with a pool, a
/// framework's caching allocator) stands still at any share, and is not running out of anything.
const GROWTH: f64 = (64 << 20) as f64;

pub(super) struct GpuMemoryNearlyFull;

fn holds(window: &GpuWindow) -> Answer {
    all([at_least(&window.memory, FULL), at_least(&window.memory_growth, GROWTH)])
}

impl GpuRule for GpuMemoryNearlyFull {
    fn id(&self) -> &'static str {
        "gpu-memory-nearly-full"
    }

    fn summary(&self) -> &'static str {
        "A GPU's memory fills up"
    }

    fn needs(&self) -> &'static [&'static MetricDef] {
        &[&gpu::MEMORY_USAGE, &gpu::MEMORY_LIMIT]
    }

    fn judge(&self, window: &GpuWindow) -> Verdict {
        Verdict::of(holds(window), || diagnose(window))
    }
}

fn diagnose(window: &GpuWindow) -> Diagnosis {
    let growth = window.memory_growth.get().unwrap_or(0.0).max(1.0);
    let free = window.memory_free.get().unwrap_or(0) as f64;
    let left_s = free / growth * window.span_s();
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let detail = format!(
        "{} of the memory are in use and {:.0} MiB came in {:.0} s: at this rate the remaining {:.0} MiB last {left_s:.0} s.",
        percent(window.memory.get().unwrap_or(0.0)),
        mib(growth),
        window.span_s(),
        mib(free),
    );
    Diagnosis {
        severity: if left_s < 60.0 { Severity::Critical } else { Severity::Warning },
        detail,
        evidence: [
            window.evidence("gpu.memory_used_share", &window.memory, Some(FULL), "1"),
            window.evidence("gpu.memory_growth", &window.memory_growth, Some(GROWTH), "By"),
        ]
        .into_iter()
        .flatten()
        .collect(),
        remedies: vec![
            remedy(
                "bound what requests may hold: concurrent sequences, their length, the size of batches",
                "memory that grows with load ends in an out-of-memory error at the worst moment",
            ),
            remedy("quantise weights or the KV cache to 8 bits", "the same load then takes about half of it"),
            remedy(
                "look for a leak if it grows without load: references to tensors, caches without a bound",
                "restarting the server frees it for a while only",
            ),
        ],
    }
}
