//! `/healthz` and `/readyz`: for whoever restarts agents.

use axum::extract::State;
use axum::http::StatusCode;

use super::Api;
use super::answer::Problem;

/// Ten ticks without one: no stall of the machine explains that, a restart may help.
const STUCK_NS: u64 = 10_000_000_000;

pub(crate) async fn healthz(State(api): State<Api>) -> Result<&'static str, Problem> {
    let since = api.clock.now().mono_ns.saturating_sub(api.history.alive_at());
    if since <= STUCK_NS {
        return Ok("ok\n");
    }
    let message = format!("no tick has closed for {:.0} s", since as f64 / 1e9);
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, message).hint("the log says which probe it is in"))
}

pub(crate) async fn readyz(State(api): State<Api>) -> Result<&'static str, Problem> {
    api.subscription.latest().map(|_| "ok\n").ok_or_else(Problem::not_yet)
}
