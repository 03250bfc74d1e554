//! Text from outside, made safe to show: names, messages and command lines of other programs can hold anything.

use std::fmt::Write;

/// The text with everything that is not plainly printable escaped: control characters and escape sequences, characters
/// that change the direction or are invisible, line separators, and bytes that are not UTF-8. No terminal, log or
/// dashboard interprets the result. Doing it twice changes nothing.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if is_printable(character) {
                text.push(character);
            } else if (character as u32) < 0x100 {
                let _ = write!(text, "\\x{:02x}", character as u32);
            } else {
                let _ = write!(text, "\\u{{{:x}}}", character as u32);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// True for what [`printable`] leaves as it is. The standard library knows what is not (`escape_debug`), and escapes
/// quotes besides; the fillers are letters to it, though nobody can see them.
pub fn is_printable(character: char) -> bool {
    match character {
        '"' | '\'' | '\\' => true,
        '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' => false,
        _ => character.escape_debug().len() == 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hostile_names_lose_their_power_and_honest_ones_stay() {
        assert_eq!(printable(b"python3.11 (worker) \"a\" C:\\x"), "python3.11 (worker) \"a\" C:\\x");
        assert_eq!(printable("größe 模型".as_bytes()), "größe 模型");
        assert_eq!(printable(b"\x1b]0;owned\x07\x1b[2J"), "\\x1b]0;owned\\x07\\x1b[2J");
        assert_eq!(printable(b"a\nb\r\t\x7f\xff\xc3"), "a\\x0ab\\x0d\\x09\\x7f\\xff\\xc3");
        assert_eq!(printable("\u{9b}31m \u{202e}cod\u{200b}".as_bytes()), "\\x9b31m \\u{202e}cod\\u{200b}");
    }

    /// Invisible characters, and those that turn the direction of what follows.
    const HIDDEN: [std::ops::RangeInclusive<char>; 11] = [
        '\u{ad}'..='\u{ad}',
        '\u{61c}'..='\u{61c}',
        '\u{115f}'..='\u{1160}',
        '\u{200b}'..='\u{200f}',
        '\u{2028}'..='\u{202e}',
        '\u{2060}'..='\u{206f}',
        '\u{3164}'..='\u{3164}',
        '\u{e000}'..='\u{f8ff}',
        '\u{feff}'..='\u{feff}',
        '\u{fff9}'..='\u{fffb}',
        '\u{e0000}'..='\u{e01ef}',
    ];

    fn is_hidden(character: char) -> bool {
        HIDDEN.iter().any(|range| range.contains(&character))
    }

    #[test]
    fn nothing_hidden_is_printable() {
        for character in HIDDEN.into_iter().flatten() {
            assert!(!is_printable(character), "{}", character.escape_unicode());
        }
    }

    proptest! {
        #[test]
        fn nothing_a_terminal_interprets_ever_comes_out(
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
            characters in proptest::collection::vec(any::<char>(), 0..100),
            hidden in prop::sample::select(HIDDEN.into_iter().flatten().collect::<Vec<_>>()),
        ) {
            let mut hostile = bytes;
            hostile.extend(characters.iter().chain([&hidden]).collect::<String>().bytes());
            let text = printable(&hostile);
            prop_assert!(!text.chars().any(|c| c.is_control() || is_hidden(c)), "{}", text.escape_debug());
        }

        #[test]
        fn what_is_printable_already_does_not_change(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let once = printable(&bytes);
            prop_assert_eq!(printable(once.as_bytes()), once);
        }
    }
}
