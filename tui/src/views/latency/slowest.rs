//! The slowest requests, and what their time went into.

use perfwatch_model::Quality;
use perfwatch_model::snapshot::{LedgerView, ServerView, SlowRequestView, StageEntry};
use ratatui::text::Line;
use unicode_width::UnicodeWidthStr;

use crate::line::{Row, span};
use crate::parts::{self, Part};
use crate::theme::Role;
use crate::units;
use crate::views::Scene;
use crate::widgets::ledger_bar;

/// Columns of a request's bar on a narrow screen, and on a wide one.
const BARS: [usize; 2] = [12, 16];
/// From this width on, stages have their whole names.
const WIDE: usize = 100;
/// Columns of its duration.
const DURATION: usize = 8;
/// From this width on, a trace id is whole.
const WHOLE_TRACE_FROM: usize = 140;
/// Digits of it elsewhere: enough to find it.
const TRACE_DIGITS: usize = 8;
/// Shares of a request's time below this are not told in words.
const WORTH_TELLING: f64 = 0.01;

/// A line per request, slowest first; nothing where the server tells of none.
pub(super) fn lines(scene: Scene<'_>, server: &ServerView, rows: usize, width: usize) -> Vec<Line<'static>> {
    let whole = server.ledger.as_ref().map(parts::request_parts).unwrap_or_default();
    server.slowest.iter().take(rows).map(|request| line(scene, request, &whole, width)).collect()
}

fn line(scene: Scene<'_>, request: &SlowRequestView, whole: &[Part], width: usize) -> Line<'static> {
    let theme = scene.theme;
    let parts = parts_of(request, whole);
    let duration = format!("{:>DURATION$}", units::duration(request.duration_s));
    let trace = request.trace_id.as_ref().map(|id| trace(id, width, theme.pick("…", "~"))).unwrap_or_default();
    let error = request.error.clone().unwrap_or_default();
    let wide = width >= WIDE;
    let cells = BARS[usize::from(wide)];
    let taken = 2 + DURATION + 2 + cells + 2 + [&trace, &error].map(|text| text.width() + 2).iter().sum::<usize>();
    let words = words(request, &parts, wide, width.saturating_sub(taken), theme.pick(" · ", ", "));
    Row::new()
        .left(0, span(duration, theme.style(Role::Strong)))
        .left(3, ledger_bar::bar(&parts, cells, theme))
        .left(1, span(words, theme.style(Role::Text)))
        .right(2, if error.is_empty() { Vec::new() } else { span(error, theme.style(Role::Crit)) })
        .right(4, if trace.is_empty() { Vec::new() } else { span(trace, theme.style(Role::Dim)) })
        .line(width)
}

/// Its stages as a ledger's parts, with the letters that the server's own ledger gives them.
fn parts_of(request: &SlowRequestView, whole: &[Part]) -> Vec<Part> {
    let entries: Vec<StageEntry> = request
        .stages
        .iter()
        .map(|part| StageEntry { stage: part.stage.clone(), ns: (part.s * 1e9) as u64, quality: Quality::Sdk })
        .collect();
    // Floats saturate, and what comes from outside may not add up: the bar only needs the parts.
    let mut parts = parts::request_parts(&LedgerView { interval_ns: 0, entries });
    for part in &mut parts {
        if let Some(known) = whole.iter().find(|known| known.words == part.words) {
            let ns = part.ns;
            part.clone_from(known);
            part.ns = ns;
        }
    }
    parts
}

/// `queue 540 ms · compute 5.0 ms`: what fits, the smallest leave first.
fn words(request: &SlowRequestView, parts: &[Part], wide: bool, room: usize, dot: &str) -> String {
    let least = request.duration_s * WORTH_TELLING * 1e9;
    let mut told: Vec<&Part> = parts.iter().filter(|part| part.ns as f64 >= least).collect();
    loop {
        let items = told.iter().map(|part| {
            let name = if wide { &part.words } else { &part.short };
            format!("{name} {}", units::duration(part.ns as f64 / 1e9))
        });
        let text = items.collect::<Vec<_>>().join(dot);
        if text.width() <= room || told.len() <= 1 {
            return text;
        }
        let smallest = told.iter().enumerate().min_by_key(|(_, part)| part.ns).map(|(at, _)| at);
        told.remove(smallest.unwrap_or(0));
    }
}

fn trace(id: &str, width: usize, more: &str) -> String {
    if width >= WHOLE_TRACE_FROM || id.chars().count() <= TRACE_DIGITS {
        return format!("trace {id}");
    }
    format!("trace {}{more}", id.chars().take(TRACE_DIGITS).collect::<String>())
}
