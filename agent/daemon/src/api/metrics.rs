//! `/metrics`: what Prometheus pulls.
//!
//! The format follows the `Accept` header: text 0.0.4 by default, `OpenMetrics` 1.0 with exemplars and times of creation, or
//! protobuf with native histograms. `?level=default` or `?level=full` sets how much is told; without it `otlp.level` does.
//! Counters and distributions are totals since the journal began and go on over restarts of the agent; those with bounds of
//! a server's own begin with the agent, and say so. Before the first tick the answer is 503 with `Retry-After`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER, VARY};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use perfwatch_export::prometheus::{Exposition, Format, Source, Total};
use perfwatch_model::SeriesId;
use perfwatch_store::{Amount, Totals};
use serde::Deserialize;
use tokio::net::TcpListener;

use super::answer::Problem;
use super::{Api, health};
use crate::bounded::BoundedTotals;
use crate::config::{Detail, Settings};
use crate::error::Error;
use crate::listen;

/// One exposition for each level of detail, so that names and labels are made once.
#[derive(Clone, Debug)]
pub(crate) struct Expositions {
    default: Arc<Mutex<Exposition>>,
    full: Arc<Mutex<Exposition>>,
    level: Detail,
}

impl Expositions {
    pub(crate) fn new(level: Detail, resource: &[(String, String)]) -> Self {
        let exposition = |full| Arc::new(Mutex::new(Exposition::new(full, resource)));
        Self { default: exposition(false), full: exposition(true), level }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    level: Option<String>,
}

pub(crate) async fn metrics(
    State(api): State<Api>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Problem> {
    let takes =
        |message: String| Problem::new(StatusCode::BAD_REQUEST, message).hint("it takes level=default or level=full");
    let Query(asked) = asked.map_err(|refused| takes(refused.body_text()))?;
    let level = match asked.level.as_deref() {
        None => api.expositions.level,
        Some("default") => Detail::Default,
        Some("full") => Detail::Full,
        Some(other) => return Err(takes(format!("there is no level `{other}`"))),
    };
    // What is no text is no wish.
    let accept: Vec<_> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::asked(&accept.join(","));
    let written = tokio::task::spawn_blocking(move || write(&api, level, format)).await;
    let body = written.map_err(|_| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the exposition could not be written").hint("the log says why")
    })?;
    if body.is_empty() {
        // An empty 200 would pass for a target on which nothing is measured.
        let text = "nothing has been measured yet; the first tick closes within two seconds of the start\n";
        return Ok((StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], text).into_response());
    }
    Ok(([(CONTENT_TYPE, format.content_type()), (VARY, "Accept")], body).into_response())
}

fn write(api: &Api, level: Detail, format: Format) -> Vec<u8> {
    let (ticks, table, bounded) = api.history.everything();
    let created_wall_ns = api.journal.status().since_wall_ns;
    let exposition = if level == Detail::Full { &api.expositions.full } else { &api.expositions.default };
    let mut exposition = exposition.lock().unwrap_or_else(PoisonError::into_inner);
    api.journal.with_totals(|totals| {
        let totals = &Known { totals, bounded: &bounded };
        exposition.write(format, &Source { table: &table, ticks: &ticks, totals, created_wall_ns })
    })
}

/// The journal's totals, and what they do not know.
struct Known<'a> {
    totals: &'a Totals,
    bounded: &'a BoundedTotals,
}

impl perfwatch_export::prometheus::Totals for Known<'_> {
    fn of(&self, series: SeriesId) -> Option<Total<'_>> {
        match self.totals.amount_of(series)? {
            Amount::None => None,
            Amount::Counter(total) => Some(Total::Whole(*total)),
            Amount::Measured(total) => Some(Total::Measured(*total)),
            // Without its buckets it would be a distribution of nothing.
            Amount::Histogram(all) if all.bounded_count > 0 => {
                self.bounded.of(series).map(|(total, since_wall_ns)| Total::Bounded(total, since_wall_ns))
            }
            Amount::Histogram(all) => Some(Total::Hdr(&all.hdr)),
        }
    }
}

/// Binds the address of `metrics.listen`, and says which one it became.
pub(crate) fn bind(settings: &Settings) -> Result<Option<(TcpListener, SocketAddr)>, Error> {
    settings.metrics_listen.map(|address| listen::on(address, "metrics.listen")).transpose()
}

/// What is served there: what a scraper and its orchestrator need, and nothing else of the local API.
pub(crate) fn router(api: Api) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .fallback(nothing_here)
        .method_not_allowed_fallback(super::only_get)
        .with_state(api)
}

async fn nothing_here(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("nothing at {}", uri.path()))
        .hint("there are /metrics, /healthz and /readyz; the rest of the local API is on the socket")
}
