//! In which process a server was last used.
//!
//! A pre-forking server's master makes the server object, and some of its children never use it. Such a child has no
//! flusher, so at its exit there is nobody to wait for.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use pyo3::prelude::*;

static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Counts this process's forks from here on.
pub(crate) fn watch(py: Python<'_>) -> PyResult<()> {
    let keywords = pyo3::types::PyDict::new(py);
    keywords.set_item("after_in_child", wrap_pyfunction!(forked, py)?)?;
    py.import("os")?.call_method("register_at_fork", (), Some(&keywords)).map(drop)
}

#[pyfunction]
fn forked() {
    GENERATION.fetch_add(1, Relaxed);
}

/// The generation of processes in which something was last used.
pub(crate) struct Used(AtomicU32);

impl Used {
    pub(crate) fn now() -> Self {
        Self(AtomicU32::new(GENERATION.load(Relaxed)))
    }

    /// It is being used in this process.
    #[inline]
    pub(crate) fn mark(&self) {
        let generation = GENERATION.load(Relaxed);
        if self.0.load(Relaxed) != generation {
            self.0.store(generation, Relaxed);
        }
    }

    /// True when it was used in this process.
    pub(crate) fn here(&self) -> bool {
        self.0.load(Relaxed) == GENERATION.load(Relaxed)
    }
}
