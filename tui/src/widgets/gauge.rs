//! A share of a whole as a bar: `▕████▍     ▏`.

use ratatui::text::Span;

use crate::theme::{Role, Theme};

/// Shares from here on are worth a look.
const HIGH: f64 = 0.80;
/// Shares from here on leave no room.
const FULL: f64 = 0.95;

/// The role of a share of something that runs out: warn from 80 %, crit from 95 %.
pub fn scarce(share: f64) -> Role {
    if share >= FULL {
        Role::Crit
    } else if share >= HIGH {
        Role::Warn
    } else {
        Role::Ok
    }
}

/// A bar of at most `cells` columns, in eighths (whole cells in ASCII). Anything above 0 shows.
pub fn bar(share: f64, cells: usize, theme: Theme) -> String {
    const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let least = usize::from(share > 0.0 && cells > 0);
    if theme.is_ascii() {
        return "#".repeat(((share * cells as f64).round() as usize).max(least).min(cells));
    }
    let eighths = ((share * cells as f64 * 8.0).round() as usize).max(least);
    format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8])
}

/// The same between its two ends, filled up to `cells` columns.
pub fn gauge(share: f64, cells: usize, role: Role, theme: Theme) -> Vec<Span<'static>> {
    let bar = bar(share, cells, theme);
    let columns = bar.chars().count();
    let (open, close) = theme.pick(("▕", "▏"), ("[", "]"));
    vec![
        Span::styled(open, theme.style(Role::Dim)),
        Span::styled(bar, theme.style(role)),
        Span::raw(" ".repeat(cells.saturating_sub(columns))),
        Span::styled(close, theme.style(Role::Dim)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::theme::ThemeName;

    fn text(share: f64, theme: Theme) -> String {
        gauge(share, 4, Role::Ok, theme).iter().map(|span| span.content.as_ref()).collect()
    }

    #[test]
    fn a_gauge_shows_eighths_and_never_hides_a_little() {
        let theme = Theme::default();
        assert_eq!(text(0.0, theme), "▕    ▏");
        assert_eq!(text(0.001, theme), "▕▏   ▏");
        assert_eq!(text(0.5, theme), "▕██  ▏");
        assert_eq!(text(2.0, theme), "▕████▏");
        assert_eq!(text(f64::NAN, theme), "▕    ▏");
        assert_eq!(text(0.6, Theme::new(ThemeName::Mono, true)), "[##  ]");
    }
}
