//! The findings at the foot of the overview: each with its sentence while there is room, the selected one first.

use perfwatch_model::Finding;
use ratatui::text::Line;

use crate::gpus::about;
use crate::line::{Row, span, truncate, wrap, wrap_in};
use crate::theme::{Role, Theme};
use crate::views::Scene;
use crate::widgets::badge::{badge, role, shape};
use crate::wording;

/// Rows that the findings must have before other parts may spread.
pub(super) fn least_rows(scene: Scene<'_>, width: usize) -> usize {
    let findings = &scene.snapshot.findings;
    if findings.is_empty() {
        return 1;
    }
    let selected = &findings[scene.app.finding_index().min(findings.len() - 1)];
    let explained = explanation(scene.theme, selected, width, usize::MAX).len();
    findings.len().min(3) + explained.min(6)
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
    let mut order: Vec<usize> = visible.clone().collect();
    order.sort_by_key(|index| *index != selected);
    let mut texts = vec![Vec::new(); findings.len()];
    for index in order {
        let finding = &findings[index];
        let marked = index == selected && findings.len() > 1;
        let mut text = headline(scene, finding, marked, width, spare + 1);
        let left = spare + 1 - text.len();
        text.extend(explanation(scene.theme, finding, width, left));
        spare -= text.len() - 1;
        texts[index] = text;
    }
    let mut lines: Vec<Line<'static>> = texts.into_iter().flatten().collect();
    if spare > 0 {
        lines.extend(undecided(scene, width));
    }
    lines
}

/// Badge and summary; on a narrow screen over as many rows as it needs and has.
fn headline(scene: Scene<'_>, finding: &Finding, selected: bool, width: usize, rows: usize) -> Vec<Line<'static>> {
    let theme = scene.theme;
    let style = theme.style(if selected { Role::Selected } else { Role::Strong });
    if width >= 60 {
        let mark = badge(finding.severity, theme);
        let room = width.saturating_sub(mark.content.chars().count() + 4);
        let row = Row::new()
            .left(0, vec![mark])
            .tight(0, span(truncate(&finding.summary, room), style))
            .right(2, span(about(scene.snapshot, &finding.entity), theme.style(Role::Dim)))
            .right(1, span(finding.id.to_string(), theme.style(Role::Dim)));
        return vec![row.line(width)];
    }
    let mark = span(shape(finding.severity, theme), theme.style(role(finding.severity)));
    let text = wrap_in(&finding.summary, width.saturating_sub(4), rows.clamp(1, 2));
    let row = |(index, text): (usize, String)| {
        let mark = if index == 0 { mark.clone() } else { span(" ", theme.style(Role::Text)) };
        Row::new().left(0, mark).tight(0, span(text, style)).line(width)
    };
    text.into_iter().enumerate().map(row).collect()
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
    let sentence = wrap(&finding.detail, room);
    // What to try is worth more than the sentence, and the sentence more than one cut line of it.
    let left = rows.saturating_sub(after.len());
    let shown = if left >= sentence.len().min(2) { wrap_in(&finding.detail, room, left) } else { Vec::new() };
    if after.len() > rows {
        after.retain(|(_, role)| *role == Role::Ok);
        if after.len() > rows {
            let action = after.iter().map(|(line, _)| line.as_str()).collect::<Vec<_>>().join(" ");
            after = wrap_in(&action, room, rows).into_iter().map(|line| (line, Role::Ok)).collect();
        }
    }
    let mut lines: Vec<_> = shown.into_iter().map(|line| row(line, Role::Text)).collect();
    lines.extend(after.into_iter().map(|(line, role)| row(line, role)));
    lines.truncate(rows);
    lines
}

fn nothing(scene: Scene<'_>, width: usize, rows: usize) -> Vec<Line<'static>> {
    if rows == 0 {
        return Vec::new();
    }
    let theme = scene.theme;
    let without_server = scene.snapshot.servers.is_empty();
    let (mark, role, words) = if without_server && scene.snapshot.devices.is_empty() {
        (theme.pick("·", "-"), Role::Dim, "Nothing to judge: findings are about model servers and GPUs.")
    } else if without_server && scene.snapshot.undecided.is_empty() {
        (theme.pick("✔", "+"), Role::Ok, "Nothing is wrong with the GPUs.")
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
