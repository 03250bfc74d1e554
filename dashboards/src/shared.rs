//! Panels and expressions that more than one dashboard has.

use perfwatch_model::metrics::{device, finding, server};

use crate::expr::{Expr, Match, Scope};
use crate::label::{CAUSE, DEVICE, FINDING, Label, OUTCOME, SERVER, SEVERITY, STAGE};
use crate::palette::{CAUSES, STAGES};
use crate::panel::{Kind, Panel, Shown};

/// The share of requests that did not end well, of all that ended.
pub(crate) fn failing(scope: Scope, labels: &[Label]) -> Expr {
    failing_of(labels, |matches| Expr::rate(&server::REQUESTS, scope, matches))
}

/// The same over a range of its own, whatever the dashboard's variables.
pub(crate) fn failing_over(range: &str, labels: &[Label]) -> Expr {
    failing_of(labels, |matches| Expr::over("rate", range, &server::REQUESTS, Scope::All, matches))
}

fn failing_of(labels: &[Label], rate: impl Fn(&[Match]) -> Expr) -> Expr {
    let by = |expr: Expr| if labels.is_empty() { expr.sum() } else { expr.sum_by(labels) };
    let all = by(rate(&[]));
    // Until a first request ended well there is no series of those.
    let well = by(rate(&[Match::is(OUTCOME, "completed")])).or(all.clone().times(0.0)).in_brackets();
    well.divided_by(all).minus_from(1.0)
}

/// Where every second of the servers' CPUs went.
pub(crate) fn cpu_ledger(scope: Scope) -> Panel {
    device_ledger(
        scope,
        "cpu",
        "CPU-seconds",
        "Where did the time of the servers' CPUs go? 100 % is all that they may use: what was used, what kept them from using \
         it, and what waited for something else. `starved.<stage>`: idle while requests were in that stage. `no_demand`: \
         idle because there was no request. `unused_parallelism`: idle while the model ran on fewer CPUs.",
    )
}

/// Where every second of the GPUs went.
pub(crate) fn gpu_ledger(scope: Scope) -> Panel {
    device_ledger(
        scope,
        "gpu",
        "GPU-seconds",
        "Where did the GPUs' time go? 100 % is all of it. `compute`, `memory_bandwidth`: work, as a share of what the busiest \
         unit does at most. `sm_stalled`: warps that neither computed nor moved data. `sm_idle_resident`: something ran, and \
         left SMs idle. `throttled`: what held-down clocks cost. Without GPM (before Hopper): `busy_unknown`.",
    )
}

/// A GPU-second and a CPU-second are not the same thing: one whole for each kind.
fn device_ledger(scope: Scope, kind: &'static str, title: &'static str, question: &'static str) -> Panel {
    let time = || Expr::rate(&device::TIME, scope, &[Match::is(DEVICE, kind)]);
    Panel::new(Kind::Whole, title, question, Shown::Share)
        .query(time().sum_by(&[CAUSE]).share_of(CAUSE, time().sum()), CAUSE.shown())
        .colours(CAUSES)
}

/// Where every request-second went.
pub(crate) fn request_ledger(scope: Scope) -> Panel {
    let time = || Expr::rate(&server::STAGE_TIME, scope, &[]);
    Panel::new(
        Kind::Whole,
        "Request-seconds",
        "Where did the requests' time go? 100 % is the time that all requests together spent in the servers, those in \
         flight included. Nothing is drawn while there is no request.",
        Shown::Share,
    )
    .query(time().sum_by(&[STAGE]).share_of(STAGE, time().sum()), STAGE.shown())
    .colours(STAGES)
}

/// 1 for each finding that stood at any time of an interval. What is exported is the gauge's mean, which is less where the
/// finding rose or fell within it.
pub(crate) fn standing(scope: Scope, matches: &[Match]) -> Expr {
    Expr::gauge(&finding::ACTIVE, scope, matches).ceil()
}

/// Which finding stood when.
pub(crate) fn findings(scope: Scope, labels: &[Label]) -> Panel {
    let standing = |severity| standing(scope, &[Match::is(SEVERITY, severity)]);
    let ranked = standing("note").or(standing("warning").times(2.0)).or(standing("critical").times(3.0));
    Panel::new(
        Kind::Findings,
        "Findings",
        "What was wrong when? Each line is a finding; its colour is its severity. Dashboards also show them as \
         annotations.",
        Shown::Number,
    )
    .query(ranked.max_by(labels), format!("{} · {}", FINDING.shown(), SERVER.shown()))
}
