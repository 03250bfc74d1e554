#![allow(clippy::float_cmp, reason = "sums of whole nanoseconds come out exactly")]

use perfwatch_model::metrics::{host, server};
use perfwatch_model::{Entity, EntityKind, Histogram, Number, SeriesTable, SparseHdr, Stamp, Tick};
use perfwatch_store::{Commit, DEFAULT_KEEP_MINUTES_S, Journal, JournalOptions, Kept, NoShipper};

use super::*;

const SECOND: u64 = 1_000_000_000;

fn range(metric: &'static MetricDef, from: u64, to: u64, points: u64) -> Range {
    Range { metric, entity: None, from: from * SECOND, to: to * SECOND, points }
}

fn tick(second: u64) -> Tick {
    Tick { end: Stamp { mono_ns: second * SECOND, wall_ns: second * SECOND }, dt_ns: SECOND, ..Tick::default() }
}

fn points(sums: Sums) -> Vec<Option<BTreeMap<&'static str, f64>>> {
    let mut answer = sums.answer("memory".to_owned(), None, 1.0);
    assert_eq!(answer.series.len(), 1);
    answer.series.remove(0).points.into_iter().map(|point| point.map(|point| point.values)).collect()
}

#[test]
fn increases_of_parts_sum_to_the_counters_own_over_a_gap_and_a_restart() {
    let mut table = SeriesTable::new();
    let machine = table.entity(Entity::new(EntityKind::Host, "here"));
    let cpu = table.series(&host::CPU_TIME, machine, &[]);
    let mut sums = Sums::new(range(&host::CPU_TIME, 10, 20, 5));
    // The last before the range, then 11 to 13, a gap to 18, and at 19 it began anew.
    for (second, total) in [(10, 100), (11, 101), (12, 103), (13, 106), (18, 120), (19, 4), (21, 99)] {
        let values = vec![(cpu, Number::Int(total * SECOND))];
        sums.add(&Tick { values, ..tick(second) }, &[], &table).unwrap_or_else(|_| panic!("small"));
    }
    let points = points(sums);
    let increases: Vec<_> = points.iter().map(|point| point.as_ref().map(|point| point["increase"])).collect();
    assert_eq!(increases, [Some(3.0), Some(3.0), None, Some(14.0), Some(4.0)]);
    let rates: Vec<_> = points.iter().map(|point| point.as_ref().map(|point| point["per_s"])).collect();
    assert_eq!(rates, [Some(1.5), Some(3.0), None, Some(2.8), Some(4.0)], "14 came about in five seconds");
}

#[test]
fn a_rate_is_taken_over_what_was_measured_however_late_a_tick_was_read() {
    let mut table = SeriesTable::new();
    let machine = table.entity(Entity::new(EntityKind::Host, "here"));
    let cpu = table.series(&host::CPU_TIME, machine, &[]);
    let mut sums = Sums::new(range(&host::CPU_TIME, 10, 14, 4));
    // 2 a second, read on time but for the tick that ends at 12 s, which was read at 12.95 s.
    for (second, read_ms) in [(10, 10_000), (11, 11_000), (12, 12_950), (13, 13_000), (14, 14_000_u64)] {
        let dt_ns = match second {
            12 => 1_950,
            13 => 50,
            _ => 1_000,
        } * 1_000_000;
        let values = vec![(cpu, Number::Int(2 * read_ms * 1_000_000))];
        sums.add(&Tick { values, dt_ns, ..tick(second) }, &[], &table).unwrap_or_else(|_| panic!("small"));
    }
    let points = points(sums);
    let told = |name: &str| -> Vec<f64> {
        points.iter().map(|point| (point.as_ref().expect("measured")[name] * 1e6).round() / 1e6).collect()
    };
    assert_eq!((told("increase"), told("per_s")), (vec![2.0, 3.9, 0.1, 2.0], vec![2.0; 4]));
}

