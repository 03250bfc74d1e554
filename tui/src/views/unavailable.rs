//! What could not be measured here, why, and what would give it.

use perfwatch_model::snapshot::Unavailable as Missing;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::{Arrows, Scene, View, put};
use crate::gaps::gaps;
use crate::inventory::subject;
use crate::line::{Row, span, wrap};
use crate::plain::Clean;
use crate::theme::Role;

/// The fifth view.
pub(super) struct Unavailable;

impl View for Unavailable {
    fn name(&self) -> &'static str {
        "unavailable"
    }

    fn title(&self) -> &'static str {
        "Not available"
    }

    fn count(&self, snapshot: &Clean) -> usize {
        snapshot.unavailable.iter().filter(|missing| !missing.is_by_choice()).count()
    }

    fn arrows(&self) -> Arrows {
        Arrows::Lines
    }

    fn draw(&self, scene: Scene<'_>, area: Rect, buffer: &mut Buffer) {
        let (width, height) = (usize::from(area.width), usize::from(area.height));
        let lines = lines(scene, width);
        let top = scene.app.scroll().clipped(lines.len().saturating_sub(height));
        put(&lines[top..], area, buffer);
    }
}

/// Gaps first, by what they are of; what somebody switched off last, as nobody looks for that.
fn lines(scene: Scene<'_>, width: usize) -> Vec<Line<'static>> {
    let theme = scene.theme;
    let room = width.saturating_sub(4);
    let mut lines = Vec::new();
    let heading = |words: String| Row::new().left(0, span(words, theme.style(Role::Strong))).line(width);
    let text = |words: &str, role: Role| -> Vec<Line<'static>> {
        wrap(words, room)
            .into_iter()
            .map(|line| Row::new().left(0, span(format!("  {line}"), theme.style(role))).line(width))
            .collect()
    };
    let cure = |cure: &str| text(&format!("{} {cure}", theme.pick("→", ">")), Role::Ok);
    let unavailable = &scene.snapshot.unavailable;
    let (off, missing): (Vec<_>, Vec<_>) = unavailable.iter().cloned().partition(Missing::is_by_choice);
    for gap in gaps(&missing) {
        lines.push(heading(subject(scene.snapshot, gap.entity)));
        lines.extend(text(gap.reason, Role::Text));
        if !gap.cure.is_empty() {
            lines.extend(cure(gap.cure));
        }
        lines.extend(text(&gap.metrics.join(", "), Role::Dim));
    }
    if lines.is_empty() {
        lines.extend(text("Everything that perfwatch was asked to measure is measured here.", Role::Text));
    }
    if !off.is_empty() {
        lines.push(heading("Chosen by somebody".to_owned()));
    }
    for gap in gaps(&off) {
        lines.extend(text(gap.reason, Role::Text));
        lines.extend(cure(gap.cure));
        lines.extend(text(&gap.metrics.join(", "), Role::Dim));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use perfwatch_model::AbsenceKind;

    use super::*;
    use crate::app::{App, Event};
    use crate::feed::FeedEvent;
    use crate::fixtures;
    use crate::theme::Theme;

    #[test]
    fn what_somebody_switched_off_is_listed_last_and_not_counted() {
        let mut snapshot = fixtures::eight_gpus();
        let missing = snapshot.unavailable.len();
        let off = Missing {
            metric: "system.disk.io".to_owned(),
            entity: "host:gpu-host-3".to_owned(),
            reason: "probe disk is switched off".to_owned(),
            cure: "take it out of probes_off".to_owned(),
            kind: AbsenceKind::Chosen,
        };
        snapshot.unavailable.insert(0, off.clone());
        let text = |snapshot: &perfwatch_model::Snapshot| {
            let mut app = App::new(false);
            app.update(Event::Feed(FeedEvent::Snapshot(Arc::new(snapshot.clone()))));
            let shown = app.snapshot().expect("one was pushed");
            let lines = lines(Scene { app: &app, snapshot: shown, theme: Theme::default() }, 100);
            let text: Vec<_> = lines.iter().map(ToString::to_string).collect();
            (Unavailable.count(shown), text.join("\n"))
        };
        let (count, told) = text(&snapshot);
        assert_eq!(count, missing);
        let at = |what: &str| told.find(what).unwrap_or_else(|| panic!("{what} is missing:\n{told}"));
        assert!(at("GPU 4 H100") < at("Chosen") && at("Chosen") < at("probe disk"), "{told}");
        assert!(!told.contains("GPU-4"), "nobody knows a GPU by its UUID:\n{told}");
        snapshot.unavailable = vec![off];
        let (count, told) = text(&snapshot);
        assert!(count == 0 && told.contains("was asked to measure"), "{told}");
    }
}
