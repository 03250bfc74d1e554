//! The local API: HTTP/1.1 and JSON over a UNIX socket.
//!
//! To add a resource, add one file here, its `mod` line and its line in the table of resources.

mod answer;
mod catalog;
mod config;
mod gpus;
mod health;
pub(crate) mod metrics;
mod peer;
mod points;
mod query;
mod recording;
mod reload;
mod snapshot;
mod stream;
mod ticks;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::routing::{get, post};
use perfwatch_model::Clock;
use perfwatch_probes::gpu::Grip;
use perfwatch_store::Reader;
use tokio::net::{TcpListener, UnixListener};

use crate::feed::Subscription;
use crate::history::History;
use crate::reload::Reloader;
pub(crate) use health::{Pulse, STUCK_NS};

use answer::Problem;

/// Makes [`ROUTES`] and the router of one table: what is documented is served, and the other way round.
macro_rules! resources {
    ($($path:literal, $answers:literal, $handler:path;)+) => {
        /// Every resource: its path and what it answers.
        pub const ROUTES: &[(&str, &str)] = &[$(($path, $answers)),+];

        fn resources() -> Router<Api> {
            Router::new()$(.route($path, get($handler)))+
        }
    };
}

resources! {
    "/v1/catalog", "every metric: name, unit, instrument, description", catalog::catalog;
    "/v1/snapshot", "everything at the newest tick", snapshot::snapshot;
    "/v1/stream", "a snapshot a line at every tick, without end", stream::stream;
    "/v1/findings", "what is wrong at the newest tick, worst first", snapshot::findings;
    "/v1/ticks", "raw values; ?from= and ?to= in seconds since 1970, the last minute without them", ticks::ticks;
    "/v1/query", "totals since the journal began: ?metric=, ?entity=kind:id, ?buckets=true; over time with ?from=, ?to=, ?points=", query::query;
    "/v1/recording", "a file for `perfwatch replay`: the newest ?last= seconds, or ?from= to ?to= in seconds since 1970, everything kept without them", recording::recording;
    "/v1/config", "the configuration and where each value came from", config::config;
    "/metrics", "for Prometheus: text, OpenMetrics or protobuf by Accept; ?level=default or full", metrics::metrics;
    "/healthz", "200 while ticks close", health::healthz;
    "/readyz", "200 once there is something to show", health::readyz;
}

/// The paths that are not read but asked to do something.
const RELOAD: &str = "/v1/reload";
const RELEASE: &str = "/v1/gpus/release";
const TAKE: &str = "/v1/gpus/take";
const ACTIONS: [&str; 3] = [RELOAD, RELEASE, TAKE];

/// What the handlers read.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) subscription: Subscription,
    pub(crate) history: Arc<History>,
    pub(crate) journal: Reader,
    pub(crate) reloader: Arc<Reloader>,
    /// On the GPUs' drivers.
    pub(crate) grips: Arc<[Arc<dyn Grip>]>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) expositions: metrics::Expositions,
}

/// Serves `/metrics` over TCP until `stop` resolves.
pub(crate) async fn serve_metrics(listener: TcpListener, api: Api, stop: impl Future<Output = ()> + Send + 'static) {
    if let Err(error) = axum::serve(listener, metrics::router(api)).with_graceful_shutdown(stop).await {
        tracing::error!(%error, "metrics are served no more");
    }
}

/// Serves until `stop` resolves and the answers under way are out. Streams end by themselves when the tick thread stops.
pub(crate) async fn serve(listener: UnixListener, api: Api, stop: impl Future<Output = ()> + Send + 'static) {
    let service = router(api).into_make_service_with_connect_info::<peer::Peer>();
    if let Err(error) = axum::serve(listener, service).with_graceful_shutdown(stop).await {
        tracing::error!(%error, "local api stopped");
    }
}

pub(crate) fn router(api: Api) -> Router {
    resources()
        .route(RELOAD, post(reload::reload))
        .route(RELEASE, post(gpus::release))
        .route(TAKE, post(gpus::take))
        .fallback(nothing_here)
        .method_not_allowed_fallback(only_get)
        .with_state(api)
}

async fn nothing_here(uri: Uri) -> Problem {
    let paths: Vec<_> = ROUTES.iter().map(|(path, _)| *path).collect();
    Problem::new(StatusCode::NOT_FOUND, format!("nothing at {}", uri.path())).hint(format!(
        "there are {}; and for POST {}",
        paths.join(", "),
        ACTIONS.join(", ")
    ))
}

async fn only_get(uri: Uri) -> Problem {
    if ACTIONS.contains(&uri.path()) {
        let message = format!("{} does something, and tells nothing", uri.path());
        return Problem::new(StatusCode::METHOD_NOT_ALLOWED, message).hint("use POST");
    }
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} can only be read", uri.path())).hint("use GET")
}
