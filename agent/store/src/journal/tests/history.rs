//! Minutes, retention, and journals of version 1.

use std::collections::BTreeMap;

use perfwatch_model::{Attr, Bounded, Quality, Split};

use super::*;
use crate::codec::{Encoder, StoredTick, decode};
use crate::judged::{LedgerKind, LedgerOf};
use crate::totals::Totals;
use crate::{Archive, ArchivedMinute};

/// Everything a journal meets: counters of the kernel and of a server, one with fractions, one that is read now and then, a
/// gauge, distributions, a ledger; agents that are killed.
struct World {
    run: Run,
    folder: std::path::PathBuf,
    chance: u64,
    raw: [u64; 3],
    fraction: f64,
    /// Total of each counter by tick.
    totals: BTreeMap<(String, u64), f64>,
    gauges: BTreeMap<u64, f64>,
    gained: BTreeMap<u64, SparseHdr>,
    ledgers: BTreeMap<u64, u64>,
}

impl World {
    fn new(folder: &Path) -> Self {
        Self {
            run: Run::start(options(folder)),
            folder: folder.to_path_buf(),
            chance: 7,
            raw: [0; 3],
            fraction: 0.0,
            totals: BTreeMap::new(),
            gauges: BTreeMap::new(),
            gained: BTreeMap::new(),
            ledgers: BTreeMap::new(),
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) % below
    }

    /// The agent is killed, and so is the server; the kernel counts on.
    fn restart(&mut self) {
        let folder = tempfile::tempdir().expect("a folder");
        let other = Run::start(options(folder.path()));
        drop(std::mem::replace(&mut self.run, other));
        self.run = Run::start(options(&self.folder));
        // Beyond where it was before: that it began anew shows in no value.
        self.raw[1] *= 2;
        self.raw[2] = 0;
        self.fraction = 0.5;
    }

    fn tick(&mut self) {
        let seq = self.run.journal.next_seq;
        self.run.at += 1;
        let shop = self.run.table.entity(Entity::new(EntityKind::Server, "shop/1"));
        let machine = self.run.table.entity(Entity::new(EntityKind::Host, "here"));
        let tokens = self.run.table.series(&server::REQUESTS_STARTED, shop, &[Attr::fixed("kind", "fractions")]);
        let seldom = self.run.table.series(&server::REQUESTS_STARTED, shop, &[Attr::fixed("kind", "seldom")]);
        let memory = self.run.table.series(&host::MEMORY_LIMIT, machine, &[]);
        let bounded = self.run.table.series(&server::STAGE_DURATION, shop, &[]);
        for at in 0..3 {
            self.raw[at] += self.random(1_000);
        }
        self.fraction += self.random(8) as f64 / 4.0;
        let gauge = self.random(1_000);
        let mut values = vec![
            (self.run.kernel, Number::Int(self.raw[0])),
            (self.run.requests, Number::Int(self.raw[1])),
            (tokens, Number::Float(self.fraction)),
            (memory, Number::Int(gauge)),
        ];
        if self.random(7) == 0 {
            values.push((seldom, Number::Int(self.raw[2])));
        }
        let mut gained = SparseHdr::new();
        (0..self.random(5)).for_each(|_| gained.record(self.random(1_000_000)));
        let bounds = Bounded { bounds: vec![1.0], counts: vec![self.random(3), 1], sum: 0.25 };
        let mut tick = Tick {
            end: Stamp { mono_ns: self.run.at * SECOND, wall_ns: (1_700_000_000 + self.run.at) * SECOND },
            dt_ns: SECOND,
            values,
            histograms: vec![(self.run.latency, Histogram::Hdr(gained.clone())), (bounded, Histogram::Bounded(bounds))],
            ..Tick::default()
        };
        tick.seal();
        let used = self.random(SECOND);
        let mut split = Split::of(SECOND);
        split.take("used", used, Quality::Counter);
        let ledger = split.rest("idle", if used.is_multiple_of(2) { Quality::Counter } else { Quality::Inferred });
        let ledgers = [LedgerOf { entity: "server:shop/1".to_owned(), kind: LedgerKind::Cpu, ledger }];
        let commit = Commit {
            tick: &tick,
            table: &self.run.table,
            sessions: &[],
            ledgers: &ledgers,
            findings: &[],
            judged: true,
        };
        assert_eq!(self.run.journal.commit(&commit, &mut NoShipper), Kept::OnDisk);
        for total in self.run.journal.reader().query(None, None) {
            let amount = match total.amount {
                Amount::Counter(total) => total as f64,
                Amount::Measured(total) => total,
                Amount::None | Amount::Histogram(_) => continue,
            };
            self.totals.insert((format!("{} {}", total.key.metric, total.key.attributes), seq), amount);
        }
        self.gauges.insert(seq, gauge as f64);
        self.gained.insert(seq, gained);
        self.ledgers.insert(seq, used);
    }

