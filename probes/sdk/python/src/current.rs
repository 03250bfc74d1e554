//! The current request: a context variable, which asyncio copies into tasks and keeps across awaits.

use perfwatch_sdk::Stage;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple};

use crate::argument::Text;
use crate::request::Request;
use crate::told;

/// The variable's methods, bound once: looking each up would cost as much as calling it.
pub(crate) struct Current {
    get: Py<PyAny>,
    set: Py<PyAny>,
    reset: Py<PyAny>,
}

impl Current {
    fn variable(py: Python<'_>) -> PyResult<&Self> {
        static VARIABLE: PyOnceLock<Current> = PyOnceLock::new();
        VARIABLE.get_or_try_init(py, || {
            let keywords = PyDict::new(py);
            keywords.set_item("default", py.None())?;
            let class = py.import("contextvars")?.getattr("ContextVar")?;
            let variable = class.call(("perfwatch.request",), Some(&keywords))?;
            let method = |name: &str| PyResult::Ok(variable.getattr(name)?.unbind());
            Ok(Self { get: method("get")?, set: method("set")?, reset: method("reset")? })
        })
    }

    pub(crate) fn get(py: Python<'_>) -> Option<Bound<'_, Request>> {
        let request = Self::variable(py).ok()?.get.bind(py).call0().ok()?;
        request.cast_into::<Request>().ok()
    }

    /// Gives what `reset` needs to put the one before back.
    pub(crate) fn set(py: Python<'_>, request: &Py<Request>) -> Option<Py<PyAny>> {
        Self::variable(py).and_then(|variable| variable.set.call1(py, (request,))).ok()
    }

    pub(crate) fn reset(py: Python<'_>, token: Py<PyAny>) {
        // It fails in another context than the one it was set in, as when a generator is closed elsewhere: that context
        // never saw the request.
        let _ = Self::variable(py).and_then(|variable| variable.reset.call1(py, (token,)));
    }
}

/// The request of this thread or asyncio task, made so by its `with` statement, a decorator or a middleware; else None.
///
/// It follows awaits, tasks and `asyncio.to_thread`; `loop.run_in_executor` and threads of your own do not get it: hand them
/// the request.
#[pyfunction]
pub(crate) fn current(py: Python<'_>) -> Option<Bound<'_, Request>> {
    Current::get(py)
}

/// The current request is in this stage during a `with` block, or during each call of a decorated function.
///
/// Functions, coroutines, generators and async generators can be decorated. Without a current request it does nothing. One
/// object may be used again, and by several threads and tasks at once.
///
/// name: as for `Request.enter`.
#[pyclass(frozen, name = "stage", module = "perfwatch")]
pub(crate) struct StageOfCurrent {
    /// None for what is no name.
    name: Option<String>,
    /// The built-in stage of this name. Which of a server's own stages it is depends on the server.
    known: Option<Stage>,
    /// What was decorated without parentheses: `@perfwatch.stage` in place of `@perfwatch.stage("compute")`.
    undecorated: Option<Py<PyAny>>,
}

impl StageOfCurrent {
    fn stage(&self, request: &Request) -> Option<Stage> {
        self.known.or_else(|| self.name.as_ref().map(|name| request.named(name)))
    }
}

#[pymethods]
impl StageOfCurrent {
    #[new]
    fn new(name: &Bound<'_, PyAny>) -> Self {
        let py = name.py();
        let undecorated = name.is_callable().then(|| name.clone().unbind());
        let Ok(name): Result<Text<'_>, _> = name.extract();
        if undecorated.is_some() {
            told::once(py, "a stage needs a name, as in @perfwatch.stage(\"compute\"); the function runs as it was");
        } else if name.0.is_none() {
            told::once(py, "a stage's name is a str; the request stays in the stage it is in");
        }
        let known = name.0.as_deref().and_then(Stage::from_name);
        Self { name: name.0.map(String::from), known, undecorated }
    }

    fn __enter__<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Request>> {
        let request = Current::get(py)?;
        if let Some(stage) = self.stage(request.get()) {
            request.get().begin(stage);
        }
        Some(request)
    }

    #[pyo3(signature = (_kind=None, _error=None, _trace=None, /))]
    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: Option<&Bound<'_, PyAny>>,
        _error: Option<&Bound<'_, PyAny>>,
        _trace: Option<&Bound<'_, PyAny>>,
    ) {
        if let Some(request) = Current::get(py)
            && let Some(stage) = self.stage(request.get())
        {
            request.get().end(stage);
        }
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        slf: Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(function) = &slf.get().undecorated {
            return function.bind(slf.py()).call(args, kwargs);
        }
        slf.py().import("perfwatch._scope")?.getattr("within")?.call1((args.get_item(0)?, slf))
    }
}
