//! The frozen-flush protocol, without its socket: each flush is counted exactly once, whatever breaks in between.
//!
//! A flush never changes once made. At most one is under way; what happens meanwhile stays in the shards and becomes the
//! next. After a broken connection the agent says which flush it committed last: that decides between forgetting the
//! frozen one and sending the same bytes again.
//!
//! An agent may acknowledge from memory and then die. So the totals of every flush that no agent has called durable are
//! kept, and an agent that keeps a journal and knows only an earlier one gets them as one catch-up flush. Distributions that
//! find no room in it are told with the flushes after it, and from then on belong to those: whatever seq an agent knows, it
//! has exactly what the flushes up to it say, and nothing else.

use std::collections::VecDeque;

use perfwatch_wire::message::{Flush, Histogram};
use perfwatch_wire::{ClientMessage, encode};

use crate::totals::{self, Limits};

/// Flushes whose totals are kept one by one; older ones are added up. An agent with a journal commits within a second or
/// two, so what it knows after a crash is among these, or all of it is older.
const KEPT: usize = 8;

/// A flush that was made and not yet acknowledged.
#[derive(Debug, PartialEq, Eq)]
struct Frozen {
    seq: u64,
    bytes: Vec<u8>,
    /// Whether it went out on the present connection.
    sent: bool,
    /// Of a catch-up flush: the seq after which it replaces all.
    covers_from: Option<u64>,
}

/// Totals of the flushes `first..=flush.seq`.
#[derive(Debug)]
struct Kept {
    first: u64,
    flush: Flush,
}

/// One session's sequence of flushes.
#[derive(Debug, Default)]
pub(crate) struct Session {
    last_seq: u64,
    frozen: Option<Frozen>,
    /// The highest seq that any agent acknowledged.
    acknowledged: u64,
    /// What no agent has called durable, oldest first.
    kept: VecDeque<Kept>,
    /// The present agent knows nothing after this seq, although it was acknowledged.
    behind: Option<u64>,
    /// Distributions that found no room in a catch-up flush, and are part of no flush since.
    put_off: Vec<Histogram>,
    /// Slots and distributions of flushes that were given up; the next flush counts them as lost.
    given_up: (u64, u64),
}

impl Session {
    /// True when the next flush may be made.
    pub(crate) fn is_free(&self) -> bool {
        self.frozen.is_none()
    }

    /// Whether distributions that were to be told again wait for the next flush.
    pub(crate) fn owes(&self) -> bool {
        !self.put_off.is_empty()
    }

    /// Makes the next flush, if the one before is acknowledged. `make` gets its seq and the bytes that it may take, and
    /// returns it, or `None` when there is nothing to send. An agent that is behind gets it with all that it lacks.
    pub(crate) fn freeze(&mut self, limits: Limits, make: impl FnOnce(u64, usize) -> Option<Flush>) {
        if self.frozen.is_some() {
            return;
        }
        let seq = self.last_seq + 1;
        let behind = self.behind.take();
        // Half for what was put off, at most, so that neither it nor the news wait for ever.
        let reserved = if behind.is_some() { 0 } else { totals::size(&self.put_off).min(limits.bytes / 2) };
        let mut news = make(seq, limits.bytes - reserved);
        if let Some(flush) = &mut news {
            let (slots, series) = std::mem::take(&mut self.given_up);
            flush.slots_lost += slots;
            flush.series_dropped += series;
            if behind.is_none() {
                totals::fill(flush, &mut self.put_off, limits);
            }
            self.keep(totals::of(flush));
        }
        let caught_up = behind.and_then(|known| self.catch_up(known, seq, limits));
        let Some(flush) = caught_up.or(news) else { return };
        self.last_seq = seq;
        let covers_from = flush.covers_from;
        let bytes = encode(&ClientMessage::from(flush));
        self.frozen = Some(Frozen { seq, bytes, sent: false, covers_from });
    }

    /// The bytes to send now, once per connection.
    pub(crate) fn unsent(&mut self) -> Option<&[u8]> {
        let frozen = self.frozen.as_mut().filter(|frozen| !frozen.sent)?;
        frozen.sent = true;
        Some(&frozen.bytes)
    }

    /// A new connection begins; the agent has committed flushes up to `last_committed`, and wants the later ones again if it
    /// asks to `catch_up`.
    pub(crate) fn welcome(&mut self, last_committed: u64, catch_up: bool) {
        self.behind = None;
        self.acknowledge(last_committed);
        let same_again = |frozen: &Frozen| frozen.covers_from == Some(last_committed);
        if catch_up && last_committed < self.acknowledged && !self.frozen.as_ref().is_some_and(same_again) {
            // What is frozen becomes part of the catch-up flush, which has a number of its own.
            self.frozen = None;
            self.behind = Some(last_committed);
        } else if let Some(frozen) = &mut self.frozen {
            frozen.sent = false;
        }
    }