    fn minutes(&self) -> (Archive, Vec<ArchivedMinute>) {
        let archive = Archive::open(options(&self.folder).path).expect("opens");
        let mut minutes = Vec::new();
        archive.each_minute((0, u64::MAX), u64::MAX, |minute| minutes.push(minute)).expect("whole");
        (archive, minutes)
    }
}

#[test]
#[allow(clippy::float_cmp, reason = "exact is what they must be")]
fn minutes_are_exactly_what_their_ticks_amount_to_though_agents_die() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut world = World::new(folder.path());
    for at in 0..800 {
        if at % 157 == 156 {
            world.restart();
        }
        world.tick();
    }
    let (archive, minutes) = world.minutes();
    assert!(minutes.len() >= 11, "{}", minutes.len());
    let names = archive.table();
    let mut counted: BTreeMap<String, f64> = BTreeMap::new();
    let mut next = 0;
    for minute in &minutes {
        assert_eq!(minute.first_seq, next, "no tick is in two minutes or in none");
        next = minute.last_seq + 1;
        let seqs = minute.first_seq..=minute.last_seq;
        assert_eq!((minute.ticks, minute.dt_ns), (seqs.clone().count() as u64, seqs.clone().count() as u64 * SECOND));
        for (series, gained) in &minute.counters {
            let series = names.series_of(*series).expect("named");
            let attributes: Vec<_> =
                series.attrs.iter().map(|attr| format!("\"{}\":\"{}\"", attr.key, attr.value)).collect();
            *counted.entry(format!("{} {{{}}}", series.metric.name, attributes.join(","))).or_default() +=
                gained.as_f64();
        }
        let [(_, spread)] = minute.gauges.as_slice() else { panic!("{:?}", minute.gauges) };
        let values: Vec<f64> = seqs.clone().map(|seq| world.gauges[&seq]).collect();
        assert_eq!(spread.mean(), values.iter().sum::<f64>() / values.len() as f64);
        assert_eq!(spread.least, values.iter().copied().fold(f64::INFINITY, f64::min));
        assert_eq!(spread.greatest, values.iter().copied().fold(f64::NEG_INFINITY, f64::max));
        let mut all = SparseHdr::new();
        seqs.clone().for_each(|seq| all.add(&world.gained[&seq]));
        let mut kinds = (0, 0);
        for (_, gained) in &minute.histograms {
            match gained.as_slice() {
                [Histogram::Hdr(gained)] => {
                    assert_eq!(*gained, all);
                    kinds.0 += 1;
                }
                [Histogram::Bounded(gained)] => {
                    assert_eq!((gained.counts[1], gained.sum), (minute.ticks, 0.25 * minute.ticks as f64));
                    kinds.1 += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(kinds, (1, 1));
        let ledger = archive.minute_ledgers(minute.first_seq).expect("whole");
        let used: u64 = seqs.clone().map(|seq| world.ledgers[&seq]).sum();
        assert_eq!(
            ledger.iter().map(|row| (row.label.as_str(), row.ns)).collect::<Vec<_>>(),
            [("idle", minute.dt_ns - used), ("used", used)]
        );
        assert_eq!(ledger[0].quality, Quality::Inferred, "as good as its worst part");
        for (name, total) in &counted {
            assert_eq!(
                Some(total),
                world.totals.get(&(name.clone(), minute.last_seq)),
                "{name} to {}",
                minute.last_seq
            );
        }
    }
    assert_eq!(counted.len(), 4, "{counted:?}");
}

#[test]
fn seconds_and_minutes_go_when_they_are_too_old_and_status_tells_how_far_they_reach() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut world = World::new(folder.path());
    world.run = {
        let other = tempfile::tempdir().expect("a folder");
        drop(std::mem::replace(&mut world.run, Run::start(options(other.path()))));
        Run::start(JournalOptions { keep_s: 120, keep_minutes_s: 480, ..options(folder.path()) })
    };
    (0..1_000).for_each(|_| world.tick());
    let (archive, minutes) = world.minutes();
    let span = archive.span().expect("whole").expect("ticks");
    assert_eq!(span.last_seq, 999);
    assert!((999 - 120 - 60..=999 - 120).contains(&span.first_seq), "{span:?}");
    let oldest = minutes.first().expect("minutes").first_seq;
    assert!((999 - 480 - 60..=999 - 480 + 60).contains(&oldest), "{oldest}");
    let status = world.run.journal.reader().status();
    assert_eq!(status.seconds_since_wall_ns, Some(span.first.wall_ns));
    assert_eq!(status.minutes_since_wall_ns, Some(minutes[0].end.wall_ns));
    let rows = |table: &str| -> i64 {
        let count = format!("SELECT count(*) FROM {table}");
        world.run.file().connection().query_row(&count, [], |row| row.get(0)).expect("a number")
    };
    assert!(rows("ledger") <= 2 * 180, "{}", rows("ledger"));
    assert!(rows("ledger_1m") <= 2 * 10, "{}", rows("ledger_1m"));
    assert_eq!(rows("lines"), 2);
}

/// Keeps so many ticks of so many gauges whose values no compression makes smaller.
fn keep_noise(run: &mut Run, gauges: i64, ticks: u64, mut after: impl FnMut(&mut Run, u64)) {
    let mut noise = Noise::of(run, gauges);
    for seq in 1..=ticks {
        let end = Stamp { mono_ns: seq * SECOND, wall_ns: seq * SECOND };
        let tick = Tick { end, values: noise.values(), dt_ns: SECOND, ..Tick::default() };
        let commit =
            Commit { tick: &tick, table: &run.table, sessions: &[], ledgers: &[], findings: &[], judged: true };
        assert_eq!(run.journal.commit(&commit, &mut NoShipper), Kept::OnDisk, "{seq} {:?}", run.place());
        after(run, seq);
    }
}

#[test]
fn near_the_cap_seconds_go_first_and_then_minutes() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(options(folder.path()));
    keep_noise(&mut run, 100, 9_000, |_, _| ());
    let count = |table: &str| -> i64 {
        let count = format!("SELECT count(*) FROM {table}");
        run.file().connection().query_row(&count, [], |row| row.get(0)).expect("a number")
    };
    assert!(run.journal.reader().status().bytes < MIN_CAP);
    assert!(count("ticks") > 1_000, "{} ticks", count("ticks"));
    assert!(count("ticks") < 9_000, "{} ticks: the cap was never met", count("ticks"));
    assert!(count("ticks_1m") > 100, "{} minutes", count("ticks_1m"));
}

