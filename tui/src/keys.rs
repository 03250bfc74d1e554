//! Every key there is: one table that input, footer, `?` and the README read.

use std::fmt::Write;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ends the program.
    Quit,
    /// Opens or closes the list of keys.
    Help,
    /// Freezes the screen, or goes on.
    Pause,
    /// Goes so many seconds on, or back.
    Travel(i64),
    /// Goes to the newest.
    Newest,
    /// Goes to the beginning of a recording.
    Beginning,
    /// Plays a recording twice as fast.
    Faster,
    /// Plays a recording half as fast.
    Slower,
    /// Selects the one above.
    Up,
    /// Selects the one below.
    Down,
    /// Selects the first.
    First,
    /// Selects the last.
    Last,
    /// Moves up by a page.
    PageUp,
    /// Moves down by a page.
    PageDown,
    /// Opens what is selected.
    Open,
    /// Goes back; never quits.
    Back,
    /// Shows the next view.
    NextView,
    /// Shows the view before.
    PreviousView,
    /// Shows the view with this number, from 0.
    View(usize),
    /// Shows the next model server or GPU, or a later second.
    Right,
    /// Shows the model server or GPU before, or an earlier second.
    Left,
    /// Puts the program to sleep, as a shell's job control does.
    Suspend,
    /// Draws the whole screen anew.
    Redraw,
}

/// One way to press it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chord {
    /// A character.
    Char(char),
    /// Control and a character.
    Ctrl(char),
    /// A key without a character.
    Code(KeyCode),
    /// Any of `1` to `9`.
    Digit,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// What it does.
    pub action: Action,
    /// The keys that do it.
    pub chords: &'static [Chord],
    /// The keys as written on screen.
    pub label: &'static str,
    /// The same in ASCII.
    pub ascii: &'static str,
    /// What it does, in words.
    pub words: &'static str,
    /// The key and the word for the footer, when it belongs there.
    pub footer: Option<Hint>,
}

/// What the footer says about a key.
#[derive(Clone, Copy, Debug)]
pub struct Hint {
    /// The key.
    pub key: &'static str,
    /// The key in ASCII.
    pub ascii: &'static str,
    /// One word.
    pub word: &'static str,
    /// When the footer is too narrow, the highest rank leaves first.
    pub rank: u8,
}

const fn hint(key: &'static str, ascii: &'static str, word: &'static str, rank: u8) -> Hint {
    Hint { key, ascii, word, rank }
}

const fn row(
    action: Action,
    chords: &'static [Chord],
    label: &'static str,
    ascii: &'static str,
    words: &'static str,
    footer: Option<Hint>,
) -> Binding {
    Binding { action, chords, label, ascii, words, footer }
}

use Chord::{Char, Code, Ctrl, Digit};

/// All keys, in the order in which the help lists them.
#[rustfmt::skip]
pub const BINDINGS: &[Binding] = &[
    row(Action::Up, &[Code(KeyCode::Up), Char('k')], "↑ k", "Up k", "select the one above", Some(hint("↑↓", "jk", "select", 4))),
    row(Action::Down, &[Code(KeyCode::Down), Char('j')], "↓ j", "Down j", "select the one below", None),
    row(Action::First, &[Char('g'), Code(KeyCode::Home)], "g Home", "g Home", "select the first", None),
    row(Action::Last, &[Char('G'), Code(KeyCode::End)], "G End", "G End", "select the last", None),
    row(Action::PageUp, &[Code(KeyCode::PageUp), Ctrl('u')], "PgUp ^u", "PgUp ^u", "move up by a page", None),
    row(Action::PageDown, &[Code(KeyCode::PageDown), Ctrl('d')], "PgDn ^d", "PgDn ^d", "move down by a page", None),
    row(Action::Open, &[Code(KeyCode::Enter)], "Enter", "Enter", "open the selected finding or GPU", Some(hint("⏎", "Enter", "open", 3))),
    row(Action::Back, &[Code(KeyCode::Esc)], "Esc", "Esc", "go back", Some(hint("Esc", "Esc", "back", 2))),
    row(Action::Left, &[Code(KeyCode::Left), Char('h')], "← h", "Left h", "previous model server or GPU; in Latency, an earlier second", Some(hint("←→", "hl", "server", 5))),
    row(Action::Right, &[Code(KeyCode::Right), Char('l')], "→ l", "Right l", "next model server or GPU; in Latency, a later second", None),
    row(Action::NextView, &[Code(KeyCode::Tab)], "Tab", "Tab", "show the next view", Some(hint("Tab", "Tab", "view", 6))),
    row(Action::PreviousView, &[Code(KeyCode::BackTab)], "Shift-Tab", "Shift-Tab", "show the previous view", None),
    row(Action::View(0), &[Digit], "1-9", "1-9", "show that view", None),
    row(Action::Pause, &[Char(' ')], "space", "space", "freeze the screen, and go on", Some(hint("space", "space", "pause", 7))),
    row(Action::Travel(-1), &[Char('[')], "[", "[", "go back a second", Some(hint("[ ]", "[ ]", "step", 8))),
    row(Action::Travel(1), &[Char(']')], "]", "]", "go on a second", None),
    row(Action::Travel(-60), &[Char('{')], "{", "{", "go back a minute", None),
    row(Action::Travel(60), &[Char('}')], "}", "}", "go on a minute", None),
    row(Action::Newest, &[Char('L')], "L", "L", "go to the newest second, and on live", None),
    row(Action::Beginning, &[Char('B')], "B", "B", "go to the beginning of a recording", None),
    row(Action::Faster, &[Char('+')], "+", "+", "play a recording faster", None),
    row(Action::Slower, &[Char('-')], "-", "-", "play a recording slower", None),
    row(Action::Redraw, &[Ctrl('l')], "^l", "^l", "draw the screen anew", None),
    row(Action::Suspend, &[Ctrl('z')], "^z", "^z", "suspend; `fg` brings it back", None),
    row(Action::Help, &[Char('?')], "?", "?", "show or hide these keys", Some(hint("?", "?", "help", 1))),
    row(Action::Quit, &[Char('q'), Ctrl('c')], "q ^c", "q ^c", "quit", Some(hint("q", "q", "quit", 0))),
];

