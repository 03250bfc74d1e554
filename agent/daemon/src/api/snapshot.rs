//! `/v1/snapshot` and `/v1/findings`: the present.

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use perfwatch_model::Finding;

use super::Api;
use super::answer::Problem;

pub(crate) async fn snapshot(State(api): State<Api>) -> Result<impl IntoResponse, Problem> {
    let published = api.subscription.published().ok_or_else(Problem::not_yet)?;
    Ok(([(CONTENT_TYPE, "application/json")], published.line()))
}

pub(crate) async fn findings(State(api): State<Api>) -> Result<Json<Vec<Finding>>, Problem> {
    let snapshot = api.subscription.latest().ok_or_else(Problem::not_yet)?;
    Ok(Json(snapshot.findings.clone()))
}
