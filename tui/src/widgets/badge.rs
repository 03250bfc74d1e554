//! Severity as shape, word and colour: any one of them is enough.

use perfwatch_model::Severity;
use ratatui::text::Span;

use crate::theme::{Role, Theme};

/// Beside a finding of a rule that nothing has proven yet.
pub const EXPERIMENTAL: &str = "experimental";

/// The role in which a severity is drawn.
pub fn role(severity: Severity) -> Role {
    match severity {
        Severity::Note => Role::Accent,
        Severity::Warning => Role::Warn,
        Severity::Critical => Role::Crit,
    }
}

/// `✖`, `▲`, `●`; in ASCII `X`, `!`, `i`.
pub fn shape(severity: Severity, theme: Theme) -> &'static str {
    match severity {
        Severity::Note => theme.pick("●", "i"),
        Severity::Warning => theme.pick("▲", "!"),
        Severity::Critical => theme.pick("✖", "X"),
    }
}

/// Shape and word, padded to the longest, so that what follows lines up.
pub fn badge(severity: Severity, theme: Theme) -> Span<'static> {
    let text = format!("{} {:<8}", shape(severity, theme), severity.name());
    Span::styled(text, theme.style(role(severity)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_differ_in_shape_word_and_colour() {
        let theme = Theme::default();
        let all = [Severity::Note, Severity::Warning, Severity::Critical];
        for (index, one) in all.into_iter().enumerate() {
            for other in &all[index + 1..] {
                let (one, other) = (badge(one, theme), badge(*other, theme));
                assert_ne!(one.content.chars().next(), other.content.chars().next());
                assert_ne!(one.style.fg, other.style.fg);
            }
            assert!(badge(one, theme).content.contains(one.name()));
        }
    }
}
