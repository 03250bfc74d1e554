use perfwatch_model::metrics::{gpu, host};
use perfwatch_model::{Attr, AttrValue, Entity, EntityKind, Number, SeriesTable, Severity, Stamp, Tick};
use perfwatch_store::{Commit, Journal, JournalOptions, NoShipper};

use super::*;
use crate::assemble::scene::SceneWriter;
use crate::recording::{Asked, of_journal};

const SECOND: u64 = 1_000_000_000;

fn forged() -> Finding {
    Finding {
        id: "forged".into(),
        severity: Severity::Critical,
        entity: "server:shop/1".to_owned(),
        summary: "".into(),
        detail: String::new(),
        evidence: Vec::new(),
        cost: None,
        remedies: Vec::new(),
        experimental: false,
    }
}

fn options(path: &Path) -> JournalOptions {
    JournalOptions {
        path: path.to_owned(),
        cap_bytes: 64 << 20,
        boot: String::new(),
        now_wall_ns: SECOND,
        keep_s: perfwatch_store::DEFAULT_KEEP_S,
        keep_minutes_s: perfwatch_store::DEFAULT_KEEP_MINUTES_S,
    }
}

fn tick(second: u64) -> Tick {
    let end = Stamp { mono_ns: second * SECOND, wall_ns: (1000 + second) * SECOND };
    Tick { end, dt_ns: SECOND, ..Tick::default() }
}

fn keep(journal: &mut Journal, tick: &Tick, table: &SeriesTable, findings: &[Finding]) {
    let commit = Commit { tick, table, sessions: &[], ledgers: &[], findings, judged: true };
    journal.commit(&commit, &mut NoShipper);
}

/// A journal of so many seconds; the second `lie` says that something was found.
fn journal(path: &Path, seconds: u64, lie: u64) {
    let mut journal = Journal::open(options(path));
    let mut table = SeriesTable::new();
    let machine = table.entity(Entity::new(EntityKind::Host, "here"));
    let limit = table.series(&host::MEMORY_LIMIT, machine, &[]);
    for second in 1..=seconds {
        let tick = Tick { values: vec![(limit, Number::Int(second))], ..tick(second) };
        let findings: Vec<_> = (second == lie).then(forged).into_iter().collect();
        keep(&mut journal, &tick, &table, &findings);
    }
}

#[test]
fn a_tick_that_was_judged_otherwise_is_named_with_what_differs() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.db");
    journal(&path, 60, 50);
    let result = Replay::open(&path).expect("a journal").compare().expect("whole");
    assert_eq!((result.ticks, result.compared, result.differ), (60, 60 - UNSURE, 1));
    let [(seq, anew, then)] = result.differing.as_slice() else { panic!("{result:?}") };
    let at = Archive::open(&path).expect("a journal").wall_of(*seq).expect("whole");
    assert_eq!((at, anew.len()), (Some(1050 * SECOND), 0));
    assert_eq!(then[0].to_string(), "critical forged server:shop/1");
}

/// Agents of whom the first sees one error of a GPU, in its second 100. Each lives from one second to another, and from one
/// on all of them tell of it.
fn agents(path: &Path, lives: &[(u64, u64)], told_from: u64) {
    for &(start, end) in lives {
        let mut journal = Journal::open(options(path));
        let mut engine = Engine::new(Config::default());
        engine.recall(crate::recalled::recollection(path, "this boot", tick(start - 1).end));
        let mut scenes = SceneWriter::new(false, "this boot".to_owned());
        let mut table = SeriesTable::new();
        table.entity(Entity::new(EntityKind::Host, "here"));
        let card = table.entity(Entity::new(EntityKind::Gpu, "GPU-1"));
        let xids = table.series(&gpu::XIDS, card, &[Attr::int("perfwatch.gpu.xid.code", 79)]);
        for second in start..=end {
            let count = u64::from(second >= 100 && start <= 100);
            let mut tick = Tick { values: vec![(xids, Number::Int(count))], ..tick(second) };
            let judgement = engine.push(&tick, &table);
            assert_eq!(judgement.findings.len(), usize::from(second >= told_from), "{second}");
            let told = Teller::default().tell(&tick, &table, &judgement);
            let living = ["host:here", "gpu:GPU-1"].map(str::to_owned);
            tick.scene = scenes.write(told.clone(), &told, &living, &engine.recollection(&table));
            keep(&mut journal, &tick, &table, &judgement.findings);
        }
        // What is left of a second when an agent ends is on no screen.
        keep(&mut journal, &tick(end + 1), &table, &[]);
    }
}