    /// The agent committed flushes up to `seq`.
    pub(crate) fn acknowledge(&mut self, seq: u64) {
        if seq <= self.last_seq {
            self.acknowledged = self.acknowledged.max(seq);
        }
        if self.frozen.as_ref().is_some_and(|frozen| frozen.seq <= seq) {
            self.frozen = None;
        }
    }

    /// Flushes up to `seq` would survive the agent's death.
    pub(crate) fn durable(&mut self, seq: u64) {
        self.kept.retain(|kept| kept.flush.seq > seq);
    }

    /// Gives the frozen flush up: the agent said that it cannot read it, and would say so for ever. The next one says what
    /// is missing.
    pub(crate) fn give_up(&mut self) {
        let Some(frozen) = self.frozen.take_if(|frozen| frozen.sent) else { return };
        let (slots, series) = &mut self.given_up;
        self.kept.retain(|Kept { flush, .. }| {
            let stays = frozen.covers_from.is_none() && flush.seq < frozen.seq;
            if !stays {
                *slots += flush.slots_lost;
                *series += flush.series_dropped + flush.histograms.len() as u64;
            }
            stays
        });
    }

    fn keep(&mut self, flush: Flush) {
        self.kept.push_back(Kept { first: flush.seq, flush });
        if self.kept.len() > KEPT
            && let Some(mut oldest) = self.kept.pop_front()
            && let Some(next) = self.kept.front_mut()
        {
            totals::absorb(&mut oldest.flush, &next.flush);
            *next = oldest;
        }
    }