/// What this key asks for, if anything.
pub fn action(key: KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    if key.modifiers.contains(KeyModifiers::ALT) {
        return None;
    }
    let matches = |chord: &Chord| match (chord, key.code) {
        (Char(wanted), KeyCode::Char(typed)) => !control && *wanted == typed,
        (Ctrl(wanted), KeyCode::Char(typed)) => control && *wanted == typed.to_ascii_lowercase(),
        (Code(wanted), typed) => *wanted == typed,
        (Digit, KeyCode::Char(typed)) => !control && ('1'..='9').contains(&typed),
        _ => false,
    };
    let found = BINDINGS.iter().find(|binding| binding.chords.iter().any(matches))?;
    match (found.action, key.code) {
        (Action::View(_), KeyCode::Char(digit)) => Some(Action::View(digit as usize - '1' as usize)),
        (action, _) => Some(action),
    }
}

/// The table in Markdown, as the README shows it.
pub fn markdown() -> String {
    let mut out = String::from("| key | does |\n|---|---|\n");
    for binding in BINDINGS {
        let keys: Vec<String> = binding.label.split(' ').map(|key| format!("`{key}`")).collect();
        let _infallible = writeln!(out, "| {} | {} |", keys.join(" "), binding.words);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(chord: Chord) -> KeyEvent {
        match chord {
            Char(c) => KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE),
            Ctrl(c) => KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL),
            Code(code) => KeyEvent::new(code, KeyModifiers::NONE),
            Digit => KeyEvent::new(KeyCode::Char('1'), KeyModifiers::NONE),
        }
    }

    #[test]
    fn every_key_of_the_table_does_what_its_row_says() {
        for binding in BINDINGS {
            for chord in binding.chords {
                assert_eq!(action(press(*chord)), Some(binding.action), "{chord:?} is taken by an earlier row");
            }
        }
    }

    #[test]
    fn digits_choose_views_and_unknown_keys_do_nothing() {
        assert_eq!(action(press(Char('3'))), Some(Action::View(2)));
        assert_eq!(action(press(Char('x'))), None);
        assert_eq!(action(press(Ctrl('q'))), None);
        assert_eq!(action(KeyEvent::new(KeyCode::Char('q'), KeyModifiers::ALT)), None);
        assert_eq!(action(KeyEvent::new(KeyCode::Char('G'), KeyModifiers::SHIFT)), Some(Action::Last));
        let released = KeyEvent::new_with_kind(KeyCode::Char('q'), KeyModifiers::NONE, KeyEventKind::Release);
        assert_eq!(action(released), None);
    }

    #[test]
    fn every_row_can_be_written_in_ascii_and_named_in_the_readme() {
        let table = markdown();
        for binding in BINDINGS {
            assert!(binding.ascii.is_ascii() && binding.footer.is_none_or(|hint| hint.ascii.is_ascii()));
            assert!(table.contains(binding.words), "{}", binding.words);
        }
    }
}
