//! Other processes run on the server's CPUs while it waits for them.

use perfwatch_model::MetricDef;
use perfwatch_model::metrics::server;

use super::answer::{Answer, at_least};
use super::{Diagnosis, Rule, Verdict, by_harm, p99_clause, percent, remedy};
use crate::ServerWindow;

/// Share of the capacity that must be lost to neighbours. Measured: at most .03 without one, at least .21 with one. The
/// wait is capped by what others used; uncapped it reached .10 in healthy runs.
const WAIT: f64 = 0.10;

pub(super) struct CpuContention;

pub(super) fn holds(window: &ServerWindow) -> Answer {
    at_least(&window.cpu.wait, WAIT)
}

impl Rule<ServerWindow> for CpuContention {
    fn id(&self) -> &'static str {
        "cpu-contention"
    }

    fn summary(&self) -> &'static str {
        "Other processes take the server's CPUs"
    }

    fn needs(&self) -> &'static [&'static MetricDef] {
        &[&server::CPU_RUN_DELAY, &server::CPU_OTHERS, &server::CPU_THROTTLED, &server::CPU_CAPACITY, &server::CPU_TIME]
    }

    fn judge(&self, window: &ServerWindow) -> Verdict {
        Verdict::of(holds(window), || diagnose(window))
    }
}

fn diagnose(window: &ServerWindow) -> Diagnosis {
    let cpu = &window.cpu;
    let detail = format!(
        "The server was ready to run and waited for {} of its CPU time while other processes used {} of the same CPUs; \
         it got {}{}.",
        percent(cpu.wait.get().unwrap_or(0.0)),
        percent(cpu.others.get().unwrap_or(0.0)),
        percent(cpu.used.get().unwrap_or(0.0)),
        p99_clause(window),
    );
    Diagnosis {
        severity: by_harm(window),
        detail,
        evidence: [
            window.evidence("cpu.wait_share", &cpu.wait, Some(WAIT), "1"),
            window.evidence("cpu.others_share", &cpu.others, None, "1"),
            window.evidence("cpu.used_share", &cpu.used, None, "1"),
            window.evidence("load.unserved_ratio", &window.load.unserved, None, "1"),
        ]
        .into_iter()
        .flatten()
        .collect(),
        remedies: vec![
            remedy(
                "give the server CPUs of its own: `taskset` or `AllowedCPUs=`, in Kubernetes the static CPU manager policy \
                 with whole CPUs as requests and limits",
                "neighbours cannot take what they may not run on",
            ),
            remedy(
                "move or limit the neighbours: another node, another cpuset, a quota or `nice` for batch work",
                "the time that they use is the time that the server waits",
            ),
            remedy(
                "raise the server's share: `cpu.weight`, `resources.requests.cpu`",
                "the scheduler then prefers it when both want to run",
            ),
        ],
    }
}