#[test]
fn a_time_that_came_twice_is_the_sum_of_both_and_the_rates_stay_true() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.db");
    let mut journal = empty(&path);
    let mut table = SeriesTable::new();
    let shop = table.entity(Entity::new(EntityKind::Server, "shop/1"));
    let started = table.series(&server::REQUESTS_STARTED, shop, &[]);
    // A clock that is a day ahead at boot, is set right, and after 50 s is set back by 30 s.
    for second in 1..=100 {
        let wall_ns = match second {
            1..=5 => second + 86_400,
            6..=50 => second,
            _ => second - 30,
        } * SECOND;
        let end = Stamp { mono_ns: second * SECOND, wall_ns };
        keep(&mut journal, &Tick { end, values: vec![(started, Number::Int(3 * second))], ..tick(second) }, &table);
    }
    let answer = |from, to, points| {
        let sums = Sums::new(range(&server::REQUESTS_STARTED, from, to, points));
        from_journal(&path, sums).unwrap_or_else(|_| panic!("it can be read"))
    };
    let told = answer(10, 60, 5);
    let of = |name: &str| -> Vec<f64> {
        told.series[0].points.iter().map(|point| point.as_ref().expect("measured").values[name]).collect()
    };
    assert_eq!(of("increase"), [30.0, 60.0, 60.0, 60.0, 30.0]);
    assert_eq!((of("per_s"), told.covered_s), (vec![3.0; 5], 80.0));
    let ahead = answer(86_400, 86_500, 1);
    assert_eq!(ahead.series[0].points[0].as_ref().expect("measured").values["increase"], 15.0);
}

#[test]
fn distributions_of_a_part_are_merged_bucket_by_bucket() {
    let mut table = SeriesTable::new();
    let shop = table.entity(Entity::new(EntityKind::Server, "shop/1"));
    let latency = table.series(&server::REQUEST_DURATION, shop, &[]);
    let mut sums = Sums::new(range(&server::REQUEST_DURATION, 0, 4, 1));
    let mut all = SparseHdr::new();
    for second in 1..=4 {
        let mut gained = SparseHdr::new();
        for value in 0..100 {
            gained.record(second * 1_000_000 + value * 7919);
            all.record(second * 1_000_000 + value * 7919);
        }
        let histograms = vec![(latency, Histogram::Hdr(gained))];
        sums.add(&Tick { histograms, ..tick(second) }, &[], &table).unwrap_or_else(|_| panic!("small"));
    }
    let point = points(sums).remove(0).expect("measured");
    assert_eq!((point["count"], point["sum"]), (400.0, all.sum() as f64 * 1e-9));
    for (name, q) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)] {
        assert_eq!(point[name], all.quantile(q).expect("400 values") as f64 * 1e-9, "{name}");
    }
}

#[test]
fn more_distributions_than_memory_should_hold_are_refused_with_what_to_do() {
    let mut table = SeriesTable::new();
    let mut sums = Sums::new(range(&server::REQUEST_DURATION, 0, 1_000, 1_000));
    let latencies: Vec<_> = (0..30)
        .map(|at| {
            let shop = table.entity(Entity::new(EntityKind::Server, format!("shop/{at}")));
            table.series(&server::REQUEST_DURATION, shop, &[])
        })
        .collect();
    let mut gained = SparseHdr::new();
    gained.record(1);
    let histograms: Vec<_> = latencies.iter().map(|id| (*id, Histogram::Hdr(gained.clone()))).collect();
    let refused = (1..=1_000)
        .find(|second| sums.add(&Tick { histograms: histograms.clone(), ..tick(*second) }, &[], &table).is_err());
    assert_eq!(refused, Some(20_000 / 30 + 1));
}

#[test]
fn a_gauges_part_has_its_mean_and_both_ends() {
    let mut table = SeriesTable::new();
    let machine = table.entity(Entity::new(EntityKind::Host, "here"));
    let limit = table.series(&host::MEMORY_LIMIT, machine, &[]);
    let mut sums = Sums::new(range(&host::MEMORY_LIMIT, 0, 4, 2));
    for (second, value) in [(1, 10), (2, 40), (3, 5)] {
        let values = vec![(limit, Number::Int(value))];
        sums.add(&Tick { values, ..tick(second) }, &[], &table).unwrap_or_else(|_| panic!("small"));
    }
    let points = points(sums);
    let told = |at: usize| points[at].as_ref().map(|point| (point["mean"], point["min"], point["max"]));
    assert_eq!((told(0), told(1)), (Some((25.0, 10.0, 40.0)), Some((5.0, 5.0, 5.0))));
}

