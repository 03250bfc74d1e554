//! `POST /v1/gpus/release` and `POST /v1/gpus/take`: lets go of the GPUs for a while, and takes them back before that is over.
//!
//! A driver that anybody has open is not reset, unloaded or set up anew. `?for=` says how many seconds (600 without it, at most
//! 86400) nothing is asked of it; a time that was given before is replaced. The answer comes when the driver is not open any more:
//! `{"until": "2026-03-04T14:12:31.000Z", "was_open": true}`; `until` is `null` where the agent has no probe of GPUs at all. One
//! that cannot be let go of is an error 503 that says why: that takes place as soon as it can, unless it is called off or the time
//! is over by then.
//!
//! `take` answers `{"was_released": true}`; readings are there again as soon as NVML is initialised anew.
//!
//! Only root and the user that the agent runs as may do either: it makes the agent blind, and has the driver initialised.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use perfwatch_model::{Reason, Stamp};
use serde::{Deserialize, Serialize};

use super::Api;
use super::answer::Problem;
use super::peer::Owner;
use crate::time::rfc3339;

/// A reset takes a minute; looking after what went wrong with it takes some more.
const DEFAULT_S: u64 = 600;
/// Whoever wants it for longer wants an agent without this probe.
const MOST_S: u64 = 86_400;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    #[serde(rename = "for")]
    seconds: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct Released {
    until: Option<String>,
    was_open: bool,
}

#[derive(Serialize)]
pub(crate) struct Taken {
    was_released: bool,
}

pub(crate) async fn release(
    _: Owner,
    State(api): State<Api>,
    asked: Result<Query<Asked>, QueryRejection>,
    body: Bytes,
) -> Result<Json<Released>, Problem> {
    let refused = |told: String| {
        Problem::new(StatusCode::BAD_REQUEST, told)
            .hint(format!("for takes 1 to {MOST_S} seconds, {DEFAULT_S} without it"))
    };
    if !body.is_empty() {
        return Err(refused("nothing is read from a body: `for` stands in the path (`?for=90`)".to_owned()));
    }
    let Query(asked) = asked.map_err(|error| refused(error.body_text()))?;
    let seconds = match asked.seconds {
        None => DEFAULT_S,
        Some(text) => match text.parse() {
            Ok(seconds) if (1..=MOST_S).contains(&seconds) => seconds,
            _ => return Err(refused(format!("cannot let go for {text} seconds"))),
        },
    };
    let (now, ns) = (api.clock.now(), seconds * 1_000_000_000);
    let until = Stamp { mono_ns: now.mono_ns + ns, wall_ns: now.wall_ns + ns };
    let has_probe = !api.grips.is_empty();
    // All of them, whatever one says.
    let let_go = move || api.grips.iter().map(|grip| grip.release(until)).collect::<Vec<_>>();
    let told = tokio::task::spawn_blocking(let_go).await.map_err(|_| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the GPUs could not be let go of").hint("the log says why")
    })?;
    let until = rfc3339(until.wall_ns);
    match told.into_iter().collect::<Result<Vec<_>, Reason>>() {
        Ok(were_open) => {
            if has_probe {
                tracing::info!(until, "GPUs let go of");
            }
            let was_open = were_open.contains(&true);
            Ok(Json(Released { until: has_probe.then_some(until), was_open }))
        }
        Err(reason) => {
            tracing::warn!(until, reason = %reason.text, "GPUs not let go of yet");
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, reason.text).hint(reason.cure))
        }
    }
}

pub(crate) async fn take(_: Owner, State(api): State<Api>) -> Json<Taken> {
    // All of them, whatever one says.
    let taken: Vec<_> = api.grips.iter().map(|grip| grip.take()).collect();
    let was_released = taken.contains(&true);
    if was_released {
        tracing::info!("GPUs taken back");
    }
    Json(Taken { was_released })
}
