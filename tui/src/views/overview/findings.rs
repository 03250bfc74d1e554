//! The findings at the foot of the overview: each with its sentence while there is room, the selected one first.

use std::borrow::Cow;

use perfwatch_model::Finding;
use ratatui::text::Line;

use crate::gpus::{about, in_doubt};
use crate::line::{Row, span, truncate, wrap, wrap_in, wrap_sentences};
use crate::theme::{Role, Theme};
use crate::views::{Scene, findings::experimental};
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
    for index in order.iter().copied() {
        let finding = &findings[index];
        let marked = index == selected && findings.len() > 1;
        let mut text = headline(scene, finding, marked, width, spare + 1);
        let left = spare + 1 - text.len();
        text.extend(explanation(scene.theme, finding, width, left));
        spare -= text.len() - 1;
        texts[index] = text;
    }
    // Rows that nobody needed are better filled than free.
    for index in order {
        let more = others(scene.theme, &findings[index], width);
        if more.len() <= spare {
            spare -= more.len();
            texts[index].extend(more);
        }
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
            .right(1, experimental(finding, theme))
            .right(2, span(about(scene.snapshot, &finding.entity), theme.style(Role::Dim)))
            .right(3, span(finding.id.to_string(), theme.style(Role::Dim)));
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

/// A row of an explanation.
fn row(text: &str, role: Role, theme: Theme, width: usize) -> Line<'static> {
    Row::new().left(0, span(format!("{:pad$}{text}", "", pad = indent(width) - 1), theme.style(role))).line(width)
}

/// What to try beside the first thing.
fn others(theme: Theme, finding: &Finding, width: usize) -> Vec<Line<'static>> {
    let room = width.saturating_sub(indent(width) + 1);
    let actions = finding.remedies.iter().skip(1).map(|remedy| action(theme, &remedy.action));
    actions.flat_map(|action| wrap(&action, room)).map(|text| row(&text, Role::Ok, theme, width)).collect()
}

fn action(theme: Theme, action: &str) -> String {
    format!("{} {action}", theme.pick("→", ">"))
}

/// The sentence, what it costs, what to try first: in at most so many rows.
fn explanation(theme: Theme, finding: &Finding, width: usize, rows: usize) -> Vec<Line<'static>> {
    if rows == 0 {
        return Vec::new();
    }
    let room = width.saturating_sub(indent(width) + 1);
    let sentence = wrap(&finding.detail, room);
    let mut after: Vec<(String, Role)> = Vec::new();
    if let Some(cost) = wording::cost(finding) {
        after.extend(wrap_in(&format!("costs {cost}"), room, 1).into_iter().map(|line| (line, Role::Warn)));
    }
    if let Some(remedy) = finding.remedies.first() {
        // It is cut where the sentence needs the rows.
        let free = rows.saturating_sub(after.len() + sentence.len());
        let lines = wrap_in(&action(theme, &remedy.action), room, free.max(2));
        after.extend(lines.into_iter().map(|line| (line, Role::Ok)));
    }
    // What to try is worth more than the sentence, and the sentence more than one cut line of it.
    let left = rows.saturating_sub(after.len());
    let shown = match wrap_sentences(&finding.detail, room, left) {
        none if none.is_empty() && left >= 2 => wrap_in(&finding.detail, room, left),
        some => some,
    };
    if after.len() > rows {
        after.retain(|(_, role)| *role == Role::Ok);
        if after.len() > rows {
            let action = after.iter().map(|(line, _)| line.as_str()).collect::<Vec<_>>().join(" ");
            after = wrap_in(&action, room, rows).into_iter().map(|line| (line, Role::Ok)).collect();
        }
    }
    let mut lines: Vec<_> = shown.into_iter().map(|line| row(&line, Role::Text, theme, width)).collect();
    lines.extend(after.into_iter().map(|(line, role)| row(&line, role, theme, width)));
    lines.truncate(rows);
    lines
}

