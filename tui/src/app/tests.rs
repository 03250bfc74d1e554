use crossterm::event::{KeyCode, KeyModifiers};

use super::*;
use crate::fixtures;

fn push(app: &mut App, snapshot: &Snapshot) -> Effect {
    app.update(Event::Feed(FeedEvent::Snapshot(Arc::new(snapshot.clone()))))
}

fn press(app: &mut App, key: char) -> Effect {
    let code = if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) };
    app.update(Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

fn at(second: u32, snapshot: Snapshot) -> Snapshot {
    Snapshot { time: format!("2026-03-04T14:02:{second:02}Z"), ..snapshot }
}

#[test]
fn a_pause_freezes_the_screen_and_loses_nothing() {
    let mut app = App::new(false);
    push(&mut app, &at(1, fixtures::healthy()));
    press(&mut app, ' ');
    push(&mut app, &at(2, fixtures::healthy()));
    push(&mut app, &at(3, fixtures::overload()));
    assert_eq!(app.paused(), Some(2));
    assert!(app.snapshot().is_some_and(|shown| shown.findings.is_empty()), "frozen");
    press(&mut app, ' ');
    assert_eq!(app.paused(), None);
    assert_eq!(app.snapshot().map(|shown| shown.findings.len()), Some(1));
    assert_eq!(app.history().cpu.iter().filter(|value| !value.is_nan()).count(), 3, "the graph has no hole");
}

#[test]
fn the_screen_goes_back_in_time_with_the_graphs_of_then_and_comes_back_live() {
    let mut app = App::new(false);
    let mut then = None;
    for second in 1..=9 {
        push(&mut app, &at(second, fixtures::healthy()));
        if second == 6 {
            then = Some(app.history().cpu.iter().collect::<Vec<_>>());
        }
    }
    (0..3).for_each(|_| assert_eq!(press(&mut app, '['), Effect::Draw));
    assert_eq!((app.snapshot().map(|shown| &shown.time[17..19]), app.paused()), (Some("06"), Some(3)));
    assert_eq!(Some(app.history().cpu.iter().collect::<Vec<_>>()), then);
    push(&mut app, &at(10, fixtures::healthy()));
    press(&mut app, ']');
    assert_eq!((app.snapshot().map(|shown| &shown.time[17..19]), app.paused()), (Some("07"), Some(3)));
    press(&mut app, '{');
    assert_eq!(app.snapshot().map(|shown| &shown.time[17..19]), Some("01"), "no further than there is");
    press(&mut app, '}');
    assert_eq!(app.snapshot().map(|shown| &shown.time[17..19]), Some("10"));
    press(&mut app, 'L');
    assert_eq!((app.paused(), app.history().len()), (None, 10));
    assert_eq!(press(&mut app, '+'), Effect::None, "a live screen has one speed");
}

#[test]
fn keys_steer_a_replay_and_its_header_says_how_it_stands() {
    let mut app = App::new(false);
    let state = |playing, at_end| ReplayState { playing, at_end, ..ReplayState::default() };
    let past: Vec<_> = (1..=5).map(|second| Arc::new(at(second, fixtures::healthy()))).collect();
    app.update(Event::Feed(FeedEvent::Replay(state(true, false))));
    app.update(Event::Feed(FeedEvent::Jump(past)));
    assert_eq!(app.history().len(), 5);
    for (key, control) in [
        (' ', Control::PlayOrPause),
        ('[', Control::Go(Goto::By(-1))),
        ('}', Control::Go(Goto::By(60))),
        ('B', Control::Go(Goto::First)),
        ('L', Control::Go(Goto::Last)),
        ('+', Control::Faster),
        ('-', Control::Slower),
    ] {
        assert_eq!(press(&mut app, key), Effect::Steer(control), "{key}");
    }
    assert_eq!(app.update(Event::Quiet(Duration::from_secs(99))), Effect::None, "a paused replay is not stale");
    assert_eq!(app.replay().map(|replay| replay.playing), Some(true));
}

#[test]
fn an_agent_that_stopped_talking_is_not_shown_as_live() {
    let mut app = App::new(false);
    assert_eq!(app.update(Event::Quiet(Duration::from_secs(9))), Effect::None, "nothing was shown yet");
    push(&mut app, &fixtures::healthy());
    assert_eq!(app.update(Event::Quiet(Duration::from_secs(2))), Effect::None);
    assert_eq!(*app.connection(), Connection::Live);
    assert_eq!(app.update(Event::Quiet(Duration::from_secs(5))), Effect::Draw);
    assert_eq!(*app.connection(), Connection::Stale(Duration::from_secs(5)));
    push(&mut app, &fixtures::healthy());
    assert_eq!(*app.connection(), Connection::Live);
}

#[test]
fn the_selected_finding_stays_selected_when_it_moves() {
    let mut app = App::new(false);
    push(&mut app, &fixtures::two_findings());
    press(&mut app, 'j');
    assert_eq!(app.finding_index(), 1);
    let mut turned = fixtures::two_findings();
    turned.findings.reverse();
    push(&mut app, &turned);
    assert_eq!(app.finding_index(), 0);
    push(&mut app, &fixtures::healthy());
    assert_eq!(app.finding_index(), 0, "it is gone");
}

#[test]
fn enter_opens_escape_goes_back_and_never_quits() {
    let mut app = App::new(false);
    assert_eq!(press(&mut app, '\n'), Effect::None, "nothing to open");
    push(&mut app, &fixtures::two_findings());
    press(&mut app, '\n');
    assert!(app.detail() && app.view() == crate::views::FINDINGS);
    for _ in 0..4 {
        let escape = KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE);
        assert_eq!(app.update(Event::Key(escape)), Effect::Draw);
    }
    assert!(!app.detail() && app.view() == 0);
    assert_eq!(press(&mut app, 'q'), Effect::Quit);
}

