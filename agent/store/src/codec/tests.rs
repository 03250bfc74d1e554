use std::sync::Arc;

use perfwatch_model::metrics::{host, server};
use perfwatch_model::{Bounded, Entity, EntityKind, SparseHdr, Stage, Stamp};

use super::*;

fn world() -> (Tick, SeriesTable) {
    let mut table = SeriesTable::new();
    let machine = table.entity(Entity::new(EntityKind::Host, "here"));
    let shop = table.entity(Entity::new(EntityKind::Server, "shop/1"));
    let mut latency = SparseHdr::new();
    (1..200).for_each(|at| latency.record(at * at * 1_000));
    let bounded = Bounded { bounds: vec![0.1, 1.0], counts: vec![3, 0, 1], sum: 2.5 };
    let mut served = ServerTick::empty(shop);
    served.slots[3].state_ns[2] = 100_000_000;
    served.slots[9].stage_ns[Stage::Compute.index()] = 7;
    (served.started, served.failed, served.cancelled, served.dispatches_ready2) = (5, 1, 1, 2);
    served.in_flight[1] = 4;
    served.batch_size.record(8);
    served.max_batch_size = Some(16);
    served.custom_stages = Arc::from(["rerank".to_owned()]);
    served.combined = true;
    let mut tick = Tick {
        end: Stamp { mono_ns: 5, wall_ns: 6 },
        dt_ns: 1_000_000_000,
        values: vec![
            (table.series(&host::CPU_TIME, machine, &[]), Number::Int(u64::MAX)),
            (table.series(&host::MEMORY_LIMIT, machine, &[]), Number::Float(0.25)),
        ],
        histograms: vec![
            (table.series(&server::REQUEST_DURATION, shop, &[]), Histogram::Hdr(latency)),
            (table.series(&server::STAGE_DURATION, shop, &[]), Histogram::Bounded(bounded)),
        ],
        absent: vec![Absence {
            metric: host::MEMORY_LIMIT.name,
            entity: machine,
            reason: Reason::fixed("no limit", "set one"),
        }],
        servers: vec![served],
    };
    tick.seal();
    (tick, table)
}

#[test]
fn a_tick_comes_back_as_it_was() {
    let (tick, table) = world();
    let mut totals = Totals::default();
    totals.fold(0, &tick, &table);
    let blob = Encoder::new().and_then(|mut encoder| encoder.encode(&tick, &table, &totals)).expect("encodes");
    let stored = decode(&blob).expect("decodes");
    assert_eq!(stored.entities, ["host:here", "server:shop/1"]);
    let id = |series| totals.id_of(series).expect("folded");
    assert_eq!(stored.values, tick.values.iter().map(|(series, number)| (id(*series), *number)).collect::<Vec<_>>());
    let histograms: Vec<_> = tick.histograms.iter().map(|(series, gained)| (id(*series), gained.clone())).collect();
    assert_eq!(stored.histograms, histograms);
    // Both tables number the two entities in the order in which they came.
    assert_eq!((stored.absent, stored.servers), (tick.absent, tick.servers));
}

#[test]
fn a_flipped_bit_anywhere_is_noticed() {
    let (tick, table) = world();
    let mut totals = Totals::default();
    totals.fold(0, &tick, &table);
    let blob = Encoder::new().and_then(|mut encoder| encoder.encode(&tick, &table, &totals)).expect("encodes");
    let whole = decode(&blob).expect("decodes");
    for bit in 0..blob.len() * 8 {
        let mut flipped = blob.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // The header has bits that mean nothing; what decodes must be the same tick.
        if let Ok(tick) = decode(&flipped) {
            assert_eq!(tick, whole, "bit {bit}");
        }
    }
    for length in 0..blob.len() {
        assert!(decode(&blob[..length]).is_err(), "{length} bytes of {}", blob.len());
    }
}
