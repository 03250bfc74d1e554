//! The frozen-flush protocol, without its socket: each flush is counted exactly once, whatever breaks in between.
//!
//! A flush never changes once made. At most one is under way; what happens meanwhile stays in the shards and becomes the
//! next. After a broken connection the agent says which flush it committed last: that decides between forgetting the
//! frozen one and sending the same bytes again.

/// A flush that was made and not yet acknowledged.
#[derive(Debug, PartialEq, Eq)]
struct Frozen {
    seq: u64,
    bytes: Vec<u8>,
    /// Whether it went out on the present connection.
    sent: bool,
}

/// One session's sequence of flushes.
#[derive(Debug, Default)]
pub(crate) struct Session {
    last_seq: u64,
    frozen: Option<Frozen>,
}

impl Session {
    /// True when the next flush may be made.
    pub(crate) fn is_free(&self) -> bool {
        self.frozen.is_none()
    }

    /// Makes the next flush, if the one before is acknowledged. `make` gets its seq and returns its bytes, or `None` when
    /// there is nothing to send.
    pub(crate) fn freeze(&mut self, make: impl FnOnce(u64) -> Option<Vec<u8>>) {
        if self.frozen.is_none()
            && let Some(bytes) = make(self.last_seq + 1)
        {
            self.last_seq += 1;
            self.frozen = Some(Frozen { seq: self.last_seq, bytes, sent: false });
        }
    }

    /// The bytes to send now, once per connection.
    pub(crate) fn unsent(&mut self) -> Option<&[u8]> {
        let frozen = self.frozen.as_mut().filter(|frozen| !frozen.sent)?;
        frozen.sent = true;
        Some(&frozen.bytes)
    }

    /// A new connection begins; the agent has committed flushes up to `last_committed`.
    pub(crate) fn welcome(&mut self, last_committed: u64) {
        self.acknowledge(last_committed);
        if let Some(frozen) = &mut self.frozen {
            frozen.sent = false;
        }
    }

    /// The agent committed flushes up to `seq`.
    pub(crate) fn acknowledge(&mut self, seq: u64) {
        if self.frozen.as_ref().is_some_and(|frozen| frozen.seq <= seq) {
            self.frozen = None;
        }
    }

    /// Gives the frozen flush up: the agent said that it cannot read it, and would say so for ever.
    pub(crate) fn give_up(&mut self) {
        if self.frozen.as_ref().is_some_and(|frozen| frozen.sent) {
            self.frozen = None;
        }
    }

    #[cfg(test)]
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_is_resent_byte_for_byte_until_it_is_covered() {
        let mut session = Session::default();
        session.welcome(0);
        session.freeze(|seq| Some(vec![seq as u8, 42]));
        assert_eq!(session.unsent(), Some(&[1, 42][..]));
        assert_eq!(session.unsent(), None, "once per connection");
        session.freeze(|_| panic!("one flush at a time"));
        session.welcome(0);
        assert_eq!(session.unsent(), Some(&[1, 42][..]));
        session.welcome(1);
        assert_eq!(session.unsent(), None);
        session.freeze(|seq| Some(vec![seq as u8]));
        assert_eq!(session.unsent(), Some(&[2][..]));
        session.acknowledge(1);
        assert!(!session.is_free(), "an old receipt changes nothing");
        session.acknowledge(2);
        assert!(session.is_free());
    }

    #[test]
    fn nothing_to_send_uses_no_number() {
        let mut session = Session::default();
        session.freeze(|_| None);
        session.freeze(|seq| Some(vec![seq as u8]));
        assert_eq!((session.last_seq(), session.unsent()), (1, Some(&[1][..])));
    }
}
