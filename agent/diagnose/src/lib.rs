//! Turns ticks into facts, facts into ledgers, ledgers into findings: what is wrong, how bad it is, and what to try.
//!
//! Pure: a [`perfwatch_model::Tick`] and the [`perfwatch_model::SeriesTable`] that names its series go in, a
//! [`Judgement`] comes out. Nothing here does I/O or reads a clock, so replaying ticks repeats every judgement.
//!
//! ```text
//! Tick ─► facts (typed, differenced, with their quality) ─► ledgers ─► ServerWindow (10 s) ─► rules ─► findings
//! ```
//!
//! To add a diagnosis, write one file under [`rules`] and list it in [`rules::RULES`]. A rule only looks at a
//! [`ServerWindow`]; what makes its answers calm (hysteresis) lives in the [`Engine`].

pub mod engine;
pub mod facts;
pub mod ledger;
mod recollection;
pub mod rules;
mod standing;
mod view;
pub mod window;

pub use engine::{Config, Engine, GpuJudgement, Judgement, ServerJudgement, Undecided};
pub use facts::{Fact, Facts, GpuFacts, HostFacts, ServerFacts};
pub use recollection::Recollection;
pub use rules::{Diagnosis, GPU_RULES, HOST_RULES, RULES, Rule, SETTINGS, Verdict};
pub use window::{GpuWindow, REMEMBERED_NS, ServerWindow};
