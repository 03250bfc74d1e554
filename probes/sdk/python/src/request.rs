//! One request's life, from arrival to its end.

use std::sync::{Mutex, MutexGuard, PoisonError};

use perfwatch_sdk::Stage;
use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PySystemExit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::argument::{Count, Text};
use crate::server::Server;
use crate::told;

/// The context variable with the current request; asyncio copies it into tasks and across awaits.
pub(crate) fn current(py: Python<'_>) -> PyResult<&Py<PyAny>> {
    static CURRENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    CURRENT.get_or_try_init(py, || {
        let keywords = pyo3::types::PyDict::new(py);
        keywords.set_item("default", py.None())?;
        let class = py.import("contextvars")?.getattr("ContextVar")?;
        Ok(class.call(("perfwatch.request",), Some(&keywords))?.unbind())
    })
}

/// A request that is inside the server, in exactly one stage at any instant.
///
/// One that is neither finished nor failed when Python lets go of it counts as abandoned. After its end every call on it
/// does nothing. In the child of a fork it does nothing either: it goes on in the parent.
#[pyclass(frozen, module = "perfwatch", weakref)]
pub(crate) struct Request {
    live: Mutex<Live>,
    server: Py<Server>,
}

struct Live {
    /// None once it ended.
    request: Option<perfwatch_sdk::Request>,
    /// What puts the context variable back.
    token: Option<Py<PyAny>>,
}

impl Request {
    pub(crate) fn new(request: perfwatch_sdk::Request, server: Py<Server>) -> Self {
        Self { live: Mutex::new(Live { request: Some(request), token: None }), server }
    }

    /// Never held while Python code runs, so it cannot wait for long, nor for itself.
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<perfwatch_sdk::Request> {
        self.live().request.take()
    }

    /// Enters a stage, and says which it was in.
    fn go(&self, stage: Stage) -> Option<Stage> {
        let mut live = self.live();
        let request = live.request.as_mut()?;
        let before = request.stage();
        request.enter(stage);
        before
    }

    fn counted(&self, py: Python<'_>, count: Count, tell: impl FnOnce(&mut perfwatch_sdk::Request, u64)) {
        match count.0 {
            Some(count) => {
                if let Some(request) = self.live().request.as_mut() {
                    tell(request, count);
                }
            }
            None => told::once(py, "a number of tokens is a whole number from 0 up; another value was ignored"),
        }
    }

    fn stage_of(&self, py: Python<'_>, name: Text) -> Option<Stage> {
        let stage = name.0.map(|name| self.server.get().stage(&name));
        if stage.is_none() {
            told::once(py, "a stage's name is a str; the request stays in the stage it is in");
        }
        stage
    }
}

#[pymethods]
impl Request {
    /// Goes to another stage, and so out of the present one.
    ///
    /// One of queue, preprocess, `data_load`, `batch_wait`, transfer, compute, prefill, decode, postprocess, send, other, or
    /// one of up to five names of the server's own; a sixth is taken for other.
    fn enter(&self, py: Python<'_>, stage: Text) {
        if let Some(stage) = self.stage_of(py, stage) {
            self.go(stage);
        }
    }

    /// A `with` block spent in a stage; after it the request is back in the stage it was in.
    fn stage(slf: Bound<'_, Self>, name: Text) -> StageScope {
        let stage = slf.get().stage_of(slf.py(), name);
        StageScope { request: slf.unbind(), stage, before: Mutex::new(None) }
    }

    /// Ends it well.
    fn finish(&self) {
        if let Some(request) = self.take() {
            request.finish();
        }
    }

    /// Ends it with an error. kind: as OpenTelemetry's error.type, a short name out of a small set such as "timeout" or
    /// "503", never a message; 15 kinds are kept apart, further ones count as "other".
    #[pyo3(signature = (kind=None))]
    fn fail(&self, kind: Option<Text>) {
        match (self.take(), kind.and_then(|kind| kind.0)) {
            (Some(request), Some(kind)) => request.fail_with(&kind),
            (Some(request), None) => request.fail(),
            (None, _) => {}
        }
    }

