//! `/v1/config`: what the agent runs with, and what a new start would change.

use axum::Json;
use axum::extract::State;

use super::Api;
use crate::config::Described;

pub(crate) async fn config(State(api): State<Api>) -> Json<Vec<Described>> {
    Json(api.reloader.describe())
}
