use std::sync::Arc;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use perfwatch_model::Snapshot;
use perfwatch_model::snapshot::ErrorCountsView;

use super::*;
use crate::app::{App, Event};
use crate::feed::FeedEvent;
use crate::fixtures;
use crate::theme::Theme;
use crate::views::number_of;

/// The view, two minutes into this.
fn app(snapshot: &Snapshot) -> App {
    let mut app = App::showing(number_of("gpus").expect("it is listed"), false);
    for earlier in fixtures::minutes_before(snapshot) {
        app.update(Event::Feed(FeedEvent::Snapshot(Arc::new(earlier))));
    }
    app
}

fn press(app: &mut App, code: KeyCode) {
    app.update(Event::Key(KeyEvent::new(code, KeyModifiers::NONE)));
}

fn drawn(app: &App, width: u16, height: u16) -> String {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    let snapshot = app.snapshot().expect("one was pushed");
    Gpus.draw(Scene { app, snapshot, theme: Theme::default() }, area, &mut buffer);
    crate::once::text(&buffer)
}

#[test]
fn eight_gpus_fit_on_a_small_screen_with_their_clocks_faults_and_ledgers() {
    let text = drawn(&app(&fixtures::eight_gpus()), 80, 21);
    for number in 0..8 {
        let line = text.lines().find(|line| line.contains(&format!("{number} H100 "))).expect("a line each");
        assert!(line.contains(['█', 'p', '?']), "{line}");
    }
    for state in ["▼ power limit", "▼ 40 % heat", "✖ lost", "▲ row waits"] {
        assert!(text.contains(state), "{state}\n{text}");
    }
}

#[test]
fn a_gpu_that_is_lost_says_so_in_its_own_row_and_takes_no_column_from_the_others() {
    let mut snapshot = fixtures::eight_gpus();
    // Of the others nothing is to be said.
    let well = snapshot.devices[0].gpu.clone();
    for at in [1, 2, 5] {
        snapshot.devices[at].gpu.clone_from(&well);
    }
    let columns = ["util", "SM", "tensor", "DRAM", "mem GiB", "watts", "clock"];
    for width in [80, 120] {
        let text = drawn(&app(&snapshot), width, 21);
        let header = text.lines().next().expect("titles");
        assert!(columns.iter().all(|column| header.contains(column)), "{text}");
        let row = |what: &str| text.lines().find(|line| line.contains(what)).expect("a line each").to_owned();
        assert!(
            row("4 H100").contains("✖ lost: it has fallen off the bus") && row("3 H100").contains("1.75 GHz"),
            "{text}"
        );
        let bar = |line: &str| line.chars().position(|c| "█▓?".contains(c));
        assert_eq!(bar(&row("4 H100")), bar(&row("3 H100")), "bars line up:\n{text}");
    }
    snapshot.devices.retain(|device| device.gpu.as_ref().is_none_or(|gpu| !gpu.faults.is_empty()));
    assert!(drawn(&app(&snapshot), 80, 21).contains("✖ lost"), "when there is no other too");
}

#[test]
fn a_gpu_that_could_not_be_opened_has_a_line_below_those_that_are_seen() {
    let mut snapshot = fixtures::two_gpus();
    let reason = "GPU 2 cannot be opened: the GPU has fallen off the bus";
    snapshot.unavailable.push(perfwatch_model::snapshot::Unavailable {
        metric: "hw.gpu.utilization".to_owned(),
        entity: "host:gpu-host-3".to_owned(),
        reason: reason.to_owned(),
        cure: "reboot".to_owned(),
        kind: perfwatch_model::AbsenceKind::Failed,
    });
    let app = app(&snapshot);
    for (width, height) in [(80, 21), (160, 47), (80, 4)] {
        let text = drawn(&app, width, height);
        let at = text.lines().position(|line| line.contains("1 H100")).expect("a line each");
        assert!(text.lines().nth(at + 1).is_some_and(|line| line.contains(&format!("✖ {reason}"))), "{text}");
    }
    assert!(drawn(&app, 50, 9).contains("✖ GPU 2 cannot be opened: "), "{}", drawn(&app, 50, 9));
}

