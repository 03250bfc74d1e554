//! A GPU's memory fills up.

use perfwatch_model::metrics::gpu;
use perfwatch_model::{MetricDef, Quality, Severity};

use super::answer::{Answer, all, at_least};
use super::{Diagnosis, Rule, Verdict, percent, remedy};
use crate::window::{MemoryAt, evidence, seconds};
use crate::{Fact, GpuWindow};

/// Share of the memory in use from which little is left: 4 GiB of 80, less than one more sequence of a long prompt takes on a
/// large model.
const FULL: f64 = 0.95;
/// For so long it must have been that full, in nanoseconds.
const FULL_FOR_NS: u64 = 5_000_000_000;
/// Bytes by which it must have grown meanwhile, in each half of that time: 1 MiB a second over the half minute that is
/// looked at. A server that takes its memory at the start (vLLM, Triton with a pool, a framework's caching allocator)
/// comes to stand still at any share, and is not running out of anything.
const GROWTH: u64 = 16 << 20;

pub(super) struct GpuMemoryNearlyFull;

/// What the memory did while it was nearly full, up to now.
struct Filling {
    /// Nanoseconds.
    span_ns: u64,
    /// Bytes by which it grew, in the first half and in the second.
    growth: [u64; 2],
}

/// The growth of the last half minute, as far as the memory was nearly full in it. In the first half it is what was
/// never given back since, in the second what was never in use before: an allocator that takes and returns goes up and
/// down, and grows in neither way; one that asks for large blocks grows in steps, and in both.
fn filling(window: &GpuWindow) -> Filling {
    let trail = &window.memory_trail;
    let is_full = |at: &MemoryAt| at.used as f64 >= at.usable as f64 * FULL;
    let from = trail.iter().rposition(|at| !is_full(at)).map_or(0, |last| last + 1);
    let (Some(oldest), Some(newest)) = (trail.get(from), trail.last()) else {
        return Filling { span_ns: 0, growth: [0, 0] };
    };
    let span_ns = newest.at_ns.saturating_sub(oldest.at_ns);
    let half_ns = oldest.at_ns + span_ns / 2;
    let middle = trail.iter().rposition(|at| at.at_ns <= half_ns).map_or(from, |middle| middle.max(from));
    // The least since then; the most until then, that of before it was nearly full included.
    let floor = |at: usize| trail[at..].iter().map(|at| at.used).min().unwrap_or(0);
    let peak = |at: usize| trail[..=at].iter().map(|at| at.used).max().unwrap_or(0);
    let growth = [floor(middle).saturating_sub(floor(from)), peak(trail.len() - 1).saturating_sub(peak(middle))];
    Filling { span_ns, growth }
}

fn holds(window: &GpuWindow) -> Answer {
    let Filling { span_ns, growth } = filling(window);
    let grows = growth.iter().all(|bytes| *bytes >= GROWTH);
    all([at_least(&window.memory, FULL), Ok(span_ns >= FULL_FOR_NS && grows)])
}

impl Rule<GpuWindow> for GpuMemoryNearlyFull {
    fn id(&self) -> &'static str {
        "gpu-memory-nearly-full"
    }

    fn summary(&self) -> &'static str {
        "A GPU's memory fills up"
    }

    fn needs(&self) -> &'static [&'static MetricDef] {
        &[&gpu::MEMORY_USAGE, &gpu::MEMORY_LIMIT, &gpu::MEMORY_RESERVED]
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
    let left = if left_s < 1.0 { "less than a second".to_owned() } else { format!("{left_s:.0} s") };
    let detail = format!(
        "{} of the memory is in use and {:.0} MiB came in {:.0} s: at this rate the remaining {:.0} MiB last {left}.",
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
            evidence(span_s, "gpu.memory_growth", &grown, Some((2 * GROWTH) as f64), "By"),
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
