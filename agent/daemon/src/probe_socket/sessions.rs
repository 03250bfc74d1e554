//! What is known of each session's flushes, across its connections: delivered, committed, and whom to tell.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use perfwatch_wire::limits::SESSION_BYTES;
use perfwatch_wire::message::{Ack, AgentMessage, ErrorCode};
use tokio::sync::mpsc;

use super::room::Place;

type SessionId = [u8; SESSION_BYTES];

/// Sessions remembered. Those that are connected are never forgotten; of the others the oldest goes first. A session that
/// comes back after it was forgotten could have one flush counted twice, so this is far above what one node forks.
const MAX_SESSIONS: usize = 16_384;

/// What to do with a flush that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Deliver it.
    New,
    /// It was delivered, the tick will acknowledge it.
    Pending,
    /// It was committed long ago: acknowledge it again.
    Committed,
}

#[derive(Debug, Default)]
struct Entry {
    delivered: u64,
    committed: u64,
    durable: u64,
    /// To the present connection; dropped, that connection knows that it was replaced.
    outbox: Option<mpsc::Sender<AgentMessage>>,
    connection: u64,
    /// When it last connected, in connections.
    last_seen: u64,
}

/// What a new connection is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    /// Its number.
    pub(super) connection: u64,
    /// The last committed seq.
    pub(super) committed: u64,
    /// The last seq that would survive this agent.
    pub(super) durable: u64,
}

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<SessionId, Entry>,
    connections: u64,
}

/// All sessions this agent has met.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    table: Mutex<Table>,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // Every change below is complete in itself, so a panic elsewhere leaves a sound table.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection of this session begins and replaces an older one.
    pub(super) fn open(&self, session: SessionId, outbox: mpsc::Sender<AgentMessage>) -> Opened {
        let mut table = self.lock();
        table.connections += 1;
        let connection = table.connections;
        if table.entries.len() >= MAX_SESSIONS && !table.entries.contains_key(&session) {
            let away = table.entries.iter().filter(|(_, entry)| entry.outbox.is_none());
            let oldest = away.min_by_key(|(_, entry)| entry.last_seen).map(|(id, _)| *id);
            oldest.and_then(|oldest| table.entries.remove(&oldest));
        }
        let entry = table.entries.entry(session).or_default();
        entry.outbox = Some(outbox);
        entry.connection = connection;
        entry.last_seen = connection;
        Opened { connection, committed: entry.committed, durable: entry.durable }
    }

    /// A connection ended.
    pub(super) fn close(&self, session: SessionId, connection: u64) {
        if let Some(entry) = self.lock().entries.get_mut(&session).filter(|entry| entry.connection == connection) {
            entry.outbox = None;
        }
    }

    /// An earlier agent committed this session's flushes up to `seq`, and they survived it. The one restored last is
    /// forgotten last.
    pub(super) fn restore(&self, session: SessionId, seq: u64) {
        let mut table = self.lock();
        table.connections += 1;
        let last_seen = table.connections;
        let entry = table.entries.entry(session).or_default();
        entry.last_seen = last_seen;
        entry.committed = entry.committed.max(seq);
        entry.durable = entry.committed;
        entry.delivered = entry.delivered.max(seq);
    }

    /// A flush arrived.
    pub(super) fn receive(&self, session: SessionId, seq: u64) -> Verdict {
        let mut table = self.lock();
        let entry = table.entries.entry(session).or_default();
        if seq <= entry.committed {
            Verdict::Committed
        } else if seq <= entry.delivered {
            Verdict::Pending
        } else {
            entry.delivered = seq;
            Verdict::New
        }
    }

    fn commit(&self, session: SessionId, seq: u64, durable_seq: Option<u64>) {
        let mut table = self.lock();
        let Some(entry) = table.entries.get_mut(&session) else { return };
        entry.committed = entry.committed.max(seq);
        entry.durable = entry.durable.max(durable_seq.unwrap_or(0));
        if let Some(outbox) = &entry.outbox {
            // A peer that lets 16 receipts pile up is not listening; the handshake of its next connection tells it.
            let _ = outbox.try_send(AgentMessage::from(Ack { seq, durable_seq }));
        }
    }

    fn refuse(&self, session: SessionId, words: &str) {
        let table = self.lock();
        if let Some(outbox) = table.entries.get(&session).and_then(|entry| entry.outbox.as_ref()) {
            // Where 16 receipts wait to be written the peer is not listening; its next flush is refused again.
            let _ = outbox.try_send(ErrorCode::TooManyPeers.with(words));
        }
    }

    fn give_back(&self, session: SessionId, seq: u64) {
        if let Some(entry) = self.lock().entries.get_mut(&session).filter(|entry| entry.delivered == seq) {
            entry.delivered = entry.committed;
        }
    }
}

/// The right to acknowledge one flush.
#[derive(Debug)]
pub struct Receipt {
    /// `None` once committed, or when nobody waits.
    sessions: Option<Arc<Sessions>>,
    session: SessionId,
    seq: u64,
    /// The flush's, while it waits for its tick.
    place: Option<Place>,
}

impl Receipt {
    pub(super) fn new(sessions: &Arc<Sessions>, session: SessionId, seq: u64) -> Self {
        Self { sessions: Some(Arc::clone(sessions)), session, seq, place: None }
    }

