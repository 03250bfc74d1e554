//! What to say where there is no GPU.

use ratatui::text::Line;

use crate::gpus::no_gpu;
use crate::line::{Row, span, wrap};
use crate::theme::Role;
use crate::views::Scene;
use crate::views::overview::rule;

/// Why none is seen, and what would change that.
pub(super) fn lines(scene: Scene<'_>, width: usize) -> Vec<Line<'static>> {
    let theme = scene.theme;
    let mut lines = vec![rule(scene, "No GPU is seen", "", width)];
    let mut say = |text: &str, role: Role| {
        let rows = wrap(text, width.saturating_sub(2)).into_iter();
        lines.extend(rows.map(|line| Row::new().left(0, span(line, theme.style(role))).line(width)));
    };
    let none = no_gpu(scene.snapshot);
    match none.and_then(|none| none.missing) {
        Some(missing) => {
            say(&missing.reason, Role::Text);
            if !missing.cure.is_empty() {
                say(&format!("{} {}", theme.pick("→", ">"), missing.cure), Role::Ok);
            }
        }
        None => say("The agent told of none, and not why: perfwatch doctor looks into it.", Role::Text),
    }
    say("The time of servers that run on CPUs is in the Overview.", Role::Dim);
    // Who waits for a GPU of his own is not helped by another.
    if none.is_none_or(|none| !none.is_expected) {
        say("Here is a scripted one: perfwatch demo --replay h100-decode", Role::Dim);
    }
    lines
}
