//! More requests than the server can answer at its best.

use super::Fault;

/// Nothing is wrong with the server: there is too much to do.
#[derive(Debug)]
pub(super) struct Overload;

impl Fault for Overload {
    fn name(&self) -> &'static str {
        "overload"
    }

    fn brief(&self) -> &'static str {
        "The load is 1.3 times what the server can do with full batches."
    }

    fn load(&self) -> f64 {
        1.3
    }
}
