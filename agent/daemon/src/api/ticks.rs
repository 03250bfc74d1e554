//! `/v1/ticks`: raw values.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use perfwatch_model::{Histogram, SeriesId, SeriesTable, Tick, Unit};
use serde::{Deserialize, Serialize};

use super::Api;
use super::answer::Problem;
use crate::time::rfc3339;

/// Without `from`, this much of the past.
const DEFAULT_SPAN_S: f64 = 60.0;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Range {
    from: Option<String>,
    to: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct Ticks {
    series: Vec<SeriesView>,
    ticks: Vec<TickView>,
}

#[derive(Serialize)]
struct SeriesView {
    id: u32,
    metric: &'static str,
    unit: &'static str,
    entity: String,
    attributes: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
struct TickView {
    time: String,
    dt_s: f64,
    /// (series, value) in the metric's unit.
    values: Vec<(u32, f64)>,
    histograms: Vec<HistogramView>,
}

#[derive(Serialize)]
struct HistogramView {
    series: u32,
    count: u64,
    sum: f64,
    p50: Option<f64>,
    p99: Option<f64>,
}

pub(crate) async fn ticks(
    State(api): State<Api>,
    range: Result<Query<Range>, QueryRejection>,
) -> Result<Json<Ticks>, Problem> {
    let Query(range) = range.map_err(|refused| {
        Problem::new(StatusCode::BAD_REQUEST, refused.body_text()).hint("it takes from= and to= in seconds since 1970")
    })?;
    let now_s = api.clock.now().wall_ns as f64 / 1e9;
    let to = seconds("to", range.to.as_deref())?.unwrap_or(now_s);
    let from = seconds("from", range.from.as_deref())?.unwrap_or(to - DEFAULT_SPAN_S);
    let (ticks, table) = api.history.view(from, to);
    let mut used: Vec<SeriesId> = ticks
        .iter()
        .flat_map(|tick| tick.values.iter().map(|(id, _)| *id).chain(tick.histograms.iter().map(|(id, _)| *id)))
        .collect();
    used.sort_unstable();
    used.dedup();
    Ok(Json(Ticks {
        series: used.iter().filter_map(|id| series(&table, *id)).collect(),
        ticks: ticks.iter().map(|tick| view(&table, tick)).collect(),
    }))
}

pub(super) fn seconds(name: &str, text: Option<&str>) -> Result<Option<f64>, Problem> {
    let Some(text) = text else { return Ok(None) };
    match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() => Ok(Some(seconds)),
        _ => Err(Problem::new(StatusCode::BAD_REQUEST, format!("`{name}` takes seconds since 1970, not `{text}`"))
            .hint("as `date +%s` prints them")),
    }
}

fn series(table: &SeriesTable, id: SeriesId) -> Option<SeriesView> {
    let series = table.series_of(id)?;
    let attributes = series
        .attrs
        .iter()
        .map(|attr| (attr.key.to_owned(), serde_json::Value::from(attr.value.to_string())))
        .collect();
    Some(SeriesView {
        id: id.0,
        metric: series.metric.name,
        unit: series.metric.unit.ucum(),
        entity: table.entity_of(series.entity)?.to_string(),
        attributes,
    })
}

fn view(table: &SeriesTable, tick: &Tick) -> TickView {
    let unit = |id: SeriesId| table.series_of(id).map(|series| series.metric.unit);
    TickView {
        time: rfc3339(tick.end.wall_ns),
        dt_s: tick.dt_ns as f64 / 1e9,
        values: tick.values.iter().filter_map(|(id, number)| Some((id.0, unit(*id)?.outside(*number)))).collect(),
        histograms: tick
            .histograms
            .iter()
            .filter_map(|(id, histogram)| Some(distribution(*id, histogram, unit(*id)?)))
            .collect(),
    }
}

fn distribution(id: SeriesId, histogram: &Histogram, unit: Unit) -> HistogramView {
    match histogram {
        Histogram::Hdr(hdr) => {
            let scaled = |value: u64| value as f64 * unit.scale();
            HistogramView {
                series: id.0,
                count: hdr.count(),
                sum: hdr.sum() as f64 * unit.scale(),
                p50: hdr.quantile(0.5).map(scaled),
                p99: hdr.quantile(0.99).map(scaled),
            }
        }
        // Quantiles of bounds that a server chose would be guesses.
        Histogram::Bounded(bounded) => {
            HistogramView { series: id.0, count: bounded.counts.iter().sum(), sum: bounded.sum, p50: None, p99: None }
        }
    }
}
