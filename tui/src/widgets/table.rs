//! Rows whose columns line up. What there is no room for leaves by the column, so that no row differs from its neighbours.

use ratatui::text::{Line, Span};

use crate::line::{cut, spans_width};
use crate::theme::{Role, Theme};

/// Columns between two columns.
const GAP: usize = 2;

/// One column: as wide as its widest cell, or its title.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    title: &'static str,
    /// Numbers stand at the right.
    right: bool,
    /// The highest leaves first; 0 stays.
    rank: u8,
    cells: Vec<Vec<Span<'static>>>,
}

impl Column {
    /// Of text.
    pub(crate) fn text(title: &'static str, rank: u8, cells: Vec<Vec<Span<'static>>>) -> Self {
        Self { title, right: false, rank, cells }
    }

    /// Of numbers.
    pub(crate) fn number(title: &'static str, rank: u8, cells: Vec<Vec<Span<'static>>>) -> Self {
        Self { right: true, ..Self::text(title, rank, cells) }
    }

    fn width(&self) -> usize {
        let title = unicode_width::UnicodeWidthStr::width(self.title);
        self.cells.iter().map(|cell| spans_width(cell)).max().unwrap_or(0).max(title)
    }
}

/// The columns that fit, in their order.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    columns: Vec<Column>,
    width: usize,
    /// Rows that say something else in some columns: row, columns up to which, what.
    across: Vec<(usize, usize, Vec<Span<'static>>)>,
}

impl Table {
    /// Of these, as many as fit into `width`, less the margins. A column without a title and with nothing in its cells is none.
    pub(crate) fn fit(mut columns: Vec<Column>, width: usize) -> Self {
        columns.retain(|column| column.width() > 0);
        let mut table = Self { columns, width, across: Vec::new() };
        while table.taken() > width {
            let worst = table.columns.iter().enumerate().max_by_key(|(at, column)| (column.rank, *at));
            match worst.filter(|(_, column)| column.rank > 0).map(|(at, _)| at) {
                Some(at) => table.columns.remove(at),
                None => break,
            };
        }
        table
    }

    /// Columns of the screen that are taken, the margins with them.
    fn taken(&self) -> usize {
        let cells: usize = self.columns.iter().map(Column::width).sum();
        cells + GAP * self.columns.len().saturating_sub(1) + 2
    }

    /// Takes out the column of this title, where it has found room: how wide it may be, with all that is spare.
    pub(crate) fn take(&mut self, title: &str) -> Option<usize> {
        let at = self.columns.iter().position(|column| column.title == title)?;
        let own = self.columns.remove(at).width();
        let gap = if self.columns.is_empty() { 0 } else { GAP };
        Some(self.width.saturating_sub(self.taken() + gap).max(own))
    }

    /// Adds a column at the end, without asking whether it fits.
    pub(crate) fn push(&mut self, column: Column) {
        self.columns.push(column);
    }

    /// Of this row, text in the place of all cells after the first that are there so far. It makes no column wider, and is cut where
    /// they end.
    pub(crate) fn across(&mut self, row: usize, cell: Vec<Span<'static>>) {
        self.across.push((row, self.columns.len(), cell));
    }

    /// The titles.
    pub(crate) fn header(&self, theme: Theme) -> Line<'static> {
        self.line(|column| vec![Span::styled(column.title, theme.style(Role::Dim))], None)
    }

    /// One row.
    pub(crate) fn row(&self, row: usize) -> Line<'static> {
        let across = self.across.iter().find(|(at, until, _)| *at == row && *until > 1);
        let cell = |column: &Column| column.cells.get(row).cloned().unwrap_or_default();
        self.line(cell, across.map(|(_, until, cell)| (*until, cell)))
    }

    fn line(
        &self,
        cell: impl Fn(&Column) -> Vec<Span<'static>>,
        across: Option<(usize, &Vec<Span<'static>>)>,
    ) -> Line<'static> {
        let mut spans = vec![Span::raw(" ")];
        for (at, column) in self.columns.iter().enumerate() {
            let gap = if at > 0 { GAP } else { 0 };
            let (cell, columns, right) = match across {
                Some((until, cell)) if at == 1 => {
                    let covered = &self.columns[1..until];
                    let columns = covered.iter().map(Column::width).sum::<usize>() + GAP * (covered.len() - 1);
                    (cut(cell.clone(), columns).spans, columns, false)
                }
                Some((until, _)) if at > 1 && at < until => continue,
                _ => (cell(column), column.width(), column.right),
            };
            let fill = columns.saturating_sub(spans_width(&cell));
            let (before, after) = if right { (gap + fill, 0) } else { (gap, fill) };
            spans.push(Span::raw(" ".repeat(before)));
            spans.extend(cell);
            spans.push(Span::raw(" ".repeat(after)));
        }
        spans.retain(|span| !span.content.is_empty());
        cut(spans, self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(texts: &[&str]) -> Vec<Vec<Span<'static>>> {
        texts.iter().map(|text| vec![Span::raw((*text).to_owned())]).collect()
    }

    fn text(line: &Line<'_>) -> String {
        line.spans.iter().map(|span| span.content.as_ref()).collect::<String>().trim_end().to_owned()
    }

    fn table(width: usize) -> Table {
        let columns = vec![
            Column::text("name", 0, cells(&["a", "longer"])),
            Column::number("GiB", 1, cells(&["7", "112"])),
            Column::text("", 3, cells(&["", ""])),
            Column::text("note", 2, cells(&["x", "yy"])),
        ];
        Table::fit(columns, width)
    }

    #[test]
    fn columns_line_up_and_the_least_important_leaves_in_every_row() {
        let all = table(40);
        assert_eq!(text(&all.header(Theme::default())), " name    GiB  note");
        assert_eq!((text(&all.row(0)), text(&all.row(1))), (" a         7  x".into(), " longer  112  yy".into()));
        let narrow = table(16);
        assert_eq!((text(&narrow.row(0)), text(&narrow.row(1))), (" a         7".into(), " longer  112".into()));
        assert_eq!(text(&table(5).row(1)), " lon…", "what may not leave is cut");
    }

    #[test]
    fn text_across_columns_makes_none_wider_and_leaves_those_alone_that_come_later() {
        let mut table = table(40);
        table.across(0, cells(&["nothing at all is known"]).remove(0));
        table.push(Column::text("bar", 0, cells(&["==", "=="])));
        assert_eq!(text(&table.header(Theme::default())), " name    GiB  note  bar");
        assert_eq!(text(&table.row(0)), " a       nothing…   ==");
        assert_eq!(text(&table.row(1)), " longer  112  yy    ==");
    }

    #[test]
    fn a_column_that_found_room_may_have_all_that_is_spare() {
        let mut table = table(40);
        let room = table.take("note").expect("it found room");
        table.push(Column::text("bar", 0, cells(&["#".repeat(room).as_str()])));
        assert_eq!(text(&table.row(0)).chars().count(), 39, "all but the margin at the right");
        assert_eq!(self::table(16).take("note"), None);
    }
}
