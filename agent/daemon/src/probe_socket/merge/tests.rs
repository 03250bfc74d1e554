use perfwatch_model::metrics::server;
use perfwatch_model::{Attr, Histogram, Number, Stamp, State};
use perfwatch_wire::message::{Hello, Slot as WireSlot, StageCount, StageName, StageTime};

use super::super::sessions::Sessions;
use super::*;

const SECOND: u64 = 1_000_000_000;

/// A book, its table, and what the socket would hand it.
#[derive(Default)]
struct Rig {
    book: ServerBook,
    table: SeriesTable,
    sessions: Arc<Sessions>,
}

impl Rig {
    fn join(&mut self, session: u8) -> Arc<Peer> {
        let hello = Hello {
            service: "demo".into(),
            instance: "one".into(),
            session: vec![session; SESSION_BYTES],
            max_batch_size: 8,
            ..Hello::default()
        };
        let peer = Arc::new(Peer::new(hello, None));
        self.book.take(Event::Joined(Arc::clone(&peer)), &mut self.table);
        peer
    }

    fn send(&mut self, peer: &Arc<Peer>, flush: Flush) {
        assert_eq!(perfwatch_wire::validate::flush(&flush), Ok(()));
        let receipt = Receipt::new(&self.sessions, peer.session, flush.seq);
        self.book
            .take(Event::Flush(Delivery { peer: Arc::clone(peer), flush: Box::new(flush), receipt }), &mut self.table);
    }

    /// Closes the tick that ends at this second; the tick and how many receipts it gave.
    fn close(&mut self, second: u64) -> (Tick, usize) {
        let end = Stamp { mono_ns: second * SECOND, wall_ns: 0 };
        let mut tick = Tick { end, dt_ns: SECOND, ..Tick::default() };
        let receipts = self.book.close(&mut tick, &mut self.table);
        let count = receipts.len();
        receipts.into_iter().for_each(Receipt::commit);
        (tick, count)
    }

    fn total(&self, tick: &Tick, metric: &'static MetricDefAlias, attrs: &[Attr]) -> Option<u64> {
        let series = self.table.find(metric, tick.servers[0].entity, attrs)?;
        tick.values.iter().find(|(id, _)| *id == series).and_then(|(_, number)| number.as_int())
    }
}

type MetricDefAlias = perfwatch_model::MetricDef;

/// A flush of whole seconds in which the server was in one state throughout, with one request in `queue`.
fn flush(seq: u64, start: u64, end: u64, state: State) -> Flush {
    let slots = (start * 10..end * 10).map(|index| {
        let mut state_ns = vec![0; State::COUNT];
        state_ns[state.index()] = SLOT_NS;
        WireSlot { index, state_ns, occupancy: vec![StageTime { stage: 0, ns: SLOT_NS }] }
    });
    let mut slots: Vec<_> = slots.collect();
    let keep = slots.len().saturating_sub(20);
    slots.drain(..keep);
    Flush {
        seq,
        start_ns: start * SECOND,
        end_ns: end * SECOND,
        requests_started: 3,
        requests_completed: 2,
        in_flight: vec![StageCount { stage: 0, count: 1 }],
        occupancy: vec![StageTime { stage: 0, ns: (end - start) * SECOND }],
        slots,
        ..Flush::default()
    }
}

#[test]
fn a_flush_enters_the_tick_whose_end_is_its_own() {
    let mut rig = Rig::default();
    let peer = rig.join(1);
    rig.send(&peer, flush(1, 5, 6, State::Queue));
    rig.send(&peer, flush(2, 6, 7, State::Compute));
    let (tick, receipts) = rig.close(6);
    let server = &tick.servers[0];
    assert_eq!((server.started, server.completed, receipts), (3, 2, 1));
    assert!(server.slots.iter().all(|slot| slot.state_ns[State::Queue.index()] == SLOT_NS));
    assert_eq!((server.in_flight[0], server.max_batch_size, server.combined), (1, Some(8), false));
    let (tick, _) = rig.close(7);
    assert!(tick.servers[0].slots.iter().all(|slot| slot.state_ns[State::Compute.index()] == SLOT_NS));
    assert_eq!(rig.total(&tick, &server::REQUESTS_STARTED, &[]), Some(6), "totals run on");
    assert_eq!(rig.total(&tick, &server::REQUESTS, &[Attr::fixed("perfwatch.outcome", "completed")]), Some(4));
    assert_eq!(rig.total(&tick, &server::STAGE_TIME, &[Attr::fixed("perfwatch.stage", "queue")]), Some(2 * SECOND));
    assert_eq!(rig.total(&tick, &server::STATE_TIME, &[Attr::fixed("perfwatch.state", "compute")]), Some(SECOND));
}

