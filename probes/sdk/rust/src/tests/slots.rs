//! Time in stages and states comes out exactly, slot by slot, requests in flight included.

use perfwatch_model::tick::SLOT_NS;
use perfwatch_model::{Stage, State};
use perfwatch_wire::message::{Flush, Slot};

use super::{EPOCH, MS, Rig};
use crate::collect::{Collector, End};

fn second(collector: &mut Collector, seq: u64) -> Flush {
    assert!(collector.collect(End::Second));
    let flush = collector.make(seq, 256).expect("time has passed");
    assert_eq!(perfwatch_wire::validate::flush(&flush), Ok(()), "each slot sums to 100 ms");
    flush
}

fn occupancy(slot: &Slot, stage: Stage) -> u64 {
    slot.occupancy.iter().find(|entry| entry.stage as usize == stage.index()).map_or(0, |entry| entry.ns)
}

fn state(slot: &Slot, state: State) -> u64 {
    slot.state_ns[state.index()]
}

#[test]
fn a_request_in_flight_is_counted_in_every_slot_it_spans() {
    let rig = Rig::new("/nonexistent");
    let mut collector = rig.collector();
    rig.at(50);
    let mut request = rig.server.request();
    request.enter(Stage::Queue);
    rig.at(1_005);
    let first = second(&mut collector, 1);
    let queue: Vec<u64> = first.slots.iter().map(|slot| occupancy(slot, Stage::Queue) / MS).collect();
    assert_eq!(queue, [50, 100, 100, 100, 100, 100, 100, 100, 100, 100]);
    assert_eq!(first.occupancy.iter().map(|entry| entry.ns).sum::<u64>(), 950 * MS);
    rig.at(1_250);
    request.enter(Stage::Decode);
    rig.at(4_000);
    let later = second(&mut collector, 2);
    assert_eq!(later.occupancy.iter().map(|entry| entry.ns / MS).collect::<Vec<_>>(), [250, 2_750]);
    assert_eq!(later.slots.len(), 20, "two seconds are kept");
    assert_eq!(later.slots_lost, 10);
    assert!(later.slots.iter().all(|slot| occupancy(slot, Stage::Decode) == SLOT_NS));
    request.finish();
}

#[test]
fn a_request_may_leave_on_another_thread_than_it_came() {
    let rig = Rig::new("/nonexistent");
    let mut collector = rig.collector();
    let mut requests: Vec<_> = (0..3).map(|_| rig.server.request()).collect();
    rig.at(120);
    std::thread::scope(|scope| {
        scope.spawn(|| requests.iter_mut().for_each(|request| request.enter(Stage::Compute)));
    });
    rig.at(330);
    std::thread::scope(|scope| {
        scope.spawn(|| requests.drain(..).for_each(crate::Request::finish));
    });
    rig.at(1_000);
    let flush = second(&mut collector, 1);
    let compute: Vec<u64> = flush.slots.iter().map(|slot| occupancy(slot, Stage::Compute) / MS).collect();
    assert_eq!(compute[..5], [0, 240, 300, 90, 0]);
    let busy: Vec<u64> = flush.slots.iter().map(|slot| state(slot, State::Compute) / MS).collect();
    assert_eq!(busy[..5], [0, 80, 100, 30, 0], "the server computes once, however many requests");
    assert_eq!(flush.in_flight, []);
}

#[test]
fn the_first_occupied_stage_is_the_servers_state() {
    let rig = Rig::new("/nonexistent");
    let mut collector = rig.collector();
    let mut sending = rig.server.request();
    sending.enter(Stage::Send);
    rig.at(10);
    let mut loading = rig.server.request();
    loading.enter(Stage::DataLoad);
    rig.at(40);
    loading.finish();
    rig.at(60);
    sending.finish();
    rig.at(1_000);
    let slot = &second(&mut collector, 1).slots[0];
    assert_eq!(state(slot, State::Send), 30 * MS);
    assert_eq!(state(slot, State::DataLoad), 30 * MS, "a slow send does not hide it");
    assert_eq!(state(slot, State::None), 40 * MS);
}

