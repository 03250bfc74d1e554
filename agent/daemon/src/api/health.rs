//! `/healthz` and `/readyz`: for whoever restarts agents.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use perfwatch_model::Clock;

use super::Api;
use super::answer::Problem;
use crate::history::History;

/// Ten ticks without one: no stall of the machine explains that, a restart may help.
pub(crate) const STUCK_NS: u64 = 10_000_000_000;

/// When ticks close.
pub(crate) struct Pulse {
    history: Arc<History>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Pulse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pulse").field("silent_ns", &self.silent_ns()).finish()
    }
}

impl Pulse {
    pub(crate) fn new(history: Arc<History>, clock: Arc<dyn Clock>) -> Self {
        Self { history, clock }
    }

    /// For how long none has closed.
    pub(crate) fn silent_ns(&self) -> u64 {
        self.clock.now().mono_ns.saturating_sub(self.history.alive_at())
    }
}

pub(crate) async fn healthz(State(api): State<Api>) -> Result<&'static str, Problem> {
    let since = Pulse::new(api.history, api.clock).silent_ns();
    if since <= STUCK_NS {
        return Ok("ok\n");
    }
    let message = format!("no tick has closed for {:.0} s", since as f64 / 1e9);
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, message).hint("the log says which probe it is in"))
}

pub(crate) async fn readyz(State(api): State<Api>) -> Result<&'static str, Problem> {
    api.subscription.latest().map(|_| "ok\n").ok_or_else(Problem::not_yet)
}