#[test]
fn degrees_at_their_limit_and_above_are_marked() {
    let mut snapshot = fixtures::eight_gpus();
    snapshot.devices[1].gpu.as_mut().expect("a GPU").temperature_margin_celsius = Some(0.2);
    let mut app = app(&snapshot);
    press(&mut app, KeyCode::Home);
    let area = Rect::new(0, 0, 120, 40);
    for (theme, marks) in
        [(Theme::default(), ["▲91", "▲66"]), (Theme::new(crate::ThemeName::Mono, true), ["!91", "!66"])]
    {
        let mut buffer = Buffer::empty(area);
        Gpus.draw(Scene { app: &app, snapshot: app.snapshot().expect("one"), theme }, area, &mut buffer);
        let text = crate::once::text(&buffer);
        assert!(marks.iter().all(|mark| text.contains(mark)) && text.contains("  67  "), "{text}");
    }
    press(&mut app, KeyCode::Down);
    press(&mut app, KeyCode::Down);
    assert!(drawn(&app, 120, 40).contains("4 above its limit"), "{}", drawn(&app, 120, 40));
}

#[test]
fn pages_that_were_retired_stand_where_other_gpus_replace_rows() {
    let mut snapshot = fixtures::eight_gpus();
    let gpu = snapshot.devices[0].gpu.as_mut().expect("a GPU");
    gpu.retired_pages = gpu.remapped_rows.take().map(|_| ErrorCountsView { corrected: Some(2), uncorrected: Some(1) });
    gpu.faults = vec!["page_retirement_pending".to_owned()];
    gpu.temperature_margin_celsius = Some(0.3);
    let mut app = app(&snapshot);
    (0..8).for_each(|_| press(&mut app, KeyCode::Home));
    let text = drawn(&app, 120, 40);
    let told = [
        "pages retired 1 for uncorrected, 2 for corrected",
        "▲ page waits",
        "▲ a page of its memory is to be taken out of use when its driver is loaded next",
        "67 °C  at its limit",
    ];
    for told in told {
        assert!(text.contains(told), "{told}\n{text}");
    }
    assert!(!text.contains("rows replaced"), "{text}");
}

#[test]
fn a_finding_uses_the_rows_that_graphs_leave_free() {
    let mut snapshot = fixtures::eight_gpus();
    snapshot.findings.truncate(1);
    let finding = &mut snapshot.findings[0];
    finding.entity.clone_from(&snapshot.devices[0].id);
    finding.detail = "It worked, and what it worked at is a long story. ".repeat(5) + "It ends here.";
    finding.remedies =
        ["one", "two"].map(|action| perfwatch_model::Remedy { action: action.into(), why: "".into() }).into();
    let mut app = app(&snapshot);
    press(&mut app, KeyCode::Home);
    for (width, height) in [(120, 50), (200, 60)] {
        let text = drawn(&app, width, height);
        assert!(text.contains("It ends here.") && text.contains("→ one") && text.contains("→ two"), "{text}");
    }
    // Where there is not room for all of it, it ends with a sentence.
    let text = drawn(&app, 80, 30);
    assert!(!text.contains("It ends here.") && !text.contains('…'), "{text}");
}

/// A GPU of which a critical finding is that says more than fits beside its graphs.
fn with_an_xid() -> Snapshot {
    let mut snapshot = fixtures::eight_gpus();
    snapshot.devices.truncate(1);
    snapshot.findings.truncate(1);
    let finding = &mut snapshot.findings[0];
    finding.entity.clone_from(&snapshot.devices[0].id);
    finding.summary = "A GPU or its driver is broken, or about to be".into();
    finding.detail =
        "The GPU is not well: XID 48 in the last 15 min: an error of its memory that could not be corrected; XID 95 \
                      in the last 15 min: an error of its memory that reached more than one process."
            .into();
    let action = "stop every program that has the GPU open, other monitors too, then run `perfwatch gpus release` (this agent \
                  has it open), `nvidia-smi --gpu-reset` and `perfwatch gpus take`";
    finding.remedies = vec![perfwatch_model::Remedy { action: action.into(), why: "".into() }];
    snapshot
}

