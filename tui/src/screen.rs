//! The frame around every view: header, tabs, footer, the list of keys, and what is said when there is no room.

use ratatui::buffer::Buffer;
use ratatui::layout::{Margin, Rect};
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};

use crate::app::{App, Connection};
use crate::feed::ReplayState;
use crate::gpus::in_doubt;
use crate::keys::{Action, BINDINGS, Hint};
use crate::line::{Row, span};
use crate::plain::Clean;
use crate::scroll::Scroll;
use crate::theme::{Role, Theme};
use crate::units;
use crate::views::{Arrows, Scene, VIEWS, put};
use crate::widgets::badge;
use crate::wording;

/// Least columns in which anything useful fits.
pub(crate) const MIN_WIDTH: u16 = 40;
/// Least rows.
pub(crate) const MIN_HEIGHT: u16 = 10;
/// From this many rows on, the tabs get a row.
const TABS_FROM: u16 = 14;
/// A tick that closes later than this is worth saying.
const LATE: f64 = 0.25;
/// An agent that uses more of a core than this is worth saying.
const BUSY: f64 = 0.02;
/// An agent that holds more memory than this is worth saying.
const LARGE: u64 = 96 << 20;

/// Draws the whole screen.
pub(crate) fn draw(app: &App, theme: Theme, interactive: bool, buffer: &mut Buffer) {
    let area = buffer.area;
    if area.width < MIN_WIDTH || area.height < MIN_HEIGHT {
        too_small(theme, buffer);
    } else {
        frame(app, theme, interactive, buffer);
    }
    if theme.is_ascii() {
        to_ascii(buffer);
    }
}

fn frame(app: &App, theme: Theme, interactive: bool, buffer: &mut Buffer) {
    let area = buffer.area;
    let width = usize::from(area.width);
    put(&[header(app, theme, interactive, width)], Rect { height: 1, ..area }, buffer);
    let mut body = Rect { y: area.y + 1, height: area.height - 1, ..area };
    if interactive {
        if area.height >= TABS_FROM {
            put(&[tabs(app, theme, width)], Rect { height: 1, ..body }, buffer);
            body = Rect { y: body.y + 1, height: body.height - 1, ..body };
        }
        body.height -= 1;
        put(&[footer(app, theme, width)], Rect { y: area.bottom() - 1, height: 1, ..area }, buffer);
    }
    match app.snapshot() {
        Some(snapshot) => {
            let scene = Scene { app, snapshot, theme };
            VIEWS[app.view()].draw(scene, body, buffer);
            let old = !matches!(app.connection(), Connection::Live | Connection::Waiting);
            if old && interactive {
                fade(theme, body, buffer);
            }
        }
        None => waiting(app, theme, body, buffer),
    }
    if let Some(scroll) = app.help() {
        help(scroll, theme, body, buffer);
    }
}

/// The last frame stays, but nobody takes it for a live one.
fn fade(theme: Theme, area: Rect, buffer: &mut Buffer) {
    let dim = theme.style(Role::Dim);
    for position in area.positions() {
        let cell = &mut buffer[position];
        let filled = cell.bg != ratatui::style::Color::Reset;
        cell.set_style(dim.remove_modifier(Modifier::BOLD));
        if filled {
            cell.bg = ratatui::style::Color::Reset;
        }
    }
}

fn header(app: &App, theme: Theme, interactive: bool, width: usize) -> Line<'static> {
    let dim = theme.style(Role::Dim);
    let mut row = Row::new().left(9, span("perfwatch", theme.style(Role::Strong)));
    let Some(snapshot) = app.snapshot() else {
        return mode(app, theme, None).into_iter().fold(row, |row, (rank, item)| row.right(rank, item)).line(width);
    };
    row = row.left(5, span(snapshot.host.name.clone(), theme.style(Role::Accent)));
    for (rank, item) in health(snapshot).into_iter().enumerate() {
        row = row.left(if rank == 0 { 4 } else { 6 }, span(item, theme.style(Role::Warn)));
    }
    if interactive {
        row = mode(app, theme, Some(snapshot)).into_iter().fold(row, |row, (rank, item)| row.right(rank, item));
    }
    row.right(8, span(wording::clock(&snapshot.time), dim)).right(1, verdict(snapshot, theme)).line(width)
}

