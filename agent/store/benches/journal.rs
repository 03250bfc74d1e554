//! What keeping one tick costs: encode, compress, and one transaction with totals and a session.
//!
//! A third of the series are counters that move, two thirds gauges; eight distributions of 200 buckets gain in each tick.

#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use perfwatch_model::metrics::{host, server};
use perfwatch_model::{Attr, Entity, EntityKind, Histogram, Number, SeriesTable, SparseHdr, Tick};
use perfwatch_store::{Commit, Journal, JournalOptions, Kept, MIN_CAP, NoShipper, Progress, SESSION_BYTES};

fn tick(series: i64, table: &mut SeriesTable) -> Tick {
    let machine = table.entity(Entity::new(EntityKind::Host, "here"));
    let shop = table.entity(Entity::new(EntityKind::Server, "shop/1"));
    let mut tick = Tick { dt_ns: 1_000_000_000, ..Tick::default() };
    for at in 0..series {
        let attr = [Attr::int("at", at)];
        tick.values.push(if at % 3 == 0 {
            (table.series(&host::CPU_TIME, machine, &attr), Number::Int(at.cast_unsigned() << 20))
        } else {
            (table.series(&host::MEMORY_LIMIT, machine, &attr), Number::Float(at as f64 / 7.0))
        });
    }
    for stage in 0..8u64 {
        let mut gained = SparseHdr::new();
        (0..200).for_each(|at| gained.record((at + stage) * 37_000));
        let id = table.series(&server::STAGE_DURATION, shop, &[Attr::int("at", stage.cast_signed())]);
        tick.histograms.push((id, Histogram::Hdr(gained)));
    }
    tick.seal();
    tick
}

fn keep(c: &mut Criterion) {
    let mut group = c.benchmark_group("keep one tick");
    for series in [300, 1_000, 3_000] {
        for on_disk in [false, true] {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let options = JournalOptions {
                path: folder.path().join("journal.db"),
                cap_bytes: 4 * MIN_CAP,
                keep_s: perfwatch_store::DEFAULT_KEEP_S,
                keep_minutes_s: perfwatch_store::DEFAULT_KEEP_MINUTES_S,
                boot: String::new(),
                now_wall_ns: 0,
            };
            let mut journal = if on_disk { Journal::open(options) } else { Journal::in_memory(0) };
            let mut table = SeriesTable::new();
            let mut tick = tick(series, &mut table);
            let mut seq = 0;
            let name = if on_disk { "on disk" } else { "in memory" };
            group.bench_function(BenchmarkId::new(name, series), |b| {
                b.iter(|| {
                    seq += 1;
                    for (_, number) in &mut tick.values {
                        *number = match *number {
                            Number::Int(value) => Number::Int(value + 1_000_003),
                            Number::Float(value) => Number::Float(value * 1.000_1),
                        };
                    }
                    let sessions = [Progress { session: [7; SESSION_BYTES], seq }];
                    let kept = journal.commit(
                        &Commit {
                            tick: &tick,
                            table: &table,
                            sessions: &sessions,
                            ledgers: &[],
                            findings: &[],
                            judged: true,
                        },
                        &mut NoShipper,
                    );
                    assert_eq!(kept == Kept::OnDisk, on_disk);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, keep);
criterion_main!(benches);
