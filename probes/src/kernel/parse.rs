//! Scanning of the kernel's text files, on bytes and without allocation.

/// The number at the start of `text`, and what follows it. Saturates instead of overflowing; `None` when the text does
/// not begin with a digit.
pub(crate) fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return None;
    }
    let value = text[..digits]
        .iter()
        .fold(0u64, |value, digit| value.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    Some((value, &text[digits..]))
}

/// The next number of a line of numbers that are separated by blanks.
pub(crate) fn next_number<'t>(text: &mut &'t [u8]) -> Option<u64> {
    let start = text.iter().position(|byte| *byte != b' ' && *byte != b'\t')?;
    let (value, rest): (u64, &'t [u8]) = number(&text[start..])?;
    *text = rest;
    Some(value)
}

/// The number that a file holds alone, as cgroup files do. `None` for `max`, `-1` and the like.
pub(crate) fn only_number(text: &[u8]) -> Option<u64> {
    number(text.trim_ascii()).filter(|(_, rest)| rest.is_empty()).map(|(value, _)| value)
}

/// The lines of a text, without their ends.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// The first number after `key` in the line that starts with it; `key` ends where the blanks begin.
pub(crate) fn keyed(text: &[u8], key: &[u8]) -> Option<u64> {
    lines(text).find_map(|line| {
        let mut rest = line.strip_prefix(key)?;
        rest.first().is_some_and(u8::is_ascii_whitespace).then(|| next_number(&mut rest)).flatten()
    })
}

/// Fields of `/proc/pid/stat`, counted from 3 as in proc(5). The name may hold blanks and parentheses, so fields
/// begin after the last `)`.
pub(crate) fn stat_fields(text: &[u8]) -> Option<(&[u8], impl Iterator<Item = &[u8]>)> {
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let name = text.get(open + 1..close)?;
    Some((name, text[close + 1..].split(u8::is_ascii_whitespace).filter(|field| !field.is_empty())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_saturate_and_refuse_words() {
        assert_eq!(number(b"12 x"), Some((12, &b" x"[..])));
        assert_eq!(number(b"99999999999999999999"), Some((u64::MAX, &b""[..])));
        assert_eq!(number(b"max"), None);
        assert_eq!(only_number(b"42\n"), Some(42));
        assert_eq!(only_number(b"max\n"), None);
        assert_eq!(only_number(b"-1\n"), None);
    }

    #[test]
    fn a_key_is_not_mistaken_for_a_longer_one() {
        let text = b"oom_kill_group 7\noom_kill 3\n";
        assert_eq!(keyed(text, b"oom_kill"), Some(3));
        assert_eq!(keyed(b"MemTotal:        8054 kB\n", b"MemTotal:"), Some(8054));
        assert_eq!(keyed(text, b"low"), None);
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let (name, mut fields) = stat_fields(b"7 (a) R (b) S 1 7 7 0\n").expect("well formed");
        assert_eq!(name, b"a) R (b");
        assert_eq!(fields.next(), Some(&b"S"[..]));
        assert_eq!(fields.next(), Some(&b"1"[..]));
    }
}
