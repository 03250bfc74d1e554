//! Small pictures of numbers. Each is a function from values to spans, so that any line of any view can hold one.

pub mod badge;
pub mod gauge;
pub mod heatmap;
pub mod ledger_bar;
pub mod sparkline;
pub(crate) mod table;