#[test]
fn a_late_flush_enters_totals_and_no_closed_slot() {
    let mut rig = Rig::default();
    let peer = rig.join(1);
    rig.send(&peer, flush(1, 4, 5, State::Queue));
    rig.close(5);
    let (tick, _) = rig.close(6);
    assert!(!tick.servers[0].slots.iter().any(perfwatch_model::Slot::is_known));
    rig.send(&peer, flush(2, 5, 6, State::Queue));
    rig.send(&peer, flush(3, 6, 7, State::Queue));
    let (tick, receipts) = rig.close(7);
    assert_eq!((receipts, tick.servers[0].started), (2, 3), "only its own second's counts");
    assert_eq!(rig.total(&tick, &server::REQUESTS_STARTED, &[]), Some(9));
    assert_eq!(rig.book.flushes_late(), 1);
    let queue = [Attr::fixed("perfwatch.state", "queue")];
    assert_eq!(rig.total(&tick, &server::STATE_TIME, &queue), Some(2 * SECOND), "the lost second stays unknown");
}

#[test]
fn after_an_absence_the_counts_do_not_look_like_a_burst() {
    let mut rig = Rig::default();
    let peer = rig.join(1);
    rig.send(&peer, flush(1, 0, 100, State::Queue));
    let (tick, _) = rig.close(100);
    assert_eq!(tick.servers[0].started, 0);
    assert!(tick.servers[0].slots.iter().all(perfwatch_model::Slot::is_known));
    assert_eq!(rig.total(&tick, &server::REQUESTS_STARTED, &[]), Some(3));
    assert_eq!(rig.total(&tick, &server::STAGE_TIME, &[Attr::fixed("perfwatch.stage", "queue")]), Some(100 * SECOND));
}

#[test]
fn two_workers_of_one_instance_are_one_server() {
    let mut rig = Rig::default();
    let (one, two) = (rig.join(1), rig.join(2));
    rig.send(&one, flush(1, 5, 6, State::Compute));
    rig.send(&two, flush(1, 5, 6, State::None));
    let (tick, _) = rig.close(6);
    assert_eq!(tick.servers.len(), 1);
    let server = &tick.servers[0];
    assert!(server.combined);
    assert_eq!((server.started, server.in_flight[0]), (6, 2));
    assert_eq!(server.slots[0].state_ns[State::Compute.index()], SLOT_NS);
    assert_eq!(server.slots[0].stage_ns[0], 2 * SLOT_NS);
    assert_eq!(rig.book.served().next().map(|served| served.workers.len()), Some(2));
    // One of them misses a second: what the server did is unknown. Once it left, the other speaks for the server.
    rig.send(&one, flush(2, 6, 7, State::Compute));
    let (tick, _) = rig.close(7);
    assert!(!tick.servers[0].slots[0].is_known());
    rig.book.take(Event::Left(two), &mut rig.table);
    rig.send(&one, flush(3, 7, 8, State::Compute));
    let (tick, _) = rig.close(8);
    assert!(tick.servers[0].slots[0].is_known());
    assert_eq!(tick.servers[0].in_flight[0], 1, "its requests left with it");
}

