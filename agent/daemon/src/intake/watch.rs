//! Since when servers are watched: what a counter or a distribution began to gather later is all gain, what began earlier
//! may have been counted before, by this agent or the one before it.

use std::collections::BTreeMap;

/// Forgotten servers that are told from new ones.
const MAX_FORGOTTEN: usize = 1_024;

/// Service and instance.
type Key = (String, String);

/// Since when each server is watched without a gap.
#[derive(Debug)]
pub(super) struct Watch {
    /// For servers of which nothing else is known.
    since_ns: u64,
    /// When forgotten servers were heard last, nanoseconds since the epoch.
    forgotten: BTreeMap<Key, u64>,
}

impl Watch {
    pub(super) fn new(wall_ns: u64) -> Self {
        Self { since_ns: wall_ns, forgotten: BTreeMap::new() }
    }

    /// Since when a server is watched that appears now.
    pub(super) fn begin(&mut self, key: &Key) -> u64 {
        self.forgotten.remove(key).map_or(self.since_ns, |heard_ns| heard_ns.max(self.since_ns))
    }

    /// Notes that a server is forgotten that was heard last at this time.
    pub(super) fn forget(&mut self, key: Key, heard_ns: u64) {
        self.forgotten.insert(key, heard_ns);
        if self.forgotten.len() > MAX_FORGOTTEN {
            // Any of them may come back: from now on, nothing older than the newest of them is taken for new.
            self.since_ns = self.forgotten.values().copied().fold(self.since_ns, u64::max);
            self.forgotten.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        (format!("s{number}"), "1".to_owned())
    }

    #[test]
    fn a_server_that_comes_back_is_watched_since_it_was_heard_last() {
        let mut watch = Watch::new(100);
        assert_eq!(watch.begin(&key(0)), 100);
        watch.forget(key(0), 500);
        assert_eq!((watch.begin(&key(1)), watch.begin(&key(0))), (100, 500));
    }

    #[test]
    fn when_too_many_were_forgotten_all_count_as_old_rather_than_twice() {
        let mut watch = Watch::new(100);
        (0..=MAX_FORGOTTEN).for_each(|number| watch.forget(key(number), 200 + number as u64));
        assert!(watch.forgotten.is_empty());
        assert_eq!(watch.begin(&key(3)), 200 + MAX_FORGOTTEN as u64);
    }
}
