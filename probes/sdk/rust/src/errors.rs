//! Kinds of errors: a bounded set of names, so that no error message can make a metric explode.

use std::sync::OnceLock;

use perfwatch_wire::limits::MAX_NAME;

use crate::activity::KINDS;
use crate::fork;
use crate::identity::cut;

/// The name of errors without a kind, and of those whose kind found no place.
const OTHER: &str = "other";

/// One kind of error: 0 is `other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind(u8);

impl Kind {
    pub(crate) const OTHER: Self = Self(0);

    /// Its number, below [`KINDS`].
    pub(crate) const fn index(self) -> usize {
        self.0 as usize
    }

    /// All kinds, in order of number.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..KINDS as u8).map(Self)
    }
}

/// The names in use. Names are added and never removed, so looking one up takes no lock.
#[derive(Default)]
pub(crate) struct Kinds {
    names: [OnceLock<Box<str>>; KINDS - 1],
}

impl Kinds {
    /// The kind with this name: known, or new while there is room; else `other`.
    pub(crate) fn find(&self, name: &str) -> Kind {
        let name = cut(name, MAX_NAME);
        if name.is_empty() || name == OTHER {
            return Kind::OTHER;
        }
        match self.known(name) {
            Some(kind) => kind,
            None if self.names[KINDS - 2].get().is_some() => Kind::OTHER,
            None => self.add(name),
        }
    }

    fn known(&self, name: &str) -> Option<Kind> {
        let at = self.names.iter().map_while(OnceLock::get).position(|known| **known == *name)?;
        Some(Kind(at as u8 + 1))
    }

    /// A name's first use, at most fifteen times in a process: waits the microseconds that somebody else is in the gate,
    /// so that no fork copies a name that is half there.
    #[cold]
    fn add(&self, name: &str) -> Kind {
        let _inside = fork::enter();
        if let Some(kind) = self.known(name) {
            return kind;
        }
        let free = self.names.iter().position(|place| place.set(name.into()).is_ok());
        free.map_or(Kind::OTHER, |at| Kind(at as u8 + 1))
    }

    /// What a kind is called.
    pub(crate) fn name(&self, kind: Kind) -> &str {
        kind.index().checked_sub(1).and_then(|at| self.names[at].get()).map_or(OTHER, |name| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifteen_kinds_have_names_and_the_rest_is_other() {
        let kinds = Kinds::default();
        for number in 0..15 {
            let kind = kinds.find(&format!("kind{number}"));
            assert_eq!((kind.index(), kinds.name(kind)), (number + 1, format!("kind{number}").as_str()));
        }
        assert_eq!(kinds.find("one more"), Kind::OTHER);
        assert_eq!(kinds.find("kind7").index(), 8, "known ones stay");
        assert_eq!(kinds.find(""), Kind::OTHER);
        assert_eq!(kinds.name(kinds.find("other")), "other");
    }

    #[test]
    fn a_kind_that_many_threads_name_first_has_one_number() {
        let kinds = Kinds::default();
        let found: Vec<Kind> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| kinds.find("timeout"))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(found.iter().all(|kind| kind.index() == 1), "{found:?}");
    }

    #[test]
    fn a_long_name_is_cut_and_found_again() {
        let kinds = Kinds::default();
        let long = "x".repeat(500);
        assert_eq!(kinds.find(&long), kinds.find(&long));
        assert_eq!(kinds.name(kinds.find(&long)).len(), MAX_NAME);
    }
}
