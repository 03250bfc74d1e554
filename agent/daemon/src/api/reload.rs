//! `POST /v1/reload`: reads the configuration anew, as SIGHUP does.
//!
//! `{"applied": ["budget"], "restart": ["otlp.endpoint"]}`: keys that have their new value, and keys that get it when the
//! agent is started anew. A configuration that cannot be used is an error 422 that says where; nothing changes then.
//! Only root and the user that the agent runs as may ask for it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::Api;
use super::answer::Problem;
use super::peer::Owner;
use crate::config::Adopted;

pub(crate) async fn reload(_: Owner, State(api): State<Api>) -> Result<Json<Adopted>, Problem> {
    let read = tokio::task::spawn_blocking(move || api.reloader.reload()).await;
    let adopted = read.map_err(|_| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the configuration could not be read").hint("the log says why")
    })?;
    adopted.map(Json).map_err(|error| {
        let told = error.hint().map_or_else(String::new, |hint| format!("; {hint}"));
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
            .hint(format!("the configuration before stays in force{told}"))
    })
}
