//! What things look like: roles, not colours. Everything else in this crate asks for a [`Role`] or a glyph.
//!
//! Nothing depends on colour: severities have shapes and words, parts of a ledger have letters. Without colour
//! (`NO_COLOR`, theme `mono`) the roles become bold, dim and reverse; without UTF-8 every glyph has an ASCII twin.

use ratatui::style::{Color, Modifier, Style};

/// Which colours to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ThemeName {
    /// By the terminal: light when it says that its background is light, none when `NO_COLOR` is set, else dark.
    #[default]
    Auto,
    /// For a dark background; the terminal's own sixteen colours.
    Dark,
    /// For a light background.
    Light,
    /// No colour at all.
    Mono,
}

/// What a piece of the screen is, as far as its looks go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Ordinary text.
    Text,
    /// A heading or the number that matters most.
    Strong,
    /// What can be overlooked: units, rules, reasons.
    Dim,
    /// Names, and CPU or data work in a ledger.
    Accent,
    /// Good; in a ledger, the model's own work.
    Ok,
    /// Costs something; in a ledger, waiting.
    Warn,
    /// Hurts now; in a ledger, time taken away from outside.
    Crit,
    /// The selected row.
    Selected,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Palette {
    Dark,
    Light,
    Mono,
}

/// How sparklines are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Graph {
    /// Two samples per cell, four levels.
    Braille,
    /// One sample per cell, eight levels; for fonts without braille.
    Blocks,
    /// One sample per cell, five levels of ASCII.
    Ascii,
}

/// Steps of darkness in a heatmap, nothing apart.
pub const HEAT_LEVELS: usize = 4;

/// Colours and glyphs of one terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    palette: Palette,
    graph: Graph,
}

impl Default for Theme {
    /// Dark, UTF-8, braille.
    fn default() -> Self {
        Self { palette: Palette::Dark, graph: Graph::Braille }
    }
}

impl Theme {
    /// A theme without looking at the environment. `Auto` is `Dark` here.
    pub fn new(name: ThemeName, ascii: bool) -> Self {
        let palette = match name {
            ThemeName::Auto | ThemeName::Dark => Palette::Dark,
            ThemeName::Light => Palette::Light,
            ThemeName::Mono => Palette::Mono,
        };
        Self { palette, graph: if ascii { Graph::Ascii } else { Graph::Braille } }
    }

    /// A theme for the terminal that `variable` describes (pass a look-up in the environment).
    ///
    /// `NO_COLOR` (set and not empty) or `TERM=dumb` mean mono unless a theme is asked for by name. ASCII follows from
    /// `ascii`, or from a locale without UTF-8: the first of `LC_ALL`, `LC_CTYPE`, `LANG` that is set decides, and none
    /// of them is the C locale. The Linux console has no braille, so it gets blocks.
    pub fn detect(name: ThemeName, ascii: bool, variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |key: &str| variable(key).filter(|value| !value.is_empty());
        let term = set("TERM").unwrap_or_default();
        let name = match name {
            ThemeName::Auto if set("NO_COLOR").is_some() || term == "dumb" => ThemeName::Mono,
            ThemeName::Auto if set("COLORFGBG").is_some_and(|colours| light_background(&colours)) => ThemeName::Light,
            named => named,
        };
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default().to_ascii_lowercase();
        let utf8 = locale.contains("utf-8") || locale.contains("utf8");
        let mut theme = Self::new(name, ascii || !utf8);
        if theme.graph == Graph::Braille && term == "linux" {
            theme.graph = Graph::Blocks;
        }
        theme
    }

    /// Whether only ASCII may be drawn.
    pub fn is_ascii(self) -> bool {
        self.graph == Graph::Ascii
    }

    /// Whether colours may be used.
    pub fn has_colour(self) -> bool {
        self.palette != Palette::Mono
    }

    /// How sparklines are drawn.
    pub fn graph(self) -> Graph {
        self.graph
    }

    /// One of two spellings: the first with UTF-8, the second without.
    pub fn pick<T>(self, unicode: T, ascii: T) -> T {
        if self.is_ascii() { ascii } else { unicode }
    }

    /// Text in a role.
    pub fn style(self, role: Role) -> Style {
        let plain = Style::new();
        match role {
            Role::Text => plain,
            Role::Strong => plain.add_modifier(Modifier::BOLD),
            Role::Selected => plain.add_modifier(Modifier::REVERSED),
            Role::Dim if self.palette == Palette::Mono => plain.add_modifier(Modifier::DIM),
            Role::Crit if self.palette == Palette::Mono => plain.add_modifier(Modifier::BOLD),
            Role::Crit => plain.fg(self.colour(role)).add_modifier(Modifier::BOLD),
            _ if self.palette == Palette::Mono => plain,
            _ => plain.fg(self.colour(role)),
        }
    }

