//! An agent that died knows only an earlier flush, and what it lacks is more than one message holds.

use std::collections::BTreeMap;

use perfwatch_model::Unit;
use perfwatch_model::histogram::layout;
use perfwatch_wire::limits::{MAX_MESSAGE, MAX_SERIES};
use perfwatch_wire::message::{Ack, Flush, Welcome, client_message};
use perfwatch_wire::{AgentMessage, sparse};
use prost::Message as _;

use super::{Agent, Peer, Rig};

/// Distributions that every server has of itself: four, and one per stage.
const BUILT_IN: usize = 4 + perfwatch_wire::limits::STAGES;
/// Seconds in which something is recorded.
const BUSY: u64 = 6;
/// Buckets of each distribution that one of them fills in a second: 425 KB in all, so that three seconds are more than a message.
const BUCKETS: u64 = 900;

/// Sum of a distribution, and values per bucket.
type Series = (u64, BTreeMap<u32, u64>);

/// Everything an agent counted.
#[derive(Clone, Debug, Default)]
struct Counted {
    seq: u64,
    requests: u64,
    series: BTreeMap<String, Series>,
}

impl Counted {
    fn add(&mut self, flush: &Flush) {
        assert!(flush.seq > self.seq, "{} came after {}", flush.seq, self.seq);
        assert!(flush.histograms.len() <= MAX_SERIES);
        self.seq = flush.seq;
        self.requests += flush.requests_started;
        for histogram in flush.histograms.iter().filter(|histogram| histogram.stage.is_none()) {
            let (sum, buckets) = self.series.entry(histogram.name.clone()).or_default();
            *sum = sum.wrapping_add(histogram.sum);
            sparse::pairs(histogram).for_each(|(bucket, count)| *buckets.entry(bucket).or_default() += count);
        }
    }
}

/// One life of an agent with a journal.
#[derive(Clone, Copy, Debug)]
struct Life {
    /// Flushes that it commits to memory before it dies.
    flushes: usize,
    /// How many of them reach its journal.
    kept: usize,
    /// Whether it dies before the last one's receipt.
    silent: bool,
}

/// Lives these lives one after the other, and then one that goes on. Returns what it counted, and how large its catch-up
/// flushes were.
fn live(agent: &Agent, lives: &[Life]) -> (Counted, Vec<usize>) {
    let mut journal = Counted::default();
    let mut catch_ups = Vec::new();
    for life in lives.iter().map(Some).chain([None]) {
        let mut peer = agent.accept();
        welcome(&mut peer, journal.seq);
        let mut memory = journal.clone();
        for number in 1.. {
            let Some(client_message::Body::Flush(flush)) = peer.read() else {
                assert!(life.is_none(), "the client went away during {life:?}");
                return (memory, catch_ups);
            };
            assert_eq!(perfwatch_wire::validate::flush(&flush), Ok(()));
            if let Some(from) = flush.covers_from {
                assert_eq!(from, journal.seq);
                catch_ups.push(flush.encoded_len());
            }
            memory.add(&flush);
            if life.is_none_or(|life| number <= life.kept) {
                journal = memory.clone();
            }
            let last = life.is_some_and(|life| number == life.flushes);
            if !(last && life.is_some_and(|life| life.silent)) {
                peer.say(&AgentMessage::from(Ack { seq: flush.seq, durable_seq: Some(journal.seq) }));
            }
            if last {
                break;
            }
        }
    }
    unreachable!("the last life has no end of its own")
}

fn welcome(peer: &mut Peer, seq: u64) {
    peer.say(&AgentMessage::from(Welcome {
        protocol: 1,
        last_committed_seq: seq,
        max_message_bytes: MAX_MESSAGE as u32,
        max_series: MAX_SERIES as u32,
        max_messages_per_second: 20,
        catch_up: true,
        durable_seq: Some(seq),
    }));
}

fn survives(lives: &[Life]) {
    let agent = Agent::new();
    let rig = Rig::new(&agent.path);
    let names: Vec<String> = (0..MAX_SERIES - BUILT_IN).map(|number| format!("own.{number}")).collect();
    let handles: Vec<_> = names.iter().map(|name| rig.server.histogram(name, Unit::Count("{token}"))).collect();
    assert_eq!(rig.core.refused(), 0);
    // Each distribution gets the same.
    let mut wanted = Series::default();
    let (counted, catch_ups) = std::thread::scope(|scope| {
        let script = scope.spawn(|| live(&agent, lives));
        let mut flusher = rig.flusher();
        let mut second = 0;
        let all = loop {
            second += 1;
            if second <= BUSY {
                rig.server.request().finish();
                for bucket in (second * BUCKETS..(second + 1) * BUCKETS).map(|at| at % layout::BUCKETS as u64) {
                    let value = layout::highest(bucket as usize);
                    for handle in &handles {
                        handle.record(value);
                    }
                    wanted.0 = wanted.0.wrapping_add(value);
                    *wanted.1.entry(bucket as u32).or_default() += 1;
                }
            }
            rig.at(second * 1_000);
            let received = flusher.flush_everything();
            if second >= BUSY && (received || second == 60) {
                break received;
            }
        };
        drop(flusher);
        assert!(all, "{lives:?}: everything arrives");
        script.join().expect("no panic")
    });
    assert_eq!(counted.requests, BUSY, "{lives:?}");
    for name in &names {
        let whole = counted.series.get(name) == Some(&wanted);
        assert!(whole, "{lives:?}: some value of {name} was lost or counted twice");
    }
    let largest = catch_ups.iter().max().expect("it was behind");
    assert!(
        (MAX_MESSAGE * 9 / 10..=MAX_MESSAGE).contains(largest),
        "{lives:?}: a catch-up flush is full, not {largest}"
    );
}

const fn life(flushes: usize, kept: usize) -> Life {
    Life { flushes, kept, silent: false }
}

#[test]
fn what_finds_no_room_in_a_catch_up_flush_follows_it() {
    survives(&[life(3, 1)]);
}

#[test]
fn what_was_put_off_survives_a_second_death_that_keeps_the_catch_up_flush() {
    survives(&[life(3, 1), life(1, 1)]);
    survives(&[life(3, 1), life(2, 1)]);
    survives(&[life(3, 1), Life { silent: true, ..life(2, 2) }]);
}

#[test]
fn what_was_put_off_survives_a_second_death_that_loses_the_catch_up_flush() {
    survives(&[life(3, 1), life(2, 0)]);
    survives(&[life(3, 0), Life { silent: true, ..life(1, 0) }, life(2, 1)]);
}
