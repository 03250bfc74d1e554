//! What a scrape costs: 1,000 series, of which 500 are gauges, 450 counters and 50 distributions, in each format.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use perfwatch_export::prometheus::{Exposition, Format, Source, Total, Totals};
use perfwatch_model::{
    Attr, Entity, EntityKind, Number, SeriesId, SeriesTable, SparseHdr, Tick,
    metrics::{host, server},
};

const SECOND: u64 = 1_000_000_000;

#[derive(Default)]
struct Known {
    counters: HashMap<SeriesId, u128>,
    distributions: HashMap<SeriesId, SparseHdr>,
}

impl Totals for Known {
    fn of(&self, series: SeriesId) -> Option<Total<'_>> {
        let counter = self.counters.get(&series).map(|total| Total::Whole(*total));
        counter.or_else(|| self.distributions.get(&series).map(Total::Hdr))
    }
}

/// 10,000 latencies between 100 µs and 10 s.
fn latencies() -> SparseHdr {
    let mut histogram = SparseHdr::new();
    for at in 0..10_000 {
        histogram.record((1e5 * 1e5_f64.powf(f64::from(at) / 1e4)) as u64);
    }
    histogram
}

fn scrape(criterion: &mut Criterion) {
    let (mut table, mut totals) = (SeriesTable::new(), Known::default());
    let mut tick = Tick { dt_ns: SECOND, ..Tick::default() };
    for at in 0..500_u64 {
        let entity = table.entity(
            Entity::new(EntityKind::Server, format!("shop/{at}"))
                .with("service.name", "shop")
                .with("service.instance.id", format!("{at}")),
        );
        tick.values.push((table.series(&server::IN_FLIGHT, entity, &[]), Number::Float(1.5)));
        if at < 50 {
            totals.distributions.insert(table.series(&server::REQUEST_DURATION, entity, &[]), latencies());
        } else {
            let counter = table.series(&host::CPU_TIME, entity, &[Attr::fixed("cpu.mode", "user")]);
            totals.counters.insert(counter, u128::from(at * SECOND));
        }
    }
    tick.seal();
    let ticks = [Arc::new(tick)];
    let source = Source { table: &table, ticks: &ticks, totals: &totals, created_wall_ns: SECOND };
    for (name, format) in [("text", Format::Text), ("openmetrics", Format::OpenMetrics), ("protobuf", Format::Protobuf)]
    {
        let mut exposition = Exposition::new(true, &[]);
        let bytes = exposition.write(format, &source).len();
        criterion.bench_function(&format!("scrape/1000 series/{name}/{bytes} bytes"), |bencher| {
            bencher.iter(|| black_box(exposition.write(format, &source)));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(5));
    targets = scrape
}
criterion_main!(benches);
