//! The neural network: a text classifier evaluated on the CPU with real matrix products.
//!
//! Its weights are larger than most last-level caches, so a single request pays for reading them from memory and a batch
//! pays once for all: batching is worth something here for the same reason as on a GPU.

mod kernel;
mod matrix;
mod model;

pub use kernel::{Kernel, naive_product};
pub use matrix::{BLOCK, Columns, Packed};
pub use model::{CLASSES, FEATURES, Input, Model, VOCABULARY};
