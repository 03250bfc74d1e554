use perfwatch_model::metrics::server;
use perfwatch_model::{Attr, Histogram, Number, Stamp, State};
use perfwatch_wire::message::{ErrorCode, Hello, Slot as WireSlot, SlowRequest, StageCount, StageName, StageTime};

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
fn tokens_caches_kinds_and_cancellations_become_series() {
    use perfwatch_wire::message::ErrorCount;
    let mut rig = Rig::default();
    let peer = rig.join(1);
    for seq in 1..=2 {
        let error = |kind: &str, count| ErrorCount { kind: kind.into(), count };
        let sent = Flush {
            requests_failed: 5,
            requests_cancelled: 1,
            // One of the five is not told apart: an SDK from before there were kinds tells none.
            errors: vec![error("timeout", 3), error("503", 1)],
            prompt_tokens: 100,
            generated_tokens: 7,
            cache_hits: 2,
            ..flush(seq, 4 + seq, 5 + seq, State::Queue)
        };
        rig.send(&peer, sent);
    }
    let (tick, _) = rig.close(7);
    assert_eq!((tick.servers[0].failed, tick.servers[0].cancelled), (5, 1), "of the last second");
    let total = |metric, key: &'static str, value: &'static str| rig.total(&tick, metric, &[Attr::fixed(key, value)]);
    assert_eq!(total(&server::ERRORS, "error.type", "timeout"), Some(6));
    assert_eq!(total(&server::ERRORS, "error.type", "other"), Some(2));
    assert_eq!(total(&server::REQUESTS, "perfwatch.outcome", "cancelled"), Some(2));
    assert_eq!(total(&server::TOKENS, "gen_ai.token.type", "input"), Some(200));
    assert_eq!(total(&server::TOKENS, "gen_ai.token.type", "output"), Some(14));
    assert_eq!(total(&server::CACHE_LOOKUPS, "perfwatch.outcome", "hit"), Some(4));
    assert_eq!(total(&server::CACHE_LOOKUPS, "perfwatch.outcome", "miss"), Some(0));
}

#[test]
fn kinds_of_errors_are_bounded() {
    let mut rig = Rig::default();
    let peer = rig.join(1);
    for seq in 1..=3 {
        let errors = (0..60).map(|at| perfwatch_wire::message::ErrorCount { kind: format!("{seq}.{at}"), count: 1 });
        let errors: Vec<_> = errors.collect();
        rig.send(&peer, Flush { requests_failed: 60, errors, ..flush(seq, 4 + seq, 5 + seq, State::Queue) });
    }
    let (tick, _) = rig.close(8);
    let of_errors = |id: &perfwatch_model::SeriesId| {
        rig.table.series_of(*id).is_some_and(|series| series.metric.name == server::ERRORS.name)
    };
    let totals: Vec<u64> =
        tick.values.iter().filter(|(id, _)| of_errors(id)).filter_map(|(_, number)| number.as_int()).collect();
    assert_eq!((totals.len(), totals.iter().sum::<u64>()), (65, 180), "64 and `other`, none lost");
}

#[test]
fn the_slowest_of_all_workers_are_kept_in_the_tick() {
    let mut rig = Rig::default();
    for session in 1..=2u8 {
        let peer = rig.join(session);
        let slow = (1..=8).map(|at| {
            let ns = 10 * at + u64::from(session);
            let stages = vec![StageTime { stage: 5, ns }];
            SlowRequest {
                end_ns: 5 * SECOND,
                duration_ns: ns,
                stages,
                trace_id: vec![session; 16],
                ..Default::default()
            }
        });
        rig.send(&peer, Flush { slow: slow.collect(), ..flush(1, 5, 6, State::Queue) });
    }
    let (tick, _) = rig.close(6);
    let slow = &tick.servers[0].slow;
    assert_eq!(slow.iter().map(|slow| slow.duration_ns).collect::<Vec<_>>(), [82, 81, 72, 71, 62, 61, 52, 51]);
    assert_eq!((slow[0].stage_ns[5], slow[0].trace_id), (82, Some([2; 16])));
    assert!(rig.close(7).0.servers[0].slow.is_empty());
}

#[test]
fn a_slow_request_is_not_lost_with_the_second_of_a_late_flush() {
    let mut rig = Rig::default();
    let peer = rig.join(1);
    rig.send(&peer, flush(1, 4, 5, State::Queue));
    rig.close(5);
    rig.close(300);
    let slow = |end: u64| SlowRequest {
        end_ns: end * SECOND,
        duration_ns: end,
        stages: vec![StageTime { stage: 5, ns: end }],
        ..SlowRequest::default()
    };
    let late = vec![slow(6), slow(200), slow(299)];
    rig.send(&peer, Flush { slow: late, ..flush(2, 5, 299, State::Queue) });
    let (tick, _) = rig.close(301);
    let kept: Vec<_> = tick.servers[0].slow.iter().map(|slow| slow.duration_ns).collect();
    assert_eq!((kept, tick.servers[0].started), (vec![299, 200], 0), "what no screen looks back to is not new");
}

