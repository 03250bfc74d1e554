//! What could not be measured here, why, and what would give it.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::{Arrows, Scene, View, put};
use crate::gaps::gaps;
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
        snapshot.unavailable.len()
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

fn lines(scene: Scene<'_>, width: usize) -> Vec<Line<'static>> {
    let theme = scene.theme;
    let room = width.saturating_sub(4);
    let mut lines = Vec::new();
    let text = |words: &str, role: Role| -> Vec<Line<'static>> {
        wrap(words, room)
            .into_iter()
            .map(|line| Row::new().left(0, span(format!("  {line}"), theme.style(role))).line(width))
            .collect()
    };
    for gap in gaps(&scene.snapshot.unavailable) {
        lines.push(Row::new().left(0, span(gap.entity.to_owned(), theme.style(Role::Strong))).line(width));
        lines.extend(text(gap.reason, Role::Text));
        if !gap.cure.is_empty() {
            lines.extend(text(&format!("{} {}", theme.pick("→", ">"), gap.cure), Role::Ok));
        }
        lines.extend(text(&gap.metrics.join(", "), Role::Dim));
    }
    if lines.is_empty() {
        lines.extend(text("Everything that perfwatch knows how to measure is measured here.", Role::Text));
    }
    lines
}
