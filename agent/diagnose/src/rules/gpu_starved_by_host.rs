//! A GPU waits for its host while there are requests.

use perfwatch_model::metrics::gpu;
use perfwatch_model::{MetricDef, Remedy, Severity};

use super::answer::at_least;
use super::{Diagnosis, Rule, Verdict, percent, remedy};
use crate::GpuWindow;
use crate::ledger::{self, HOST_COMPUTE};

/// Share of the time that the GPU must have stood still although there were requests, whatever the slots leave open. A good
/// server keeps gaps of some percent between its steps.
const STARVED: f64 = 0.20;

pub(super) struct GpuStarvedByHost;

impl Rule<GpuWindow> for GpuStarvedByHost {
    fn id(&self) -> &'static str {
        "gpu-starved-by-host"
    }

    fn summary(&self) -> &'static str {
        "A GPU waits for its host while there are requests"
    }

    fn needs(&self) -> &'static [&'static MetricDef] {
        &[&gpu::UTILIZATION, &gpu::GRAPHICS_ACTIVE]
    }

    fn is_experimental(&self) -> bool {
        true
    }

    fn judge(&self, window: &GpuWindow) -> Verdict {
        Verdict::of(at_least(&window.starved(), STARVED), || diagnose(window))
    }
}

fn diagnose(window: &GpuWindow) -> Diagnosis {
    let starved = window.starved();
    let worst = window.worst_starvation();
    let during = worst.as_ref().map(|(cause, share)| {
        let what = match cause.strip_prefix("starved.") {
            Some(stage) => format!("while requests were in `{stage}`"),
            None => "inside the model, between its kernels".to_owned(),
        };
        format!(", {} of it {what}", percent(share / starved.get().unwrap_or(1.0).max(*share)))
    });
    Diagnosis {
        // A server that serves all that comes, one request after the other, leaves its GPU idle in between, and rightly so.
        severity: if window.users_are_hurt { Severity::Warning } else { Severity::Note },
        detail: format!(
            "For at least {} of the time there were requests and the GPU stood still{}.",
            percent(starved.get().unwrap_or(0.0)),
            during.unwrap_or_default(),
        ),
        evidence: window.evidence("gpu.starved_share", &starved, Some(STARVED), "1").into_iter().collect(),
        remedies: remedies(worst.as_ref().map_or(HOST_COMPUTE, |(cause, _)| cause)),
    }
}

/// What helps against the largest cause.
fn remedies(cause: &str) -> Vec<Remedy> {
    match cause.strip_prefix("starved.") {
        Some("preprocess" | "queue") => vec![
            remedy(
                "preprocess in more processes or threads",
                "one core feeds the GPU no faster than it decodes or tokenises",
            ),
            remedy("preprocess on the GPU, or with a faster library", "nvJPEG, DALI, a compiled tokeniser"),
            remedy("cache what is preprocessed again and again", "the same inputs come again in most services"),
        ],
        Some("data_load") => vec![
            remedy("load in parallel, and ahead", "the GPU then finds the next input ready"),
            remedy(
                "keep features and files near: local disk, page cache, a feature cache",
                "a request waits for the slowest of them",
            ),
        ],
        Some("batch_wait") => vec![
            remedy(
                "shorten the time for which a batch waits to fill",
                "the GPU is idle, so a smaller batch costs nothing",
            ),
            remedy("continuous batching", "a request joins at the next step instead of the next batch"),
        ],
        Some("transfer") => vec![
            remedy(
                "copy from pinned memory, asynchronously, on a stream of its own",
                "copies and kernels then overlap",
            ),
            remedy("send less: smaller types, decoding on the GPU", "the link is the slowest part of the way"),
        ],
        _ => vec![
            remedy(
                "CUDA graphs, or a compiled model (torch.compile, TensorRT)",
                "kernels are launched by the hundred with one call",
            ),
            remedy(
                "schedule the next step while this one runs (asynchronous scheduling)",
                "the host's work then hides behind the GPU's",
            ),
            remedy(
                "a faster core, or one that nothing else uses, for the thread that launches",
                "launches come one after the other",
            ),
        ],
    }
}

/// What counts as waiting for the host: all before and inside of the model. A slow client or an answer that is being written keeps
/// no input from the GPU.
pub(crate) fn is_starvation(cause: &str) -> bool {
    let after = ["starved.postprocess", "starved.send", "starved.other"];
    cause == ledger::HOST_COMPUTE || (cause.starts_with("starved.") && !after.contains(&cause))
}
