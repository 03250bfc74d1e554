//! Frames of every view at the sizes people have, and what must hold at every size.

use std::sync::Arc;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use perfwatch_model::Snapshot;
use proptest::prelude::*;
use ratatui::style::{Color, Style};

use super::*;
use crate::app::Event;
use crate::feed::FeedEvent;
use crate::fixtures;
use crate::once::text;
use crate::theme::ThemeName;

fn app(snapshot: &Snapshot) -> App {
    let mut app = App::new(false);
    for earlier in fixtures::minutes_before(snapshot) {
        app.update(Event::Feed(FeedEvent::Snapshot(Arc::new(earlier))));
    }
    app
}

fn press(app: &mut App, keys: &str) {
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            '\x1b' => KeyCode::Esc,
            '\u{2193}' => KeyCode::Down,
            '\u{2192}' => KeyCode::Right,
            '\u{2190}' => KeyCode::Left,
            key => KeyCode::Char(key),
        };
        app.update(Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    }
}

fn render(app: &App, theme: Theme, width: u16, height: u16) -> Buffer {
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    draw(app, theme, true, &mut buffer);
    buffer
}

/// The sizes and looks in which every view is looked at.
fn frames(name: &str, app: &App) {
    let plain = Theme::new(ThemeName::Mono, true);
    for (size, theme, width, height) in [
        ("80x24", Theme::default(), 80, 24),
        ("120x40", Theme::default(), 120, 40),
        ("40x10", Theme::default(), 40, 10),
        ("80x24_ascii", plain, 80, 24),
    ] {
        let buffer = render(app, theme, width, height);
        if theme == plain {
            assert!(text(&buffer).is_ascii(), "{name} is not ASCII");
            assert!(buffer.content.iter().all(|cell| (cell.fg, cell.bg) == (Color::Reset, Color::Reset)));
        }
        insta::assert_snapshot!(format!("{name}_{size}"), text(&buffer));
    }
}

#[test]
fn the_overview_looks_right() {
    frames("healthy", &app(&fixtures::healthy()));
    frames("overload", &app(&fixtures::overload()));
    frames("two_findings", &app(&fixtures::two_findings()));
    frames("no_server", &app(&fixtures::no_server()));
    frames("gpu_refuses", &app(&fixtures::gpu_refuses()));
    frames("two_gpus", &app(&fixtures::two_gpus()));
    frames("bimodal", &app(&fixtures::bimodal()));
    frames("three_servers", &app(&fixtures::three_servers()));
    let mut nine = app(&fixtures::nine_servers());
    frames("nine_servers", &nine);
    press(&mut nine, "llllll");
    frames("nine_servers_seventh", &nine);
    let mut selected = app(&fixtures::two_findings());
    press(&mut selected, "j");
    frames("second_finding_selected", &selected);
}

#[test]
fn the_latency_view_looks_right() {
    let latency = |name: &str, snapshot: &Snapshot, keys: &str| {
        let mut app = app(snapshot);
        press(&mut app, "2");
        press(&mut app, keys);
        frames(name, &app);
    };
    latency("latency_healthy", &fixtures::healthy(), "");
    latency("latency_bimodal", &fixtures::bimodal(), "");
    latency("latency_overload", &fixtures::overload(), "");
    latency("latency_cursor", &fixtures::bimodal(), &"\u{2190}".repeat(32));
    latency("latency_cursor_in_a_gap", &fixtures::bimodal(), &"\u{2190}".repeat(18));
    latency("latency_cursor_long_ago", &fixtures::overload(), &"\u{2190}".repeat(90));
    latency("latency_silent", &fixtures::three_servers(), "jj");
    latency("latency_no_server", &fixtures::no_server(), "");
    latency("latency_process", &fixtures::nine_servers(), "jjjjjjj");
}

#[test]
fn the_gpus_view_looks_right() {
    let gpus = |name: &str, snapshot: &Snapshot, keys: &str| {
        let mut app = app(snapshot);
        press(&mut app, "3");
        press(&mut app, keys);
        frames(name, &app);
        insta::assert_snapshot!(format!("{name}_200x60"), text(&render(&app, Theme::default(), 200, 60)));
    };
    gpus("gpus_eight", &fixtures::eight_gpus(), "");
    gpus("gpus_eight_hot", &fixtures::eight_gpus(), "kk");
    gpus("gpus_eight_errors", &fixtures::eight_gpus(), "j\n");
    gpus("gpus_mig", &fixtures::mig(), "j");
    gpus("gpus_two", &fixtures::two_gpus(), "");
    gpus("gpus_without_gpm", &fixtures::without_gpm(), "");
    gpus("gpus_hung", &fixtures::hung(), "j");
    gpus("gpus_refuses", &fixtures::gpu_refuses(), "");
    gpus("gpus_none", &fixtures::no_server(), "");
}

