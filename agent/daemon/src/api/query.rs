//! `/v1/query`: what series amount to since the journal began.
//!
//! | parameter | |
//! |---|---|
//! | `metric` | only series of the metric with this name |
//! | `entity` | only series about this entity, `kind:id` as the snapshot writes it |
//! | `buckets` | `true`: distributions with their buckets |
//!
//! | `from`, `to` | over time: seconds since 1970; the last two minutes without them |
//! | `points` | over time: into how many equal parts the time is divided, 1 to 2000, 120 without it |
//!
//! With one of the last three the answer is what `metric`, which must be given then, did over time: see [`super::points`].
//!
//! Without parameters, all counters and histograms. What nothing is known of gives an empty `series`; a parameter that does
//! not exist, or a value that it does not take, is an error 400 with `error.message` and `error.hint`.
//!
//! ```json
//! {"since": "2026-11-24T12:00:00.000Z", "store": "/var/lib/perfwatch/journal.db", "series": [
//!   {"metric": "perfwatch.server.requests.started", "unit": "{request}", "entity": "server:shop/1", "attributes": {},
//!    "total": 3.0, "total_exact": "3"},
//!   {"metric": "perfwatch.server.request.duration", "unit": "s", "entity": "server:shop/1", "attributes": {},
//!    "count": 2, "sum": 5e-7, "sum_exact": "500", "buckets": [[200, 200, 1], [300, 301, 1]]}]}
//! ```
//!
//! Exact numbers are integers of the inside unit (nanoseconds for seconds, millijoules for joules, else the unit itself) and
//! stand in quotes, because JSON readers round large numbers. A counter of the kernel or of a device counts from its first
//! reading in the journal, one about a server from the agent's first look at it. Totals are what memory knows: up to a tick ahead of the disk.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use perfwatch_model::SparseHdr;
use perfwatch_model::histogram::layout;
use perfwatch_store::{Amount, SeriesTotal};
use serde::{Deserialize, Serialize};

use super::Api;
use super::answer::Problem;
use super::points;
use crate::time::rfc3339;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    metric: Option<String>,
    entity: Option<String>,
    #[serde(default)]
    buckets: bool,
    from: Option<String>,
    to: Option<String>,
    points: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct Totals {
    /// When the journal began: totals count from here, across restarts of the agent.
    since: String,
    /// Where it is: a path, `memory`, or `memory (path: why)`.
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
    /// The same, exact; missing where a server gave numbers that are not integers.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_exact: Option<String>,
    /// Of a histogram: how many values.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    /// Of a histogram: their sum, in `unit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    sum: Option<f64>,
    /// The same, exact; missing where a server gave sums that are not integers.
    #[serde(skip_serializing_if = "Option::is_none")]
    sum_exact: Option<String>,
    /// Of a histogram, when asked for: smallest value, largest value and count of each bucket that has one, ascending.
    /// Values that came with bounds of a server's own are in none.
    #[serde(skip_serializing_if = "Option::is_none")]
    buckets: Option<Vec<[u64; 3]>>,
}

pub(crate) async fn query(
    State(api): State<Api>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(asked) = asked.map_err(|refused| {
        Problem::new(StatusCode::BAD_REQUEST, refused.body_text())
            .hint("it takes metric=name, entity=kind:id, buckets=true, from= and to= in seconds since 1970, and points=number")
    })?;
    if asked.from.is_some() || asked.to.is_some() || asked.points.is_some() {
        let Asked { metric, entity, buckets: _, from, to, points } = asked;
        let range =
            points::Range::of(metric, entity, [from.as_deref(), to.as_deref(), points.as_deref()], &*api.clock)?;
        return Ok(Json(points::over_time(&api, range).await?).into_response());
    }
    let status = api.journal.status();
    let series = api.journal.query(asked.metric.as_deref(), asked.entity.as_deref());
    Ok(Json(Totals {
        since: rfc3339(status.since_wall_ns),
        store: status.place.to_string(),
        series: series.into_iter().map(|series| view(series, asked.buckets)).collect(),
    })
    .into_response())
}

fn view(series: SeriesTotal, with_buckets: bool) -> TotalView {
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
        buckets: None,
    };
    match amount {
        Amount::None => {}
        Amount::Counter(total) => {
            view.total = Some(outside(total));
            view.total_exact = Some(total.to_string());
        }
        Amount::Measured(total) => view.total = Some(total),
        Amount::Histogram(all) => {
            view.count = Some(all.count());
            view.sum = Some(outside(all.hdr.sum()) + all.bounded_sum);
            view.sum_exact = (all.bounded_count == 0).then(|| all.hdr.sum().to_string());
            view.buckets = with_buckets.then(|| buckets(&all.hdr));
        }
    }
    view
}

fn buckets(hdr: &SparseHdr) -> Vec<[u64; 3]> {
    let bucket = |at: usize, count: u64| [layout::lowest(at), layout::highest(at), count];
    hdr.buckets().iter().map(|(at, count)| bucket(usize::from(*at), *count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfwatch_store::{Distribution, SeriesKey};

    fn total(amount: Amount) -> SeriesTotal {
        let key = SeriesKey { metric: "m".into(), entity: "server:a/1".into(), attributes: r#"{"k":"v"}"#.into() };
        SeriesTotal { key, unit: "s".into(), scale: 1e-9, amount }
    }

    #[test]
    fn a_total_is_told_in_its_unit_and_exactly() {
        let json = serde_json::to_value(view(total(Amount::Counter(u128::from(u64::MAX) + 2)), true)).expect("JSON");
        assert_eq!(json["total_exact"], "18446744073709551617");
        assert_eq!(json["attributes"]["k"], "v");
        assert!(json.get("count").is_none() && json.get("buckets").is_none());
    }

    #[test]
    fn a_total_that_was_measured_is_in_its_unit_already_and_not_exact() {
        let json = serde_json::to_value(view(total(Amount::Measured(0.75)), true)).expect("JSON");
        assert_eq!(json["total"], 0.75);
        assert!(json.get("total_exact").is_none(), "{json}");
    }

    #[test]
    fn a_distribution_has_its_buckets_when_asked() {
        let mut hdr = SparseHdr::new();
        for value in [200, 300, 301, 3_600_000_000_001] {
            hdr.record(value);
        }
        let all = Distribution { hdr, ..Distribution::default() };
        let json = serde_json::to_value(view(total(Amount::Histogram(all.clone())), true)).expect("JSON");
        assert_eq!((&json["count"], &json["sum_exact"]), (&4.into(), &"3600000000802".into()));
        assert_eq!(json["buckets"][0], serde_json::json!([200, 200, 1]));
        assert_eq!(json["buckets"][1], serde_json::json!([300, 301, 2]));
        assert_eq!(json["buckets"][2][2], 1);
        let json = serde_json::to_value(view(total(Amount::Histogram(all)), false)).expect("JSON");
        assert!(json.get("buckets").is_none());
    }
}
