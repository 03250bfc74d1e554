use std::sync::Arc;

use ratatui::style::Modifier;

use super::*;
use crate::app::{App, Event};
use crate::feed::FeedEvent;
use crate::fixtures;
use crate::theme::{Theme, ThemeName};

fn app(last: &perfwatch_model::Snapshot) -> App {
    let mut app = App::new(false);
    for snapshot in fixtures::minutes_before(last) {
        app.update(Event::Feed(FeedEvent::Snapshot(Arc::new(snapshot))));
    }
    app.update(Event::Key(crossterm::event::KeyEvent::from(crossterm::event::KeyCode::Char('2'))));
    app
}

fn press(app: &mut App, keys: &str) {
    for key in keys.chars() {
        app.update(Event::Key(crossterm::event::KeyEvent::from(crossterm::event::KeyCode::Char(key))));
    }
}

fn draw(app: &App, theme: Theme, width: u16, height: u16) -> Buffer {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    let snapshot = app.snapshot().expect("one was pushed");
    Latency.draw(Scene { app, snapshot, theme }, area, &mut buffer);
    buffer
}

fn text(app: &App, width: u16, height: u16) -> String {
    crate::once::text(&draw(app, Theme::default(), width, height))
}

/// With this server selected.
fn app_on(last: &perfwatch_model::Snapshot, name: &str) -> App {
    let mut app = app(last);
    while app.snapshot().is_some_and(|shown| shown.servers[app.server_index()].name != name) {
        press(&mut app, "j");
    }
    app
}

#[test]
fn a_server_that_falls_silent_keeps_its_past_on_the_screen() {
    let text = text(&app_on(&fixtures::three_servers(), "vision"), 80, 21);
    assert!(text.contains("silent for more than 3 s") && text.contains("????") && text.contains("━"), "{text}");
}

#[test]
fn what_matters_least_leaves_first_and_the_heatmap_stays() {
    let app = app(&fixtures::bimodal());
    let parts = ["BATCHES", "Slowest requests", "Where the time", "now"];
    let mut gone = 0;
    for height in (5..45).rev() {
        let text = text(&app, 100, height);
        assert!(text.contains("Latency of clip-cached") && text.contains("┤"), "at {height} rows:\n{text}");
        let left = parts.iter().filter(|part| !text.contains(**part)).count();
        assert!(left >= gone, "something came back at {height} rows:\n{text}");
        gone = left;
    }
    assert_eq!(gone, parts.len(), "at 5 rows all of them have left");
}

#[test]
fn time_is_never_rescaled() {
    // A column for each second, whatever the width: ten seconds ago is ten columns left of now.
    let app = app(&fixtures::bimodal());
    for width in [60, 70, 80, 90, 120] {
        let text = text(&app, width, 21);
        let axis = text.lines().find(|line| line.contains("now")).expect("the axis");
        let column = |what: &str| {
            axis.chars().collect::<String>().find(what).map(|at| axis[..at].chars().count() + what.chars().count())
        };
        assert_eq!(column("now").zip(column("-10 s")).map(|(now, then)| now - then), Some(10), "{axis}");
    }
}

#[test]
fn the_cursor_shows_the_histogram_of_its_second() {
    let mut app = app(&fixtures::bimodal());
    press(&mut app, &"h".repeat(32));
    let buffer = draw(&app, Theme::new(ThemeName::Mono, false), 80, 21);
    let text = crate::once::text(&buffer);
    assert!(text.contains("14:02:00  220 requests"), "misses only, 31 s ago:\n{text}");
    assert!(text.contains("▲") && text.contains("p50") && text.contains("p99"), "{text}");
    let reversed = (0..80).filter(|x| buffer[(*x, 2)].modifier.contains(Modifier::REVERSED)).count();
    assert_eq!(reversed, 1, "one column stands out, without colour");
}