    /// A filled cell with a letter in it: the colour is behind the letter, so that a run of letters reads as a bar.
    pub fn fill(self, role: Role) -> Style {
        if self.palette == Palette::Mono || matches!(role, Role::Dim | Role::Text) {
            return self.style(role);
        }
        let letter = if self.palette == Palette::Light { Color::White } else { Color::Black };
        Style::new().fg(letter).bg(self.colour(role))
    }

    /// A cell of a heatmap, by level from 1 to [`HEAT_LEVELS`]: away from the background the more there is. The glyph says
    /// the same.
    pub fn heat(self, level: usize) -> Style {
        let at = level.clamp(1, HEAT_LEVELS) - 1;
        match self.palette {
            Palette::Mono => Style::new(),
            Palette::Dark => Style::new().fg([Color::Blue, Color::Cyan, Color::LightCyan, Color::White][at]),
            Palette::Light => Style::new().fg([110, 68, 25, 17].map(Color::Indexed)[at]),
        }
    }

    /// The glyph of a cell of a heatmap, by level from 0 (nothing) to [`HEAT_LEVELS`].
    pub fn shade(self, level: usize) -> char {
        self.pick([' ', '░', '▒', '▓', '█'], [' ', '.', ':', 'o', '#'])[level.min(HEAT_LEVELS)]
    }

    fn colour(self, role: Role) -> Color {
        let light = self.palette == Palette::Light;
        match role {
            Role::Ok if light => Color::Indexed(28),
            Role::Warn if light => Color::Indexed(130),
            Role::Crit if light => Color::Indexed(124),
            Role::Accent if light => Color::Indexed(25),
            Role::Dim if light => Color::Indexed(242),
            Role::Ok => Color::Green,
            Role::Warn => Color::Yellow,
            Role::Crit => Color::LightRed,
            Role::Accent => Color::Cyan,
            Role::Dim => Color::DarkGray,
            Role::Text | Role::Strong | Role::Selected => Color::Reset,
        }
    }
}

/// `COLORFGBG` is `foreground;background` in the numbers of the sixteen colours; 7 and 15 are the two whites.
fn light_background(colours: &str) -> bool {
    matches!(colours.rsplit(';').next(), Some("7" | "15"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(name: ThemeName, variables: &[(&str, &str)]) -> Theme {
        Theme::detect(name, false, |key| {
            variables.iter().find(|(known, _)| *known == key).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn no_color_means_no_colour_unless_a_theme_was_asked_for() {
        let variables = [("NO_COLOR", "1"), ("LANG", "en_US.UTF-8")];
        assert!(!detect(ThemeName::Auto, &variables).has_colour());
        assert!(detect(ThemeName::Dark, &variables).has_colour());
        assert!(detect(ThemeName::Auto, &[("NO_COLOR", ""), ("LANG", "C.UTF-8")]).has_colour(), "empty is not set");
    }

    #[test]
    fn no_role_has_a_colour_without_colour() {
        let theme = Theme::new(ThemeName::Mono, false);
        for role in
            [Role::Text, Role::Strong, Role::Dim, Role::Accent, Role::Ok, Role::Warn, Role::Crit, Role::Selected]
        {
            for style in [theme.style(role), theme.fill(role)] {
                assert_eq!((style.fg, style.bg), (None, None), "{role:?}");
            }
        }
    }

    #[test]
    fn levels_of_heat_differ_in_glyph_and_colour() {
        for ascii in [false, true] {
            let theme = Theme::new(ThemeName::Dark, ascii);
            for level in 1..HEAT_LEVELS {
                assert_ne!(theme.shade(level), theme.shade(level + 1));
                assert_ne!(theme.heat(level).fg, theme.heat(level + 1).fg);
            }
        }
        assert_eq!(Theme::new(ThemeName::Mono, false).heat(1).fg, None);
    }

    #[test]
    fn the_first_locale_variable_that_is_set_decides_about_ascii() {
        assert!(!detect(ThemeName::Auto, &[("LANG", "de_DE.UTF-8")]).is_ascii());
        assert!(!detect(ThemeName::Auto, &[("LC_ALL", ""), ("LC_CTYPE", "C.utf8")]).is_ascii());
        assert!(detect(ThemeName::Auto, &[("LC_ALL", "C"), ("LANG", "de_DE.UTF-8")]).is_ascii());
        assert!(detect(ThemeName::Auto, &[]).is_ascii());
    }

    #[test]
    fn the_linux_console_gets_blocks_and_a_light_terminal_dark_letters() {
        assert_eq!(detect(ThemeName::Auto, &[("TERM", "linux"), ("LANG", "C.UTF-8")]).graph(), Graph::Blocks);
        assert_eq!(
            detect(ThemeName::Auto, &[("COLORFGBG", "0;15"), ("LANG", "C.UTF-8")]),
            Theme::new(ThemeName::Light, false)
        );
    }
}
