//! How a number came to be known.

use serde::{Deserialize, Serialize};

/// The source of a number, from best to worst. A sum is as good as its worst part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quality {
    /// Measured by a kernel or device counter.
    Counter,
    /// Counted by the SDK inside the server.
    Sdk,
    /// Read from what the server exposes about itself.
    Scraped,
    /// Follows from measured numbers by an assumption that is stated where it is made.
    Inferred,
    /// Comes out of a model; drawn hatched.
    Modelled,
    /// Not known. The amount is what is left over.
    Unknown,
}

impl Quality {
    /// All, from best to worst.
    pub const ALL: [Self; 6] = [Self::Counter, Self::Sdk, Self::Scraped, Self::Inferred, Self::Modelled, Self::Unknown];

    /// The word used in JSON and in the journal.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Sdk => "sdk",
            Self::Scraped => "scraped",
            Self::Inferred => "inferred",
            Self::Modelled => "modelled",
            Self::Unknown => "unknown",
        }
    }

    /// The one of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|quality| quality.name() == name)
    }

    /// The worse of the two.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        self.max(other)
    }
}