/// What is not as it should be with the agent itself; nothing when all is well.
fn health(snapshot: &Clean) -> Vec<String> {
    let agent = &snapshot.agent;
    let mut items = Vec::new();
    if agent.late_s >= LATE {
        items.push(format!("late {}", units::duration(agent.late_s)));
    }
    if agent.dropped > 0 {
        items.push(format!("dropped {}", units::digits(agent.dropped as f64)));
    }
    if agent.ticks_missed > 0 {
        items.push(format!("missed {} ticks", units::digits(agent.ticks_missed as f64)));
    }
    if let Some(cores) = agent.cpu_cores.filter(|cores| *cores >= BUSY) {
        items.push(format!("agent {} CPU", units::percent(cores)));
    }
    if let Some(rss) = agent.rss_bytes.filter(|rss| *rss >= LARGE) {
        items.push(format!("agent {}", units::bytes(rss as f64)));
    }
    if agent.version != env!("CARGO_PKG_VERSION") {
        items.push(format!("agent is {}", agent.version));
    }
    items
}

/// Where the picture comes from, with the rank of each item.
fn mode(app: &App, theme: Theme, snapshot: Option<&Clean>) -> Vec<(u8, Vec<Span<'static>>)> {
    let dim = theme.style(Role::Dim);
    if let Connection::Lost { reason, retry_in } = app.connection() {
        let warn = theme.style(Role::Warn);
        return vec![
            (0, span(format!("{} DISCONNECTED", theme.pick("○", "o")), theme.style(Role::Crit))),
            (3, span(reason.clone(), warn)),
            (0, span(format!("reconnecting in {} s", retry_in.as_secs_f64().ceil()), warn)),
        ];
    }
    if let Some(replay) = app.replay() {
        return replaying(replay, theme);
    }
    if let Some(newer) = app.paused() {
        let mut items = vec![(0, span(format!("{} PAUSED", theme.pick("‖", "=")), theme.style(Role::Warn)))];
        if newer > 0 {
            items.push((2, span(format!("{newer} newer"), dim)));
        }
        return items;
    }
    let item = match app.connection() {
        Connection::Ended => span(format!("{} ENDED", theme.pick("■", "#")), dim),
        Connection::Stale(since) => {
            span(format!("{} STALE {} s", theme.pick("○", "o"), since.as_secs()), theme.style(Role::Crit))
        }
        Connection::Live => {
            let interval =
                snapshot.map(|one| format!(" {}", units::interval(one.agent.interval_s))).unwrap_or_default();
            let live = format!("{} LIVE", theme.pick("●", "*"));
            vec![Span::styled(live, theme.style(Role::Ok)), Span::styled(interval, dim)]
        }
        _ => span("waiting for the first snapshot", dim),
    };
    vec![(0, item)]
}

/// How a replay stands, with the rank of each item.
fn replaying(replay: &ReplayState, theme: Theme) -> Vec<(u8, Vec<Span<'static>>)> {
    let dim = theme.style(Role::Dim);
    let shape = match (replay.at_end, replay.playing) {
        (true, _) => theme.pick("■", "#"),
        (false, true) => theme.pick("▶", ">"),
        (false, false) => theme.pick("‖", "="),
    };
    let speed = match replay.speed {
        slow if slow < 0 => format!(" 1/{}", 1 << -slow),
        fast => format!(" {}×", 1 << fast),
    };
    let words = if replay.at_end { " END".to_owned() } else { speed };
    let mut items =
        vec![(0, vec![Span::styled(format!("{shape} REPLAY"), theme.style(Role::Warn)), Span::styled(words, dim)])];
    if let Some(why) = &replay.trouble {
        items.push((0, span(why.clone(), theme.style(Role::Crit))));
    } else if replay.differs {
        items.push((2, span("judged otherwise then", theme.style(Role::Warn))));
    }
    items
}

