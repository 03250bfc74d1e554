//! The log: `logging.getLogger("perfwatch")`, each sentence once per process.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;

/// Sentences that were told; a program that makes them up endlessly is not told more than this many.
const MOST: usize = 64;

/// Warns, unless the same was said before. Whatever logging does with it, the caller goes on.
pub(crate) fn once(py: Python<'_>, text: &str) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    {
        let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= MOST || !told.insert(text.to_owned()) {
            return;
        }
    }
    let logger = py.import("logging").and_then(|logging| logging.call_method1("getLogger", ("perfwatch",)));
    // A handler that raises is the user's; the measurement does not pass it on.
    let _ = logger.and_then(|logger| logger.call_method1("warning", ("%s", text)));
}

/// Says it to the log, as the native half does.
#[pyfunction]
pub(crate) fn tell(py: Python<'_>, text: &str) {
    once(py, text);
}
