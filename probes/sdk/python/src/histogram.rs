//! A distribution of the server's own.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use perfwatch_sdk::Unit;
use pyo3::prelude::*;

use crate::argument::{Amount, whole};
use crate::server::Server;
use crate::told;

/// Nanoseconds in a second.
const SECOND: f64 = 1e9;

/// Nanoseconds since the package's first timer.
fn now() -> u64 {
    #[allow(clippy::disallowed_methods, reason = "the one clock of this package")]
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(BEGAN.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// A handle to record values into one distribution of a server. Any thread may use it.
///
/// A pickled one is the same distribution of the server that is made where it arrives.
#[pyclass(frozen, module = "perfwatch")]
pub(crate) struct Histogram {
    inner: perfwatch_sdk::Histogram,
    name: String,
    unit: Unit,
    /// Whether that is the unit; asked for each value.
    seconds: bool,
    server: Py<Server>,
}

impl Histogram {
    pub(crate) fn new(inner: perfwatch_sdk::Histogram, name: String, unit: Unit, server: Py<Server>) -> Self {
        Self { inner, name, unit, seconds: unit == Unit::Seconds, server }
    }

    #[inline]
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
    #[pyo3(signature = (value, /))]
    fn record(&self, py: Python<'_>, value: Amount) {
        // What is no number is none of these either.
        let value = value.0.unwrap_or(f64::NAN);
        // To the nearest nanosecond: `whole` cuts off.
        match whole(if self.seconds { value * SECOND + 0.5 } else { value }) {
            Some(value) => self.put(value),
            None => told::once(py, "a histogram takes numbers from 0 up; another value was ignored"),
        }
    }

    /// A `with` block whose duration is recorded, whether it raises or not; or a decorator of a function, for the duration
    /// of each call. For histograms in seconds.
    fn time(slf: Bound<'_, Self>) -> Timer {
        if !slf.get().seconds {
            told::once(slf.py(), "only a histogram in seconds can time; nothing is recorded");
        }
        Timer { histogram: slf.unbind(), entered: AtomicU64::new(0) }
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (Py<Server>,))> {
        let call = ("histogram", self.name.as_str(), self.unit.ucum());
        Ok((py.import("operator")?.getattr("methodcaller")?.call1(call)?, (self.server.clone_ref(py),)))
    }
}

/// A `with` block whose duration is recorded.
#[pyclass(frozen, module = "perfwatch", freelist = 64)]
pub(crate) struct Timer {
    histogram: Py<Histogram>,
    entered: AtomicU64,
}

#[pymethods]
impl Timer {
    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf.get().entered.store(now(), Relaxed);
        slf
    }

    #[pyo3(signature = (_kind=None, _error=None, _trace=None, /))]
    fn __exit__(
        &self,
        _kind: Option<&Bound<'_, PyAny>>,
        _error: Option<&Bound<'_, PyAny>>,
        _trace: Option<&Bound<'_, PyAny>>,
    ) {
        let histogram = self.histogram.get();
        if histogram.seconds {
            histogram.put(now().saturating_sub(self.entered.load(Relaxed)));
        }
    }

    fn __call__<'py>(&self, py: Python<'py>, function: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let time = self.histogram.bind(py).getattr("time")?;
        py.import("perfwatch._scope")?.getattr("around")?.call1((function, time))
    }
}
