//! What one flush of one model server costs the agent, from bytes to its place in the tick.
//!
//! The flush is that of a busy server: ten slots, eight histograms of about 200 buckets, every counter.

#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use perfwatch_agent::probe_socket::{Delivery, Event, Peer, Receipt, ServerBook};
use perfwatch_model::{SeriesTable, Stamp, Tick};
use perfwatch_wire::message::{Flush, Hello, Histogram, Slot, StageCount, StageTime, client_message};
use perfwatch_wire::{ClientMessage, FrameReader, encode, sparse, validate};
use prost::Message as _;

fn busy_flush() -> Flush {
    let stages = |ns: u64| (0..6).map(|stage| StageTime { stage, ns: ns + u64::from(stage) }).collect::<Vec<_>>();
    let histograms = (0..8).map(|number| {
        let mut histogram = Histogram {
            name: if number == 0 { "request.duration".into() } else { "stage.duration".into() },
            stage: (number > 0).then_some(number),
            unit: "ns".into(),
            sum: 123_456_789_012,
            ..Histogram::default()
        };
        sparse::pack(&mut histogram, (0..200).map(|at| (1_200 + at * 2, u64::from(at % 7) + 1)));
        histogram
    });
    Flush {
        seq: 7,
        start_ns: 99_000_000_000,
        end_ns: 100_000_000_000,
        histograms: histograms.collect(),
        requests_started: 512,
        requests_completed: 510,
        dispatches: 70,
        dispatches_ready2: 64,
        in_flight: (0..6).map(|stage| StageCount { stage, count: 3 }).collect(),
        occupancy: stages(900_000_000),
        slots: (990..1_000)
            .map(|index| Slot {
                index,
                state_ns: vec![60_000_000, 0, 20_000_000, 0, 10_000_000, 5_000_000, 0, 0, 0, 5_000_000],
                occupancy: stages(90_000_000),
            })
            .collect(),
        cpu_ns: Some(800_000_000),
        run_delay_ns: Some(1_000_000),
        threads: 24,
        cpus_allowed: "0-15".into(),
        ..Flush::default()
    }
}

fn ingest(c: &mut Criterion) {
    let bytes = encode(&ClientMessage::from(busy_flush()));
    let mut group = c.benchmark_group("ingest of one flush");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    let decode = |bytes: &[u8]| {
        let mut reader = FrameReader::new();
        reader.push(bytes);
        let frame = reader.next().expect("well-formed").expect("whole");
        match ClientMessage::decode(frame).expect("a message").body {
            Some(client_message::Body::Flush(flush)) => {
                validate::flush(&flush).expect("valid");
                flush
            }
            other => panic!("expected a flush, got {other:?}"),
        }
    };
    group.bench_function("frame, decode, check", |b| b.iter(|| decode(black_box(&bytes))));

    let hello = Hello { service: "bench".into(), instance: "one".into(), session: vec![7; 16], ..Hello::default() };
    let peer = Arc::new(Peer::new(hello, None));
    let (mut book, mut table) = (ServerBook::new(), SeriesTable::new());
    book.take(Event::Joined(Arc::clone(&peer)), &mut table);
    let mut tick = Tick { end: Stamp { mono_ns: 100_000_000_000, wall_ns: 0 }, ..Tick::default() };
    group.bench_function("bytes to tick", |b| {
        b.iter(|| {
            let delivery = Delivery {
                peer: Arc::clone(&peer),
                flush: Box::new(decode(black_box(&bytes))),
                receipt: Receipt::detached(),
            };
            book.take(Event::Flush(delivery), &mut table);
            tick.values.clear();
            tick.histograms.clear();
            tick.servers.clear();
            let receipts = book.close(&mut tick, &mut table);
            assert_eq!(receipts.len(), 1);
        });
    });
    group.finish();
}

criterion_group!(benches, ingest);
criterion_main!(benches);
