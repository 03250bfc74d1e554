//! Others compute on a server's GPU.

use perfwatch_model::metrics::gpu;
use perfwatch_model::{MetricDef, Reason, Severity};

use super::answer::{all, at_least};
use super::{Diagnosis, Rule, Verdict, percent, remedy};
use crate::GpuWindow;

/// Share of the time that others must have had. In turns of milliseconds even a neighbour with little work adds its turns to
/// each request; a tenth is beyond what a monitor or a desktop takes.
const THEIRS: f64 = 0.10;
/// Share of the time for which its servers must have had requests: who has none loses nothing to others.
const WANTED: f64 = 0.20;
/// From here on a server has lost a good part of its GPU; critical once its users feel it.
const SEVERE: f64 = 0.30;

pub(super) struct GpuNoisyNeighbour;

impl Rule<GpuWindow> for GpuNoisyNeighbour {
    fn id(&self) -> &'static str {
        "gpu-noisy-neighbour"
    }

    fn summary(&self) -> &'static str {
        "Other processes take a server's GPU"
    }

    fn needs(&self) -> &'static [&'static MetricDef] {
        &[&gpu::UTILIZATION, &gpu::GRAPHICS_ACTIVE]
    }

    fn is_experimental(&self) -> bool {
        true
    }

    fn judge(&self, window: &GpuWindow) -> Verdict {
        let wanted = match window.demand {
            Some(share) => Ok(share >= WANTED),
            None => Err(Reason::fixed("no server on it says when it has requests", "use the SDK in the server")),
        };
        Verdict::of(all([at_least(&window.others(), THEIRS), wanted]), || diagnose(window))
    }
}

fn diagnose(window: &GpuWindow) -> Diagnosis {
    let others = window.others();
    let share = others.get().unwrap_or(0.0);
    Diagnosis {
        severity: if share >= SEVERE && window.users_are_hurt { Severity::Critical } else { Severity::Warning },
        detail: format!(
            "For {} of the time the GPU worked for processes of no watched server, while its servers had requests for {} of it.",
            percent(share),
            percent(window.demand.unwrap_or(0.0)),
        ),
        evidence: window.evidence("gpu.other_tenant_share", &others, Some(THEIRS), "1").into_iter().collect(),
        remedies: vec![
            remedy("move the other processes to another GPU", "CUDA_VISIBLE_DEVICES, or a GPU of its own for each pod"),
            remedy("cut the GPU into MIG instances", "each then has SMs, cache and bandwidth of its own"),
            remedy(
                "share it through MPS, with CUDA_MPS_ACTIVE_THREAD_PERCENTAGE",
                "kernels of several processes then run side by side instead of by turns",
            ),
        ],
    }
}
