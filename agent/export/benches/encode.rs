//! What an export costs: taking in a tick, and encoding 1,000 points with 50 histograms.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use perfwatch_export::{Exporter, OtlpConfig, exphist};
use perfwatch_model::{
    Attr, Entity, EntityKind, Histogram, Number, SeriesTable, SparseHdr, Stamp, Tick,
    metrics::{host, server},
};

const SECOND: u64 = 1_000_000_000;

/// 10,000 latencies between 100 µs and 10 s.
fn latencies() -> SparseHdr {
    let mut histogram = SparseHdr::new();
    for at in 0..10_000 {
        histogram.record((1e5 * 1e5_f64.powf(f64::from(at) / 1e4)) as u64);
    }
    histogram
}

/// A table and a tick with 500 gauges, 500 counters and 50 histograms.
fn tick() -> (SeriesTable, Tick) {
    let mut table = SeriesTable::new();
    let mut tick = Tick { dt_ns: SECOND, ..Tick::default() };
    for at in 0..500 {
        let entity = table.entity(
            Entity::new(EntityKind::Server, format!("shop/{at}"))
                .with("service.name", "shop")
                .with("service.instance.id", format!("{at}")),
        );
        let gauge = table.series(&server::IN_FLIGHT, entity, &[]);
        tick.values.push((gauge, Number::Float(1.5)));
        let counter = table.series(&host::CPU_TIME, entity, &[Attr::fixed("cpu.mode", "user")]);
        tick.values.push((counter, Number::Int(at * SECOND)));
        if at < 50 {
            let histogram = table.series(&server::REQUEST_DURATION, entity, &[]);
            tick.histograms.push((histogram, Histogram::Hdr(latencies())));
        }
    }
    tick.seal();
    (table, tick)
}

/// An exporter whose destination never answers; its queue drops the oldest.
fn exporter(runtime: &tokio::runtime::Runtime, interval_s: u64) -> Exporter {
    let millis = (interval_s * 1_000).to_string();
    let config = OtlpConfig::from_lookup(|name| match name {
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT" => Some("http://127.0.0.1:9/v1/metrics".to_owned()),
        "OTEL_METRIC_EXPORT_INTERVAL" => Some(millis.clone()),
        _ => None,
    })
    .expect("valid variables");
    Exporter::start(&config, false, runtime.handle()).expect("no files are needed")
}

fn offer(exporter: &mut Exporter, tick: &mut Tick, table: &SeriesTable) {
    let now = tick.end.mono_ns + SECOND;
    tick.end = Stamp { mono_ns: now, wall_ns: 1_800_000_000 * SECOND + now };
    exporter.offer(tick, table, &[]);
}

fn benches(criterion: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let (table, mut tick) = tick();

    let mut quiet = exporter(&runtime, 1_000_000_000);
    criterion.bench_function("take in a tick of 1,000 values and 50 histograms", |bencher| {
        bencher.iter(|| offer(&mut quiet, &mut tick, &table));
    });
    // Every tick is an export: the difference to the line above is the encoding.
    let mut busy = exporter(&runtime, 1);
    criterion.bench_function("take in and encode 1,000 points and 50 histograms", |bencher| {
        bencher.iter(|| offer(&mut busy, &mut tick, &table));
    });
    let latencies = latencies();
    criterion.bench_function("one histogram from hdr to exponential", |bencher| {
        bencher.iter(|| black_box(exphist::from_sparse(black_box(&latencies), 1e-9)));
    });
}

criterion_group! {
    name = group;
    config = Criterion::default().measurement_time(Duration::from_secs(3));
    targets = benches
}
criterion_main!(group);