#[test]
fn an_error_of_ten_minutes_ago_is_still_on_the_screen_wherever_one_goes_and_whichever_agent_saw_it() {
    // A finding rises in the third second of an agent at the earliest.
    for (lives, told_from) in
        [(&[(1, 800)][..], 102), (&[(1, 100), (105, 108), (115, 800)], 107), (&[(1, 140), (142, 800)], 102)]
    {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.db");
        agents(&path, lives, told_from);
        let mut replay = Replay::open(&path).expect("a journal");
        let span = replay.span().expect("ticks");
        let frames = replay.frames_to(span.last_seq - 50, 10).expect("whole");
        assert_eq!(frames.len(), 10);
        for frame in frames {
            assert_eq!(frame.snapshot.findings[0].id, "gpu-unhealthy");
            assert_ne!(frame.as_recorded, Some(false));
        }
        let whole = Replay::open(&path).expect("a journal").compare().expect("whole");
        let judged = lives.iter().map(|(start, end)| (end - start + 1).saturating_sub(UNSURE)).sum();
        assert_eq!((whole.compared, whole.differ), (judged, 0), "{:?}", whole.differing);
        let cut = folder.path().join("cut.pwrec");
        of_journal(&path, &cut, Asked::Newest(10 * SECOND)).expect("written");
        let mut replay = Replay::open(&cut).expect("a recording");
        let frame = replay.next_frame().expect("whole").expect("a tick");
        assert_eq!(frame.snapshot.findings[0].id, "gpu-unhealthy", "though the error is not among its ticks");
        let part = Replay::open(&cut).expect("a recording").compare().expect("whole");
        assert!(part.compared > 0 && part.differ == 0, "{:?}", part.differing);
    }
}

#[test]
fn an_agent_of_another_boot_or_long_after_the_last_knows_of_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.db");
    agents(&path, &[(1, 140)], 102);
    let knows = |boot: &str, second: u64| !crate::recalled::recollection(&path, boot, tick(second).end).is_empty();
    assert!(knows("this boot", 142) && knows("this boot", 1000));
    assert!(!knows("another", 142) && !knows("", 142));
    assert!(!knows("this boot", 1041) && !knows("this boot", 100));
    // Agents that ended before their first second was over.
    let mut journal = Journal::open(options(&path));
    for second in 145..150 {
        keep(&mut journal, &tick(second), &SeriesTable::new(), &[]);
    }
    assert!(knows("this boot", 160));
}

#[test]
fn wherever_one_goes_the_next_tick_is_the_one_asked_for_after_those_before_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.db");
    journal(&path, 300, 0);
    let mut replay = Replay::open(&path).expect("a journal");
    let span = replay.span().expect("ticks");
    for (to, past) in [(250, 119), (3, 119), (0, 0), (299, 10), (120, 0)] {
        let seq = span.first_seq + to;
        let frames: Vec<_> = replay.frames_to(seq, past).expect("whole").iter().map(|frame| frame.seq).collect();
        assert_eq!(frames, (seq.saturating_sub(past).max(span.first_seq)..seq).collect::<Vec<_>>());
        assert_eq!(replay.next_frame().expect("whole").map(|frame| frame.seq), Some(seq));
    }
    replay.seek(span.last_seq + 1).expect("whole");
    assert!(replay.next_frame().expect("whole").is_none());
}

