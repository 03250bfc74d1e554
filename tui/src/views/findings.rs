//! All findings, and everything known about the selected one.

use perfwatch_model::{Evidence, Finding};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::overview::{rule, verdict};
use super::{Arrows, Scene, View, put};
use crate::gpus::{about, bare, called};
use crate::line::{Row, span, wrap, wrap_in};
use crate::plain::Clean;
use crate::theme::{Role, Theme};
use crate::units;
use crate::widgets::badge::{EXPERIMENTAL, badge, role, shape};
use crate::wording;

/// The fourth view.
pub(super) struct Findings;

/// With fewer rows than this, list and detail do not fit on one screen.
const BOTH: usize = 14;

impl View for Findings {
    fn name(&self) -> &'static str {
        "findings"
    }

    fn title(&self) -> &'static str {
        "Findings"
    }

    fn count(&self, snapshot: &Clean) -> usize {
        snapshot.findings.len()
    }

    fn arrows(&self) -> Arrows {
        Arrows::Findings
    }

    fn draw(&self, scene: Scene<'_>, area: Rect, buffer: &mut Buffer) {
        let (width, height) = (usize::from(area.width), usize::from(area.height));
        let findings = &scene.snapshot.findings;
        let selected = scene.app.finding_index();
        let Some(finding) = findings.get(selected) else {
            put(&nothing(scene, width), area, buffer);
            return;
        };
        if scene.app.detail() {
            let lines = detail(scene, finding, true, width);
            let top = scene.app.scroll().clipped(lines.len().saturating_sub(height));
            put(&lines[top..], area, buffer);
            return;
        }
        let rows = if height >= BOTH { findings.len().min(height / 3) } else { height };
        let first = (selected + 1).saturating_sub(rows);
        let mut lines: Vec<Line<'static>> = findings
            .iter()
            .enumerate()
            .skip(first)
            .take(rows)
            .map(|(index, finding)| entry(scene, finding, index == selected, width))
            .collect();
        if height >= BOTH {
            lines.push(Line::default());
            let room = height.saturating_sub(lines.len());
            // The headline stands in the list above.
            let mut below = detail(scene, finding, false, width);
            if below.len() > room && room > 0 {
                below.truncate(room - 1);
                let more = format!("{} shows the rest", scene.theme.pick("⏎", "Enter"));
                below.push(Row::new().right(0, span(more, scene.theme.style(Role::Dim))).line(width));
            }
            lines.extend(below);
        }
        put(&lines, area, buffer);
    }
}

fn entry(scene: Scene<'_>, finding: &Finding, selected: bool, width: usize) -> Line<'static> {
    let theme = scene.theme;
    let summary = theme.style(if selected { Role::Selected } else { Role::Text });
    let mark = mark(scene, finding, width);
    let room = width.saturating_sub(crate::line::spans_width(&mark) + 3);
    let short = wrap_in(&finding.summary, room, 1).join("");
    Row::new()
        .left(0, mark)
        .tight(0, span(short, summary))
        .right(1, experimental(finding, theme))
        .right(2, span(about(scene.snapshot, &finding.entity), theme.style(Role::Dim)))
        .right(3, span(finding.id.to_string(), theme.style(Role::Dim)))
        .line(width)
}

/// What tells a finding of an experimental rule from others; nothing beside those.
pub(super) fn experimental(finding: &Finding, theme: Theme) -> Vec<Span<'static>> {
    if finding.experimental { span(EXPERIMENTAL, theme.style(Role::Dim)) } else { Vec::new() }
}