/// The count of the worst kind of finding, and of all others behind it.
fn verdict(snapshot: &Clean, theme: Theme) -> Vec<Span<'static>> {
    let findings = &snapshot.findings;
    let Some(worst) = findings.iter().map(|finding| finding.severity).max() else {
        let sure = !snapshot.servers.is_empty() && snapshot.undecided.is_empty() && in_doubt(snapshot).is_none();
        return if sure { span(theme.pick("✔ fine", "+ fine"), theme.style(Role::Ok)) } else { Vec::new() };
    };
    let count = findings.iter().filter(|finding| finding.severity == worst).count();
    let plural = if count == 1 || worst == perfwatch_model::Severity::Critical { "" } else { "s" };
    let mut text = format!("{} {count} {}{plural}", badge::shape(worst, theme), worst.name());
    if findings.len() > count {
        text = format!("{text} +{}", findings.len() - count);
    }
    span(text, theme.style(badge::role(worst)))
}

fn tabs(app: &App, theme: Theme, width: usize) -> Line<'static> {
    let mut row = Row::new();
    for (index, view) in VIEWS.iter().enumerate() {
        let count = app.snapshot().map_or(0, |snapshot| view.count(snapshot));
        let count = if count > 0 { format!(" {count}") } else { String::new() };
        let text = format!("{} {}{count}", index + 1, view.title());
        let (text, role, rank) = if index == app.view() {
            (format!("[{text}]"), Role::Strong, 0)
        } else {
            (text, Role::Dim, 1 + index as u8)
        };
        row = row.left(rank, span(text, theme.style(role)));
    }
    row.line(width)
}

fn footer(app: &App, theme: Theme, width: usize) -> Line<'static> {
    let mut row = Row::new();
    for binding in BINDINGS {
        let Some(Hint { key, ascii, word, rank }) = binding.footer else { continue };
        if !app.can(binding.action) {
            continue;
        }
        let word = match binding.action {
            Action::Pause if app.replay().is_some_and(|replay| replay.at_end && replay.whole) => "again",
            Action::Pause if app.replay().is_some_and(|replay| !replay.playing) => "play",
            Action::Pause if app.paused().is_some() => "go on",
            Action::Up if app.scrolls() => "scroll",
            Action::Up if VIEWS[app.view()].arrows() == Arrows::Seconds => "server",
            Action::Left if VIEWS[app.view()].arrows() == Arrows::Seconds => "second",
            Action::Up | Action::Left if VIEWS[app.view()].arrows() == Arrows::Gpus => "GPU",
            _ => word,
        };
        let key = Span::styled(theme.pick(key, ascii), theme.style(Role::Strong));
        row = row.left(rank, vec![key, Span::styled(format!(" {word}"), theme.style(Role::Dim))]);
    }
    row.line(width)
}

fn waiting(app: &App, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let words = match app.connection() {
        Connection::Lost { .. } => "No agent to show anything of yet. Start one with: perfwatch agent",
        Connection::Ended => "The agent ended before it said anything.",
        _ => "The first second is being measured.",
    };
    let width = usize::from(area.width);
    let mut lines = vec![Line::default()];
    for line in crate::line::wrap(words, width.saturating_sub(2)) {
        lines.push(Row::new().left(0, span(line, theme.style(Role::Dim))).line(width));
    }
    put(&lines, area, buffer);
}