#[test]
fn an_agent_that_starts_on_a_journal_is_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.db");
    journal(&path, 3, 0);
    let mut replay = Replay::open(&path).expect("a journal");
    while replay.next_frame().expect("whole").is_some() {}
    let mut agent = Journal::open(options(&path));
    let mut table = SeriesTable::new();
    table.entity(Entity::new(EntityKind::Host, "here"));
    for second in 4..=6 {
        keep(&mut agent, &tick(second), &table, &[]);
    }
    let seconds = |replay: &mut Replay| {
        std::iter::from_fn(|| replay.next_frame().expect("whole"))
            .map(|frame| frame.wall_ns / SECOND)
            .collect::<Vec<_>>()
    };
    assert_eq!(seconds(&mut replay), [1004, 1005, 1006]);
}

#[test]
fn what_was_left_of_a_second_when_the_agent_ended_is_not_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.db");
    let mut journal = Journal::open(options(&path));
    let mut table = SeriesTable::new();
    table.entity(Entity::new(EntityKind::Host, "here"));
    for second in 1..=4 {
        let scene = r#"{"n":N,"whole":true,"d":{"living":[],"view":{"host":{"name":["here"]}}}}"#;
        let scene = scene.replace('N', &(second - 1).to_string()).into_bytes();
        let scene = if second == 4 { Vec::new() } else { scene };
        keep(&mut journal, &Tick { scene, ..tick(second) }, &table, &[]);
    }
    let mut replay = Replay::open(&path).expect("a journal");
    let end = replay.span().expect("ticks").last_seq;
    let frames = replay.frames_to(end, 119).expect("whole");
    assert!(replay.next_frame().expect("whole").is_none());
    let names: Vec<_> = frames.iter().map(|frame| frame.snapshot.host.name.as_str()).collect();
    assert_eq!(names, ["here"; 3]);
}

#[test]
fn a_cpu_that_came_later_is_not_shown_before_it_came() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.db");
    let mut journal = Journal::open(options(&path));
    let mut table = SeriesTable::new();
    let machine = table.entity(Entity::new(EntityKind::Host, "here"));
    for second in 1..=60 {
        let mut tick = tick(second);
        for cpu in 0..=u64::from(second > 50) {
            let number = Attr { key: "cpu.logical_number", value: AttrValue::Int(cpu.cast_signed()) };
            let mode = Attr { key: "cpu.mode", value: AttrValue::from("user".to_owned()) };
            let time = table.series(&host::CPU_CORE_TIME, machine, &[number, mode]);
            tick.values.push((time, Number::Int(second * SECOND)));
        }
        tick.seal();
        keep(&mut journal, &tick, &table, &[]);
    }
    let mut replay = Replay::open(&path).expect("a journal");
    while let Some(frame) = replay.next_frame().expect("whole") {
        let cpus = frame.snapshot.host.per_cpu_utilization.len();
        assert_eq!(cpus, if frame.wall_ns > 1050 * SECOND { 2 } else { 1 }, "{}", frame.snapshot.time);
    }
}

#[test]
fn a_recording_is_seen_from_where_it_was_asked_for_and_warmed_up_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, part) = (folder.path().join("journal.db"), folder.path().join("part"));
    journal(&path, 300, 0);
    let of = |from, to| Asked::Between(from * SECOND, to * SECOND);
    of_journal(&path, &part, of(1200, 1210)).expect("recorded");
    let mut replay = Replay::open(&part).expect("a recording");
    let span = replay.span().expect("ticks");
    assert_eq!((span.first.wall_ns, span.last.wall_ns), (1200 * SECOND, 1210 * SECOND));
    let result = replay.compare().expect("whole");
    assert_eq!((result.ticks, result.compared, result.differ), (11, 11, 0));
    let none = of_journal(&path, &folder.path().join("none"), of(1, 2));
    assert!(none.is_err_and(|error| error.to_string().contains("the journal goes from")));
}

#[test]
fn a_file_without_ticks_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.db");
    journal(&path, 0, 0);
    assert!(matches!(Replay::open(&path), Err(ReplayError::Empty(_))));
}
