//! The findings at the foot of the overview: each with its sentence while there is room, the selected one first.

use perfwatch_model::Finding;
use ratatui::text::Line;

use crate::line::{Row, span, truncate, wrap, wrap_in};
use crate::theme::{Role, Theme};
use crate::views::Scene;
use crate::widgets::badge::{badge, shape};
use crate::wording;

/// Rows that the findings must have before other parts may spread.
pub(super) fn least_rows(scene: Scene<'_>, width: usize) -> usize {
    let findings = &scene.snapshot.findings;
    if findings.is_empty() {
        return 1;
    }
    let selected = &findings[scene.app.finding_index().min(findings.len() - 1)];
    let sentence = wrap(&selected.detail, width.saturating_sub(indent(width) + 1)).len().min(2);
    findings.len().min(3) + sentence + usize::from(!selected.remedies.is_empty())
}

pub(super) fn lines(scene: Scene<'_>, width: usize, rows: usize) -> Vec<Line<'static>> {
    let findings = &scene.snapshot.findings;
    if findings.is_empty() {
        return nothing(scene, width, rows);
    }
    let selected = scene.app.finding_index();
    // Everybody's headline first, as far as the rows go; then what is left explains, the selected one before the others.
    let shown = findings.len().min(rows.max(1));
    let first = (selected + 1).saturating_sub(shown);
    let mut spare = rows.saturating_sub(shown);
    let visible = first..first + shown;
    let mut explained = vec![0; findings.len()];
    let mut order: Vec<usize> = visible.clone().collect();
    order.sort_by_key(|index| *index != selected);
    for index in order {
        let wanted = explanation(scene.theme, &findings[index], width, usize::MAX).len();
        explained[index] = wanted.min(spare);
        spare -= explained[index];
    }
    let mut lines = Vec::new();
    for index in visible {
        lines.push(headline(scene, &findings[index], index == selected && findings.len() > 1, width));
        lines.extend(explanation(scene.theme, &findings[index], width, explained[index]));
    }
    if spare > 0 {
        lines.extend(undecided(scene, width));
    }
    lines
}

fn headline(scene: Scene<'_>, finding: &Finding, selected: bool, width: usize) -> Line<'static> {
    let theme = scene.theme;
    let mark = if width >= 60 {
        vec![badge(finding.severity, theme)]
    } else {
        let style = theme.style(crate::widgets::badge::role(finding.severity));
        span(shape(finding.severity, theme), style)
    };
    let summary = theme.style(if selected { Role::Selected } else { Role::Strong });
    let room = width.saturating_sub(crate::line::spans_width(&mark) + 4);
    Row::new()
        .left(0, mark)
        .tight(0, span(truncate(&finding.summary, room), summary))
        .right(2, span(about(&finding.entity).to_owned(), theme.style(Role::Dim)))
        .right(1, span(finding.id.to_string(), theme.style(Role::Dim)))
        .line(width)
}

/// The entity without its kind.
fn about(entity: &str) -> &str {
    entity.split_once(':').map_or(entity, |(_, id)| id)
}

/// Columns that explanations are indented by.
fn indent(width: usize) -> usize {
    if width >= 60 { 12 } else { 3 }
}

/// The sentence, what it costs, what to try: in at most so many rows.
fn explanation(theme: Theme, finding: &Finding, width: usize, rows: usize) -> Vec<Line<'static>> {
    if rows == 0 {
        return Vec::new();
    }
    let indent = indent(width);
    let room = width.saturating_sub(indent + 1);
    let row = |text: String, role: Role| {
        Row::new().left(0, span(format!("{:pad$}{text}", "", pad = indent - 1), theme.style(role))).line(width)
    };
    let mut after: Vec<(String, Role)> = Vec::new();
    if let Some(cost) = wording::cost(finding) {
        after.extend(wrap_in(&format!("costs {cost}"), room, 1).into_iter().map(|line| (line, Role::Warn)));
    }
    if let Some(remedy) = finding.remedies.first() {
        let arrow = theme.pick("→", ">");
        after.extend(wrap_in(&format!("{arrow} {}", remedy.action), room, 2).into_iter().map(|line| (line, Role::Ok)));
    }
    // What to try is worth more than the last half of the sentence.
    let sentence_rows = rows.saturating_sub(after.len()).max(1).min(rows);
    let mut lines: Vec<_> =
        wrap_in(&finding.detail, room, sentence_rows).into_iter().map(|line| row(line, Role::Text)).collect();
    lines.extend(after.into_iter().map(|(line, role)| row(line, role)));
    lines.truncate(rows);
    lines
}

fn nothing(scene: Scene<'_>, width: usize, rows: usize) -> Vec<Line<'static>> {
    if rows == 0 {
        return Vec::new();
    }
    let theme = scene.theme;
    let (mark, role, words) = if scene.snapshot.servers.is_empty() {
        (theme.pick("·", "-"), Role::Dim, "Nothing to judge: findings are about model servers.")
    } else if scene.snapshot.undecided.is_empty() {
        (theme.pick("✔", "+"), Role::Ok, "Nothing is wrong.")
    } else {
        (theme.pick("·", "-"), Role::Dim, "Nothing is wrong as far as can be said yet.")
    };
    let mut lines = vec![
        Row::new().left(0, span(mark, theme.style(role))).tight(0, span(words, theme.style(Role::Text))).line(width),
    ];
    if rows > 1 {
        lines.extend(undecided(scene, width));
    }
    lines
}

fn undecided(scene: Scene<'_>, width: usize) -> Option<Line<'static>> {
    let undecided = &scene.snapshot.undecided;
    if undecided.is_empty() {
        return None;
    }
    let text = format!("undecided: {}", undecided.join(", "));
    let room = width.saturating_sub(4);
    Some(Row::new().left(0, span(format!("  {}", truncate(&text, room)), scene.theme.style(Role::Dim))).line(width))
}
