//! What a server tells of its requests besides how many there are and how long they take.

use serde::{Deserialize, Serialize};

/// Tokens of the window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokensView {
    /// Tokens read, per second.
    pub input_per_s: f64,
    /// Tokens generated, per second.
    pub output_per_s: f64,
}

/// Look-ups in the server's caches in the window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CacheView {
    /// Look-ups per second.
    pub lookups_per_s: f64,
    /// Share of them that hit, 0 to 1; absent when there was none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hit_ratio: Option<f64>,
}

/// Requests that failed in the window for one reason.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ErrorKindView {
    /// The kind, in the server's words; `other` for those without one.
    pub kind: String,
    /// Requests per second.
    pub per_s: f64,
}