#[test]
fn a_second_that_ends_between_two_steps_takes_only_what_came_before() {
    let rig = Rig::new("/nonexistent");
    let mut collector = rig.collector();
    rig.at(900);
    let mut request = rig.server.request();
    rig.at(1_003); // After the end, before the collection.
    request.enter(Stage::Compute);
    request.finish();
    rig.at(1_005);
    let first = second(&mut collector, 1);
    assert_eq!((first.requests_started, first.requests_completed), (1, 0));
    assert_eq!(first.in_flight.iter().map(|entry| entry.count).collect::<Vec<_>>(), [1]);
    assert_eq!(first.occupancy.iter().map(|entry| entry.ns).collect::<Vec<_>>(), [100 * MS]);
    rig.at(2_000);
    let next = second(&mut collector, 2);
    assert_eq!((next.requests_started, next.requests_completed), (0, 1));
    assert_eq!(next.occupancy.iter().map(|entry| entry.ns).collect::<Vec<_>>(), [3 * MS]);
}

#[test]
fn a_flush_that_ends_inside_a_slot_leaves_that_slot_out() {
    let rig = Rig::new("/nonexistent");
    let mut collector = rig.collector();
    let mut request = rig.server.request();
    request.enter(Stage::Queue);
    rig.at_ns(250 * MS + 7);
    assert!(collector.collect(End::Now));
    let part = collector.make(1, 256).expect("time has passed");
    assert_eq!(perfwatch_wire::validate::flush(&part), Ok(()));
    assert_eq!((part.end_ns, part.slots.len()), (EPOCH + 250 * MS + 7, 2));
    assert_eq!(part.occupancy[0].ns, 250 * MS + 7);
    rig.at(1_000);
    let rest = second(&mut collector, 2);
    assert_eq!((rest.start_ns, rest.slots.len()), (part.end_ns, 7));
    assert_eq!(rest.slots[0].index, EPOCH / SLOT_NS + 3);
    assert_eq!(rest.occupancy[0].ns, 750 * MS - 7);
    request.finish();
}

#[test]
fn a_flusher_that_slept_for_minutes_says_what_it_missed() {
    let rig = Rig::new("/nonexistent");
    let mut collector = rig.collector();
    let request = rig.server.request();
    rig.at(200_000);
    let flush = second(&mut collector, 1);
    assert_eq!(flush.slots.len() as u64 + flush.slots_lost, 2_000);
    assert_eq!(flush.occupancy[0].ns, 200_000 * MS, "totals are complete");
    rig.at(201_000);
    assert_eq!(second(&mut collector, 2).slots.len(), 10, "and the next second is whole again");
    request.finish();
}

#[test]
fn random_lives_match_a_plain_sum() {
    let rig = Rig::new("/nonexistent");
    let mut collector = rig.collector();
    let mut random = 0x1234_5678_9abc_def1_u64;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let stages = [Stage::Queue, Stage::BatchWait, Stage::Compute, Stage::Send, Stage::Other];
    let mut open: Vec<(crate::Request, Stage, u64)> = Vec::new();
    let mut wanted = vec![[0u64; Stage::COUNT]; 10];
    let mut count = |stage: Stage, from: u64, to: u64| {
        for (index, slot) in wanted.iter_mut().enumerate() {
            let (start, end) = (index as u64 * SLOT_NS, (index as u64 + 1) * SLOT_NS);
            slot[stage.index()] += to.min(end).saturating_sub(from.max(start));
        }
    };
    let mut now = 0;
    while now < 1_000 * MS {
        rig.at_ns(now);
        match next(3) {
            0 => open.push((rig.server.request(), Stage::Other, now)),
            1 if !open.is_empty() => {
                let at = next(open.len() as u64) as usize;
                let (request, stage, since) = open.swap_remove(at);
                count(stage, since, now);
                request.finish();
            }
            _ if !open.is_empty() => {
                let at = next(open.len() as u64) as usize;
                let stage = stages[next(5) as usize];
                let (request, old, since) = &mut open[at];
                count(*old, *since, now);
                request.enter(stage);
                (*old, *since) = (stage, now);
            }
            _ => {}
        }
        now += next(3 * MS);
    }
    rig.at(1_000);
    for (_, stage, since) in &open {
        count(*stage, *since, 1_000 * MS);
    }
    let flush = second(&mut collector, 1);
    for (slot, wanted) in flush.slots.iter().zip(&wanted) {
        let mut got = [0; Stage::COUNT];
        slot.occupancy.iter().for_each(|entry| got[entry.stage as usize] = entry.ns);
        assert_eq!(&got, wanted, "slot {}", slot.index);
    }
}
