use perfwatch_model::histogram::layout;
use perfwatch_model::metrics::{host, io, process, server};
use perfwatch_model::{Attr, Entity, EntityKind, MetricDef, Number, SeriesId, SeriesTable, SparseHdr, Tick};

use super::*;

fn counter(table: &mut SeriesTable, metric: &'static MetricDef, kind: EntityKind) -> SeriesId {
    let entity = table.entity(Entity::new(kind, "one"));
    table.series(metric, entity, &[Attr::fixed("perfwatch.stage", "queue")])
}

fn tick(series: SeriesId, value: u64) -> Tick {
    Tick { values: vec![(series, Number::Int(value))], ..Tick::default() }
}

fn total(totals: &Totals) -> u128 {
    match totals.query(None, None).as_slice() {
        [SeriesTotal { amount: Amount::Counter(total), .. }] => *total,
        other => panic!("expected one counter, got {other:?}"),
    }
}

#[test]
fn what_the_kernel_counted_before_the_journal_began_is_not_in_it() {
    let (mut totals, mut table) = (Totals::default(), SeriesTable::new());
    let series = counter(&mut table, &host::CPU_TIME, EntityKind::Host);
    for (seq, value, expected) in [(0, 1_000, 0), (1, 1_300, 300), (2, 200, 500), (3, 250, 550)] {
        totals.fold(seq, &tick(series, value), &table);
        assert_eq!(total(&totals), expected, "after {value}");
    }
}

#[test]
fn what_the_agent_counts_from_zero_is_whole() {
    let (mut totals, mut table) = (Totals::default(), SeriesTable::new());
    let series = counter(&mut table, &server::STAGE_TIME, EntityKind::Server);
    totals.fold(0, &tick(series, 40), &table);
    totals.fold(1, &tick(series, 70), &table);
    assert_eq!(total(&totals), 70);
    // The server was away so long that it retired; it is the same series of the journal when it comes back.
    let entity = table.series_of(series).expect("it lives").entity;
    table.retire(entity);
    let again = counter(&mut table, &server::STAGE_TIME, EntityKind::Server);
    assert_ne!(again, series);
    totals.fold(2, &tick(again, 90), &table);
    assert_eq!(total(&totals), 160);
}

#[test]
fn a_tick_that_names_a_series_which_retired_with_it_still_counts() {
    let (mut totals, mut table) = (Totals::default(), SeriesTable::new());
    let series = counter(&mut table, &server::STAGE_TIME, EntityKind::Server);
    totals.fold(0, &tick(series, 40), &table);
    table.retire(table.series_of(series).expect("it lives").entity);
    totals.fold(1, &tick(series, 41), &table);
    assert_eq!(total(&totals), 41);
}