fn nothing(scene: Scene<'_>, width: usize, rows: usize) -> Vec<Line<'static>> {
    if rows == 0 {
        return Vec::new();
    }
    let theme = scene.theme;
    let (is_well, words) = verdict(scene);
    let (mark, role) = if is_well { (theme.pick("✔", "+"), Role::Ok) } else { (theme.pick("·", "-"), Role::Dim) };
    let mut lines = vec![
        Row::new().left(0, span(mark, theme.style(role))).tight(0, span(words, theme.style(Role::Text))).line(width),
    ];
    if rows > 1 {
        lines.extend(undecided(scene, width));
    }
    lines
}

/// What it means that there is no finding, and whether it is good news.
pub(in crate::views) fn verdict(scene: Scene<'_>) -> (bool, Cow<'static, str>) {
    let is_decided = scene.snapshot.undecided.is_empty();
    if let Some(doubt) = in_doubt(scene.snapshot) {
        return (false, doubt.into());
    }
    let (is_well, words) = match (scene.snapshot.has_subjects(), scene.snapshot.servers.is_empty()) {
        (false, _) => (false, "Nothing to judge: findings are about model servers and GPUs."),
        (true, _) if !is_decided => (false, "Nothing is wrong as far as can be said yet."),
        (true, true) => (true, "Nothing is wrong with the GPUs."),
        (true, false) => (true, "Nothing is wrong."),
    };
    (is_well, words.into())
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use perfwatch_model::{Remedy, Snapshot};

    use super::*;
    use crate::app::{App, Event};
    use crate::feed::FeedEvent;
    use crate::fixtures;

    /// The findings in so many columns and rows.
    fn told(snapshot: &Snapshot, width: usize, rows: usize) -> String {
        let mut app = App::new(false);
        app.update(Event::Feed(FeedEvent::Snapshot(Arc::new(snapshot.clone()))));
        let shown = app.snapshot().expect("one was pushed");
        let lines = lines(Scene { app: &app, snapshot: shown, theme: Theme::default() }, width, rows);
        assert!(lines.len() <= rows);
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    fn long() -> Snapshot {
        let mut snapshot = fixtures::overload();
        snapshot.undecided.clear();
        let finding = &mut snapshot.findings[0];
        finding.detail = "What it suffers from is a long story of many words. ".repeat(6) + "It ends here.";
        let first = "Do one thing that takes more than two rows to tell. ".repeat(4) + "Then rest.";
        finding.remedies = [first.as_str(), "Do another thing."]
            .map(|action| Remedy { action: action.to_owned().into(), why: "".into() })
            .into();
        snapshot
    }

    #[test]
    fn nothing_is_cut_above_free_rows() {
        for width in [40, 80, 120, 200] {
            let text = told(&long(), width, 40);
            assert!(!text.contains('…'), "{text}");
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            for part in ["It ends here.", "Then rest.", "→ Do another thing."] {
                assert!(words.contains(part), "{part}\n{text}");
            }
        }
    }

    #[test]
    fn what_there_is_no_room_for_leaves_by_the_sentence() {
        let text = told(&long(), 80, 8);
        let sentence: Vec<_> = text.lines().skip(1).take_while(|line| !line.contains("costs")).collect();
        let last = sentence.last().expect("some of it is told");
        assert!(last.trim_end().ends_with("words.") && !text.contains("It ends here."), "{text}");
        assert!(!text.contains("Do another thing"), "{text}");
    }

    #[test]
    fn nothing_is_well_while_a_gpu_is_broken_that_no_finding_is_about_yet() {
        let mut snapshot = Snapshot { servers: Vec::new(), ..fixtures::two_gpus() };
        assert!(told(&snapshot, 80, 1).contains("✔ Nothing is wrong with the GPUs."));
        snapshot.devices[1].gpu.as_mut().expect("a GPU").faults = vec!["lost".to_owned()];
        for servers in [Vec::new(), fixtures::two_gpus().servers] {
            snapshot.servers = servers;
            let text = told(&snapshot, 80, 1);
            assert!(text.contains("· GPU 1: lost; being confirmed") && !text.contains("Nothing"), "{text}");
        }
        let card = crate::card(&snapshot, crate::CardOptions::default());
        assert!(card.contains("findings  none, but GPU 1: lost; being confirmed"), "{card}");
    }

    #[test]
    fn a_finding_that_nothing_has_proven_says_so_beside_its_headline() {
        let mut snapshot = fixtures::overload();
        assert!(!told(&snapshot, 120, 1).contains("experimental"));
        snapshot.findings[0].experimental = true;
        for width in [80, 120] {
            assert!(told(&snapshot, width, 1).contains("  experimental"), "{}", told(&snapshot, width, 1));
        }
    }
}
