//! `/v1/catalog`: what can be measured.

use axum::Json;
use perfwatch_model::{Instrument, Level, metrics};
use serde::Serialize;

#[derive(Serialize)]
pub(crate) struct Metric {
    name: &'static str,
    unit: &'static str,
    instrument: &'static str,
    brief: &'static str,
    level: &'static str,
}

pub(crate) async fn catalog() -> Json<Vec<Metric>> {
    let metric = |metric: &'static perfwatch_model::MetricDef| Metric {
        name: metric.name,
        unit: metric.unit.ucum(),
        instrument: match metric.instrument {
            Instrument::Gauge => "gauge",
            Instrument::Counter => "counter",
            Instrument::Histogram => "histogram",
        },
        brief: metric.brief,
        level: match metric.level {
            Level::Default => "default",
            Level::Full => "full",
        },
    };
    Json(metrics::all().map(metric).collect())
}
