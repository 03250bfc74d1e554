//! Text that fits: rows whose least important items leave first, flowing lists, wrapping. All widths are in columns.

use ratatui::style::Style;
use ratatui::text::{Line, Span};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// One row: items from the left, items at the right edge. What does not fit leaves by rank, highest first; rank 0 stays
/// and is cut with an ellipsis as the last resort.
#[derive(Default)]
pub(crate) struct Row {
    items: Vec<Item>,
}

struct Item {
    rank: u8,
    right: bool,
    gap: usize,
    spans: Vec<Span<'static>>,
}

impl Item {
    fn width(&self) -> usize {
        spans_width(&self.spans)
    }
}

impl Row {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// An item after the others on the left, two columns apart.
    #[must_use]
    pub(crate) fn left(self, rank: u8, spans: impl Into<Vec<Span<'static>>>) -> Self {
        self.push(rank, false, 2, spans.into())
    }

    /// An item that follows the one before it with only one column between; it belongs to it.
    #[must_use]
    pub(crate) fn tight(self, rank: u8, spans: impl Into<Vec<Span<'static>>>) -> Self {
        self.push(rank, false, 1, spans.into())
    }

    /// An item at the right edge, after the others there.
    #[must_use]
    pub(crate) fn right(self, rank: u8, spans: impl Into<Vec<Span<'static>>>) -> Self {
        self.push(rank, true, 2, spans.into())
    }

    fn push(mut self, rank: u8, right: bool, gap: usize, spans: Vec<Span<'static>>) -> Self {
        if !spans.is_empty() {
            self.items.push(Item { rank, right, gap, spans });
        }
        self
    }

    fn side_width(&self, right: bool, rank: u8) -> usize {
        let side = || self.items.iter().filter(|item| item.right == right && item.rank <= rank);
        let gaps: usize = side().skip(1).map(|item| item.gap).sum();
        side().map(Item::width).sum::<usize>() + gaps
    }

    /// Columns of the items up to a rank, without margins.
    pub(crate) fn width_of(&self, rank: u8) -> usize {
        let (left, right) = (self.side_width(false, rank), self.side_width(true, rank));
        left + right + if left > 0 && right > 0 { 2 } else { 0 }
    }

    /// The same without items of a higher rank.
    #[must_use]
    pub(crate) fn up_to(mut self, rank: u8) -> Self {
        self.items.retain(|item| item.rank <= rank);
        self
    }

    /// The row in `width` columns, with one column of margin at both sides.
    pub(crate) fn line(mut self, width: usize) -> Line<'static> {
        let room = width.saturating_sub(2);
        while self.width_of(u8::MAX) > room {
            let Some((at, worst)) = self.items.iter().enumerate().max_by_key(|(_, item)| item.rank) else { break };
            if worst.rank == 0 {
                break;
            }
            self.items.remove(at);
        }
        let fill = room.saturating_sub(self.side_width(false, u8::MAX) + self.side_width(true, u8::MAX));
        let mut spans = vec![Span::raw(" ")];
        for right in [false, true] {
            if right {
                spans.push(Span::raw(" ".repeat(fill)));
            }
            for (index, item) in self.items.iter().filter(|item| item.right == right).enumerate() {
                if index > 0 {
                    spans.push(Span::raw(" ".repeat(item.gap)));
                }
                spans.extend(item.spans.iter().cloned());
            }
        }
        cut(spans, width)
    }
}

