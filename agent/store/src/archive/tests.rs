use perfwatch_model::metrics::{host, server};
use perfwatch_model::{Attr, Entity, EntityKind, Histogram, Number, Reason, ServerTick, SparseHdr, Split};

use super::*;
use crate::{Commit, Journal, JournalOptions, Kept, LedgerOf, MIN_CAP, NoShipper};

const SECOND: u64 = 1_000_000_000;

fn options(folder: &Path) -> JournalOptions {
    JournalOptions {
        path: folder.join("journal.db"),
        cap_bytes: MIN_CAP,
        keep_s: crate::DEFAULT_KEEP_S,
        keep_minutes_s: crate::DEFAULT_KEEP_MINUTES_S,
        boot: String::new(),
        now_wall_ns: 1,
    }
}

/// An agent that writes a journal: a server, the kernel, a ledger, a finding from the third tick on.
struct Agent {
    journal: Journal,
    table: SeriesTable,
    at: u64,
    /// By how many seconds the wall clock was stepped.
    stepped: i64,
}

impl Agent {
    fn start(folder: &Path) -> Self {
        Self { journal: Journal::open(options(folder)), table: SeriesTable::new(), at: 0, stepped: 0 }
    }

    fn tick(&mut self) -> Tick {
        self.at += 1;
        let machine = self.table.entity(Entity::new(EntityKind::Host, "here").with("host.name", "here"));
        let shop = self.table.entity(Entity::new(EntityKind::Server, "shop/1").with("process.pid", 7u32));
        let core = [Attr::int("cpu.logical_number", 3), Attr::fixed("cpu.mode", "user")];
        let mut gained = SparseHdr::new();
        gained.record(self.at * 1_000);
        let mut served = ServerTick::empty(shop);
        served.started = self.at;
        let mut tick = Tick {
            end: Stamp {
                mono_ns: self.at * SECOND,
                wall_ns: (1_000 + self.at).saturating_add_signed(self.stepped) * SECOND,
            },
            dt_ns: SECOND,
            values: vec![(self.table.series(&host::CPU_TIME, machine, &core), Number::Int(self.at * 10))],
            histograms: vec![(self.table.series(&server::REQUEST_DURATION, shop, &[]), Histogram::Hdr(gained))],
            absent: vec![perfwatch_model::Absence {
                metric: host::MEMORY_LIMIT.name,
                entity: machine,
                reason: Reason::fixed("no limit", "set one"),
            }],
            servers: vec![served],
            gpus: Vec::new(),
            scene: self.at.to_be_bytes().to_vec(),
        };
        tick.seal();
        tick
    }

    fn ledger(&self) -> LedgerOf {
        let mut split = Split::of(SECOND);
        split.take("used", self.at * 1_000, Quality::Counter);
        split.take("never", 0, Quality::Sdk);
        let ledger = split.rest("idle", Quality::Inferred);
        LedgerOf { entity: "server:shop/1".to_owned(), kind: LedgerKind::Cpu, ledger }
    }

    fn finding(severity: perfwatch_model::Severity) -> perfwatch_model::Finding {
        perfwatch_model::Finding {
            id: "cpu-quota".into(),
            severity,
            entity: "server:shop/1".to_owned(),
            summary: "throttled".into(),
            detail: "it's throttled".to_owned(),
            evidence: Vec::new(),
            cost: None,
            remedies: Vec::new(),
            experimental: false,
        }
    }

    fn keep(&mut self, findings: &[perfwatch_model::Finding]) -> Tick {
        let tick = self.tick();
        let ledgers = [self.ledger()];
        let commit =
            Commit { tick: &tick, table: &self.table, sessions: &[], ledgers: &ledgers, findings, judged: true };
        assert_eq!(self.journal.commit(&commit, &mut NoShipper), Kept::OnDisk);
        tick
    }
}

fn same(read: &Tick, archive: &Archive, written: &Tick, table: &SeriesTable) {
    let names = archive.table();
    let name = |table: &SeriesTable, id| {
        let series = table.series_of(id).expect("named").clone();
        (series.metric.name, table.entity_of(series.entity).expect("known").to_string(), series.attrs)
    };
    let values = |tick: &Tick, table: &SeriesTable| {
        let mut all: Vec<_> =
            tick.values.iter().map(|(id, number)| (name(table, *id), format!("{number:?}"))).collect();
        all.sort_by_key(|(name, _)| format!("{name:?}"));
        all
    };
    assert_eq!(values(read, &names), values(written, table));
    assert_eq!(
        read.histograms.iter().map(|(_, gained)| gained).collect::<Vec<_>>(),
        written.histograms.iter().map(|(_, gained)| gained).collect::<Vec<_>>()
    );
    assert_eq!((read.end, read.dt_ns, read.absent.len()), (written.end, written.dt_ns, written.absent.len()));
    assert_eq!(read.servers[0].started, written.servers[0].started);
    assert_eq!(names.entity_of(read.servers[0].entity).expect("known").to_string(), "server:shop/1");
    assert_eq!(
        names.entity_of(read.servers[0].entity).expect("known").attributes,
        [Attr { key: "process.pid", value: perfwatch_model::AttrValue::Int(7) }]
    );
}

