//! What a server tells of its requests besides: tokens and how fast they come, its caches, kinds of errors.

use perfwatch_model::snapshot::{LatencyView, ServerView};
use ratatui::text::{Line, Span};

use crate::line::{Row, span};
use crate::theme::Role;
use crate::units;
use crate::views::Scene;
use crate::wording;

/// From this width on, there is room for medians.
const WIDE: usize = 100;

/// How fast tokens come; `None` for a server that tells of none.
pub(in crate::views) fn tokens(scene: Scene<'_>, server: &ServerView, width: usize) -> Option<Line<'static>> {
    let rates = server.tokens.as_ref().map(wording::tokens);
    if rates.is_none() && server.time_to_first_token.is_none() && server.inter_token.is_none() {
        return None;
    }
    let strong = scene.theme.style(Role::Strong);
    let mut row = Row::new().left(0, span("TOKENS", strong));
    if let Some(rates) = rates {
        let named = [span("in/out ", scene.theme.style(Role::Dim)), span(rates, strong), vec![Span::raw(" tok/s")]];
        row = row.left(0, named.concat());
    }
    for (rank, name, latency) in [(1, "first", &server.time_to_first_token), (2, "between", &server.inter_token)] {
        row = row.left(rank, latency.as_ref().map(|latency| times(scene, name, latency, width)).unwrap_or_default());
    }
    Some(row.line(width))
}

/// `first p50 82 ms p99 310 ms`.
fn times(scene: Scene<'_>, name: &str, latency: &LatencyView, width: usize) -> Vec<Span<'static>> {
    let dim = scene.theme.style(Role::Dim);
    let mut spans = span(name.to_owned(), scene.theme.style(Role::Text));
    let median = (width >= WIDE).then_some((" p50 ", latency.p50_s));
    for (name, seconds) in median.into_iter().chain([(" p99 ", latency.p99_s)]) {
        spans.push(Span::styled(name, dim));
        spans.push(Span::styled(units::duration(seconds), scene.theme.style(Role::Strong)));
    }
    spans
}

/// Its caches and what its errors were, in one line; `None` for a server that has neither.
pub(in crate::views) fn outcomes(scene: Scene<'_>, server: &ServerView, width: usize) -> Option<Line<'static>> {
    let (cache, errors) = (server.cache.as_ref().map(wording::cache), wording::error_kinds(server));
    if cache.is_none() && errors.is_none() {
        return None;
    }
    let strong = scene.theme.style(Role::Strong);
    let mut row = Row::new();
    if let Some(words) = cache {
        row = row.left(0, [span("CACHE  ", strong), span(words, scene.theme.style(Role::Text))].concat());
    }
    if let Some(words) = errors {
        let rate = server.errors_per_s.map(|rate| format!("{} err/s: ", units::digits(rate))).unwrap_or_default();
        let words = format!("{rate}{words}");
        row = row.left(0, [span("ERRORS  ", strong), span(words, scene.theme.style(Role::Crit))].concat());
    }
    Some(row.line(width))
}