/// All keys, over the view.
fn help(scroll: &Scroll, theme: Theme, area: Rect, buffer: &mut Buffer) {
    let labels =
        BINDINGS.iter().map(|binding| theme.pick(binding.label, binding.ascii).chars().count()).max().unwrap_or(0);
    let words = BINDINGS.iter().map(|binding| binding.words.chars().count()).max().unwrap_or(0);
    // In two columns where one is too long.
    let columns = if area.height < BINDINGS.len() as u16 + 2 && usize::from(area.width) >= 2 * (labels + words + 4) {
        2
    } else {
        1
    };
    let rows = BINDINGS.len().div_ceil(columns);
    let width = ((labels + words + 4) * columns + 2).min(usize::from(area.width)) as u16;
    let height = (rows as u16 + 2).min(area.height);
    let (x, y) = (area.x + (area.width - width) / 2, area.y + (area.height - height) / 2);
    let place = Rect { x, y, width, height };
    let inside = place.inner(Margin { horizontal: 1, vertical: 1 });
    let hidden = rows.saturating_sub(usize::from(inside.height));
    let top = scroll.clipped(hidden);
    let title = match (hidden > 0, theme.is_ascii()) {
        (false, _) => " Keys ",
        (true, false) => " Keys (↑↓ for more) ",
        (true, true) => " Keys (j k for more) ",
    };
    frame_box(theme, place, title, buffer);
    let column = inside.width / columns as u16;
    for (index, chunk) in BINDINGS.chunks(rows).enumerate() {
        let part = Rect { x: inside.x + column * index as u16, width: column, ..inside };
        let lines: Vec<Line<'static>> = chunk
            .iter()
            .skip(top)
            .map(|binding| {
                let label = theme.pick(binding.label, binding.ascii);
                Row::new()
                    .left(0, span(format!("{label:<labels$}"), theme.style(Role::Strong)))
                    .left(0, span(binding.words, theme.style(Role::Text)))
                    .line(usize::from(part.width))
            })
            .collect();
        put(&lines, part, buffer);
    }
}

/// An empty box with a title, over whatever was there.
fn frame_box(theme: Theme, place: Rect, title: &str, buffer: &mut Buffer) {
    for position in place.positions() {
        buffer[position].reset();
    }
    if place.width < 2 || place.height < 2 {
        return;
    }
    let [top_left, top_right, bottom_left, bottom_right, across, down] =
        theme.pick(["╭", "╮", "╰", "╯", "─", "│"], ["+", "+", "+", "+", "-", "|"]);
    let inside = usize::from(place.width) - 2;
    let style = theme.style(Role::Dim);
    let title = crate::line::truncate(title, inside);
    let fill = inside - title.chars().count();
    buffer.set_string(place.x, place.y, format!("{top_left}{title}{}{top_right}", across.repeat(fill)), style);
    let bottom = format!("{bottom_left}{}{bottom_right}", across.repeat(inside));
    buffer.set_string(place.x, place.bottom() - 1, bottom, style);
    for y in place.top() + 1..place.bottom() - 1 {
        buffer.set_string(place.x, y, down, style);
        buffer.set_string(place.right() - 1, y, down, style);
    }
}

fn too_small(theme: Theme, buffer: &mut Buffer) {
    let area = buffer.area;
    let text = format!("perfwatch needs {MIN_WIDTH}×{MIN_HEIGHT}, this is {}×{}  (q quits)", area.width, area.height);
    // One line where it fits, so that it reads as a sentence.
    let lines: Vec<Line<'static>> = if unicode_width::UnicodeWidthStr::width(text.as_str()) <= usize::from(area.width) {
        vec![Line::styled(text, theme.style(Role::Text))]
    } else {
        crate::line::wrap(&text, usize::from(area.width)).into_iter().map(Line::from).collect()
    };
    put(&lines, area, buffer);
}

/// Replaces what is not ASCII by something that is. Glyphs were chosen in ASCII already; this is for text.
fn to_ascii(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        if !cell.symbol().is_ascii() {
            let twin = ascii_twin(cell.symbol());
            cell.set_symbol(twin);
        }
    }
}

/// The one-column stand-in of a character.
pub(crate) fn ascii_twin(symbol: &str) -> &'static str {
    match symbol {
        "µ" => "u",
        "×" => "x",
        "·" => ".",
        "…" | "≈" => "~",
        "–" | "—" | "−" => "-",
        "‘" | "’" | "°" => "'",
        "“" | "”" => "\"",
        "→" | "≥" => ">",
        "≤" => "<",
        "∩" => "&",
        _ => "?",
    }
}

#[cfg(test)]
mod tests;
