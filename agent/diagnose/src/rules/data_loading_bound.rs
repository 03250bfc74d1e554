//! Requests wait for data, not for the model.

use perfwatch_model::metrics::server;
use perfwatch_model::{MetricDef, Severity};

use super::answer::{Answer, all, at_least, not};
use super::{Diagnosis, Rule, Verdict, external_cause, p99_clause, percent, remedy};
use crate::window::{GROWTH, LOADERS_FLAT, Loaders};
use crate::{Fact, ServerWindow};

/// Share of the CPUs, or of one CPU for the busiest thread, from which on CPU time is scarce too and data may not be what
/// limits. Measured with two slow loaders: .50 to .60; a server at its limit: .94 and more.
const CPU_SCARCE: f64 = 0.95;
/// Share of request-seconds that must be spent loading or waiting for a loader. Measured: 1.0 with few loaders, .7 with
/// many; on healthy servers the model has .6 of them.
const SHARE: f64 = 0.5;

pub(super) struct DataLoadingBound;

/// More comes than is served, every loader is busy all the time, and CPU time is left: loaders are the scarce thing.
fn holds(window: &ServerWindow) -> Answer {
    let saturated = window.loaders.known_or_reason().map(Loaders::are_saturated);
    let upstream = sum(&window.stage_share("queue"), &window.stage_share("data_load"));
    all([
        window.load.outgrown(),
        saturated,
        at_least(&upstream, SHARE),
        cpu_is_left(window),
        not(external_cause(window)),
    ])
}

/// With loaders enough for everyone, slow loading costs no capacity: only every request's time.
fn costs_latency(window: &ServerWindow) -> Answer {
    if window.request_ledger.as_ref().is_some_and(|ledger| ledger.interval_ns() == 0) {
        return Ok(false);
    }
    all([at_least(&window.stage_share("data_load"), SHARE), cpu_is_left(window), not(external_cause(window))])
}

fn cpu_is_left(window: &ServerWindow) -> Answer {
    not(window.cpu.is_exhausted(CPU_SCARCE))
}

fn sum(left: &Fact<f64>, right: &Fact<f64>) -> Fact<f64> {
    match (left.get(), right.get()) {
        (Some(left_share), Some(right_share)) => {
            Fact::known(left_share + right_share, left.quality.worst(right.quality))
        }
        (None, _) => left.clone(),
        _ => right.clone(),
    }
}

impl Rule<ServerWindow> for DataLoadingBound {
    fn id(&self) -> &'static str {
        "data-loading-bound"
    }

    fn summary(&self) -> &'static str {
        "Requests wait for data to be loaded"
    }

    fn needs(&self) -> &'static [&'static MetricDef] {
        &[
            &server::STAGE_TIME,
            &server::IN_FLIGHT,
            &server::REQUESTS,
            &server::REQUESTS_STARTED,
            &server::HOTTEST_THREAD,
            &server::CPU_CAPACITY,
            &server::CPU_TIME,
            &server::CPU_RUN_DELAY,
            &server::CPU_OTHERS,
            &server::CPU_THROTTLED,
            &server::CPU_THROTTLED_PERIODS,
            &server::CPU_PERIODS,
        ]
    }

    fn judge(&self, window: &ServerWindow) -> Verdict {
        match holds(window) {
            Ok(true) => Verdict::Firing(bound(window)),
            Ok(false) => Verdict::of(costs_latency(window), || slow(window)),
            Err(reason) => Verdict::Undecided(reason),
        }
    }
}

fn bound(window: &ServerWindow) -> Diagnosis {
    let loaders = window.loaders.get().map_or(0.0, |loaders| loaders.busiest().max);
    let detail = format!(
        "All {loaders:.0} data loaders were busy all the time and {} of the arrivals went unserved, while only {} of the \
         CPU time was used{}.",
        percent(window.load.unserved.get().unwrap_or(0.0)),
        percent(window.cpu.used.get().unwrap_or(0.0)),
        p99_clause(window),
    );
    let mut remedies = vec![remedy(
        format!("load more at a time: raise the number of loader threads or connections above {loaders:.0}"),
        "requests wait for a free loader while CPUs idle",
    )];
    remedies.extend(faster_loading());
    diagnosis(window, Severity::Warning, detail, remedies)
}

fn slow(window: &ServerWindow) -> Diagnosis {
    let detail = format!(
        "Requests spent {} of their time loading data; none waited for a loader, so this costs latency, not capacity{}.",
        percent(window.stage_share("data_load").get().unwrap_or(0.0)),
        p99_clause(window),
    );
    // More loaders would not help: there are enough.
    diagnosis(window, Severity::Note, detail, faster_loading())
}

fn faster_loading() -> Vec<perfwatch_model::Remedy> {
    vec![
        remedy(
            "cache what is loaded often: hot features and embeddings in memory, files on a local disk",
            "what is in memory need not be waited for",
        ),
        remedy(
            "fetch early and in one go: prefetch while the request is queued, one batched read instead of many small ones",
            "waiting then overlaps with computing",
        ),
        remedy("move the data nearer, or to faster storage", "every load takes as long as the storage lets it"),
    ]
}

fn diagnosis(
    window: &ServerWindow,
    severity: Severity,
    detail: String,
    remedies: Vec<perfwatch_model::Remedy>,
) -> Diagnosis {
    let growth = (severity > Severity::Note).then_some(GROWTH);
    let flat = (severity > Severity::Note).then_some(LOADERS_FLAT);
    let flatness = window.loaders.clone().map(|loaders| loaders.busiest().flatness());
    Diagnosis {
        severity,
        detail,
        evidence: [
            window.evidence("load.unserved_ratio", &window.load.unserved, growth, "1"),
            window.evidence("loaders.busy_share", &flatness, flat, "1"),
            window.evidence(
                "loaders.loading",
                &window.loaders.clone().map(|loaders| loaders.loading.mean),
                None,
                "{request}",
            ),
            window.evidence("stage.queue_share", &window.stage_share("queue"), None, "1"),
            window.evidence("stage.data_load_share", &window.stage_share("data_load"), None, "1"),
            window.evidence("cpu.used_share", &window.cpu.used, None, "1"),
            window.evidence("cpu.taken_share", &window.cpu.taken, Some(CPU_SCARCE), "1"),
            window.evidence("cpu.hottest_thread", &window.cpu.hottest_thread, Some(CPU_SCARCE), "1"),
        ]
        .into_iter()
        .flatten()
        .collect(),
        remedies,
    }
}