#[test]
fn distributions_merge_and_are_reported_once() {
    let mut rig = Rig::default();
    let peers = [rig.join(1), rig.join(2)];
    for peer in &peers {
        let mut sent = flush(1, 5, 6, State::Queue);
        for (name, stage, unit) in
            [("request.duration", None, "ns"), ("stage.duration", Some(11), "ns"), ("llm.tokens", None, "{token}")]
        {
            let mut histogram = perfwatch_wire::message::Histogram {
                name: name.into(),
                stage,
                unit: unit.into(),
                sum: 30,
                ..Default::default()
            };
            perfwatch_wire::sparse::pack(&mut histogram, [(10, 3)]);
            sent.histograms.push(histogram);
        }
        sent.stages.push(StageName { stage: 11, name: "detokenise".into() });
        rig.send(peer, sent);
    }
    let (tick, _) = rig.close(6);
    let names = ["perfwatch.server.request.duration", "perfwatch.server.stage.duration", "llm.tokens"];
    for name in names {
        let found =
            tick.histograms.iter().find(|(id, _)| rig.table.series_of(*id).is_some_and(|s| s.metric.name == name));
        let Some((_, Histogram::Hdr(hdr))) = found else { panic!("{name} is missing") };
        assert_eq!((hdr.count(), hdr.sum()), (6, 60), "{name}");
    }
    assert_eq!(tick.servers[0].custom_stages.first().map(String::as_str), Some("detokenise"));
    let stage = [Attr::fixed("perfwatch.stage", "detokenise")];
    assert!(rig.table.find(&server::STAGE_DURATION, tick.servers[0].entity, &stage).is_some());
    let (tick, _) = rig.close(7);
    assert!(tick.histograms.is_empty());
}

#[test]
fn a_server_that_stays_away_retires() {
    let mut rig = Rig::default();
    let peer = rig.join(1);
    rig.send(&peer, flush(1, 0, 1, State::None));
    rig.close(1);
    rig.book.take(Event::Left(peer), &mut rig.table);
    for second in 2..=u64::from(KEEP_TICKS) + 1 {
        assert_eq!(rig.close(second).0.servers.len(), 1);
    }
    rig.close(u64::from(KEEP_TICKS) + 2);
    let (tick, _) = rig.close(u64::from(KEEP_TICKS) + 3);
    assert!(tick.servers.is_empty() && rig.table.is_empty());
}

#[test]
fn values_are_running_totals_of_integers() {
    let mut rig = Rig::default();
    let peer = rig.join(1);
    rig.send(&peer, flush(1, 5, 6, State::Queue));
    let (tick, _) = rig.close(6);
    assert!(tick.values.iter().all(|(_, number)| matches!(number, Number::Int(_))));
}

#[test]
fn a_sum_that_follows_its_counts_is_added_to_them() {
    let mut rig = Rig::default();
    let peer = rig.join(1);
    for (seq, sum, pairs) in [(1, 10, vec![(10, 3)]), (2, 20, vec![])] {
        let mut histogram = perfwatch_wire::message::Histogram {
            name: "request.duration".into(),
            unit: "ns".into(),
            sum,
            ..Default::default()
        };
        perfwatch_wire::sparse::pack(&mut histogram, pairs);
        let mut sent = flush(seq, 4 + seq, 5 + seq, State::Queue);
        sent.histograms.push(histogram);
        rig.send(&peer, sent);
    }
    let (tick, _) = rig.close(7);
    let Some((_, Histogram::Hdr(hdr))) = tick.histograms.first() else { panic!("it is missing") };
    assert_eq!((hdr.count(), hdr.sum()), (3, 30));
}

#[test]
fn names_without_end_fill_neither_the_book_nor_the_table() {
    const JOINED: u64 = 3_000;
    let mut rig = Rig::default();
    for number in 0..JOINED {
        let hello = Hello {
            service: "flood".into(),
            instance: number.to_string(),
            session: number.to_le_bytes().repeat(2),
            ..Hello::default()
        };
        rig.book.take(Event::Joined(Arc::new(Peer::new(hello, None))), &mut rig.table);
    }
    let known = rig.table.entities().count() as u64;
    assert_eq!((known, rig.book.servers_refused()), (1_024, JOINED - 1_024));
    assert_eq!(rig.book.served().count() as u64, known);
}