#[test]
fn of_a_finding_that_hurts_the_sentence_and_the_first_remedy_stand_before_graphs() {
    let snapshot = with_an_xid();
    let app = self::app(&snapshot);
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for (width, height) in [(80, 21), (100, 27), (160, 47)] {
        let text = drawn(&app, width, height);
        for part in ["XID 48", "XID 95", "more than one process.", "→ stop every program", "`nvidia-smi --gpu-reset`"]
        {
            assert!(words(&text).contains(part), "{part}\n{text}");
        }
        assert!(text.contains(" SM  ") && text.contains(" held down "), "graphs take what is left:\n{text}");
    }
    // All that there is room for is what is wrong and what to try.
    let text = drawn(&app, 50, 9);
    assert!(text.contains("XID 48") && text.contains("→ stop every program"), "{text}");
    // What does not hurt gives way to graphs.
    let mut note = snapshot;
    note.findings[0].severity = perfwatch_model::Severity::Note;
    let text = drawn(&self::app(&note), 80, 14);
    assert!(!text.contains("→") && text.contains(" held down "), "{text}");
}

#[test]
fn a_link_over_which_nothing_goes_leaves_before_errors_do() {
    let mut snapshot = with_an_xid();
    let gpu = snapshot.devices[0].gpu.as_mut().expect("a GPU");
    gpu.nvlink = Some(perfwatch_model::snapshot::TransferView {
        transmit_bytes_per_s: Some(0.0),
        receive_bytes_per_s: Some(0.0),
    });
    let app = app(&snapshot);
    let lost = |what: &str| (8..60).rev().find(|height| !drawn(&app, 80, *height).contains(what)).expect("some height");
    assert!(lost(" NVLink ") > lost(" errors "), "{} {}", lost(" NVLink "), lost(" errors "));
    assert!(lost(" errors ") > lost(" PCIe "));
}

#[test]
fn what_is_left_out_of_an_experimental_finding_says_so() {
    let mut snapshot = fixtures::eight_gpus();
    snapshot.findings.truncate(1);
    let finding = &mut snapshot.findings[0];
    (finding.experimental, finding.detail) = (true, "It worked on and on. ".repeat(40));
    let app = app(&snapshot);
    assert!(drawn(&app, 80, 21).contains("  experimental"), "{}", drawn(&app, 80, 21));
}

#[test]
fn a_gpu_is_told_by_its_number_and_by_its_uuid_where_somebody_looks_for_it() {
    let mut app = app(&fixtures::eight_gpus());
    press(&mut app, KeyCode::Home);
    assert!(!drawn(&app, 200, 60).contains("0c0ffee"));
    press(&mut app, KeyCode::Enter);
    for width in [60, 80, 120, 200] {
        assert!(drawn(&app, width, 60).contains("GPU-00c0ffee"), "{}", drawn(&app, width, 60));
    }
}

#[test]
fn what_matters_least_leaves_first_and_the_list_stays() {
    let mut healthy = app(&fixtures::eight_gpus());
    press(&mut healthy, KeyCode::Home);
    let mut gone = 0;
    for height in (8..60).rev() {
        let text = drawn(&healthy, 100, height);
        assert!(text.contains("0 H100") && (height < 9 || text.contains("7 H100")), "at {height} rows:\n{text}");
        let parts = ["SM occupancy", "memory errors", "NVLink   ", "held down", "tensor    "];
        let left = parts.iter().filter(|part| !text.contains(**part)).count();
        assert!(left >= gone, "something came back at {height} rows:\n{text}");
        gone = left;
    }
    assert_eq!(gone, 5, "at 8 rows there is only the list");
}

#[test]
fn a_list_that_is_not_whole_says_so_and_holds_the_selected_one() {
    let mut app = app(&fixtures::eight_gpus());
    press(&mut app, KeyCode::Home);
    for number in 0..8 {
        let text = drawn(&app, 60, 6);
        assert!(text.contains(&format!("{number} H100")) && text.contains("3 more"), "{text}");
        press(&mut app, KeyCode::Down);
    }
}

#[test]
fn the_gpu_with_the_worst_finding_is_there_first_and_arrows_choose_another() {
    let mut app = app(&fixtures::eight_gpus());
    assert_eq!(app.gpu_index(), 4);
    press(&mut app, KeyCode::Right);
    assert_eq!(app.gpu_index(), 5);
    let mut fewer = fixtures::eight_gpus();
    fewer.devices.remove(0);
    app.update(Event::Feed(FeedEvent::Snapshot(Arc::new(fewer))));
    assert_eq!(app.gpu_index(), 4, "chosen by what it is, not by its place");
}

