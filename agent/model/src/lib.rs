//! The shared words of perfwatch: metrics, entities, readings, ticks, histograms, ledgers, findings, snapshots.
//!
//! Everything else in the workspace depends on this crate and this crate depends on nothing but serde. It does no I/O and
//! reads no clock: time comes in through [`Stamp`]. Inside, time is integer nanoseconds; what leaves (JSON, OTLP,
//! Prometheus) is in seconds.
//!
//! To add a metric, add one constant to a file under [`metrics`] and name it in that file's `ALL`.

pub mod clock;
pub mod entity;
pub mod finding;
pub mod histogram;
pub mod ledger;
pub mod metric;
pub mod metrics;
pub mod prometheus;
pub mod quality;
pub mod reading;
pub mod sample;
pub mod series;
pub mod snapshot;
pub mod stage;
pub mod text;
pub mod tick;
pub mod window;

pub use clock::{Clock, Stamp};
pub use entity::{Attr, AttrValue, Entity, EntityId, EntityKind};
pub use finding::{Cost, Evidence, Finding, Remedy, Severity};
pub use histogram::{Bounded, Histogram, SparseHdr};
pub use ledger::{Entry, Ledger, Split};
pub use metric::{Instrument, Level, MetricDef, Unit};
pub use quality::Quality;
pub use reading::{AbsenceKind, Reading, Reason};
pub use sample::Sample;
pub use series::{Series, SeriesId, SeriesTable};
pub use snapshot::Snapshot;
pub use stage::{Stage, State};
pub use text::printable;
pub use tick::{Absence, GpuSlot, GpuTick, Number, ServerTick, Share, Sharing, Slot, SlowRequest, Tick};
pub use window::Window;
