//! What the tests on a real GPU compute with, which needs none.

mod interval;
mod smi;
