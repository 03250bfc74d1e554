//! What an export costs at 150, 1,000 and 10,000 series: taking in a tick, and encoding and compressing the requests. Prints
//! the bytes on the wire first.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]
#![allow(clippy::print_stdout, reason = "a benchmark's result")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use perfwatch_export::adder::Adder;
use perfwatch_export::{Encoder, Exported, OtlpConfig, exphist};
use perfwatch_model::{
    Attr, Entity, EntityKind, Histogram, Number, SeriesTable, SparseHdr, Stamp, Tick,
    metrics::{host, server},
};

const SECOND: u64 = 1_000_000_000;

/// 10,000 latencies between 100 µs and 10 s, spread by `seed`.
fn latencies(seed: u32) -> SparseHdr {
    let mut histogram = SparseHdr::new();
    for at in 0..10_000 {
        let at = f64::from((at * 7_919 + seed) % 10_000);
        histogram.record((1e5 * 1e5_f64.powf(at / 1e4)) as u64);
    }
    histogram
}

/// So many series as a pod has them: of every 20, one histogram, nine counters and ten gauges.
struct Pod {
    table: SeriesTable,
    tick: Tick,
    totals: Adder,
    encoder: Encoder,
}

impl Pod {
    fn of(series: usize, interval_s: u64) -> Self {
        let mut table = SeriesTable::new();
        let mut tick = Tick { dt_ns: SECOND, ..Tick::default() };
        for at in 0..series {
            let entity = table.entity(
                Entity::new(EntityKind::Server, format!("shop/{}", at / 20))
                    .with("service.name", "shop")
                    .with("service.instance.id", format!("{}", at / 20)),
            );
            let attrs = [Attr::int("perfwatch.number", (at % 20) as i64)];
            match at % 20 {
                0 => {
                    let histogram = table.series(&server::REQUEST_DURATION, entity, &attrs);
                    tick.histograms.push((histogram, Histogram::Hdr(latencies(at as u32))));
                }
                1..10 => {
                    let counter = table.series(&host::CPU_TIME, entity, &attrs);
                    tick.values.push((counter, Number::Int(at as u64 * SECOND)));
                }
                _ => {
                    let gauge = table.series(&server::CPU_QUOTA, entity, &attrs);
                    tick.values.push((gauge, Number::Float(1.5 + at as f64 / 7.0)));
                }
            }
        }
        tick.seal();
        let millis = (interval_s * 1_000).to_string();
        let config = OtlpConfig::from_lookup(|name| match name {
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT" => Some("http://127.0.0.1:9/v1/metrics".to_owned()),
            "OTEL_METRIC_EXPORT_INTERVAL" => Some(millis.clone()),
            _ => None,
        })
        .expect("valid variables");
        Self { table, tick, totals: Adder::new(), encoder: Encoder::new(&config, true) }
    }

    /// The next second; what the totals take is not the exporter's.
    fn next(&mut self) -> Exported {
        let now = self.tick.end.mono_ns + SECOND;
        self.tick.end = Stamp { mono_ns: now, wall_ns: 1_800_000_000 * SECOND + now };
        for (_, number) in &mut self.tick.values {
            if let Number::Int(value) = number {
                *value += SECOND / 3;
            }
        }
        self.encoder.before(&self.tick, &self.table, &self.totals);
        self.encoder.after(&self.tick, &self.table, &self.totals, &[], false)
    }
}

fn benches(criterion: &mut Criterion) {
    for series in [150, 1_000, 10_000] {
        // Every tick is an export in one, none is in the other: the difference is the encoding.
        let (mut busy, mut quiet) = (Pod::of(series, 1), Pod::of(series, 1_000_000_000));
        for pod in [&mut busy, &mut quiet] {
            pod.encoder.before(&pod.tick, &pod.table, &pod.totals);
            pod.totals.add(&pod.tick, &pod.table);
            pod.encoder.after(&pod.tick, &pod.table, &pod.totals, &[], false);
        }
        let exported = busy.next();
        let bytes: usize = exported.metrics.iter().map(|request| request.body.len()).sum();
        println!("{series} series: {bytes} bytes on the wire in {} requests", exported.metrics.len());
        criterion.bench_function(&format!("take in a tick, {series} series"), |bencher| {
            bencher.iter(|| quiet.next());
        });
        criterion.bench_function(&format!("take in a tick and export, {series} series"), |bencher| {
            bencher.iter(|| busy.next());
        });
    }
    let latencies = latencies(1);
    criterion.bench_function("one histogram from hdr to exponential", |bencher| {
        bencher.iter(|| black_box(exphist::from_sparse(black_box(&latencies), 1e-9)));
    });
}

criterion_group! {
    name = group;
    config = Criterion::default().measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_secs(1));
    targets = benches
}
criterion_main!(group);