    /// Everything after `known` as one flush, but for the distributions that find no room in it: they are put off. What was
    /// added up across `known` is left out: told twice would be worse.
    fn catch_up(&mut self, known: u64, seq: u64, limits: Limits) -> Option<Flush> {
        let (lacking, across): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.kept).into_iter().partition(|kept| kept.first > known);
        self.kept = across;
        let mut lacking = lacking.into_iter();
        let Kept { first, flush: mut sum } = lacking.next()?;
        lacking.for_each(|kept| totals::absorb(&mut sum, &kept.flush));
        sum.seq = seq;
        let mut waiting = std::mem::take(&mut sum.histograms);
        self.put_off.iter().for_each(|histogram| totals::add(&mut waiting, histogram));
        totals::fill(&mut sum, &mut waiting, limits);
        self.put_off = waiting;
        // The flushes that it replaces held what is put off. An agent that has this one lacks that.
        self.kept.push_back(Kept { first, flush: sum.clone() });
        sum.covers_from = Some(known);
        Some(sum)
    }

    #[cfg(test)]
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfwatch_wire::FrameReader;
    use perfwatch_wire::message::client_message::Body;
    use prost::Message as _;

    /// A flush in which 10^(seq-1) requests began, so that each digit of a sum tells which flushes are in it.
    #[allow(clippy::unnecessary_wraps, reason = "it is what `freeze` asks for")]
    fn flush(seq: u64, _bytes: usize) -> Option<Flush> {
        let requests_started = 10u64.pow(seq as u32 - 1);
        Some(Flush { seq, start_ns: seq, end_ns: seq + 1, requests_started, ..Flush::default() })
    }

    /// What goes out now.
    fn sent(session: &mut Session) -> Option<Flush> {
        let bytes = session.unsent()?.to_vec();
        let mut reader = FrameReader::new();
        reader.push(&bytes);
        let message = ClientMessage::decode(reader.next().expect("framed")?).expect("a message");
        match message.body {
            Some(Body::Flush(flush)) => Some(flush),
            other => panic!("expected a flush, got {other:?}"),
        }
    }

    /// Makes and sends flushes that are acknowledged from memory.
    fn acknowledged_from_memory(session: &mut Session, count: u64) {
        for _ in 0..count {
            session.freeze(Limits::default(), flush);
            let seq = sent(session).expect("it is new").seq;
            session.acknowledge(seq);
        }
    }

    #[test]
    fn a_flush_is_resent_byte_for_byte_until_it_is_covered() {
        let mut session = Session::default();
        session.welcome(0, false);
        session.freeze(Limits::default(), flush);
        let bytes = session.unsent().expect("it is new").to_vec();
        assert_eq!(session.unsent(), None, "once per connection");
        session.freeze(Limits::default(), |_, _| panic!("one flush at a time"));
        session.welcome(0, true);
        assert_eq!(session.unsent(), Some(&bytes[..]));
        session.welcome(1, false);
        assert_eq!(session.unsent(), None);
        session.freeze(Limits::default(), flush);
        assert_eq!(sent(&mut session).map(|flush| flush.seq), Some(2));
        session.acknowledge(1);
        assert!(!session.is_free(), "an old receipt changes nothing");
        session.acknowledge(2);
        assert!(session.is_free());
    }

    #[test]
    fn nothing_to_send_uses_no_number() {
        let mut session = Session::default();
        session.freeze(Limits::default(), |_, _| None);
        session.freeze(Limits::default(), flush);
        assert_eq!((session.last_seq(), sent(&mut session).map(|flush| flush.seq)), (1, Some(1)));
    }

    #[test]
    fn an_agent_that_lost_what_it_acknowledged_gets_it_as_one_flush() {
        let mut session = Session::default();
        acknowledged_from_memory(&mut session, 3);
        session.durable(1);
        session.freeze(Limits::default(), flush);
        sent(&mut session).expect("under way when the agent dies");
        session.welcome(1, true);
        assert_eq!(session.unsent(), None, "the fourth goes into the catch-up flush");
        session.freeze(Limits::default(), flush);
        let all = sent(&mut session).expect("the catch-up flush");
        assert_eq!((all.seq, all.covers_from, all.requests_started), (5, Some(1), 11_110));
        assert_eq!((all.start_ns, all.end_ns), (2, 6));
        // It dies again before it has it: the same bytes.
        session.welcome(1, true);
        assert_eq!(sent(&mut session), Some(all));
        session.acknowledge(5);
        session.durable(5);
        session.welcome(5, true);
        session.freeze(Limits::default(), flush);
        let next = sent(&mut session).expect("as ever");
        assert_eq!((next.covers_from, next.requests_started), (None, 100_000));
    }

    #[test]
    fn an_agent_that_is_behind_need_not_wait_for_something_new() {
        let mut session = Session::default();
        acknowledged_from_memory(&mut session, 2);
        session.welcome(0, true);
        session.freeze(Limits::default(), |_, _| None);
        let all = sent(&mut session).expect("what it lacks");
        assert_eq!((all.seq, all.covers_from, all.requests_started), (3, Some(0), 11));
        session.acknowledge(3);
        session.welcome(3, true);
        session.freeze(Limits::default(), flush);
        assert_eq!(sent(&mut session).map(|flush| flush.requests_started), Some(1_000));
    }

    #[test]
    fn a_catch_up_flush_that_was_acknowledged_from_memory_is_owed_again() {
        let mut session = Session::default();
        acknowledged_from_memory(&mut session, 2);
        for seq in 3..=5 {
            session.welcome(0, true);
            session.freeze(Limits::default(), flush);
            let all = sent(&mut session).expect("everything, again");
            assert_eq!((all.seq, all.covers_from), (seq, Some(0)));
            assert_eq!(all.requests_started, (0..seq).map(|at| 10u64.pow(at as u32)).sum::<u64>());
            session.acknowledge(seq);
        }
    }

    #[test]
    fn what_an_agent_had_committed_when_it_died_before_its_receipt_is_not_added_to_what_followed() {
        let mut session = Session::default();
        acknowledged_from_memory(&mut session, 2);
        session.freeze(Limits::default(), flush);
        sent(&mut session).expect("the agent commits it and dies");
        session.welcome(3, true);
        session.durable(3);
        // The next agent's disk is full, for longer than flushes are kept one by one.
        acknowledged_from_memory(&mut session, KEPT as u64 + 4);
        session.welcome(3, true);
        session.freeze(Limits::default(), flush);
        let all = sent(&mut session).expect("everything since");
        let last = all.seq;
        assert_eq!((last, all.covers_from), (KEPT as u64 + 8, Some(3)));
        assert_eq!(all.requests_started, (3..last).map(|at| 10u64.pow(at as u32)).sum::<u64>());
    }

    #[test]
    fn an_agent_without_a_journal_is_not_told_what_others_knew() {
        let mut session = Session::default();
        acknowledged_from_memory(&mut session, 2);
        session.welcome(0, false);
        session.freeze(Limits::default(), flush);
        let next = sent(&mut session).expect("as ever");
        assert_eq!((next.covers_from, next.requests_started), (None, 100));
    }

    #[test]
    fn totals_stay_few_however_long_nothing_is_durable() {
        let mut session = Session::default();
        let mut sum = 0;
        for seq in 1..=1_000 {
            session.freeze(Limits::default(), |seq, _| {
                Some(Flush { requests_started: seq, ..flush(1, 0).map(|f| Flush { seq, ..f })? })
            });
            session.acknowledge(seq);
            sum += seq;
        }
        assert_eq!(session.kept.len(), KEPT);
        session.welcome(0, true);
        session.freeze(Limits::default(), |seq, _| Some(Flush { seq, ..Flush::default() }));
        assert_eq!(sent(&mut session).map(|flush| flush.requests_started), Some(sum));
    }

    #[test]
    fn a_flush_that_no_agent_can_read_is_not_told_again() {
        let mut session = Session::default();
        acknowledged_from_memory(&mut session, 1);
        let histograms = vec![Histogram { name: "own".into(), ..Histogram::default() }];
        session.freeze(Limits::default(), |seq, bytes| {
            Some(Flush { slots_lost: 3, histograms: histograms.clone(), ..flush(seq, bytes)? })
        });
        sent(&mut session).expect("it is new");
        session.give_up();
        session.welcome(0, true);
        session.freeze(Limits::default(), flush);
        let rest = sent(&mut session).expect("what it lacks");
        assert_eq!(rest.requests_started, 101);
        assert_eq!((rest.slots_lost, rest.series_dropped), (3, 1), "and says what is missing");
    }
}