    pub(super) fn placed(mut self, place: Option<Place>) -> Self {
        self.place = place;
        self
    }

    /// The flush is part of a tick and does not wait any more.
    pub(super) fn merged(&mut self) {
        self.place = None;
    }

    /// A receipt that nobody waits for; for flushes that did not come over a socket.
    pub fn detached() -> Self {
        Self { sessions: None, session: [0; SESSION_BYTES], seq: 0, place: None }
    }

    /// The session and seq that it acknowledges; `None` when nobody waits.
    pub fn claim(&self) -> Option<([u8; SESSION_BYTES], u64)> {
        self.sessions.as_ref().map(|_| (self.session, self.seq))
    }

    /// There is no place for this peer: it is told so and cut off, keeps its data, and may come again.
    pub fn refuse(self, words: &str) {
        if let Some(sessions) = &self.sessions {
            sessions.refuse(self.session, words);
        }
    }

    /// The flush is part of a tick in memory: the SDK is told, now or at its next handshake, and will not send it again to
    /// this agent.
    pub fn commit(mut self) {
        if let Some(sessions) = self.sessions.take() {
            sessions.commit(self.session, self.seq, None);
        }
    }

    /// The flush is part of a tick that survives the agent, and so is every one before it.
    pub fn commit_durably(mut self) {
        if let Some(sessions) = self.sessions.take() {
            sessions.commit(self.session, self.seq, Some(self.seq));
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(sessions) = self.sessions.take() {
            sessions.give_back(self.session, self.seq);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_is_delivered_once_even_before_it_is_committed() {
        let sessions = Arc::new(Sessions::default());
        let (outbox, mut inbox) = mpsc::channel(4);
        let id = [7; SESSION_BYTES];
        assert_eq!(sessions.open(id, outbox).committed, 0);
        assert_eq!(sessions.receive(id, 1), Verdict::New);
        let receipt = Receipt::new(&sessions, id, 1);
        assert_eq!(sessions.receive(id, 1), Verdict::Pending);
        receipt.commit();
        assert_eq!(inbox.try_recv().ok(), Some(AgentMessage::from(Ack { seq: 1, durable_seq: None })));
        assert_eq!(sessions.receive(id, 1), Verdict::Committed);
    }

    #[test]
    fn what_an_earlier_agent_committed_is_not_delivered_again() {
        let sessions = Arc::new(Sessions::default());
        let (outbox, mut inbox) = mpsc::channel(4);
        let id = [7; SESSION_BYTES];
        sessions.restore(id, 5);
        let opened = sessions.open(id, outbox);
        assert_eq!((opened.committed, opened.durable), (5, 5), "the handshake tells the SDK");
        assert_eq!(sessions.receive(id, 5), Verdict::Committed);
        assert_eq!(sessions.receive(id, 6), Verdict::New);
        let receipt = Receipt::new(&sessions, id, 6);
        assert_eq!(receipt.claim(), Some((id, 6)));
        receipt.commit_durably();
        assert_eq!(inbox.try_recv().ok(), Some(AgentMessage::from(Ack { seq: 6, durable_seq: Some(6) })));
    }

    #[test]
    fn a_receipt_that_is_dropped_lets_the_flush_come_again() {
        let sessions = Arc::new(Sessions::default());
        let id = [7; SESSION_BYTES];
        assert_eq!(sessions.receive(id, 1), Verdict::New);
        drop(Receipt::new(&sessions, id, 1));
        assert_eq!(sessions.receive(id, 1), Verdict::New);
    }

    #[test]
    fn a_new_connection_replaces_the_old_one_and_gets_its_receipts() {
        let sessions = Arc::new(Sessions::default());
        let id = [7; SESSION_BYTES];
        let (old, mut old_inbox) = mpsc::channel(4);
        let (new, mut new_inbox) = mpsc::channel(4);
        let first = sessions.open(id, old).connection;
        sessions.receive(id, 1);
        let receipt = Receipt::new(&sessions, id, 1);
        sessions.open(id, new);
        assert!(matches!(old_inbox.try_recv(), Err(mpsc::error::TryRecvError::Disconnected)));
        sessions.close(id, first); // The old one's end does not disturb the new one.
        receipt.commit();
        assert!(new_inbox.try_recv().is_ok());
    }

    #[test]
    fn the_oldest_absent_session_is_forgotten_first() {
        let sessions = Sessions::default();
        let id = |number: usize| {
            let mut id = [0; SESSION_BYTES];
            id[..8].copy_from_slice(&number.to_le_bytes());
            id
        };
        for number in 0..MAX_SESSIONS {
            let (outbox, _) = mpsc::channel(1);
            let connection = sessions.open(id(number), outbox).connection;
            if number > 0 {
                sessions.close(id(number), connection);
            }
        }
        let (outbox, _) = mpsc::channel(1);
        sessions.open(id(MAX_SESSIONS), outbox);
        let table = sessions.lock();
        assert!(table.entries.contains_key(&id(0)), "it is connected");
        assert!(!table.entries.contains_key(&id(1)));
        assert_eq!(table.entries.len(), MAX_SESSIONS);
    }
}