#[test]
fn a_journal_is_read_while_an_agent_writes_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut agent = Agent::start(folder.path());
    let first = agent.keep(&[]);
    let archive = Archive::open(options(folder.path()).path).expect("opens");
    let second = agent.keep(&[]);
    let span = archive.span().expect("whole").expect("two ticks");
    assert_eq!((span.first_seq, span.last_seq, span.first, span.last), (0, 1, first.end, second.end));
    let mut cursor = crate::Cursor::at(0);
    for written in [first, second] {
        let step = cursor.read(&archive).expect("whole").expect("a tick");
        assert_eq!(step.missed, 0);
        same(&step.tick, &archive, &written, &agent.table);
    }
    assert!(cursor.read(&archive).expect("whole").is_none(), "the next has yet to come");
    // A series that came after the archive was opened is named as well.
    let extra = agent.table.entity(Entity::new(EntityKind::Host, "there"));
    let series = agent.table.series(&host::MEMORY_LIMIT, extra, &[]);
    let mut tick = agent.tick();
    tick.values.push((series, Number::Int(5)));
    tick.seal();
    let commit = Commit { tick: &tick, table: &agent.table, sessions: &[], ledgers: &[], findings: &[], judged: false };
    agent.journal.commit(&commit, &mut NoShipper);
    let read = archive.ticks(2, 10).expect("whole");
    assert_eq!((read.len(), read[0].judged), (1, false));
    same(&read[0].tick, &archive, &tick, &agent.table);
}

#[test]
fn ledgers_and_findings_come_back_as_they_were_and_sqlite_shows_them() {
    use perfwatch_model::Severity::{Critical, Warning};
    let folder = tempfile::tempdir().expect("a folder");
    let mut agent = Agent::start(folder.path());
    let found = |severity| vec![Agent::finding(severity)];
    let seconds = [vec![], found(Warning), found(Warning), found(Critical), vec![], found(Critical)];
    let mut rows = Vec::new();
    for (seq, findings) in (0..).zip(seconds) {
        agent.keep(&findings);
        rows.extend(agent.ledger().rows().into_iter().map(|row| (seq, row)));
    }
    let archive = Archive::open(options(folder.path()).path).expect("opens");
    assert_eq!(archive.ledgers(0, 9).expect("whole"), rows);
    assert!(rows.iter().all(|(_, row)| row.label != "never"), "what took nothing is no row");
    let found = archive.findings(0, 9).expect("whole");
    let episodes: Vec<_> = found.iter().map(|row| (row.seq, row.last_seq, row.finding.severity)).collect();
    assert_eq!(episodes, [(1, 2, Warning), (3, 3, Critical), (5, 5, Critical)]);
    assert_eq!(found[0].finding, Agent::finding(Warning));
    assert_eq!(archive.findings(2, 2).expect("whole").len(), 1);
    let sum: i64 = archive
        .connection
        .query_row("SELECT sum(ns) FROM ledgers WHERE entity = 'server:shop/1' AND seq = 4", [], |row| row.get(0))
        .expect("plain columns");
    assert_eq!(sum, SECOND.cast_signed());
}

#[test]
fn a_range_becomes_a_recording_that_holds_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut agent = Agent::start(folder.path());
    let ticks: Vec<_> = (0..10).map(|_| agent.keep(&[Agent::finding(perfwatch_model::Severity::Note)])).collect();
    let archive = Archive::open(options(folder.path()).path).expect("opens");
    let into = folder.path().join("recording 1?.db");
    assert_eq!(archive.copy(3, 6, &into).expect("written"), 4);
    assert!(archive.copy(3, 6, &into).is_err(), "what is there is not written over");
    let copy = Archive::open(&into).expect("opens");
    let span = copy.span().expect("whole").expect("ticks");
    assert_eq!((span.first_seq, span.last_seq), (3, 6));
    same(&copy.ticks(3, 1).expect("whole")[0].tick, &copy, &ticks[3], &agent.table);
    assert_eq!(copy.ledgers(0, 99).expect("whole"), archive.ledgers(3, 6).expect("whole"));
    assert_eq!(copy.findings(0, 99).expect("whole").len(), 1);
    let mut names: Vec<_> =
        std::fs::read_dir(folder.path()).expect("the folder").map(|entry| entry.expect("one").file_name()).collect();
    names.retain(|name| name.to_string_lossy().starts_with("recording"));
    assert_eq!(names, ["recording 1?.db"], "no log beside it");
}

