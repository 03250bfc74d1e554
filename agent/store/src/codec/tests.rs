use std::sync::Arc;

use perfwatch_model::metrics::{host, server};
use perfwatch_model::tick::{SLOT_NS, SLOTS};
use perfwatch_model::{
    Bounded, Entity, EntityKind, GpuSlot, Share, Sharing, SlowRequest, SparseHdr, Stage, Stamp, State,
};

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
    let gpu = table.entity(Entity::new(EntityKind::Gpu, "GPU-a"));
    let mut busy = GpuTick::unknown(gpu);
    busy.slots[2] = GpuSlot {
        graphics: Share::of(0.5),
        sm: Share::of(0.0),
        link: Share::of(0.25),
        continued: true,
        ..GpuSlot::default()
    };
    (busy.servers, busy.sharing, busy.own_sm) = (vec![shop], Sharing::TimeSliced, Share::of(1.0));
    busy.processes = Some(0);
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
            reason: Reason::fixed("no limit", "set one").by_failure(),
        }],
        servers: vec![served],
        gpus: vec![busy],
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
    assert_eq!(stored.entities, ["host:here", "server:shop/1", "gpu:GPU-a"]);
    let id = |series| totals.id_of(series).expect("folded");
    assert_eq!(stored.values, tick.values.iter().map(|(series, number)| (id(*series), *number)).collect::<Vec<_>>());
    let histograms: Vec<_> = tick.histograms.iter().map(|(series, gained)| (id(*series), gained.clone())).collect();
    assert_eq!(stored.histograms, histograms);
    // Both tables number the entities in the order in which they came.
    assert_eq!((stored.absent, stored.servers, stored.gpus), (tick.absent, tick.servers, tick.gpus));
    assert!(stored.unjudged);
}

#[test]
fn a_tick_of_before_there_were_gpus_in_it_is_read_as_one_without() {
    let (mut tick, table) = world();
    tick.gpus.clear();
    let row = row(&tick, &table, &Totals::default());
    // What was written then is what is written now of such a tick: the messages before the new one, and nothing else.
    let old = BeforeGpus { entities: row.entities.clone(), servers: row.servers.clone(), absent: row.absent.clone() };
    let stored = decode(&framed(&old.encode_to_vec())).expect("decodes");
    assert_eq!((stored.gpus.len(), stored.servers, stored.absent), (0, tick.servers, tick.absent));
    // And an agent of then reads what is written now, without its GPUs.
    let (tick, table) = world();
    let now = super::row(&tick, &table, &Totals::default()).encode_to_vec();
    let read = BeforeGpus::decode(now.as_slice()).expect("unknown messages are skipped");
    assert_eq!(read.servers.len(), 1);
}

/// The parts of a row that name entities, as they were before GPUs came.
#[derive(Clone, PartialEq, prost::Message)]
struct BeforeGpus {
    #[prost(string, repeated, tag = "1")]
    entities: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    absent: Vec<AbsenceRow>,
    #[prost(message, repeated, tag = "8")]
    servers: Vec<ServerRow>,
}

#[test]
fn a_slot_whose_states_are_not_its_length_is_refused() {
    let stored = |change: fn(&mut ServerTick)| {
        let (mut tick, table) = world();
        change(&mut tick.servers[0]);
        decode(&framed(&row(&tick, &table, &Totals::default()).encode_to_vec()))
    };
    assert!(stored(|server| server.slots[3].state_ns[2] = 0).is_ok(), "not known");
    assert!(stored(|server| server.slots[3].stage_ns[2] = u64::MAX).is_ok(), "requests overlap");
    assert!(stored(|server| server.slots[3].state_ns[2] += 1).is_err(), "too long");
    assert!(stored(|server| server.slots[3].state_ns[2] -= 1).is_err(), "too short");
    assert!(stored(|server| server.slots[3].state_ns = [u64::MAX; State::COUNT]).is_err(), "more than can be added");
    assert!(
        stored(|server| server.slots[4].state_ns = [u64::MAX, 1, 0, 0, 0, 0, 0, 0, 0, 0]).is_err(),
        "0 if it wraps"
    );
}

#[test]
fn units_that_a_newer_agent_knows_are_passed_over_and_those_that_an_older_one_lacked_are_unknown() {
    let (tick, table) = world();
    let stored = |change: fn(&mut Vec<u32>)| {
        let mut row = row(&tick, &table, &Totals::default());
        change(&mut row.gpus[0].shares);
        decode(&framed(&row.encode_to_vec()))
    };
    let newer = stored(|shares| shares.extend([5_001; 2 * SLOTS])).expect("read");
    assert_eq!(newer.gpus, tick.gpus);
    assert!(stored(|shares| shares.push(1)).is_err(), "not of all slots");
    let older = stored(|shares| shares.truncate(SLOTS)).expect("read");
    let slot = older.gpus[0].slots[2];
    assert_eq!(
        (slot.graphics, slot.sm),
        (tick.gpus[0].slots[2].graphics, Share::UNKNOWN),
        "an agent had one unit then"
    );
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
    let slots = tick.servers.iter().flat_map(|server| &server.slots);
    assert!(
        slots.into_iter().all(|slot| [0, SLOT_NS].contains(&slot.state_ns.iter().sum())),
        "no slot is longer than it is"
    );
    assert!(tick.gpus.iter().all(|gpu| known(gpu.entity) && gpu.servers.iter().all(|server| known(*server))));
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
