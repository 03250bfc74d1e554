//! A GPU's memory fills up.

use perfwatch_model::metrics::gpu;
use perfwatch_model::{MetricDef, Quality, Severity};

use super::answer::{Answer, all, at_least};
use super::{Diagnosis, GpuRule, Verdict, percent, remedy};
use crate::window::seconds;
use crate::{Fact, GpuWindow};

/// Share of the memory in use from which little is left: 4 GiB of 80, less than one more sequence of a long prompt takes on a
/// large model.
const FULL: f64 = 0.95;
/// For so long it must have been that full, in nanoseconds.
const FULL_FOR_NS: u64 = 5_000_000_000;
/// Bytes by which it must have grown meanwhile, in each half of that time. A server that takes its memory at the start (vLLM,
/// Triton with a pool, a framework's caching allocator) comes to stand still at any share, and is not running out of anything.
const GROWTH: u64 = 16 << 20;

pub(super) struct GpuMemoryNearlyFull;

/// What the memory did while it was nearly full, up to now.
struct Filling {
    /// Nanoseconds.
    span_ns: u64,
    /// Bytes by which it grew, in the first half and in the second.
    growth: [u64; 2],
}

fn filling(window: &GpuWindow) -> Filling {
    let full = |used: u64, total: u64| used as f64 >= total as f64 * FULL;
    let ticks: Vec<_> = window.memory_ticks.iter().rev().take_while(|(_, used, total)| full(*used, *total)).collect();
    let used = |at: usize| ticks.get(at).map_or(0, |(_, used, _)| *used);
    // The newest comes first.
    let (newest, middle, oldest) = (used(0), used(ticks.len() / 2), used(ticks.len().saturating_sub(1)));
    Filling {
        span_ns: ticks.iter().map(|(dt_ns, ..)| dt_ns).sum(),
        growth: [middle.saturating_sub(oldest), newest.saturating_sub(middle)],
    }
}

fn holds(window: &GpuWindow) -> Answer {
    let Filling { span_ns, growth } = filling(window);
    let grows = growth.iter().all(|bytes| *bytes >= GROWTH);
    all([at_least(&window.memory, FULL), Ok(span_ns >= FULL_FOR_NS && grows)])
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
    let Filling { span_ns, growth } = filling(window);
    let (grown, span_s) = ((growth[0] + growth[1]) as f64, seconds(span_ns));
    let free = window.memory_free.get().unwrap_or(0) as f64;
    let left_s = free / grown.max(1.0) * span_s;
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let detail = format!(
        "{} of the memory are in use and {:.0} MiB came in {:.0} s: at this rate the remaining {:.0} MiB last {left_s:.0} s.",
        percent(window.memory.get().unwrap_or(0.0)),
        mib(grown),
        span_s,
        mib(free),
    );
    let grown = Fact::known(grown, Quality::Counter);
    Diagnosis {
        severity: if left_s < 60.0 { Severity::Critical } else { Severity::Warning },
        detail,
        evidence: [
            window.evidence("gpu.memory_used_share", &window.memory, Some(FULL), "1"),
            window.evidence("gpu.memory_growth", &grown, Some((2 * GROWTH) as f64), "By"),
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