#[test]
fn a_catch_up_flush_enters_the_totals_and_no_tick() {
    let mut rig = Rig::default();
    let peer = rig.join(1);
    rig.send(&peer, Flush { covers_from: Some(3), slots: vec![], slots_lost: 50, ..flush(9, 1, 6, State::Queue) });
    let (tick, receipts) = rig.close(6);
    assert_eq!((tick.servers[0].started, receipts), (0, 1));
    assert_eq!(rig.total(&tick, &server::REQUESTS_STARTED, &[]), Some(3));
}

#[test]
fn a_server_out_of_sight_is_known_by_what_its_processes_say() {
    use perfwatch_wire::message::ControlGroup;
    let mut rig = Rig::default();
    let peers = [rig.join(1), rig.join(2)];
    for second in 5..=6 {
        for (peer, cpus) in peers.iter().zip(["0-1", "1-2"]) {
            let group = ControlGroup {
                quota_ns_per_s: Some(500_000_000),
                periods: Some(10),
                throttled_ns: Some(7),
                ..ControlGroup::default()
            };
            let sent = Flush {
                cpu_ns: Some(100),
                cpus_allowed: cpus.into(),
                control_group: Some(group),
                ..flush(second - 4, second, second + 1, State::Queue)
            };
            rig.send(peer, sent);
        }
    }
    let (tick, _) = rig.close(7);
    assert_eq!(rig.total(&tick, &server::CPU_TIME, &[]), Some(400), "processes add up");
    assert_eq!(
        rig.total(&tick, &server::CPU_PERIODS, &[]),
        Some(20),
        "a control group is told of twice and counted once"
    );
    assert_eq!(rig.total(&tick, &server::CPU_THROTTLED, &[]), Some(14));
    assert_eq!(rig.total(&tick, &server::CPU_RUN_DELAY, &[]), None, "nobody could read it");
    let gauge = |metric| {
        let series = rig.table.find(metric, tick.servers[0].entity, &[]).expect("it was told");
        tick.values.iter().find(|(id, _)| *id == series).map(|(_, number)| *number)
    };
    assert_eq!(gauge(&server::CPU_QUOTA), Some(Number::Float(0.5)));
    assert_eq!(gauge(&server::CPU_CAPACITY), Some(Number::Float(3.0)));
}

#[test]
fn names_without_end_fill_neither_the_book_nor_the_table() {
    const JOINED: u64 = 3_000;
    let mut rig = Rig::default();
    let peer = |number: u64| {
        let session = number.to_le_bytes().repeat(2);
        let hello = Hello { service: "flood".into(), instance: number.to_string(), session, ..Hello::default() };
        Arc::new(Peer::new(hello, None))
    };
    rig.book.take(Event::Left(peer(0)), &mut rig.table);
    assert_eq!(rig.book.served().count(), 0, "who leaves makes no server");
    for number in 0..JOINED {
        rig.book.take(Event::Joined(peer(number)), &mut rig.table);
    }
    let known = rig.table.entities().count() as u64;
    assert_eq!((known, rig.book.servers_refused()), (1_024, JOINED - 1_024));
    assert_eq!(rig.book.served().count() as u64, known);
    // Who was one too many is told so, and with which words.
    let late = peer(JOINED - 1);
    let (outbox, mut inbox) = tokio::sync::mpsc::channel(1);
    rig.sessions.open(late.session, outbox);
    rig.send(&late, flush(1, 0, 1, State::Queue));
    let words = ErrorCode::TooManyPeers.with("this agent watches 1024 servers already");
    assert_eq!(inbox.try_recv().ok(), Some(words));
}

#[test]
fn a_flush_from_another_clock_is_in_the_totals_and_does_not_wait_for_its_tick() {
    let mut rig = Rig::default();
    let peer = rig.join(1);
    rig.send(&peer, flush(1, 1_000_000, 1_000_001, State::Compute));
    rig.book.take(Event::Left(Arc::clone(&peer)), &mut rig.table);
    let (tick, receipts) = rig.close(10);
    assert_eq!((receipts, rig.total(&tick, &server::REQUESTS_STARTED, &[])), (1, Some(3)));
    assert_eq!((tick.servers[0].started, rig.book.flushes_late()), (0, 1));
    let server = rig.book.servers.values().next().expect("it is kept for a while");
    assert!(server.sessions.is_empty(), "nothing of it stays behind");
}

#[test]
fn values_without_a_series_of_their_own_are_counted_in_the_overflow_series() {
    let mut rig = Rig::default();
    let peer = rig.join(1);
    let own = |name: &str, counts: Vec<u64>| perfwatch_wire::message::Histogram {
        name: name.into(),
        unit: "1".into(),
        index_deltas: vec![1; counts.len()],
        counts,
        ..Default::default()
    };
    let refused =
        vec![own("perfwatch.mine", vec![2, 3]), own(crate::probe_socket::OVERFLOW, vec![7]), own("fine", vec![9])];
    rig.send(&peer, Flush { histograms: refused, ..flush(1, 5, 6, State::Queue) });
    let (tick, _) = rig.close(6);
    assert_eq!(rig.total(&tick, &server::OVERFLOW, &[]), Some(12));
}