#[test]
fn a_time_is_found_though_the_wall_clock_was_stepped() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut agent = Agent::start(folder.path());
    // At boot the clock is a day ahead for ten seconds; after a hundred it is set back by 40, after 200 forward by an hour.
    for (stepped, seconds) in [(86_400, 10), (0, 90), (-40, 100), (3_560, 100)] {
        agent.stepped = stepped;
        (0..seconds).for_each(|_| _ = agent.keep(&[]));
    }
    let archive = Archive::open(options(folder.path()).path).expect("opens");
    let seek = |second: u64| archive.seek(second * SECOND).expect("whole");
    assert_eq!((seek(0), seek(1_015)), (Some(0), Some(14)));
    // 1,070 was passed twice: the second time counts.
    assert_eq!((seek(1_070), seek(1_120), seek(1_160)), (Some(109), Some(159), Some(199)));
    assert_eq!((seek(2_000), seek(4_761)), (Some(200), Some(200)), "never passed: the first after it");
    // Of the time that only the wrong clock showed.
    assert_eq!((seek(50_000), seek(87_401), seek(99_999)), (Some(0), Some(0), None));
    let ends = |from: u64, to: u64| (from * SECOND, to * SECOND);
    let reach = |(from, to)| archive.reach(from, to).expect("whole");
    let within = |(from, to)| archive.within(from, to).expect("whole");
    assert_eq!(reach(ends(1_070, 1_080)), Some((69, 119)), "both times");
    assert_eq!(within(ends(1_070, 1_080)), Some((109, 119)), "the second time");
    assert_eq!(within(ends(1_015, 1_020)), Some((14, 19)));
    assert_eq!(within(ends(0, 99_999)), Some((100, 299)), "since it was last set back");
    assert_eq!((reach(ends(2_000, 3_000)), within(ends(2_000, 3_000))), (None, None));
    let newest = |seconds: u64| archive.newest(seconds * SECOND).expect("whole");
    assert_eq!((newest(1), newest(100), newest(101)), (Some((299, 299)), Some((200, 299)), Some((199, 299))));
    assert_eq!((newest(250), newest(9_999)), (Some((50, 299)), Some((0, 299))), "steps take nothing away");
    assert_eq!(archive.absent_ns(0).expect("whole"), 0, "a step is no absence");
    assert_eq!(archive.oldest().expect("whole"), Some(1_011 * SECOND));
}

#[test]
fn what_nobody_measured_is_known_however_little_it_is_of_the_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut agent = Agent::start(folder.path());
    (0..100).for_each(|_| _ = agent.keep(&[]));
    agent.at += 7;
    (0..100).for_each(|_| _ = agent.keep(&[]));
    let archive = Archive::open(options(folder.path()).path).expect("opens");
    let absent = |from| archive.absent_ns(from).expect("whole");
    assert_eq!((absent(0), absent(99), absent(100)), (7 * SECOND, 7 * SECOND, 0), "from a number on");
}

#[test]
fn a_damaged_tick_is_passed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut agent = Agent::start(folder.path());
    (0..5).for_each(|_| _ = agent.keep(&[]));
    drop(agent);
    let path = options(folder.path()).path;
    let connection = Connection::open(&path).expect("opens");
    connection.execute("UPDATE ticks SET data = x'00' WHERE seq BETWEEN 1 AND 2", []).expect("written");
    drop(connection);
    let archive = Archive::open(&path).expect("opens");
    let step = |seq| archive.unnamed(seq).expect("whole").map(|tick| tick.seq());
    assert_eq!((step(0), step(1), step(4), step(5)), (Some(0), Some(3), Some(4), None));
    assert_eq!(archive.ticks(0, 9).expect("whole").iter().map(|tick| tick.seq).collect::<Vec<_>>(), [0, 3, 4]);
}

#[test]
fn an_absence_of_the_agent_counts_into_the_newest_time() {
    let when =
        |seq, mono, wall| When { seq, end: Stamp { mono_ns: mono * SECOND, wall_ns: wall * SECOND }, dt_ns: SECOND };
    // Ten minutes away, then away over a restart of the machine.
    let ticks =
        [when(9, 8, 5_000), when(8, 7, 4_999), when(7, 5_000, 2_000), when(6, 4_400, 1_400), when(5, 4_399, 1_399)];
    let first = |seconds: u64| {
        let mut within = newest(seconds * SECOND);
        ticks.into_iter().take_while(|tick| within(*tick)).last().map(|tick| tick.seq)
    };
    assert_eq!((first(1), first(2), first(3_000)), (Some(9), Some(8), Some(8)));
    assert_eq!((first(3_001), first(3_601), first(3_602), first(9_999)), (Some(7), Some(6), Some(5), Some(5)));
}

#[test]
fn what_is_no_journal_is_refused_in_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("it");
    let words = |path: &Path| Archive::open(path).expect_err("no journal").to_string();
    assert!(words(&path).contains("cannot read"), "{}", words(&path));
    assert!(words(folder.path()).contains("it is no file"));
    std::fs::write(&path, b"hello, this is a text and no database at all").expect("written");
    assert!(words(&path).contains("is not a journal"), "{}", words(&path));
    let mut agent = Agent::start(folder.path());
    agent.keep(&[]);
    drop(agent);
    let journal = options(folder.path()).path;
    Connection::open(&journal).expect("opens").pragma_update(None, "user_version", 99).expect("written");
    assert!(words(&journal).contains("newer perfwatch (layout 99)"), "{}", words(&journal));
}