#[test]
fn where_not_even_an_hour_fits_minutes_that_went_are_not_made_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(options(folder.path()));
    let mut oldest = 0;
    keep_noise(&mut run, 800, 4_000, |run, seq| {
        let first = "SELECT coalesce(min(first_seq), 0) FROM ticks_1m";
        let first: i64 = run.file().connection().query_row(first, [], |row| row.get(0)).expect("a number");
        assert!(first >= oldest, "at {seq} the minutes begin with {first}, after {oldest}");
        oldest = first;
    });
    assert!(oldest > 1_000, "{oldest}: the cap was never met");
}

/// A journal as version 1 wrote it: its tables to the letter, its rows, and no more.
fn version_1(path: &Path) -> (u128, Vec<StoredTick>) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    let old = Connection::open(path).expect("opens");
    old.execute_batch(schema::TABLES_1).expect("made");
    old.execute_batch(
        "INSERT INTO meta VALUES ('created_wall_ns', 1600000000000000000), ('boot', 'first'), ('written_by', 'perfwatch 0');
         INSERT INTO series VALUES
            (0, 'perfwatch.server.requests.started', '{request}', 1.0, 'counter', 'server:shop/1', '{}'),
            (3, 'system.cpu.time', 's', 1e-9, 'counter', 'host:here', '{\"cpu.logical_number\":\"2\",\"cpu.mode\":\"user\"}');
         INSERT INTO totals (series, last, total) VALUES (0, 41, 41), (3, 1000, '36893488147419103232');
         INSERT INTO sessions VALUES (x'07070707070707070707070707070707', 12, 5);",
    )
    .expect("written");
    let mut table = SeriesTable::new();
    let shop = table.entity(Entity::new(EntityKind::Server, "shop/1"));
    let requests = table.series(&server::REQUESTS_STARTED, shop, &[]);
    let mut totals = Totals::default();
    let mut encoder = Encoder::new().expect("memory");
    let mut ticks = Vec::new();
    for seq in 0..100u64 {
        let tick = Tick { values: vec![(requests, Number::Int(seq))], dt_ns: SECOND, ..Tick::default() };
        totals.fold(seq, &tick, &table);
        let commit = Commit { tick: &tick, table: &table, sessions: &[], ledgers: &[], findings: &[], judged: true };
        let blob = encoder.encode(&commit, &totals).expect("encodes");
        let at = (seq * SECOND).cast_signed();
        old.execute(
            "INSERT INTO ticks VALUES (?1, ?2, ?2, 1000000000, ?3)",
            rusqlite::params![seq.cast_signed(), at, blob],
        )
        .expect("written");
        ticks.push(decode(&blob).expect("decodes"));
    }
    old.pragma_update(None, "application_id", schema::APPLICATION).expect("written");
    old.pragma_update(None, "user_version", 1).expect("written");
    (41, ticks)
}

