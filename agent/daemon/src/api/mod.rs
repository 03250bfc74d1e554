//! The local API: HTTP/1.1 and JSON over a UNIX socket.
//!
//! To add a resource, add one file here, its `mod` line and its line in [`ROUTES`] and [`router`].

mod answer;
mod catalog;
mod config;
mod health;
mod snapshot;
mod stream;
mod ticks;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::routing::get;
use perfwatch_model::Clock;
use tokio::net::UnixListener;

use crate::config::Described;
use crate::feed::Subscription;
use crate::history::History;
use answer::Problem;

/// Every resource: its path and what it answers.
pub const ROUTES: &[(&str, &str)] = &[
    ("/v1/catalog", "every metric: name, unit, instrument, description"),
    ("/v1/snapshot", "everything at the newest tick"),
    ("/v1/stream", "a snapshot a line at every tick, without end"),
    ("/v1/findings", "what is wrong at the newest tick, worst first"),
    ("/v1/ticks", "raw values; ?from= and ?to= in seconds since 1970, the last minute without them"),
    ("/v1/config", "the configuration and where each value came from"),
    ("/healthz", "200 while ticks close"),
    ("/readyz", "200 once there is something to show"),
];

/// What the handlers read.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) subscription: Subscription,
    pub(crate) history: Arc<History>,
    pub(crate) config: Arc<[Described]>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Serves until `stop` resolves and the answers under way are out. Streams end by themselves when the tick thread stops.
pub(crate) async fn serve(listener: UnixListener, api: Api, stop: impl Future<Output = ()> + Send + 'static) {
    if let Err(error) = axum::serve(listener, router(api)).with_graceful_shutdown(stop).await {
        tracing::error!(%error, "local api stopped");
    }
}

pub(crate) fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/catalog", get(catalog::catalog))
        .route("/v1/snapshot", get(snapshot::snapshot))
        .route("/v1/stream", get(stream::stream))
        .route("/v1/findings", get(snapshot::findings))
        .route("/v1/ticks", get(ticks::ticks))
        .route("/v1/config", get(config::config))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .fallback(nothing_here)
        .method_not_allowed_fallback(only_get)
        .with_state(api)
}

async fn nothing_here(uri: Uri) -> Problem {
    let paths: Vec<_> = ROUTES.iter().map(|(path, _)| *path).collect();
    Problem::new(StatusCode::NOT_FOUND, format!("nothing at {}", uri.path()))
        .hint(format!("there are {}", paths.join(", ")))
}

async fn only_get(uri: Uri) -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} can only be read", uri.path())).hint("use GET")
}
