//! A journal over a day, on a simulated clock: bytes and microseconds per tick by number of series, and a whole day with
//! entities that come and go, whose memory and file must stay flat.
//!
//! `cargo bench -p perfwatch-store --bench day` prints two tables, in some minutes; it fails where what
//! should be flat grows.

#![allow(clippy::print_stdout, reason = "the report is what it is for")]
#![allow(clippy::disallowed_methods, reason = "it measures how long keeping takes, beside the clock that is simulated")]

use std::time::Instant;

use perfwatch_model::metrics::{host, process, server};
use perfwatch_model::{Attr, Entity, EntityKind, Histogram, Number, SeriesId, SeriesTable, SparseHdr, Stamp, Tick};
use perfwatch_store::{
    Commit, DEFAULT_KEEP_MINUTES_S, DEFAULT_KEEP_S, Journal, JournalOptions, Kept, NoShipper, Progress, SESSION_BYTES,
};

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400;
const BEGAN: u64 = 1_700_000_000 * SECOND;
/// Ticks over which bytes and time are measured.
const MEASURED: u64 = 3_600;

struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// A machine: a third of its series are counters of which half move, two thirds gauges of which a third move; sixteen
/// distributions gain some hundred values a tick.
struct Machine {
    table: SeriesTable,
    counters: Vec<(SeriesId, u64)>,
    gauges: Vec<(SeriesId, f64)>,
    distributions: Vec<SeriesId>,
    chance: Chance,
}

impl Machine {
    fn new(series: i64) -> Self {
        let mut table = SeriesTable::new();
        let here = table.entity(Entity::new(EntityKind::Host, "here"));
        let shop = table.entity(Entity::new(EntityKind::Server, "shop/1"));
        let at = |at: i64| [Attr::int("at", at)];
        let counters = (0..series / 3).map(|n| (table.series(&host::CPU_TIME, here, &at(n)), 0)).collect();
        let gauges =
            (series / 3..series - 16).map(|n| (table.series(&host::MEMORY_LIMIT, here, &at(n)), 1e9)).collect();
        let distributions = (0..16).map(|n| table.series(&server::STAGE_DURATION, shop, &at(n))).collect();
        Self { table, counters, gauges, distributions, chance: Chance(1) }
    }

    fn tick(&mut self, second: u64) -> Tick {
        let chance = &mut self.chance;
        let end = Stamp { mono_ns: second * SECOND, wall_ns: BEGAN + second * SECOND };
        let mut tick = Tick { end, dt_ns: SECOND, ..Tick::default() };
        for (at, (series, total)) in self.counters.iter_mut().enumerate() {
            *total += if at % 2 == 0 { chance.below(10_000_000) } else { 0 };
            tick.values.push((*series, Number::Int(*total)));
        }
        for (at, (series, value)) in self.gauges.iter_mut().enumerate() {
            *value += if at % 3 == 0 { chance.below(4_096) as f64 - 2_048.0 } else { 0.0 };
            tick.values.push((*series, Number::Int(*value as u64)));
        }
        for series in &self.distributions {
            let mut gained = SparseHdr::new();
            (0..100).for_each(|_| gained.record(1_000_000 + chance.below(20_000_000)));
            tick.histograms.push((*series, Histogram::Hdr(gained)));
        }
        tick
    }
}

fn open(folder: &tempfile::TempDir, cap_bytes: u64) -> Journal {
    Journal::open(JournalOptions {
        path: folder.path().join("journal.db"),
        cap_bytes,
        keep_s: DEFAULT_KEEP_S,
        keep_minutes_s: DEFAULT_KEEP_MINUTES_S,
        boot: String::new(),
        now_wall_ns: BEGAN,
    })
}

fn keep(journal: &mut Journal, mut tick: Tick, table: &SeriesTable, second: u64) {
    tick.seal();
    let sessions = [Progress { session: [7; SESSION_BYTES], seq: second }];
    let commit = Commit { tick: &tick, table, sessions: &sessions, ledgers: &[], findings: &[], judged: true };
    assert_eq!(journal.commit(&commit, &mut NoShipper), Kept::OnDisk);
}