/// Columns of some spans.
pub(crate) fn spans_width(spans: &[Span<'_>]) -> usize {
    spans.iter().map(|span| span.content.width()).sum()
}

/// A line that is at most `width` columns wide; the last column becomes an ellipsis when something was cut.
pub(crate) fn cut(spans: Vec<Span<'static>>, width: usize) -> Line<'static> {
    let total = spans_width(&spans);
    let trailing = spans.last().is_some_and(|span| span.content.chars().all(|c| c == ' '));
    if total <= width || (trailing && total - spans.last().map_or(0, |span| span.content.width()) <= width) {
        return Line::from(spans);
    }
    let mut left = width;
    let mut out = Vec::with_capacity(spans.len());
    for span in spans {
        let columns = span.content.width();
        if columns < left {
            left -= columns;
            out.push(span);
            continue;
        }
        out.push(Span::styled(truncate(&format!("{}…", span.content), left), span.style));
        break;
    }
    Line::from(out)
}

/// Text of at most `width` columns, ending in an ellipsis when it was longer.
pub(crate) fn truncate(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let Some(room) = width.checked_sub(1) else { return String::new() };
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let columns = c.width().unwrap_or(0);
        if used + columns > room {
            break;
        }
        used += columns;
        out.push(c);
    }
    let kept = out.trim_end().len();
    out.truncate(kept);
    out.push('…');
    out
}

/// Items in reading order, two columns apart, in as few lines as they need; no item is broken over two lines.
pub(crate) fn flow(items: Vec<Vec<Span<'static>>>, indent: usize, width: usize) -> Vec<Line<'static>> {
    let room = width.saturating_sub(1);
    let mut lines = Vec::new();
    let mut current: Vec<Span<'static>> = vec![Span::raw(" ".repeat(indent))];
    let mut used = indent;
    for item in items {
        let columns = spans_width(&item);
        let gap = if used > indent { 2 } else { 0 };
        if used > indent && used + gap + columns > room {
            lines.push(cut(std::mem::take(&mut current), width));
            current.push(Span::raw(" ".repeat(indent)));
            used = indent;
        } else if gap > 0 {
            current.push(Span::raw("  "));
            used += gap;
        }
        used += columns;
        current.extend(item);
    }
    if used > indent {
        lines.push(cut(current, width));
    }
    lines
}

/// Text broken at spaces into lines of at most `width` columns; a longer word is split.
pub(crate) fn wrap(text: &str, width: usize) -> Vec<String> {
    if width == 0 {
        return Vec::new();
    }
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split_whitespace() {
        let columns = word.width();
        if used > 0 && used + 1 + columns > width {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        if columns <= width {
            line.push_str(word);
            used += columns;
            continue;
        }
        for c in word.chars() {
            let columns = c.width().unwrap_or(0);
            if used + columns > width && used > 0 {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(c);
            used += columns;
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// Wrapped text, cut to `rows` lines with an ellipsis where more was said.
pub(crate) fn wrap_in(text: &str, width: usize, rows: usize) -> Vec<String> {
    let mut lines = wrap(text, width);
    if lines.len() > rows {
        lines.truncate(rows);
        if let Some(last) = lines.last_mut() {
            while last.width() + 2 > width {
                let Some(at) = last.rfind(' ') else { break };
                last.truncate(at);
            }
            *last = truncate(&format!("{last} …"), width);
        }
    }
    lines
}

/// As many whole sentences from its beginning as fit into so many lines; empty when not even the first one does.
pub(crate) fn wrap_sentences(text: &str, width: usize, rows: usize) -> Vec<String> {
    // What follows a full stop in the middle of a sentence (`e.g. so`, `1.5`) does not begin as a sentence does.
    let begins = |rest: &str| rest.starts_with(|c: char| c.is_uppercase() || c == '(');
    let ends = text.match_indices(". ").filter(|(at, _)| begins(&text[at + 2..])).map(|(at, _)| at + 1);
    let mut fitting = Vec::new();
    for end in ends.chain([text.len()]) {
        let lines = wrap(&text[..end], width);
        if lines.len() > rows {
            break;
        }
        fitting = lines;
    }
    fitting
}

/// Text and style as a one-span item.
pub(crate) fn span(text: impl Into<String>, style: Style) -> Vec<Span<'static>> {
    vec![Span::styled(text.into(), style)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(line: &Line<'_>) -> String {
        line.spans.iter().map(|span| span.content.as_ref()).collect()
    }

    fn row() -> Row {
        Row::new()
            .left(0, span("name", Style::new()))
            .left(2, span("kind", Style::new()))
            .tight(3, span("~~", Style::new()))
            .right(1, span("14:02", Style::new()))
    }

    #[test]
    fn the_least_important_item_leaves_first() {
        assert_eq!(text(&row().line(24)), " name  kind ~~    14:02");
        assert_eq!(text(&row().line(20)), " name  kind   14:02");
        assert_eq!(text(&row().line(14)), " name   14:02");
        assert_eq!(text(&row().line(8)).trim_end(), " name");
        assert_eq!(text(&row().line(4)), " na…");
    }

    #[test]
    fn a_flow_breaks_between_items_only() {
        let items = vec![span("used 60 %", Style::new()), span("queue 30 %", Style::new())];
        let lines = flow(items, 2, 16);
        assert_eq!(lines.iter().map(text).collect::<Vec<_>>(), ["  used 60 %", "  queue 30 %"]);
    }

    #[test]
    fn words_wrap_and_long_words_split() {
        assert_eq!(wrap("a bb ccc", 4), ["a bb", "ccc"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap_in("aa bb cc dd", 5, 1), ["aa …"], "a shortened text ends with a whole word");
        assert_eq!(wrap("x", 0), Vec::<String>::new());
    }

    #[test]
    fn what_has_no_room_leaves_by_the_sentence() {
        let text = "It is 1.5 s, e.g. slow. Try it. (Or not.)";
        assert_eq!(wrap_sentences(text, 40, 9).join(" "), text);
        assert_eq!(wrap_sentences(text, 24, 1), ["It is 1.5 s, e.g. slow."]);
        assert_eq!(wrap_sentences(text, 16, 2), ["It is 1.5 s,", "e.g. slow."]);
        assert_eq!(wrap_sentences(text, 16, 1), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn nothing_is_ever_wider_than_asked(words in "[a-z模 ]{0,60}", width in 0_usize..40) {
            prop_assert!(truncate(&words, width).width() <= width);
            for line in wrap(&words, width) {
                // A character of two columns cannot be put into one.
                prop_assert!(line.width() <= width.max(2));
            }
            let row = Row::new().left(0, span(words.clone(), Style::new())).right(1, span("right", Style::new()));
            prop_assert!(text(&row.line(width)).trim_end().width() <= width);
        }
    }
}
