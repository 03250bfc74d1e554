//! A reading and how it came to be known.

use perfwatch_model::{Quality, Reading, Reason};

/// A value with its source, or the reason there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact<T> {
    /// The value, or why there is none.
    pub reading: Reading<T>,
    /// How the value is known; [`Quality::Unknown`] when there is none.
    pub quality: Quality,
}

impl<T> Fact<T> {
    /// A value that is known.
    pub fn known(value: T, quality: Quality) -> Self {
        Self { reading: Reading::Value(value), quality }
    }

    /// No value.
    pub fn unknown(reason: Reason) -> Self {
        Self { reading: Reading::Unavailable(reason), quality: Quality::Unknown }
    }

    /// No value, for a reason that is known at compile time and that nothing can be done about.
    pub const fn missing(why: &'static str) -> Self {
        Self { reading: Reading::Unavailable(Reason::fixed(why, "")), quality: Quality::Unknown }
    }

    /// The value, if there is one.
    pub fn value(&self) -> Option<&T> {
        self.reading.as_value()
    }

    /// Why there is no value; `None` when there is one.
    pub fn reason(&self) -> Option<&Reason> {
        match &self.reading {
            Reading::Value(_) => None,
            Reading::Unavailable(reason) => Some(reason),
        }
    }

    /// The value, or why there is none.
    pub fn known_or_reason(&self) -> Result<&T, Reason> {
        match &self.reading {
            Reading::Value(value) => Ok(value),
            Reading::Unavailable(reason) => Err(reason.clone()),
        }
    }

    /// The fact with its value changed; a reason passes through, and so does the quality.
    #[must_use]
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Fact<U> {
        Fact { reading: self.reading.map(change), quality: self.quality }
    }
}

impl<T: Copy> Fact<T> {
    /// A copy of the value, if there is one.
    pub fn get(&self) -> Option<T> {
        self.value().copied()
    }
}