fn on_disk(folder: &tempfile::TempDir) -> u64 {
    let files = std::fs::read_dir(folder.path()).expect("the folder");
    files.map(|file| file.expect("a file").metadata().expect("there").len()).sum()
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it says so");
    line.trim_end_matches("kB").trim().parse::<u64>().expect("a number") << 10
}

fn by_series() {
    println!("series  µs per tick  bytes per tick  MB per day");
    for series in [300, 1_000, 3_000] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut journal = open(&folder, 4_000_000_000);
        let mut machine = Machine::new(series);
        for second in 1..=120 {
            let tick = machine.tick(second);
            keep(&mut journal, tick, &machine.table, second);
        }
        let before = on_disk(&folder);
        let mut spent = std::time::Duration::ZERO;
        for second in 121..=120 + MEASURED {
            let tick = machine.tick(second);
            let began = Instant::now();
            keep(&mut journal, tick, &machine.table, second);
            spent += began.elapsed();
        }
        let bytes = (on_disk(&folder) - before) / MEASURED;
        let micros = spent.as_secs_f64() * 1e6 / MEASURED as f64;
        println!("{series:6}  {micros:11.0}  {bytes:14}  {:10.0}", (bytes * DAY) as f64 / 1e6);
    }
}

/// Every ten seconds ten processes end and ten begin; every ten minutes a server begins anew under another name.
fn churn() {
    println!("hour  resident MB  journal MB  seconds since h  series");
    let folder = tempfile::tempdir().expect("a folder");
    let mut journal = open(&folder, 64_000_000);
    let reader = journal.reader();
    let mut machine = Machine::new(116);
    let mut living = std::collections::VecDeque::new();
    let mut shop = machine.table.entity(Entity::new(EntityKind::Server, "shop/0"));
    let (mut first, mut last) = (0, 0);
    for second in 1..=DAY {
        if second % 10 == 1 {
            for at in 0..10 {
                let entity = machine.table.entity(Entity::new(EntityKind::Process, format!("{second}:{at}")));
                living.push_back((entity, machine.table.series(&process::CPU_TIME, entity, &[])));
            }
            while living.len() > 100 {
                if let Some((entity, _)) = living.pop_front() {
                    machine.table.retire(entity);
                }
            }
        }
        if second % 600 == 0 {
            machine.table.retire(shop);
            shop = machine.table.entity(Entity::new(EntityKind::Server, format!("shop/{second}")));
        }
        let mut tick = machine.tick(second);
        tick.values.extend(living.iter().map(|(_, series)| (*series, Number::Int(second * 1_000))));
        let requests = machine.table.series(&server::REQUEST_DURATION, shop, &[]);
        let mut gained = SparseHdr::new();
        (0..50).for_each(|_| gained.record(1_000_000 + machine.chance.below(90_000_000)));
        tick.histograms.push((requests, Histogram::Hdr(gained)));
        keep(&mut journal, tick, &machine.table, second);
        if second % (DAY / 8) == 0 {
            let status = reader.status();
            let since = status.seconds_since_wall_ns.map_or(0, |since| (since - BEGAN) / SECOND);
            let (memory, disk) = (resident(), on_disk(&folder));
            let series = reader.with_totals(|totals| totals.query(None, None).len());
            println!(
                "{:4}  {:11.1}  {:10.1}  {:15.1}  {series:6}",
                second / 3_600,
                memory as f64 / 1e6,
                disk as f64 / 1e6,
                since as f64 / 3_600.0
            );
            if first == 0 && second >= DAY / 2 {
                first = memory;
            }
            last = memory;
            assert!(disk <= 64_000_000, "{disk} bytes on disk");
        }
    }
    assert!(last < first + first / 4, "memory grew from {first} bytes at noon to {last} at midnight");
}

fn main() {
    // Asked to list or to test, as `cargo test --benches` does, there is nothing to do.
    if std::env::args().any(|argument| argument == "--bench") {
        by_series();
        churn();
    }
}
