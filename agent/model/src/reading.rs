//! Absence is a value.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// What it says of a machine that there is no value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AbsenceKind {
    /// Nothing is wrong: the machine, its driver or its permissions do not give it, or do not give it yet, or not this once.
    #[default]
    Normal,
    /// Somebody chose that it is not measured.
    Chosen,
    /// It should be there, and what was asked for it failed: somebody has to look.
    Failed,
}

/// Why there is no value, and what would give one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reason {
    /// Why this host, driver or permission level cannot supply it. Lower case, no full stop.
    pub text: Cow<'static, str>,
    /// What the user can do about it; empty when nothing can be done.
    pub cure: Cow<'static, str>,
    /// What that says of the machine.
    pub kind: AbsenceKind,
}

impl Reason {
    /// A reason that is known at compile time; costs no allocation.
    pub const fn fixed(text: &'static str, cure: &'static str) -> Self {
        Self { text: Cow::Borrowed(text), cure: Cow::Borrowed(cure), kind: AbsenceKind::Normal }
    }

    /// A reason with details of this host in it.
    pub fn new(text: impl Into<Cow<'static, str>>, cure: impl Into<Cow<'static, str>>) -> Self {
        Self { text: text.into(), cure: cure.into(), kind: AbsenceKind::Normal }
    }

    /// The same, where somebody chose it.
    #[must_use]
    pub const fn by_choice(mut self) -> Self {
        self.kind = AbsenceKind::Chosen;
        self
    }

    /// The same, where something failed.
    #[must_use]
    pub const fn by_failure(mut self) -> Self {
        self.kind = AbsenceKind::Failed;
        self
    }
}

/// A measured value, or the reason there is none.
///
/// A probe never reports `0` for a value it could not read: an idle GPU and a GPU that refuses to answer look the same on
/// a chart, and only one of them is a problem.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading<T> {
    /// The value, as measured.
    Value(T),
    /// There is none; shown to the user as `n/a` with the reason.
    Unavailable(Reason),
}

impl<T> Reading<T> {
    /// The value, if there is one.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Unavailable(_) => None,
        }
    }

    /// A view of the value, if there is one.
    pub fn as_value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Unavailable(_) => None,
        }
    }

    /// The reading with its value changed; a reason passes through.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Reading<U> {
        match self {
            Self::Value(value) => Reading::Value(change(value)),
            Self::Unavailable(reason) => Reading::Unavailable(reason),
        }
    }
}
