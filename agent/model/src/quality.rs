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
    /// The worse of the two.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        self.max(other)
    }
}
