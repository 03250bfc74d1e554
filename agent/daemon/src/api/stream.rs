//! `/v1/stream`: one snapshot a line.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use bytes::Bytes;
use tokio_stream::StreamExt as _;

use super::Api;

/// The newest snapshot at once, then one a tick. A reader that is slower than the ticks skips; it never holds anything up,
/// because each line is fetched only when the last one has left.
pub(crate) async fn stream(State(api): State<Api>) -> impl IntoResponse {
    let lines = api.subscription.into_stream().map(|published| Ok::<Bytes, Infallible>(published.line()));
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines))
}
