//! What is wrong, how bad it is, how we know, and what to try.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::Quality;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Note,
    /// Costs capacity or latency now.
    Warning,
    /// Users are being hurt now.
    Critical,
}

impl Severity {
    /// The word used in JSON and on screens.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One number that a finding rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// What was measured: a metric's or fact's name.
    pub metric: Cow<'static, str>,
    /// The measured value, in `unit`.
    pub value: f64,
    /// What it was compared with, in `unit`; absent where it is context.
    pub threshold: Option<f64>,
    /// UCUM unit of both.
    pub unit: Cow<'static, str>,
    /// Seconds over which it was measured.
    pub window_s: f64,
    /// How it is known.
    pub quality: Quality,
}

/// What the trouble costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Sustainable work per second that is lost, in `unit`.
    pub capacity_per_s: f64,
    /// What is counted: `{request}` or `{token}`.
    pub unit: Cow<'static, str>,
    /// Seconds added to the 99th percentile of latency at the present load.
    pub p99_s: Option<f64>,
}

/// Something to try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedy {
    /// What to do, as an instruction.
    pub action: Cow<'static, str>,
    /// Why this helps here.
    pub why: Cow<'static, str>,
}

/// A diagnosis. Only rules that an injected fault proved make one by default; others say so ([`Finding::experimental`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Kebab-case name of the rule.
    pub id: Cow<'static, str>,
    /// How much it matters.
    pub severity: Severity,
    /// What it is about, as `kind:id`.
    pub entity: String,
    /// What is wrong, in a few words that need no numbers.
    pub summary: Cow<'static, str>,
    /// The same as a sentence with its numbers.
    pub detail: String,
    /// What it rests on.
    pub evidence: Vec<Evidence>,
    /// What it costs; `None` until that can be said honestly.
    pub cost: Option<Cost>,
    /// What to try, best first.
    pub remedies: Vec<Remedy>,
    /// True when its rule is experimental: nothing has proven it yet, and an agent asks it only with `rules = "all"`. Absent
    /// in JSON when it is not.
    #[serde(skip_serializing_if = "is_false", default)]
    pub experimental: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_false(value: &bool) -> bool {
    !value
}
