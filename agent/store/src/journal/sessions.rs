//! How far each SDK session got.

use std::collections::HashMap;

/// Bytes of a session's id.
pub const SESSION_BYTES: usize = 16;
/// Sessions that are remembered; the ones that were silent longest go first. Far above what one node starts in a day.
const MAX_SESSIONS: usize = 16_384;

/// A session and the highest seq of its flushes that is in the totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The session.
    pub session: [u8; SESSION_BYTES],
    /// Everything up to here is counted.
    pub seq: u64,
}

#[derive(Debug)]
struct Known {
    seq: u64,
    seen_wall_ns: u64,
    changed: bool,
}

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    known: HashMap<[u8; SESSION_BYTES], Known>,
    gone: Vec<[u8; SESSION_BYTES]>,
}

impl Sessions {
    pub(super) fn restore(&mut self, progress: Progress, seen_wall_ns: u64) {
        self.known.insert(progress.session, Known { seq: progress.seq, seen_wall_ns, changed: false });
    }

    pub(super) fn advance(&mut self, sessions: &[Progress], now_wall_ns: u64) {
        for Progress { session, seq } in sessions {
            let known = self.known.entry(*session).or_insert(Known { seq: 0, seen_wall_ns: 0, changed: true });
            *known = Known { seq: known.seq.max(*seq), seen_wall_ns: now_wall_ns, changed: true };
        }
    }

    /// The longest silent first.
    pub(super) fn by_age(&self) -> impl Iterator<Item = Progress> + '_ {
        let mut all: Vec<_> = self.known.iter().collect();
        all.sort_unstable_by_key(|(_, known)| known.seen_wall_ns);
        all.into_iter().map(|(session, known)| Progress { session: *session, seq: known.seq })
    }

    /// What differs from the last write, with the time of each session's newest tick.
    pub(super) fn unwritten(&self) -> impl Iterator<Item = (Progress, u64)> + '_ {
        let changed = self.known.iter().filter(|(_, known)| known.changed);
        changed.map(|(session, known)| (Progress { session: *session, seq: known.seq }, known.seen_wall_ns))
    }

    pub(super) fn gone(&self) -> &[[u8; SESSION_BYTES]] {
        &self.gone
    }

    pub(super) fn written(&mut self) {
        self.known.values_mut().for_each(|known| known.changed = false);
        self.gone.clear();
    }

    pub(super) fn all_unwritten(&mut self) {
        self.known.values_mut().for_each(|known| known.changed = true);
        self.gone.clear();
    }

    /// Forgets the longest silent ones beyond the limit.
    pub(super) fn forget(&mut self) {
        let excess = self.known.len().saturating_sub(MAX_SESSIONS);
        if excess == 0 {
            return;
        }
        let mut by_age: Vec<_> = self.known.iter().map(|(session, known)| (known.seen_wall_ns, *session)).collect();
        by_age.select_nth_unstable(excess - 1);
        for (_, session) in &by_age[..excess] {
            self.known.remove(session);
            self.gone.push(*session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_never_goes_back_and_the_longest_silent_is_forgotten_first() {
        let mut sessions = Sessions::default();
        let progress = |number: u64, seq: u64| {
            let mut session = [0; SESSION_BYTES];
            session[..8].copy_from_slice(&number.to_le_bytes());
            Progress { session, seq }
        };
        sessions.advance(&[progress(7, 5), progress(7, 3)], 1);
        assert_eq!(sessions.by_age().collect::<Vec<_>>(), [progress(7, 5)]);
        for number in 0..MAX_SESSIONS as u64 {
            sessions.advance(&[progress(number + 100, 1)], number + 2);
        }
        sessions.written();
        sessions.forget();
        assert_eq!(sessions.gone(), [progress(7, 0).session]);
        assert_eq!(sessions.by_age().count(), MAX_SESSIONS);
        assert_eq!(sessions.by_age().next(), Some(progress(100, 1)));
    }
}
