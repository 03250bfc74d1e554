//! A CPU quota stops the server while it has work to do.

use perfwatch_model::MetricDef;
use perfwatch_model::metrics::server;

use super::answer::{Answer, all, at_least};
use super::{Diagnosis, Rule, Verdict, by_harm, p99_clause, percent, remedy};
use crate::ServerWindow;

/// Share of quota periods that must run out. Measured: .78 and more where the quota hurt, 0 for a quota that is large
/// enough; a quarter leaves room for single bursts on either side.
const PERIODS: f64 = 0.25;
/// Share of the capacity that must be lost. Measured: .11 and more where it hurt, 0 where not; half of that still shows
/// in the tail of latency, less does not.
const TIME: f64 = 0.05;

pub(super) struct CpuQuotaThrottled;

/// Periods say how often, time says how much: periods that run out at their very end cost nothing.
pub(super) fn holds(window: &ServerWindow) -> Answer {
    all([at_least(&window.cpu.throttled_periods, PERIODS), at_least(&window.cpu.throttled, TIME)])
}

impl Rule<ServerWindow> for CpuQuotaThrottled {
    fn id(&self) -> &'static str {
        "cpu-quota-throttled"
    }

    fn summary(&self) -> &'static str {
        "A CPU quota stops the server while it has work"
    }

    fn needs(&self) -> &'static [&'static MetricDef] {
        &[
            &server::CPU_THROTTLED_PERIODS,
            &server::CPU_PERIODS,
            &server::CPU_THROTTLED,
            &server::CPU_CAPACITY,
            &server::CPU_TIME,
        ]
    }

    fn judge(&self, window: &ServerWindow) -> Verdict {
        Verdict::of(holds(window), || diagnose(window))
    }
}

fn diagnose(window: &ServerWindow) -> Diagnosis {
    let cpu = &window.cpu;
    let limit = cpu.quota.get().map(|cpus| format!(" of {cpus:.2} CPUs")).unwrap_or_default();
    let detail = format!(
        "The quota{limit} ran out in {} of its periods and cost {} of the CPU time the server could have had, which used \
         {}{}.",
        percent(cpu.throttled_periods.get().unwrap_or(0.0)),
        percent(cpu.throttled.get().unwrap_or(0.0)),
        percent(cpu.used.get().unwrap_or(0.0)),
        p99_clause(window),
    );
    let from = cpu.quota.get().map(|cpus| format!(" from {cpus:.2} CPUs")).unwrap_or_default();
    let mut remedies = vec![remedy(
        format!(
            "raise the quota{from}: `resources.limits.cpu` in Kubernetes, `--cpus` in Docker, `CPUQuota=` in systemd, \
             `cpu.max` or `cpu.cfs_quota_us` in the control group"
        ),
        "the server has work when the quota stops it",
    )];
    // More threads than the quota feeds use it up in a burst and then stand still together.
    if let (Some(quota), Some(capacity)) = (cpu.quota.get(), cpu.capacity.get())
        && capacity > quota.ceil()
    {
        remedies.push(remedy(
            format!("run no more threads than the quota feeds: {:.0} (`OMP_NUM_THREADS`, worker counts)", quota.ceil()),
            "threads sized for all CPUs of the machine spend a period's quota in its first part and stall for the rest",
        ));
    }
    remedies.push(remedy(
        "remove the CPU limit and keep the request (`resources.requests.cpu`, `cpu.weight`)",
        "shares protect neighbours only when they need it, a quota stops the server even on an idle machine",
    ));
    remedies.push(remedy(
        "make the model cheaper: quantise it to int8, distil or prune it",
        "the same quota then serves more requests",
    ));
    Diagnosis {
        severity: by_harm(window),
        detail,
        evidence: [
            window.evidence("cpu.throttled_periods_ratio", &cpu.throttled_periods, Some(PERIODS), "1"),
            window.evidence("cpu.throttled_share", &cpu.throttled, Some(TIME), "1"),
            window.evidence("cpu.used_share", &cpu.used, None, "1"),
            window.evidence("cpu.quota", &cpu.quota, None, "{cpu}"),
            window.evidence("load.unserved_ratio", &window.load.unserved, None, "1"),
        ]
        .into_iter()
        .flatten()
        .collect(),
        remedies,
    }
}
