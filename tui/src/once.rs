//! The screen as text, for `top --once`, pipes and the README.

use perfwatch_model::Snapshot;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use std::sync::Arc;

use crate::app::{App, Event};
use crate::feed::FeedEvent;
use crate::run::Options;
use crate::screen;

/// The view that [`Options::view`] names, of the last of these snapshots, as plain text of `width` columns and at most `height`
/// rows; the snapshots before it fill the sparklines. No escape sequences, no trailing spaces, no blank lines at the end; empty
/// without a snapshot.
pub fn render_once(snapshots: &[Snapshot], width: u16, height: u16, options: &Options) -> String {
    if snapshots.is_empty() {
        return String::new();
    }
    let mut app = App::showing(options.view, false);
    for snapshot in snapshots {
        app.update(Event::Feed(FeedEvent::Snapshot(Arc::new(snapshot.clone()))));
    }
    app.select_worst();
    let mut buffer = Buffer::empty(Rect::new(0, 0, width.max(screen::MIN_WIDTH), height.max(screen::MIN_HEIGHT)));
    screen::draw(&app, options.theme, false, &mut buffer);
    text(&buffer)
}

/// What a buffer shows, row by row.
pub(crate) fn text(buffer: &Buffer) -> String {
    let mut out = String::new();
    for y in buffer.area.top()..buffer.area.bottom() {
        let mut skip = 0;
        let mut line = String::new();
        for x in buffer.area.left()..buffer.area.right() {
            if skip > 0 {
                skip -= 1;
                continue;
            }
            let symbol = buffer[(x, y)].symbol();
            skip = unicode_width::UnicodeWidthStr::width(symbol).saturating_sub(1);
            line.push_str(symbol);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    let kept = out.trim_end().len();
    out.truncate(kept);
    out.push('\n');
    out
}