#[test]
fn a_cursor_far_back_is_followed_and_the_axis_says_so() {
    let mut app = app(&fixtures::overload());
    press(&mut app, &"h".repeat(90));
    let text = text(&app, 80, 21);
    assert!(text.contains("14:01:02") && text.contains("▲") && !text.contains("now"), "{text}");
}

#[test]
fn an_agent_without_distributions_is_told_from_a_server_without_requests() {
    let mut old = fixtures::healthy();
    old.servers[0].latency_buckets = None;
    assert!(text(&app(&old), 80, 21).contains("older than this picture"));
    let watched = text(&app_on(&fixtures::nine_servers(), "tagger"), 80, 21);
    assert!(
        watched.contains("Only its process is watched")
            && watched.contains("perfwatch_sdk")
            && watched.contains("perfwatch.Server"),
        "{watched}"
    );
    let mut idle = fixtures::healthy();
    idle.servers[0].latency_buckets = Some(Vec::new());
    idle.servers[0].latency = None;
    let mut shown = App::new(false);
    shown.update(Event::Feed(FeedEvent::Snapshot(Arc::new(idle))));
    press(&mut shown, "2");
    assert!(text(&shown, 80, 21).contains("no request has ended yet"));
}

#[test]
fn the_waterfall_gives_the_ledger_per_request() {
    let text = text(&app(&fixtures::healthy()), 100, 40);
    // 15.9 of 27.3 request-seconds over 3060 requests that ended.
    let row = text.lines().find(|line| line.contains("c compute")).expect("a row for compute");
    assert!(row.contains("5.2 ms") && row.contains("58 %") && row.contains("p99   7.8 ms"), "{row}");
    assert!(text.contains("8.9 ms on average, last 10 s"), "{text}");
    let start = |name: &str| {
        let row = text.lines().find(|line| line.contains(name)).expect("a row");
        let bar: String = row.chars().skip(50).collect();
        bar.chars().take_while(|c| *c == ' ').count()
    };
    assert!(start("p preprocess") < start("b batch wait") && start("b batch wait") < start("c compute"), "{text}");
}

#[test]
fn the_slowest_requests_tell_what_they_waited_for() {
    let text = text(&app(&fixtures::bimodal()), 120, 40);
    let row = text.lines().find(|line| line.contains("690 ms") && line.contains("trace")).expect("the slowest");
    assert!(row.contains("queue 540 ms · preprocess 131 ms · compute 19 ms"), "{row}");
    assert!(row.contains("timeout") && row.contains("trace a41f2f35…"), "{row}");
}

#[test]
fn what_a_server_tells_besides_is_shown_and_takes_no_row_when_it_tells_nothing() {
    let telling = fixtures::bimodal();
    let wide = text(&app(&telling), 120, 40);
    let line =
        |words: &str| wide.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("{words}:\n{wide}"));
    let tokens = line("TOKENS");
    for part in ["in/out 6310/1240 tok/s", "first p50 41 ms p99 188 ms", "between p50 9.3 ms p99 24 ms"] {
        assert!(tokens.contains(part), "{part}: {tokens}");
    }
    assert!(line("CACHE").contains("75 % of 412/s hit"), "{wide}");
    assert!(line("ERRORS").contains("0.4 err/s: timeout 0.3, http_500 0.1"), "{wide}");
    let silent = text(&app(&fixtures::healthy()), 120, 40);
    assert!(!["TOKENS", "CACHE", "ERRORS"].iter().any(|word| silent.contains(word)), "{silent}");
}

#[test]
fn what_went_away_is_told_from_what_failed_and_takes_no_row_when_nothing_did() {
    let mut leaving = fixtures::healthy();
    assert!(!text(&app(&leaving), 80, 21).contains("cancel/s"));
    leaving.servers[0].cancelled_per_s = Some(23.0);
    let text = text(&app(&leaving), 80, 21);
    let row = text.lines().find(|line| line.contains("cancel/s")).expect("a row for what was cancelled");
    assert!(row.contains("23"), "{row}");
    assert!(text.contains("err/s"), "{text}");
}