#[test]
fn the_list_of_keys_pages_and_any_other_key_closes_it() {
    let mut app = App::new(false);
    push(&mut app, &fixtures::two_findings());
    press(&mut app, '?');
    let key = |app: &mut App, code| app.update(Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    let top = |app: &App| app.help().map(|help| help.clipped(16));
    for (code, expected) in
        [(KeyCode::PageDown, 10), (KeyCode::PageDown, 16), (KeyCode::Up, 15), (KeyCode::Home, 0), (KeyCode::End, 16)]
    {
        key(&mut app, code);
        assert_eq!(top(&app), Some(expected), "{code:?}");
    }
    press(&mut app, 'j');
    key(&mut app, KeyCode::Tab);
    assert_eq!((top(&app), app.view(), app.finding_index()), (None, 0, 0), "and does nothing else");
}

#[test]
fn the_detail_of_a_finding_that_cleared_closes() {
    let mut app = App::new(false);
    push(&mut app, &fixtures::overload());
    press(&mut app, '\n');
    push(&mut app, &fixtures::healthy());
    assert!(!app.detail());
}

#[test]
fn the_server_with_the_worst_finding_is_there_first_and_later_ones_do_not_take_its_place() {
    let mut troubled = fixtures::nine_servers();
    troubled.findings.retain(|finding| finding.id == "overload");
    let mut app = App::new(false);
    push(&mut app, &troubled);
    assert_eq!(app.server_index(), 6);
    push(&mut app, &fixtures::nine_servers());
    assert_eq!(app.server_index(), 6, "what is looked at stays");
    let mut calm = App::new(false);
    push(&mut calm, &fixtures::healthy());
    push(&mut calm, &troubled);
    assert_eq!(calm.server_index(), 0, "what is looked at stays");
    let text = crate::render_once(&[fixtures::healthy(), troubled], 100, 60, &crate::Options::default());
    assert!(text.contains("── clip-api ──"), "{text}");
}

#[test]
fn the_first_gpu_with_a_finding_is_shown_until_somebody_chooses_one() {
    let eight = fixtures::eight_gpus();
    let calm = Snapshot { findings: Vec::new(), ..eight.clone() };
    let mut app = App::new(false);
    push(&mut app, &calm);
    assert_eq!(app.gpu_index(), 0);
    push(&mut app, &eight);
    assert_eq!(app.gpu_index(), 4, "findings come seconds after the first snapshot");
    let mut chosen = App::new(false);
    push(&mut chosen, &calm);
    press(&mut chosen, '3');
    press(&mut chosen, 'j');
    push(&mut chosen, &eight);
    assert_eq!(chosen.gpu_index(), 1, "what was chosen stays");
}

#[test]
fn servers_are_chosen_by_name_not_by_place() {
    let mut app = App::new(false);
    push(&mut app, &fixtures::three_servers());
    press(&mut app, 'l');
    let mut fewer = fixtures::three_servers();
    fewer.servers.remove(0);
    push(&mut app, &fewer);
    assert_eq!(app.server_index(), 0);
    assert_eq!(app.snapshot().map(|shown| shown.servers[0].name.as_str()), Some("embed-bge"));
}

#[test]
fn the_cursor_stays_on_its_second_while_time_goes_on() {
    let mut app = App::new(false);
    for second in 1..=5 {
        push(&mut app, &at(second, fixtures::healthy()));
    }
    press(&mut app, '2');
    assert_eq!(app.cursor(), None);
    press(&mut app, 'h');
    assert_eq!(app.cursor(), Some(0), "it appears at the newest");
    press(&mut app, 'h');
    push(&mut app, &at(6, fixtures::healthy()));
    assert_eq!(app.cursor(), Some(2));
    for _ in 0..9 {
        press(&mut app, 'h');
    }
    assert_eq!(app.cursor(), Some(5), "no further than what is remembered");
    for _ in 0..5 {
        press(&mut app, 'l');
    }
    assert_eq!(app.cursor(), Some(0));
    press(&mut app, 'l');
    assert_eq!(app.cursor(), None, "beyond the newest is live");
    press(&mut app, 'h');
    app.update(Event::Key(KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE)));
    assert_eq!((app.cursor(), app.view()), (None, 1), "Esc takes the cursor first");
}

#[test]
fn in_latency_up_and_down_choose_the_server() {
    let mut app = App::new(false);
    push(&mut app, &fixtures::three_servers());
    press(&mut app, '2');
    press(&mut app, 'j');
    assert_eq!(app.server_index(), 1);
    press(&mut app, 'h');
    assert_eq!(app.server_index(), 1, "left is time");
}

#[test]
fn the_end_of_the_feed_quits_only_when_asked() {
    assert_eq!(App::new(true).update(Event::Feed(FeedEvent::Ended)), Effect::Quit);
    let mut app = App::new(false);
    assert_eq!(app.update(Event::Feed(FeedEvent::Ended)), Effect::Draw);
    assert_eq!(*app.connection(), Connection::Ended);
}
