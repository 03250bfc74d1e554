//! A distribution of the server's own.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use perfwatch_sdk::Unit;
use pyo3::prelude::*;

use crate::argument::{Amount, whole};
use crate::server::Server;
use crate::told;

/// Nanoseconds in a second.
const SECOND: f64 = 1e9;

/// A handle to record values into one distribution of a server. Any thread may use it.
#[pyclass(frozen, module = "perfwatch")]
pub(crate) struct Histogram {
    inner: perfwatch_sdk::Histogram,
    seconds: bool,
    server: Py<Server>,
}

impl Histogram {
    pub(crate) fn new(inner: perfwatch_sdk::Histogram, unit: Unit, server: Py<Server>) -> Self {
        Self { inner, seconds: unit == Unit::Seconds, server }
    }

    fn put(&self, value: u64) {
        self.server.get().used.mark();
        self.inner.record(value);
    }
}

#[pymethods]
impl Histogram {
    /// Records one value: seconds where the unit is "s", else a whole number of the unit (fractions are cut off).
    ///
    /// Values are kept to 0.8 %, their count and sum exactly (to the nanosecond). Negative values, NaN and what is no
    /// number are ignored.
    fn record(&self, py: Python<'_>, value: Amount) {
        let scaled = value.0.map(|value| if self.seconds { (value * SECOND).round() } else { value });
        match scaled.and_then(whole) {
            Some(value) => self.put(value),
            None => told::once(py, "a histogram takes numbers from 0 up; another value was ignored"),
        }
    }

    /// A `with` block whose duration is recorded, whether it raises or not. For histograms in seconds.
    fn time(slf: Bound<'_, Self>) -> Timer {
        if !slf.get().seconds {
            told::once(slf.py(), "only a histogram in seconds can time; nothing is recorded");
        }
        #[allow(clippy::disallowed_methods, reason = "the one clock of this package")]
        let began = Instant::now();
        Timer { histogram: slf.unbind(), began, entered: AtomicU64::new(0) }
    }
}

/// A `with` block whose duration is recorded.
#[pyclass(frozen, module = "perfwatch")]
pub(crate) struct Timer {
    histogram: Py<Histogram>,
    /// When it was made.
    began: Instant,
    /// Nanoseconds from then to the block's beginning.
    entered: AtomicU64,
}

impl Timer {
    fn elapsed(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[pymethods]
impl Timer {
    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf.get().entered.store(slf.get().elapsed(), Relaxed);
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        let histogram = self.histogram.get();
        if histogram.seconds {
            histogram.put(self.elapsed().saturating_sub(self.entered.load(Relaxed)));
        }
    }
}