/// The badge; only its shape where there is little room.
fn mark(scene: Scene<'_>, finding: &Finding, width: usize) -> Vec<Span<'static>> {
    let theme = scene.theme;
    if width >= 60 {
        return vec![badge(finding.severity, theme)];
    }
    span(shape(finding.severity, theme), theme.style(role(finding.severity)))
}

fn nothing(scene: Scene<'_>, width: usize) -> Vec<Line<'static>> {
    let text = |words: String, role: Role| {
        wrap(&words, width.saturating_sub(2))
            .into_iter()
            .map(|line| Row::new().left(0, span(line, scene.theme.style(role))).line(width))
            .collect::<Vec<_>>()
    };
    let mut lines = text(verdict(scene).1.into_owned(), Role::Text);
    if !scene.snapshot.undecided.is_empty() {
        let words = format!("Undecided, for want of history or of a reading: {}.", scene.snapshot.undecided.join(", "));
        lines.extend(text(words, Role::Dim));
    }
    lines
}

/// What it means, how it was decided, what it costs, what to try.
fn detail(scene: Scene<'_>, finding: &Finding, headline: bool, width: usize) -> Vec<Line<'static>> {
    let theme = scene.theme;
    let room = width.saturating_sub(2);
    let text = |words: &str, indent: usize, role: Role| -> Vec<Line<'static>> {
        wrap(words, room.saturating_sub(indent))
            .into_iter()
            .map(|line| Row::new().left(0, span(format!("{:indent$}{line}", ""), theme.style(role))).line(width))
            .collect()
    };
    let mut lines = vec![rule(scene, &finding.id, &entity(scene, finding, headline, width), width)];
    let mark = mark(scene, finding, width);
    let indent = crate::line::spans_width(&mark) + 1;
    let strong = theme.style(Role::Strong);
    let headline = if headline { wrap(&finding.summary, room.saturating_sub(indent)) } else { Vec::new() };
    for (index, line) in headline.into_iter().enumerate() {
        let mark = if index == 0 { mark.clone() } else { span(" ".repeat(indent - 1), strong) };
        lines.push(Row::new().left(0, mark).tight(0, span(line, strong)).line(width));
    }
    lines.extend(text(&finding.detail, 0, Role::Text));
    if let Some(cost) = wording::cost(finding) {
        lines.extend(text(&format!("It costs {cost}."), 0, Role::Warn));
    }
    if !finding.remedies.is_empty() {
        lines.push(Line::default());
        lines.push(rule(scene, "What to try", "best first", width));
        for (number, remedy) in finding.remedies.iter().enumerate() {
            let mut action = wrap(&remedy.action, room.saturating_sub(3)).into_iter();
            let first = action.next().unwrap_or_default();
            lines.push(
                Row::new()
                    .left(0, span(format!("{}.", number + 1), theme.style(Role::Dim)))
                    .tight(0, span(first, theme.style(Role::Ok)))
                    .line(width),
            );
            for line in action {
                lines.push(Row::new().left(0, span(format!("   {line}"), theme.style(Role::Ok))).line(width));
            }
            lines.extend(text(&remedy.why, 3, Role::Text));
        }
    }
    if !finding.evidence.is_empty() {
        lines.push(Line::default());
        lines.push(rule(scene, "How this was decided", "", width));
        let names = finding.evidence.iter().map(|evidence| evidence.metric.chars().count()).max().unwrap_or(0);
        for evidence in &finding.evidence {
            lines.push(evidence_line(scene, evidence, names.min(width / 2), width));
        }
    }
    lines
}

/// What it is about. A GPU by its UUID too where the finding has the screen to itself, and there is room.
fn entity(scene: Scene<'_>, finding: &Finding, alone: bool, width: usize) -> String {
    let Some(name) = called(scene.snapshot, &finding.entity) else { return finding.entity.clone() };
    let with_id = format!("{name}, {}", bare(&finding.entity));
    let fits = finding.id.len() + with_id.len() + 9 <= width;
    if alone && fits { with_id } else { name }
}

fn evidence_line(scene: Scene<'_>, evidence: &Evidence, names: usize, width: usize) -> Line<'static> {
    let theme = scene.theme;
    let dim = theme.style(Role::Dim);
    let name = crate::line::truncate(&evidence.metric, names);
    let value = units::with_unit(evidence.value, &evidence.unit);
    let against = evidence
        .threshold
        .map(|threshold| format!("threshold {}", units::with_unit(threshold, &evidence.unit)))
        .unwrap_or_default();
    Row::new()
        .left(0, vec![Span::styled(format!("{name:<names$}"), theme.style(Role::Text))])
        .left(0, span(format!("{value:>8}"), theme.style(Role::Strong)))
        .left(1, span(format!("{against:<16}"), dim))
        .left(3, span(format!("over {}", units::duration(evidence.window_s)), dim))
        .left(2, span(wording::source(evidence.quality), dim))
        .line(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_of_an_older_agent_is_read_and_a_proven_one_is_written_as_it_was() {
        let written = r#"{"id":"overload","severity":"note","entity":"server:shop/1","summary":"","detail":"","evidence":[],"cost":null,"remedies":[]}"#;
        let mut finding: Finding = serde_json::from_str(written).expect("a finding");
        assert!(!finding.experimental);
        assert_eq!(serde_json::to_string(&finding).expect("JSON"), written);
        finding.experimental = true;
        assert!(serde_json::to_string(&finding).expect("JSON").ends_with(r#""remedies":[],"experimental":true}"#));
    }
}
