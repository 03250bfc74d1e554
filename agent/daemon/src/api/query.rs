//! `/v1/query`: what series amount to since the journal began.

use axum::Json;
use axum::extract::{Query, State};
use perfwatch_store::{Amount, SeriesTotal};
use serde::{Deserialize, Serialize};

use super::Api;
use crate::time::rfc3339;

#[derive(Deserialize)]
pub(crate) struct Asked {
    metric: Option<String>,
    entity: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct Totals {
    /// When the journal began: totals count from here, across restarts of the agent.
    since: String,
    /// Where it is: a path, or `memory`.
    store: String,
    series: Vec<TotalView>,
}

#[derive(Serialize)]
struct TotalView {
    metric: String,
    unit: String,
    entity: String,
    attributes: serde_json::Value,
    /// Of a counter: what it gained, in `unit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<f64>,
    /// The same as an exact integer: nanoseconds for seconds, millijoules for joules, else `unit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_exact: Option<String>,
    /// Of a histogram: how many values.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    /// Of a histogram: their sum, in `unit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    sum: Option<f64>,
    /// The same as an exact integer; missing where a server gave sums that are not integers.
    #[serde(skip_serializing_if = "Option::is_none")]
    sum_exact: Option<String>,
}

/// Of every series when neither is given. An entity is `kind:id`, as the snapshot writes it.
pub(crate) async fn query(State(api): State<Api>, asked: Query<Asked>) -> Json<Totals> {
    let status = api.journal.status();
    let series = api.journal.query(asked.metric.as_deref(), asked.entity.as_deref());
    Json(Totals {
        since: rfc3339(status.since_wall_ns),
        store: status.place.to_string(),
        series: series.into_iter().map(view).collect(),
    })
}

fn view(series: SeriesTotal) -> TotalView {
    let SeriesTotal { key, unit, scale, amount } = series;
    let outside = |exact: u128| exact as f64 * scale;
    let mut view = TotalView {
        metric: key.metric,
        unit,
        entity: key.entity,
        attributes: serde_json::from_str(&key.attributes).unwrap_or_default(),
        total: None,
        total_exact: None,
        count: None,
        sum: None,
        sum_exact: None,
    };
    match amount {
        Amount::None => {}
        Amount::Counter(total) => {
            view.total = Some(outside(total));
            view.total_exact = Some(total.to_string());
        }
        Amount::Histogram(all) => {
            view.count = Some(all.count());
            view.sum = Some(outside(all.hdr.sum()) + all.bounded_sum);
            view.sum_exact = (all.bounded_count == 0).then(|| all.hdr.sum().to_string());
        }
    }
    view
}
