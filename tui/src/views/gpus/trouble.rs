//! What is wrong with a GPU, and what it has suffered.

use perfwatch_model::snapshot::ErrorCountsView;
use perfwatch_model::{Finding, Severity};
use ratatui::text::{Line, Span};

use super::graphs::{LABEL, Room, absent, labelled};
use super::words;
use crate::gpus::Gpu;
use crate::line::{Row, span, wrap, wrap_in, wrap_sentences};
use crate::theme::Role;
use crate::units;
use crate::views::Scene;
use crate::widgets::badge::{self, badge};

/// Columns of a badge, and one after it.
const INDENT: usize = 11;

/// Columns from which there is room for a note beside a sentence.
const NOTED_FROM: usize = 44;

/// How much is told of a finding.
#[derive(Clone, Copy)]
pub(super) struct Told {
    /// Things to try.
    pub(super) tries: usize,
    /// Rows of its sentence, and of each of these.
    pub(super) rows: usize,
}

/// Findings about it, of those that hurt and of others so much; and faults that none of them names.
pub(super) fn lines(scene: Scene<'_>, gpu: &Gpu<'_>, hurting: Told, others: Told, width: usize) -> Vec<Line<'static>> {
    let theme = scene.theme;
    let room = width.saturating_sub(INDENT + 2);
    let mut lines = Vec::new();
    let about: Vec<_> = scene.snapshot.findings.iter().filter(|finding| finding.entity == gpu.device.id).collect();
    let mut say = |texts: Vec<String>, mark: Option<Span<'static>>, note: &str, role: Role| {
        for (row, text) in texts.into_iter().enumerate() {
            let mark = mark.clone().filter(|_| row == 0);
            let mark = mark.unwrap_or_else(|| Span::raw(" ".repeat(INDENT - 1)));
            let note = if row == 0 { note } else { "" };
            let line = Row::new().left(0, vec![mark]).tight(0, span(text, theme.style(role)));
            lines.push(line.right(1, span(note.to_owned(), theme.style(Role::Dim))).line(width));
        }
    };
    for finding in &about {
        let Told { tries, rows } = if finding.severity >= Severity::Warning { hurting } else { others };
        let (texts, note) = told(finding, room, rows);
        say(texts, Some(badge(finding.severity, theme)), note, Role::Strong);
        for remedy in finding.remedies.iter().take(tries) {
            let action = format!("{} {}", theme.pick("→", ">"), remedy.action);
            say(wrap_in(&action, room, rows), None, "", Role::Ok);
        }
    }
    // A finding about its health names all that are not somebody's choice.
    let named = about.iter().any(|finding| finding.id == "gpu-unhealthy");
    for name in gpu.view.faults.iter().filter(|name| !named || words::is_setting(name)) {
        let (_, words, role) = words::fault(name);
        let shape = if role == Role::Crit { theme.pick("✖", "X") } else { theme.pick("▲", "!") };
        lines.push(Row::new().left(0, span(format!("{shape} {words}"), theme.style(role))).line(width));
    }
    lines
}

/// The sentences of a finding that fit into so many rows, else the beginning of the first, which has the numbers, or its headline
/// where there is but one row; and what stands beside them where they leave out that its rule is experimental.
fn told(finding: &Finding, room: usize, rows: usize) -> (Vec<String>, &'static str) {
    let whole = wrap(&finding.detail, room);
    if whole.len() <= rows {
        return (whole, "");
    }
    let note = if finding.experimental { badge::EXPERIMENTAL } else { "" };
    // On a narrow screen it leaves, and the finding alone says it.
    let room = if note.is_empty() || room < NOTED_FROM { room } else { room - note.len() - 2 };
    let sentences = wrap_sentences(&finding.detail, room, rows);
    let told = if !sentences.is_empty() {
        sentences
    } else if rows >= 2 && finding.severity >= Severity::Warning {
        wrap_in(&finding.detail, room, rows)
    } else {
        // A headline says more than a cut line of a sentence.
        wrap_in(&finding.summary, room, rows)
    };
    (told, note)
}

/// XID errors, errors of the memory, rows replaced: in as few lines as they need; then those that are not known, with the reason
/// once for those that share it.
pub(super) fn errors(scene: Scene<'_>, gpu: &Gpu<'_>, room: Room) -> Vec<Line<'static>> {
    let theme = scene.theme;
    let dim = theme.style(Role::Dim);
    let item = |name: &str, value: String, role: Role| {
        vec![Span::styled(format!("{name} "), dim), Span::styled(value, theme.style(role))]
    };
    let counts = |counts: ErrorCountsView, of: &str| {
        if (counts.corrected, counts.uncorrected) == (Some(0), Some(0)) {
            return "none".to_owned();
        }
        let [uncorrected, corrected] =
            [counts.uncorrected, counts.corrected].map(|count| count.map_or("n/a".to_owned(), units::count));
        format!("{uncorrected} {of}uncorrected, {corrected} {of}corrected")
    };
    let role = |counts: ErrorCountsView| match counts.uncorrected {
        Some(count) if count > 0 => Role::Crit,
        _ => Role::Text,
    };
    let xids = match gpu.view.xids.as_slice() {
        [] if words::why(scene, gpu, "perfwatch.gpu.xids").is_some() => None,
        [] => Some(("none".to_owned(), Role::Text)),
        xids => {
            let times = theme.pick("×", "x");
            let one = |xid: &perfwatch_model::snapshot::XidView| match xid.count {
                1 => xid.code.to_string(),
                count => format!("{} {times}{}", xid.code, units::count(count)),
            };
            Some((xids.iter().map(one).collect::<Vec<_>>().join(", "), Role::Warn))
        }
    };
    let memory = gpu.view.memory_errors.map(|errors| (counts(errors, ""), role(errors)));
    let replaced = |what: ErrorCountsView| (counts(what, "for "), role(what));
    // A device does the one or the other.
    let replaced = match (gpu.view.remapped_rows, gpu.view.retired_pages) {
        (None, Some(pages)) => ("pages retired", "perfwatch.gpu.retired_pages", Some(replaced(pages))),
        (rows, _) => ("rows replaced", "perfwatch.gpu.remapped_rows", rows.map(replaced)),
    };
    let all = [("XID", "perfwatch.gpu.xids", xids), ("memory errors", "hw.errors", memory), replaced];
    let mut items = Vec::new();
    let mut missing: Vec<(Vec<&str>, Option<String>)> = Vec::new();
    for (name, metric, value) in all {
        if let Some((value, role)) = value {
            items.push(item(name, value, role));
            continue;
        }
        let why = words::why_besides(scene, gpu, metric);
        match missing.iter_mut().find(|(_, known)| *known == why) {
            Some((names, _)) => names.push(name),
            None => missing.push((vec![name], why)),
        }
    }
    let items = items.into_iter().map(|item| shortened(item, room.width.saturating_sub(LABEL + 3)));
    let mut lines = labelled(scene, "errors", items.collect(), room.width);
    lines.extend(missing.into_iter().flat_map(|(names, why)| absent(scene, &names, why, room)));
    lines
}

/// An item of name and value that fits into a line.
fn shortened(item: Vec<Span<'static>>, room: usize) -> Vec<Span<'static>> {
    crate::line::cut(item, room).spans
}
