//! More requests come than the server can compute, and nothing else is wrong.

use perfwatch_model::metrics::server;
use perfwatch_model::{MetricDef, Severity};

use super::answer::{Answer, all, at_least, not};
use super::{Diagnosis, Rule, Verdict, external_cause, no_batching, p99_clause, percent, remedy};
use crate::ServerWindow;
use crate::window::{FAILING, GROWTH};

/// Share of the CPUs, or of one CPU for the busiest thread, at which none is left. Measured: 1.00 on one CPU, .99 of the
/// busiest thread on two; a healthy server at a utilisation of .8: .91 at most.
const EXHAUSTED: f64 = 0.95;
/// Mean batch, as a share of the largest possible, at which batches are full. Measured: 1.00 in overload; .78 at most on a
/// healthy server, .51 at most where something before the model holds requests back.
const FULL: f64 = 0.95;
/// Beside a cause from outside: share of the arrivals that the server could complete if it had all CPUs to itself, below
/// which it would be overloaded even then. Measured: .66 to .76 with overload, 1.13 and more without.
const COULD_SERVE: f64 = 0.95;

pub(super) struct Overload;

fn holds(window: &ServerWindow) -> Answer {
    all([window.load.outgrown(), batches_are_full(window), not(batching_is_missed(window)), is_exhausted(window)])
}

/// A server that reports no batches at all is judged without them.
fn batches_are_full(window: &ServerWindow) -> Answer {
    let batch = &window.batch;
    if *batch.dispatches.known_or_reason()? == 0 {
        return Ok(batch.configured_max.is_none());
    }
    match batch.max() {
        Some(max) => at_least(&batch.mean, FULL * max),
        None => Ok(true),
    }
}

/// A server that computes requests one by one has its limit from that, not from the demand.
fn batching_is_missed(window: &ServerWindow) -> Answer {
    no_batching::holds(window)
}

/// Alone, a server is exhausted when its CPUs or its busiest thread are. Beside a quota or neighbours it cannot get that
/// far: there the question is whether it could serve everything if they went away.
fn is_exhausted(window: &ServerWindow) -> Answer {
    let cpu = &window.cpu;
    let busy = cpu.is_exhausted(EXHAUSTED);
    match external_cause(window) {
        Ok(false) => busy,
        Ok(true) => {
            let completions = *window.load.completions.known_or_reason()?;
            let arrivals = *window.load.arrivals.known_or_reason()?;
            let Some(share) = cpu.bottleneck().filter(|share| *share > 0.0) else { return busy };
            Ok(completions / share < COULD_SERVE * arrivals)
        }
        // What uses all CPUs leaves nothing for an outside cause to have taken.
        Err(reason) => {
            if at_least(&cpu.used, EXHAUSTED) == Ok(true) {
                Ok(true)
            } else {
                Err(reason)
            }
        }
    }
}

impl Rule<ServerWindow> for Overload {
    fn id(&self) -> &'static str {
        "overload"
    }

    fn summary(&self) -> &'static str {
        "More requests come than the server can compute"
    }

    fn needs(&self) -> &'static [&'static MetricDef] {
        &[
            &server::IN_FLIGHT,
            &server::REQUESTS,
            &server::REQUESTS_STARTED,
            &server::BATCH_SIZE,
            &server::BATCH_DISPATCHES,
            &server::BATCH_READY2,
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
        Verdict::of(holds(window), || diagnose(window))
    }
}

fn diagnose(window: &ServerWindow) -> Diagnosis {
    let (cpu, load, batch) = (&window.cpu, &window.load, &window.batch);
    let batches = match (batch.mean.get(), batch.max()) {
        (Some(mean), Some(max)) => format!(", batches hold {mean:.1} of {max:.0}"),
        _ => String::new(),
    };
    let detail = format!(
        "{:.0} requests/s came and {:.0} requests/s were served; {} of the CPU time is used, {} of one CPU by the busiest \
         thread{batches}{}.",
        load.arrivals.get().unwrap_or(0.0),
        load.completions.get().unwrap_or(0.0),
        percent(cpu.used.get().unwrap_or(0.0)),
        percent(cpu.hottest_thread.get().unwrap_or(0.0)),
        p99_clause(window),
    );
    Diagnosis {
        // A backlog that grows has no end: every request waits longer than the one before it.
        severity: Severity::Critical,
        detail,
        evidence: [
            window.evidence("load.unserved_ratio", &load.unserved, Some(GROWTH), "1"),
            window.evidence("load.arrivals", &load.arrivals, None, "{request}/s"),
            window.evidence("load.completions", &load.completions, None, "{request}/s"),
            window.evidence("cpu.used_share", &cpu.used, None, "1"),
            window.evidence("cpu.taken_share", &cpu.taken, Some(EXHAUSTED), "1"),
            window.evidence("cpu.hottest_thread", &cpu.hottest_thread, Some(EXHAUSTED), "1"),
            window.evidence("batch.mean_size", &batch.mean, batch.max().map(|max| FULL * max), "{request}"),
        ]
        .into_iter()
        .flatten()
        .collect(),
        remedies: remedies(window),
    }
}

fn remedies(window: &ServerWindow) -> Vec<perfwatch_model::Remedy> {
    let mut remedies = Vec::new();
    let one_thread = window.cpu.hottest_thread.get().is_some_and(|share| share >= EXHAUSTED)
        && window.cpu.used.get().is_some_and(|share| share < EXHAUSTED);
    if one_thread {
        remedies.push(remedy(
            "let more threads compute: intra-op threads (`OMP_NUM_THREADS`, `torch.set_num_threads`) or more workers",
            "one thread is at its limit while other CPUs of the server idle",
        ));
    } else {
        remedies.push(remedy(
            "scale out: more replicas, or up: more CPUs for this one",
            "all CPUs that the server may use are in use",
        ));
    }
    // A server that turns requests away has back-pressure already.
    if window.load.failing.get().is_some_and(|share| share < FAILING) {
        remedies.push(remedy(
            "reject early: bound the queue and answer 503 with `Retry-After` once it is full",
            "requests that would time out in the queue then cost nothing, and the others stay fast",
        ));
    }
    remedies.push(remedy(
        "make the model cheaper: quantise it to int8, distil or prune it, or route easy requests to a smaller one",
        "capacity grows by what a request costs less",
    ));
    if let Some(max) = window.batch.configured_max.filter(|max| *max > 1) {
        remedies.push(remedy(
            format!("try a larger batch than {max}"),
            "every batch is full; a larger one spreads the weights' traffic over more requests",
        ));
    }
    remedies.push(remedy("cache the results of requests that repeat", "the cheapest request is the one not computed"));
    remedies
}
