//! What a request's time goes into: its stages below each other, each beginning where the one before it ends.

use perfwatch_model::ledger::proportional;
use perfwatch_model::snapshot::ServerView;
use ratatui::text::{Line, Span};

use crate::line::{Row, span, truncate};
use crate::parts::{self, Certainty, Part};
use crate::theme::Role;
use crate::units;
use crate::views::Scene;
use crate::widgets::ledger_bar;

/// Columns of a stage's name, and of a time.
const NAME: usize = 16;
const TIME: usize = 8;
/// From this width on, names are whole.
const WIDE: usize = 60;
/// From this width on, a stage's own percentile is shown.
const PERCENTILE_FROM: usize = 100;

/// Request-seconds of the window per request that ended in it: what a request takes on average while as many end as begin.
pub(super) fn mean_s(server: &ServerView) -> Option<f64> {
    let ledger = server.ledger.as_ref()?;
    per_request(ledger.interval_ns, server)
}

fn per_request(ns: u64, server: &ServerView) -> Option<f64> {
    let ended = server.latency.as_ref()?.count;
    (ended > 0).then(|| ns as f64 / 1e9 / ended as f64)
}

/// One line per stage, at most `rows` of them: then the smallest share the last one. In a single row they share one bar.
/// Nothing while no request was inside.
pub(super) fn lines(scene: Scene<'_>, server: &ServerView, rows: usize, width: usize) -> Vec<Line<'static>> {
    let Some(ledger) = server.ledger.as_ref().filter(|ledger| ledger.interval_ns > 0) else { return Vec::new() };
    let mut parts = parts::request_parts(ledger);
    parts.retain(|part| part.ns > 0);
    match rows {
        0 => Vec::new(),
        1 => vec![one_bar(scene, &parts, width)],
        _ => steps(scene, server, &parts, rows, width),
    }
}

fn one_bar(scene: Scene<'_>, parts: &[Part], width: usize) -> Line<'static> {
    let label = "REQUESTS ";
    let cells = width.saturating_sub(label.len() + 2);
    let bar = ledger_bar::bar(parts, cells, scene.theme);
    Row::new().left(0, [span(label, scene.theme.style(Role::Strong)), bar].concat()).line(width)
}

fn steps(scene: Scene<'_>, server: &ServerView, parts: &[Part], rows: usize, width: usize) -> Vec<Line<'static>> {
    let theme = scene.theme;
    let name_width = if width >= WIDE { NAME } else { NAME / 2 };
    let percents = ledger_bar::percents(parts);
    let shown = largest(parts, rows);
    let columns = 2 + name_width + 1 + TIME + 7 + if width >= PERCENTILE_FROM { TIME + 6 } else { 0 };
    let cells = width.saturating_sub(columns + 4);
    let shares = proportional(cells as u64, parts.iter().map(|part| part.ns)).unwrap_or_default();
    let mut lines = Vec::new();
    let mut from = 0;
    for ((index, part), share) in parts.iter().enumerate().zip(&shares) {
        let share = *share as usize;
        if shown.contains(&index) {
            let words = if width >= WIDE { &part.words } else { &part.short };
            let mut text = vec![
                Span::styled(theme.pick(part.glyph, part.ascii).to_string(), style(scene, part)),
                Span::raw(format!(" {}", pad(words, name_width))),
                Span::styled(time(per_request(part.ns, server)), theme.style(Role::Strong)),
                Span::raw(share_words(scene, part, percents[index])),
            ];
            if width >= PERCENTILE_FROM {
                let p99 = server.stages.iter().find(|stage| parts::stage_words(&stage.stage) == part.words);
                let p99 = p99.map(|stage| stage.latency.p99_s);
                text.push(Span::styled(format!("  p99 {}", time(p99)), theme.style(Role::Dim)));
            }
            let step = step(scene, part, from, share, cells);
            lines.push(Row::new().left(0, text).left(0, step).line(width));
        }
        from += share;
    }
    if shown.len() < parts.len() {
        let hidden = || parts.iter().enumerate().filter(|(index, _)| !shown.contains(index));
        let ns = hidden().map(|(_, part)| part.ns).sum();
        let percent: u64 = hidden().map(|(index, _)| percents[index]).sum();
        let name = format!("+{} more", parts.len() - shown.len());
        let share = format!("{:>7}", share_of(percent));
        let text = format!("  {}{}{share}", pad(&name, name_width), time(per_request(ns, server)));
        lines.push(Row::new().left(0, span(text, theme.style(Role::Dim))).line(width));
    }
    lines
}

/// Places of the parts that get a row of their own.
fn largest(parts: &[Part], rows: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..parts.len()).collect();
    if places.len() > rows {
        places.sort_by_key(|at| std::cmp::Reverse(parts[*at].ns));
        places.truncate(rows - 1);
    }
    places
}

fn style(scene: Scene<'_>, part: &Part) -> ratatui::style::Style {
    if part.letter { scene.theme.fill(part.role) } else { scene.theme.style(part.role) }
}

/// The bar of one stage; a thin line where it is too short for a column.
fn step(scene: Scene<'_>, part: &Part, from: usize, share: usize, cells: usize) -> Vec<Span<'static>> {
    if cells == 0 {
        return Vec::new();
    }
    if share == 0 {
        let before = from.min(cells - 1);
        let thin = span(scene.theme.pick("▏", "|"), scene.theme.style(part.role));
        return [vec![Span::raw(" ".repeat(before))], thin].concat();
    }
    let glyphs = scene.theme.pick(part.glyph, part.ascii).to_string().repeat(share);
    vec![Span::raw(" ".repeat(from)), Span::styled(glyphs, style(scene, part))]
}

fn time(seconds: Option<f64>) -> String {
    format!("{:>TIME$}", seconds.map_or("n/a".to_owned(), units::duration))
}

/// `  12 %`, with `≈` where it follows from an assumption.
fn share_words(scene: Scene<'_>, part: &Part, percent: u64) -> String {
    let sign = if part.certainty == Certainty::Measured { "" } else { scene.theme.pick("≈", "~") };
    format!("{:>7}", format!("{sign}{}", share_of(percent)))
}

/// A share that rounds to nothing is still there.
fn share_of(percent: u64) -> String {
    if percent == 0 { "<1 %".to_owned() } else { format!("{percent} %") }
}

fn pad(text: &str, width: usize) -> String {
    let text = truncate(text, width);
    let columns = unicode_width::UnicodeWidthStr::width(text.as_str());
    format!("{text}{}", " ".repeat(width.saturating_sub(columns)))
}