#[test]
fn enter_shows_all_of_a_gpu_and_escape_the_list_again() {
    let mut app = app(&fixtures::eight_gpus());
    press(&mut app, KeyCode::Home);
    press(&mut app, KeyCode::Enter);
    let text = drawn(&app, 80, 40);
    assert!(app.detail() && !text.contains("1 H100"), "{text}");
    for part in ["time  ", "tensor", "NVLink", "SM clock", "held down", "VLLM::Worker_TP0", "XID none"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    press(&mut app, KeyCode::Right);
    assert!(app.detail() && drawn(&app, 80, 40).contains("GPU 1:"), "the next one, as large");
    // A finding that goes away closes what it filled, and this is none.
    let calm = Snapshot { findings: Vec::new(), ..fixtures::eight_gpus() };
    app.update(Event::Feed(FeedEvent::Snapshot(Arc::new(calm))));
    assert!(app.detail());
    press(&mut app, KeyCode::Esc);
    assert!(!app.detail() && drawn(&app, 80, 40).contains("7 H100"));
}

#[test]
fn an_instance_stands_below_its_device_and_is_told_by_it() {
    let app = app(&fixtures::mig());
    let text = drawn(&app, 100, 40);
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what} is missing:\n{text}"));
    assert!(at("0 H100") < at("├ 0.0 3g.40gb") && at("└ 0.1 1g.10gb") < at("1 H100"), "{text}");
    assert!(text.contains("divided by MIG") && text.contains("instances 0.0 3g.40gb"), "{text}");
}

#[test]
fn of_a_gpu_that_is_cut_the_instances_tell_where_the_time_went() {
    let app = app(&fixtures::mig());
    let text = drawn(&app, 100, 40);
    let row = |what: &str| {
        text.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}:\n{text}")).to_owned()
    };
    assert!(row("0 H100").contains("by instance") && row("0.0 3g.40gb").contains('█'), "{text}");
    assert!(text.contains("of each instance, not of the whole"), "{text}");
    assert!(text.contains("its instances may hold it"), "{text}");
    assert_eq!(Gpus.count(app.snapshot().expect("one was pushed")), 2, "an instance is no GPU more");
}

#[test]
fn how_far_off_a_number_may_be_stands_beside_it_where_there_is_room() {
    let mut app = app(&fixtures::eight_gpus());
    press(&mut app, KeyCode::Home);
    let text = drawn(&app, 120, 40);
    assert!(text.contains("▚ SMs stalled ≈14 % (0–14)") && text.contains("compute 54 %  "), "{text}");
    assert!(!drawn(&app, 58, 40).contains("(0–14)"), "words first");
}

#[test]
fn a_process_that_no_server_answers_for_says_whose_it_is() {
    let mut app = app(&fixtures::eight_gpus());
    press(&mut app, KeyCode::Home);
    let text = drawn(&app, 120, 60);
    let row = |what: &str| {
        text.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}:\n{text}")).to_owned()
    };
    assert!(row("tritonserver").contains("3f6c0a1b-77d  9b1c5d2e8f4a  7"), "{text}");
    assert!(row("  pid  process").contains("pod           container     pid inside"), "{text}");
    assert!(!drawn(&app, 60, 60).contains("pid inside"), "it leaves first");
}

#[test]
fn processes_that_the_agent_left_out_are_counted() {
    let mut snapshot = fixtures::eight_gpus();
    let gpu = snapshot.devices[0].gpu.as_mut().expect("a GPU");
    gpu.processes_left_out = 936;
    let mut app = app(&snapshot);
    press(&mut app, KeyCode::Home);
    let text = drawn(&app, 120, 60);
    assert!(text.contains("and 936 more processes"), "{text}");
    assert!(!text.contains("more processes with"), "how much they hold is not known:\n{text}");
    assert!(text.contains("939 processes in turns"), "{text}");
    press(&mut app, KeyCode::Enter);
    assert!(drawn(&app, 120, 60).contains("and 936 more processes"), "{text}");
}

#[test]
fn what_is_missing_is_not_zero_and_says_why() {
    let text = drawn(&app(&fixtures::eight_gpus()), 80, 21);
    let lost = text.lines().find(|line| line.contains("4 H100")).expect("it has a line");
    assert!(lost.contains("✖ lost") && !lost.contains("0 %"), "{lost}");
    assert!(text.contains("util, SM  n/a  the GPU is lost: it fell off the bus"), "{text}");
    assert!(!text.contains("no process holds"), "of a lost GPU nobody knows\n{text}");
}

