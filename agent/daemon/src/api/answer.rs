//! What goes wrong, as JSON.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// `{"error":{"message":…,"hint":…}}` with a status.
pub(crate) struct Problem {
    status: StatusCode,
    message: String,
    hint: Option<String>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The agent has only just started.
    pub(crate) fn not_yet() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "nothing has been read yet").hint("ask again in a second")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let error = serde_json::json!({ "error": { "message": self.message, "hint": self.hint } });
        (self.status, Json(error)).into_response()
    }
}
