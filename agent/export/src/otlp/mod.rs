//! From ticks and findings to OTLP requests. Pure: no clock, no network.

pub(crate) mod accumulate;
pub(crate) mod attributes;
pub(crate) mod batch;
pub(crate) mod encode;
pub mod exphist;
pub(crate) mod logs;
pub(crate) mod points;
pub(crate) mod stamps;
