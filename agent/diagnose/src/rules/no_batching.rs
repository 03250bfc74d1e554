//! Requests wait together and are computed one by one.

use perfwatch_model::MetricDef;
use perfwatch_model::metrics::server;

use super::answer::{Answer, all, at_least, at_most};
use super::{Diagnosis, Rule, Verdict, p99_clause, percent, remedy};
use crate::ServerWindow;
use perfwatch_model::Severity;

/// Mean batch that counts as none. Measured: 1.00 without batching; healthy servers that batch reach 1.6 even at a
/// utilisation of .3.
const MEAN: f64 = 1.05;
/// Share of batches formed while two or more requests stood ready, that is, waited for the model and for nothing else.
/// Measured: .85 and more where batching was missed, .18 and less on a server that is fast enough without.
const READY2: f64 = 0.5;
/// Fewer batches than this in a window say nothing.
const MIN_DISPATCHES: u64 = 5;

pub(super) struct NoBatching;

/// A batcher that works would have taken the second request along, so a mean of one *while* two stand ready is a batcher
/// that does not; a mean of one alone is a server with nothing to batch.
pub(super) fn holds(window: &ServerWindow) -> Answer {
    let batch = &window.batch;
    if *batch.dispatches.known_or_reason()? < MIN_DISPATCHES {
        return Ok(false);
    }
    all([at_most(&batch.mean, MEAN), at_least(&batch.ready2, READY2)])
}

impl Rule<ServerWindow> for NoBatching {
    fn id(&self) -> &'static str {
        "no-batching"
    }

    fn summary(&self) -> &'static str {
        "Requests wait together but are computed one by one"
    }

    fn needs(&self) -> &'static [&'static MetricDef] {
        &[&server::BATCH_SIZE, &server::BATCH_DISPATCHES, &server::BATCH_READY2]
    }

    fn judge(&self, window: &ServerWindow) -> Verdict {
        Verdict::of(holds(window), || diagnose(window))
    }
}

fn diagnose(window: &ServerWindow) -> Diagnosis {
    let batch = &window.batch;
    let max = batch.configured_max.map(|max| format!(" of at most {max}")).unwrap_or_default();
    let detail = format!(
        "Batches{max} held {:.2} requests on average, though two or more were ready in {} of them{}.",
        batch.mean.get().unwrap_or(1.0),
        percent(batch.ready2.get().unwrap_or(0.0)),
        p99_clause(window),
    );
    let enable = match batch.configured_max {
        Some(max) if max > 1 => remedy(
            format!(
                "find out why the batcher takes one request at a time although it may take {max}: a delay of 0, a lock \
                     around the model, or inputs whose shapes do not match"
            ),
            "requests stand ready together, so batches could form without making anyone wait",
        ),
        _ => remedy(
            "turn on dynamic batching: `max_batch_size` and `dynamic_batching` in Triton, `batch_size` and \
             `max_batch_delay` in TorchServe, `--enable_batching` in TensorFlow Serving, `@serve.batch` in Ray Serve",
            "one pass over the weights then serves several requests",
        ),
    };
    Diagnosis {
        severity: Severity::Warning,
        detail,
        evidence: [
            window.evidence("batch.mean_size", &batch.mean, Some(MEAN), "{request}"),
            window.evidence("batch.ready2_ratio", &batch.ready2, Some(READY2), "1"),
            window.evidence("cpu.used_share", &window.cpu.used, None, "1"),
            window.evidence("stage.batch_wait_share", &window.stage_share("batch_wait"), None, "1"),
        ]
        .into_iter()
        .flatten()
        .collect(),
        remedies: vec![
            enable,
            remedy(
                "let a batch wait a little: a delay of about a tenth of the time one batch takes",
                "a batch that leaves at once leaves nearly empty; the wait costs less than the queue does now",
            ),
            remedy("pad or bucket inputs of different lengths", "only inputs of one shape can share a batch"),
        ],
    }
}