#[test]
fn a_gpu_that_is_not_read_because_another_hangs_says_so_once_and_names_that() {
    let mut app = app(&fixtures::hung());
    press(&mut app, KeyCode::Down);
    let text = drawn(&app, 120, 40);
    let (list, detail) = text.split_once("── GPU 1").expect("the second one is open");
    assert!(list.contains("1 H100  waits for GPU 0 H100: `nvmlDevice"), "{text}");
    let words = detail.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words.matches("waits for GPU 0 H100: `nvmlDeviceGetPowerUsage` has not returned").count(), 1, "{text}");
    assert!(words.matches("for the same reason").count() >= 3 && !text.contains("GPU-0c0ffee"), "{text}");
}

#[test]
fn what_held_the_clocks_down_is_told_as_inferred_where_the_driver_does_not_count_it() {
    let mut app = app(&fixtures::without_gpm());
    press(&mut app, KeyCode::Home);
    let held_down = |app: &App| {
        let text = drawn(app, 120, 40);
        text.lines().find(|line| line.starts_with(" held down")).unwrap_or_else(|| panic!("{text}")).to_owned()
    };
    assert!(held_down(&app).contains("≈100 %  warmth now"), "{}", held_down(&app));
    press(&mut app, KeyCode::Down);
    assert!(held_down(&app).contains("≈0 %"), "{}", held_down(&app));
}

#[test]
fn what_the_driver_says_now_is_called_otherwise_than_what_the_ledger_says() {
    let mut app = app(&fixtures::without_gpm());
    press(&mut app, KeyCode::Home);
    for (width, height) in [(80, 21), (120, 40)] {
        let text = drawn(&app, width, height);
        assert!(text.contains("util") && text.contains("▒ busy, with what is unknown"), "{text}");
        assert_eq!(text.matches("busy").count(), 1, "only the ledger says so:\n{text}");
    }
}

#[test]
fn what_was_known_until_lately_is_still_drawn_and_the_reason_follows() {
    let before = fixtures::eight_gpus();
    let mut app = app(&before);
    (0..8).for_each(|_| press(&mut app, KeyCode::Home));
    let mut lost = before.clone();
    "2026-03-04T14:02:32Z".clone_into(&mut lost.time);
    lost.devices[0].gpu = lost.devices[4].gpu.clone();
    let (from, to) = (lost.devices[4].id.clone(), lost.devices[0].id.clone());
    lost.unavailable.iter_mut().filter(|one| one.entity == from).for_each(|one| one.entity.clone_from(&to));
    app.update(Event::Feed(FeedEvent::Snapshot(Arc::new(lost))));
    let text = drawn(&app, 80, 40);
    let sm = text.lines().find(|line| line.starts_with(" SM  ")).expect("its graph");
    assert!(sm.contains('\u{28ff}') || sm.contains('⣤') || sm.contains('⣶'), "{sm}");
    assert!(sm.trim_end().ends_with("n/a") && text.contains("util, SM  n/a  the GPU is lost"), "{text}");
}

#[test]
fn the_times_of_the_graphs_are_those_of_their_ends() {
    let mut app = app(&fixtures::eight_gpus());
    press(&mut app, KeyCode::Home);
    let text = drawn(&app, 120, 40);
    let axis = text.lines().find(|line| line.contains("now")).expect("the times");
    let graph = text.lines().find(|line| line.contains("power  ")).expect("a graph");
    let end = graph.char_indices().filter(|(_, c)| ('\u{2800}'..='\u{28ff}').contains(c)).count();
    assert_eq!(axis.trim_end().chars().count(), graphs::LABEL + 1 + end, "{axis}\n{graph}");
    assert!(axis.contains("-2 min"), "{axis}");
}

#[test]
fn no_gpu_says_why_and_what_would_show_one() {
    let text = drawn(&app(&fixtures::no_server()), 80, 21);
    assert!(text.contains("no NVIDIA driver here") && text.contains("→ install the NVIDIA driver"), "{text}");
    assert!(text.contains("perfwatch demo --replay"), "{text}");
}

#[test]
fn who_waits_for_a_driver_that_is_silent_is_not_sent_to_a_demo() {
    let text = drawn(&app(&fixtures::silent_driver()), 80, 21);
    assert!(text.contains("driver unresponsive since 14:01:20 UTC") && !text.contains("perfwatch demo"), "{text}");
}