#[test]
fn findings_and_what_is_not_available_look_right() {
    let mut findings = app(&fixtures::two_findings());
    press(&mut findings, "4");
    frames("findings", &findings);
    press(&mut findings, "\u{2193}\n");
    frames("finding_detail", &findings);
    let mut none = app(&fixtures::healthy());
    press(&mut none, "4");
    frames("findings_none", &none);
    let mut missing = app(&fixtures::gpu_refuses());
    press(&mut missing, "5");
    frames("unavailable", &missing);
}

#[test]
fn help_pause_and_a_lost_agent_look_right() {
    let mut helped = app(&fixtures::healthy());
    press(&mut helped, "?");
    frames("help", &helped);
    let mut paused = app(&fixtures::healthy());
    press(&mut paused, " ");
    paused.update(Event::Feed(FeedEvent::Snapshot(Arc::new(fixtures::overload()))));
    frames("paused", &paused);
    let mut lost = app(&fixtures::overload());
    lost.update(disconnected(2));
    frames("disconnected", &lost);
    let mut never = App::new(false);
    never.update(disconnected(4));
    frames("never_connected", &never);
}

fn disconnected(seconds: u64) -> Event {
    let retry_in = Duration::from_secs(seconds);
    Event::Feed(FeedEvent::Disconnected { reason: "agent is gone".to_owned(), retry_in })
}

#[test]
fn no_size_panics() {
    for snapshot in [
        fixtures::everything(),
        fixtures::no_server(),
        fixtures::nine_servers(),
        fixtures::gpu_refuses(),
        fixtures::bimodal(),
        fixtures::eight_gpus(),
        fixtures::mig(),
    ] {
        for keys in ["", "2", "2hhhhhhhhh", "3", "3\n", "4", "5", "\n", "?"] {
            let mut app = app(&snapshot);
            press(&mut app, keys);
            for width in (0..=20).chain([39, 40, 79, 80, 81, 120, 200, 300]) {
                for height in (0..=10).chain([23, 24, 25, 50]) {
                    render(&app, Theme::default(), width, height);
                }
            }
        }
    }
}

#[test]
fn too_small_a_terminal_is_told_what_is_needed() {
    let app = app(&fixtures::healthy());
    let said = text(&render(&app, Theme::default(), 60, 8));
    assert_eq!(said.trim(), "perfwatch needs 40×10, this is 60×8  (q quits)");
    let wrapped = text(&render(&app, Theme::default(), 32, 8)).replace('\n', " ");
    assert_eq!(wrapped.trim(), "perfwatch needs 40×10, this is 32×8  (q quits)".replace("  (", " ("));
}

