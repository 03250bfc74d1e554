use std::sync::Arc;

use perfwatch_model::metrics::{host, server};
use perfwatch_model::{Bounded, Entity, EntityKind, SlowRequest, SparseHdr, Stage, Stamp};

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
    let mut stage_ns = [0; Stage::COUNT];
    stage_ns[Stage::Compute.index()] = 9;
    served.slow = vec![
        SlowRequest {
            end_ns: 4,
            duration_ns: 9,
            stage_ns,
            trace_id: Some([3; 16]),
            error: Some("timeout".into()),
            prompt_tokens: 7,
            generated_tokens: 8,
            first_token_ns: Some(0),
        },
        SlowRequest {
            trace_id: None,
            error: None,
            first_token_ns: None,
            duration_ns: 0,
            stage_ns: [0; Stage::COUNT],
            end_ns: 1,
            prompt_tokens: 0,
            generated_tokens: 0,
        },
    ];
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
        scene: b"what was shown".to_vec(),
    };
    tick.seal();
    (tick, table)
}

fn commit<'a>(tick: &'a Tick, table: &'a SeriesTable) -> Commit<'a> {
    Commit { tick, table, sessions: &[], ledgers: &[], findings: &[], judged: false }
}

#[test]
fn a_tick_comes_back_as_it_was() {
    let (tick, table) = world();
    let mut totals = Totals::default();
    totals.fold(0, &tick, &table);
    let blob = Encoder::new().and_then(|mut encoder| encoder.encode(&commit(&tick, &table), &totals)).expect("encodes");
    let stored = decode(&blob).expect("decodes");
    assert_eq!(stored.entities, ["host:here", "server:shop/1"]);
    let id = |series| totals.id_of(series).expect("folded");
    assert_eq!(stored.values, tick.values.iter().map(|(series, number)| (id(*series), *number)).collect::<Vec<_>>());
    let histograms: Vec<_> = tick.histograms.iter().map(|(series, gained)| (id(*series), gained.clone())).collect();
    assert_eq!(stored.histograms, histograms);
    // Both tables number the two entities in the order in which they came.
    assert_eq!((stored.absent, stored.servers), (tick.absent, tick.servers));
    assert!(stored.unjudged);
}

#[test]
fn a_flipped_bit_anywhere_is_noticed() {
    let (tick, table) = world();
    let mut totals = Totals::default();
    totals.fold(0, &tick, &table);
    let blob = Encoder::new().and_then(|mut encoder| encoder.encode(&commit(&tick, &table), &totals)).expect("encodes");
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

fn sound(tick: &StoredTick) {
    assert!(tick.values.is_sorted_by_key(|(series, _)| *series), "values are found by series");
    assert!(tick.gains.is_sorted_by_key(|(series, _)| *series), "and so are gains");
    let known = |entity: EntityId| (entity.0 as usize) < tick.entities.len();
    assert!(tick.servers.iter().all(|server| known(server.entity)), "every server has a name");
    assert!(tick.absent.iter().all(|absence| known(absence.entity)), "and so has every absence");
}

/// Past the frame's checksum, which nothing random ever meets.
fn framed(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).expect("memory")
}

proptest::proptest! {
    #[test]
    fn whatever_a_row_holds_is_decoded_or_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        for blob in [bytes.clone(), framed(&bytes)] {
            let _ = decode(&blob).map(|tick| sound(&tick));
            let _ = decode_minute(&blob);
        }
    }

    #[test]
    fn a_row_that_was_changed_is_decoded_or_refused(
        changes in proptest::collection::vec((0usize..100_000, proptest::num::u8::ANY), 1..8),
    ) {
        let (tick, table) = world();
        let mut totals = Totals::default();
        totals.fold(0, &tick, &table);
        let blob = Encoder::new().and_then(|mut encoder| encoder.encode(&commit(&tick, &table), &totals)).expect("encodes");
        let mut row = plain(&blob).expect("whole");
        for (at, byte) in changes {
            let at = at % row.len();
            row[at] = byte;
        }
        let _ = decode(&framed(&row)).map(|tick| sound(&tick));
        let _ = decode_minute(&framed(&row));
    }
}
