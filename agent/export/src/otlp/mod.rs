//! From ticks and findings to OTLP requests. Pure: no clock, no network.

pub(crate) mod attributes;
pub(crate) mod batch;
pub(crate) mod bisect;
pub(crate) mod encode;
pub mod exphist;
mod gauges;
pub(crate) mod logs;
pub(crate) mod points;
pub(crate) mod stamps;
mod streams;
pub(crate) mod totals;