    /// Ends it because its client went away. It is counted apart; its duration is not recorded.
    fn cancel(&self) {
        if let Some(request) = self.take() {
            request.cancel();
        }
    }

    /// One step of the stream brought this many tokens. The first step gives the time to first token (since the request's
    /// arrival), each later one the time since the one before.
    #[pyo3(signature = (count=Count(Some(1))))]
    fn token(&self, py: Python<'_>, count: Count) {
        self.counted(py, count, |request, count| request.tokens(count.min(u64::from(u32::MAX)) as u32));
    }

    /// Says how many tokens the prompt has. Said again, only what is more than before counts.
    fn prompt_tokens(&self, py: Python<'_>, total: Count) {
        self.counted(py, total, perfwatch_sdk::Request::prompt_tokens);
    }

    /// Says how many tokens were generated in all; what `token` counted already does not count twice.
    fn generated_tokens(&self, py: Python<'_>, total: Count) {
        self.counted(py, total, perfwatch_sdk::Request::generated_tokens);
    }

    /// Takes the trace id out of a W3C `traceparent` header, so that a slow request can be looked up. True when it is one.
    fn traceparent(&self, header: Text) -> bool {
        header.0.is_some_and(|header| self.live().request.as_mut().is_some_and(|request| request.traceparent(&header)))
    }

    /// Ends it without a verdict. It counts as abandoned; its duration is not recorded.
    fn abandon(&self) {
        drop(self.take());
    }

    /// True once it ended.
    #[getter]
    fn ended(&self) -> bool {
        self.live().request.is_none()
    }

    fn __enter__(slf: Py<Self>, py: Python<'_>) -> Py<Self> {
        let token = current(py).and_then(|variable| variable.call_method1(py, "set", (&slf,))).ok();
        slf.get().live().token = token;
        slf
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        kind: Option<Bound<'_, PyAny>>,
        _error: Option<Bound<'_, PyAny>>,
        _trace: Option<Bound<'_, PyAny>>,
    ) {
        let token = self.live().token.take();
        if let (Some(token), Ok(variable)) = (token, current(py)) {
            // It fails in another context than the one it was set in, as when a generator is closed elsewhere: that
            // context never saw the request.
            let _ = variable.call_method1(py, "reset", (token,));
        }
        let kind = kind.as_ref().map(|kind| kind.cast::<PyType>());
        match (self.take(), kind) {
            (None, _) => {}
            (Some(request), None) => request.finish(),
            (Some(request), Some(Ok(kind))) => end(request, kind),
            (Some(request), Some(Err(_))) => request.fail(),
        }
    }
}

/// Ends a request with an exception: an error of its class's name, unless nothing went wrong with the request. A process
/// that is being stopped says nothing about it; what else is no `Exception` is a cancellation, or a generator's early end.
fn end(request: perfwatch_sdk::Request, kind: &Bound<'_, PyType>) {
    let py = kind.py();
    let is = |class: Bound<'_, PyType>| kind.is_subclass(&class).unwrap_or(false);
    if is(py.get_type::<PyException>()) {
        match kind.fully_qualified_name() {
            Ok(name) => request.fail_with(&name.to_string_lossy()),
            Err(_) => request.fail(),
        }
    } else if is(py.get_type::<PyKeyboardInterrupt>()) || is(py.get_type::<PySystemExit>()) {
        drop(request);
    } else {
        request.cancel();
    }
}

/// A `with` block that a request spends in a stage.
#[pyclass(frozen, module = "perfwatch")]
pub(crate) struct StageScope {
    request: Py<Request>,
    stage: Option<Stage>,
    before: Mutex<Option<Stage>>,
}

#[pymethods]
impl StageScope {
    fn __enter__(&self, py: Python<'_>) -> Py<Request> {
        let before = self.stage.and_then(|stage| self.request.get().go(stage));
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = before;
        self.request.clone_ref(py)
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, pyo3::types::PyTuple>) {
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(before) = before {
            self.request.get().go(before);
        }
    }
}