#[test]
fn a_journal_of_version_1_goes_on_with_all_that_it_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = options(folder.path()).path;
    let (requests, ticks) = version_1(&path);
    let old = Archive::open(&path).expect("version 1 can be read as it is");
    assert_eq!(old.ticks(0, 1_000).expect("whole").len(), ticks.len());
    assert!(old.ledgers(0, 99).expect("none").is_empty() && old.findings(0, 99).expect("none").is_empty());
    drop(old);
    let mut run = Run::start(options(folder.path()));
    assert_eq!((run.requests(), run.seq()), (requests, 12));
    assert_eq!(run.serve(13), Kept::OnDisk);
    assert_eq!(beside(folder.path()).iter().filter(|name| name.contains("corrupt")).count(), 0);
    drop(run);
    let run = Run::start(options(folder.path()));
    assert_eq!((run.requests(), run.seq()), (requests + 1, 13), "and its totals with it");
    assert_eq!(run.journal.reader().status().since_wall_ns, 1_600_000_000 * SECOND);
    let archive = Archive::open(&path).expect("opens");
    assert_eq!(archive.ticks(0, 1_000).expect("whole").len(), ticks.len() + 1);
    let names = archive.table();
    let core = names.iter().find(|(_, series)| series.metric.name == host::CPU_TIME.name && !series.attrs.is_empty());
    let (_, core) = core.expect("the kernel's");
    assert!(core.attrs.contains(&Attr::int("cpu.logical_number", 2)), "{core:?}");
    let version: i32 = run.file().connection().query_row("PRAGMA user_version", [], |row| row.get(0)).expect("one");
    assert_eq!(version, schema::VERSION);
}

#[test]
fn a_number_of_a_series_is_never_given_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run::start(options(folder.path()));
    let passing = run.table.entity(Entity::new(EntityKind::Process, "1:1"));
    let series = run.table.series(&host::CPU_TIME, passing, &[]);
    let tick = Tick { values: vec![(series, Number::Int(1))], ..Tick::default() };
    let commit = Commit { tick: &tick, table: &run.table, sessions: &[], ledgers: &[], findings: &[], judged: true };
    run.journal.commit(&commit, &mut NoShipper);
    let number = run.journal.with_totals(|totals| totals.find(series, &run.table)).expect("known");
    {
        let mut totals = run.journal.shared.totals();
        totals.forget(10_000, 10_000);
    }
    run.serve(1);
    drop(run);
    let mut run = Run::start(options(folder.path()));
    let late = run.table.entity(Entity::new(EntityKind::Process, "2:2"));
    let series = run.table.series(&host::CPU_TIME, late, &[]);
    let tick = Tick { values: vec![(series, Number::Int(1))], ..Tick::default() };
    let commit = Commit { tick: &tick, table: &run.table, sessions: &[], ledgers: &[], findings: &[], judged: true };
    run.journal.commit(&commit, &mut NoShipper);
    let later = run.journal.with_totals(|totals| totals.find(series, &run.table)).expect("known");
    assert!(later > number, "{later} after {number}");
}