#[test]
fn a_sum_whose_counts_came_before_is_added() {
    let (mut totals, mut table) = (Totals::default(), SeriesTable::new());
    let series = counter(&mut table, &server::STAGE_DURATION, EntityKind::Server);
    for gained in [SparseHdr::from_buckets(vec![(7, 1)], 0), SparseHdr::from_buckets(Vec::new(), 7)] {
        let histograms = vec![(series, Histogram::Hdr(gained.expect("valid")))];
        totals.fold(0, &Tick { histograms, ..Tick::default() }, &table);
    }
    let all = totals.query(Some(server::STAGE_DURATION.name), Some("server:one"));
    let Amount::Histogram(distribution) = &all[0].amount else { panic!("{all:?}") };
    assert_eq!((distribution.count(), distribution.hdr.sum()), (1, 7));
    assert_eq!(all[0].key.attributes, r#"{"perfwatch.stage":"queue"}"#);
}

#[test]
fn only_what_changed_is_written() {
    let (mut totals, mut table) = (Totals::default(), SeriesTable::new());
    let series = counter(&mut table, &host::CPU_TIME, EntityKind::Host);
    totals.fold(0, &tick(series, 5), &table);
    assert_eq!(totals.unwritten().count(), 1);
    totals.written();
    totals.fold(1, &tick(series, 5), &table);
    assert_eq!(totals.unwritten().count(), 0, "the counter stands still");
    totals.fold(2, &tick(series, 6), &table);
    assert_eq!(totals.unwritten().count(), 1);
}

#[test]
fn processes_that_are_gone_are_forgotten_and_servers_are_not() {
    let (mut totals, mut table) = (Totals::default(), SeriesTable::new());
    let process = counter(&mut table, process::ALL[0], EntityKind::Process);
    let server = counter(&mut table, &server::STAGE_TIME, EntityKind::Server);
    totals.fold(1, &tick(process, 5), &table);
    totals.fold(1, &tick(server, 5), &table);
    totals.forget(900, 1_000);
    assert_eq!(totals.gone().len(), 1);
    assert_eq!(total(&totals), 5);
    totals.fold(1_001, &tick(process, 9), &table);
    assert!(totals.id_of(process).is_some_and(|id| totals.entries.contains_key(&id)), "it was only quiet");
}

#[test]
fn what_each_agent_counts_itself_begins_at_zero_with_it_and_so_does_everything_about_a_server_whoever_tells_it() {
    let server = [&server::CPU_TIME, &server::CPU_THROTTLED, &server::REQUESTS_STARTED];
    let of_server = server.map(|metric| (metric, EntityKind::Server));
    // A network card may be lent to a container, and be back with more than it had when the next agent comes.
    let of_host = [&io::NETWORK_TOTAL, &io::DISK_IO].map(|metric| (metric, EntityKind::Host));
    for (metric, kind) in of_server.into_iter().chain(of_host) {
        let mut totals = Totals::default();
        for (run, values) in [[400, 1_000], [1_010, 1_020], [5, 6]].into_iter().enumerate() {
            // What a killed agent leaves is the totals; the next one has a table of its own.
            totals.known.clear();
            let mut table = SeriesTable::new();
            let series = counter(&mut table, metric, kind);
            for value in values {
                totals.fold(run as u64, &tick(series, value), &table);
            }
        }
        assert_eq!(total(&totals), 1_000 + 1_020 + 6, "{}", metric.name);
    }
}

fn measured(series: SeriesId, value: f64) -> Tick {
    Tick { values: vec![(series, Number::Float(value))], ..Tick::default() }
}

#[test]
fn a_counter_that_is_no_integer_has_a_total_in_its_unit() {
    let (mut totals, mut table) = (Totals::default(), SeriesTable::new());
    let series = counter(&mut table, &server::STAGE_TIME, EntityKind::Server);
    totals.fold(0, &tick(series, 500_000_000), &table);
    assert_eq!(totals.query(None, None)[0].amount, Amount::Counter(500_000_000));
    for (seq, value, expected) in [(1, 0.75, 0.75), (2, 2.0, 2.0), (3, f64::NAN, 2.0), (4, 0.25, 2.25)] {
        totals.fold(seq, &measured(series, value), &table);
        assert_eq!(totals.query(None, None)[0].amount, Amount::Measured(expected), "after {value}");
    }
    totals.fold(5, &tick(series, 750_000_000), &table);
    assert_eq!(totals.query(None, None)[0].amount, Amount::Measured(2.75), "integers count in the unit from now on");
}

fn ten_servers(table: &mut SeriesTable) -> Vec<SeriesId> {
    let servers = (0..10).map(|at| table.entity(Entity::new(EntityKind::Server, format!("shop/{at}"))));
    let servers: Vec<_> = servers.collect();
    servers.into_iter().map(|server| table.series(&server::STAGE_TIME, server, &[])).collect()
}

#[test]
fn beyond_the_limit_the_longest_silent_series_are_forgotten() {
    let (mut totals, mut table) = (Totals::default(), SeriesTable::new());
    let ids = ten_servers(&mut table);
    for (at, id) in ids.iter().enumerate() {
        totals.fold(10 - at as u64, &tick(*id, 5), &table);
    }
    totals.max_bytes = totals.bytes / 2;
    totals.fold(11, &tick(ids[0], 5), &table);
    let left: Vec<String> = totals.query(None, None).into_iter().map(|total| total.key.entity).collect();
    assert_eq!(left, ["server:shop/0", "server:shop/1", "server:shop/2", "server:shop/3"]);
    assert_eq!((totals.gone().len(), totals.crowded_out()), (6, 6));
    totals.fold(12, &tick(ids[9], 7), &table);
    assert_eq!(totals.query(None, Some("server:shop/9"))[0].amount, Amount::Counter(7), "it begins anew");
}

#[test]
fn a_distribution_weighs_what_its_buckets_do() {
    let (mut totals, mut table) = (Totals::default(), SeriesTable::new());
    let ids = ten_servers(&mut table);
    let server = table.series_of(ids[0]).expect("it lives").entity;
    let wide = table.series(&server::STAGE_DURATION, server, &[]);
    let buckets = (0..layout::BUCKETS as u16).map(|bucket| (bucket, 1)).collect();
    let gained = SparseHdr::from_buckets(buckets, 0).expect("valid");
    let mut tick = Tick {
        values: ids.iter().map(|id| (*id, Number::Int(1))).collect(),
        histograms: vec![(wide, Histogram::Hdr(gained))],
        ..Tick::default()
    };
    tick.seal();
    totals.fold(0, &tick, &table);
    totals.fold(1, &tick, &table);
    let wide = layout::BUCKETS * 16;
    assert!((wide..wide + 20_000).contains(&totals.bytes), "{}", totals.bytes);
    totals.max_bytes = 40_000;
    totals.fold(2, &Tick::default(), &table);
    assert_eq!(totals.query(None, None).len(), 10, "the heaviest of those that are heard goes, and it alone");
    let all: usize = totals.entries.values().map(Entry::weight).sum();
    assert_eq!((totals.bytes, totals.crowded_out()), (all, 1));
}