fn empty(path: &Path) -> Journal {
    Journal::open(JournalOptions {
        path: path.to_path_buf(),
        cap_bytes: 64_000_000,
        keep_s: 120,
        keep_minutes_s: DEFAULT_KEEP_MINUTES_S,
        boot: String::new(),
        now_wall_ns: SECOND,
    })
}

fn keep(journal: &mut Journal, tick: &Tick, table: &SeriesTable) {
    let commit = Commit { tick, table, sessions: &[], ledgers: &[], findings: &[], judged: true };
    assert_eq!(journal.commit(&commit, &mut NoShipper), Kept::OnDisk);
}

/// A journal of so many seconds, of which it keeps 120: a counter of a server gains 3 in each, and begins anew half way.
fn journal(path: &Path, seconds: u64) {
    let mut journal = empty(path);
    for second in 1..=seconds {
        if second == seconds / 2 {
            drop(journal);
            journal = empty(path);
        }
        let mut table = SeriesTable::new();
        let shop = table.entity(Entity::new(EntityKind::Server, "shop/1"));
        let started = table.series(&server::REQUESTS_STARTED, shop, &[]);
        let latency = table.series(&server::REQUEST_DURATION, shop, &[]);
        let quota = table.series(&server::CPU_QUOTA, shop, &[]);
        let mut gained = SparseHdr::new();
        gained.record(second * 1_000);
        let total = 3 * if second < seconds / 2 { second } else { second - seconds / 2 + 1 };
        let mut tick = Tick {
            values: vec![(started, Number::Int(total)), (quota, Number::Float(second as f64))],
            histograms: vec![(latency, Histogram::Hdr(gained))],
            ..tick(second)
        };
        tick.seal();
        keep(&mut journal, &tick, &table);
    }
}

/// The sum of a value over all points, the points that have one, and the length of what was measured at once.
fn asked(path: &Path, range: Range, value: &str) -> (f64, usize, f64) {
    let answer = from_journal(path, Sums::new(range)).unwrap_or_else(|_| panic!("it can be read"));
    let [series] = answer.series.as_slice() else { panic!("{:?}", answer.series) };
    let values: Vec<f64> = series.points.iter().flatten().map(|point| point.values[value]).collect();
    (values.iter().sum(), values.len(), answer.resolution_s)
}

#[test]
fn seconds_that_are_gone_are_told_of_minutes_and_nothing_is_counted_twice_or_lost_between_them() {
    const LENGTH: u64 = 1_000;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.db");
    journal(&path, LENGTH);
    let kept = Archive::open(&path).expect("whole").span().expect("whole").expect("ticks");
    assert!(kept.first_seq > 700, "{kept:?}");
    let all = |points| range(&server::REQUESTS_STARTED, 0, LENGTH, points);
    let everything = 3.0 * LENGTH as f64;
    // 15 minutes and 10 parts of seconds, minutes alone but for the last, seconds alone.
    assert_eq!(asked(&path, all(100), "increase"), (everything, 25, 60.0));
    assert_eq!(asked(&path, all(10), "increase"), (everything, 10, 60.0));
    let (from, to) = (LENGTH - 100, LENGTH - 10);
    let late = || range(&server::REQUESTS_STARTED, from, to, 9);
    assert_eq!(asked(&path, late(), "increase"), (270.0, 9, 1.0));
    let durations = range(&server::REQUEST_DURATION, 0, LENGTH, 100);
    assert_eq!(asked(&path, durations, "count").0, LENGTH as f64);
    let (means, points, _) = asked(&path, range(&server::CPU_QUOTA, 0, LENGTH, 1), "mean");
    assert!((means - 500.5).abs() < 1e-9 && points == 1, "{means}");
    let answer = from_journal(&path, Sums::new(all(100))).unwrap_or_else(|_| panic!("it can be read"));
    assert_eq!((answer.covered_s, answer.oldest.as_deref()), (LENGTH as f64, Some("1970-01-01T00:01:00.000Z")));
}