fn find(buffer: &Buffer, needle: &str) -> Style {
    for y in 0..buffer.area.height {
        let row: String = (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect();
        if let Some(at) = row.find(needle) {
            let x = row[..at].chars().count() as u16;
            return buffer[(x, y)].style();
        }
    }
    panic!("{needle} is not on the screen:\n{}", text(buffer));
}

#[test]
fn colour_says_the_same_as_shape_and_word() {
    let theme = Theme::default();
    let buffer = render(&app(&fixtures::two_findings()), theme, 120, 40);
    assert_eq!(find(&buffer, "✖ critical").fg, Some(Color::LightRed));
    assert_eq!(find(&buffer, "▲ warning").fg, Some(Color::Yellow));
    assert_eq!(find(&buffer, "● LIVE").fg, Some(Color::Green));
    assert_eq!(find(&buffer, "QQQQQ").bg, Some(Color::LightRed), "time taken from outside is red");
    assert_eq!(find(&buffer, "█████").fg, Some(Color::Green), "work is green");
    assert_eq!(find(&buffer, "late 420 ms").fg, Some(Color::Yellow));
}

#[test]
fn the_last_frame_of_a_lost_agent_is_dimmed_and_stays() {
    let mut lost = app(&fixtures::overload());
    lost.update(disconnected(2));
    let buffer = render(&lost, Theme::default(), 100, 30);
    assert_eq!(find(&buffer, "511").fg, Some(Color::DarkGray));
    assert_eq!(find(&buffer, "DISCONNECTED").fg, Some(Color::LightRed));
    assert!(text(&buffer).contains("reconnecting in 2"));
    lost.update(Event::Feed(FeedEvent::Snapshot(Arc::new(fixtures::overload()))));
    assert_ne!(find(&render(&lost, Theme::default(), 100, 30), "511").fg, Some(Color::DarkGray));
}

#[test]
fn the_footer_lists_only_what_works_here() {
    let footer =
        |app: &App| text(&render(app, Theme::default(), 120, 24)).lines().last().unwrap_or_default().to_owned();
    let healthy = footer(&app(&fixtures::healthy()));
    assert!(!healthy.contains("open") && !healthy.contains("server") && !healthy.contains("back"), "{healthy}");
    let two = footer(&app(&fixtures::two_findings()));
    assert!(two.contains("⏎ open") && two.contains("↑↓ select"), "{two}");
    assert!(footer(&app(&fixtures::three_servers())).contains("←→ server"));
    let mut latency = app(&fixtures::healthy());
    press(&mut latency, "2");
    assert!(footer(&latency).contains("←→ second") && !footer(&latency).contains("↑↓"), "{}", footer(&latency));
    let mut gpus = app(&fixtures::eight_gpus());
    press(&mut gpus, "3");
    let list = footer(&gpus);
    assert!(list.contains("↑↓ GPU") && list.contains("⏎ open") && !list.contains("←→"), "{list}");
    press(&mut gpus, "\n");
    let detail = footer(&gpus);
    assert!(detail.contains("↑↓ scroll") && detail.contains("←→ GPU") && !detail.contains("open"), "{detail}");
    let mut several = app(&fixtures::three_servers());
    press(&mut several, "2");
    assert!(footer(&several).contains("↑↓ server"), "{}", footer(&several));
    let mut replay = app(&fixtures::healthy());
    for (whole, at_end, word) in [(true, false, "pause"), (true, true, "again"), (false, true, "pause")] {
        let state = crate::feed::ReplayState { playing: true, at_end, whole, ..Default::default() };
        replay.update(Event::Feed(FeedEvent::Replay(state)));
        assert!(footer(&replay).contains(&format!("space {word}")), "{}", footer(&replay));
    }
}

#[test]
fn a_list_of_servers_that_is_not_whole_says_so_and_holds_the_selected_one() {
    for (width, height) in [(80, 24), (120, 40), (200, 60)] {
        let mut nine = app(&fixtures::nine_servers());
        for server in fixtures::nine_servers().servers {
            let screen = text(&render(&nine, Theme::default(), width, height));
            let line = screen.lines().find(|line| line.starts_with(" ▸ ")).expect("one is selected");
            assert!(line.contains(&server.name[..8.min(server.name.len() - 1)]), "{line}");
            assert!(screen.contains("9 model servers") && screen.contains("more with ←→"), "{screen}");
            press(&mut nine, "l");
        }
    }
}

#[test]
fn every_key_is_in_the_help() {
    let mut helped = app(&fixtures::healthy());
    press(&mut helped, "?");
    let help = text(&render(&helped, Theme::default(), 80, 30));
    for binding in BINDINGS {
        assert!(help.contains(binding.words), "{}\n{help}", binding.words);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever a process calls itself, nothing that a terminal would obey is drawn, and the picture keeps its shape.
    #[test]
    fn nothing_from_outside_reaches_the_terminal_as_a_command(
        name in "\\PC{0,20}|[\\x00-\\x1f\\x7f-\\u{9f}\\u{200b}-\\u{202e}\\u{2066}-\\u{2069}\u{1b}\\[\\]m模e\u{301}]{0,40}",
        keys in "[12345\n]?",
        width in 40_u16..130,
    ) {
        let mut snapshot = fixtures::everything();
        snapshot.host.name.clone_from(&name);
        snapshot.servers[0].name.clone_from(&name);
        snapshot.devices[1].name.clone_from(&name);
        let gpu = snapshot.devices[2].gpu.as_mut().expect("a GPU");
        gpu.processes[0].name = Some(name.clone());
        gpu.processes[0].server = Some(name.clone());
        gpu.throttle_reasons = vec![name.clone()];
        (gpu.faults, gpu.sharing) = (vec![name.clone()], Some(name.clone()));
        snapshot.findings[0].detail.clone_from(&name);
        snapshot.findings[0].summary = name.clone().into();
        snapshot.findings[0].entity.clone_from(&name);
        snapshot.unavailable[0].reason.clone_from(&name);
        snapshot.servers[0].slowest[0].stages[0].stage.clone_from(&name);
        snapshot.servers[0].slowest[0].trace_id = Some(name.clone());
        snapshot.servers[0].ledger.as_mut().expect("a ledger").entries[0].stage.clone_from(&name);
        let mut app = App::new(false);
        app.update(Event::Feed(FeedEvent::Snapshot(Arc::new(snapshot.clone()))));
        press(&mut app, &keys);
        app.update(Event::Feed(FeedEvent::Disconnected { reason: name.clone(), retry_in: Duration::from_secs(1) }));
        let buffer = render(&app, Theme::default(), width, 40);
        for cell in &buffer.content {
            for c in cell.symbol().chars() {
                let obeyed = c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
                prop_assert!(!obeyed, "{:?}", c);
            }
        }
        for line in text(&buffer).lines() {
            prop_assert!(unicode_width::UnicodeWidthStr::width(line) <= usize::from(width), "{line:?}");
        }
        let card = crate::card(&snapshot, crate::CardOptions::default());
        prop_assert!(card.chars().all(|c| c == '\n' || !c.is_control()));
    }
}
