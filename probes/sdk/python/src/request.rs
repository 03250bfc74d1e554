//! One request's life, from arrival to its end.

use std::sync::{Mutex, MutexGuard, PoisonError};

use perfwatch_sdk::Stage;
use pyo3::exceptions::{PyException, PyKeyboardInterrupt, PySystemExit};
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::argument::{Count, Text};
use crate::current::Current;
use crate::server::Server;
use crate::told;

/// A request that is inside the server, in exactly one stage at any instant.
///
/// One that is neither finished nor failed when Python lets go of it counts as abandoned. After its end every call on it
/// does nothing. In the child of a fork it does nothing either: it goes on in the parent.
#[pyclass(frozen, module = "perfwatch", weakref, freelist = 64)]
pub(crate) struct Request {
    live: Mutex<Live>,
    server: Py<Server>,
}

struct Live {
    /// None once it ended.
    request: Option<perfwatch_sdk::Request>,
    /// The stage outside all blocks, while there are any.
    outside: Stage,
    /// The blocks it is inside of, in the order of their beginning. Those of several tasks need not end in reverse.
    blocks: Vec<Block>,
    /// What puts the context variable back.
    token: Option<Py<PyAny>>,
}

/// A `with` block spent in a stage.
struct Block {
    /// What it was begun with, and so what ends it.
    stage: Stage,
    /// Another one after an `enter` inside of it.
    now: Stage,
}

impl Request {
    pub(crate) fn new(request: perfwatch_sdk::Request, server: Py<Server>) -> Self {
        let live = Live { request: Some(request), outside: Stage::Other, blocks: Vec::new(), token: None };
        Self { live: Mutex::new(live), server }
    }

    /// Never held while Python code runs, so it cannot wait for long, nor for itself.
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<perfwatch_sdk::Request> {
        self.live().request.take()
    }

    /// The stage that has this name in its server.
    pub(crate) fn named(&self, name: &str) -> Stage {
        self.server.get().stage(name)
    }

    /// Begins a block in a stage.
    pub(crate) fn begin(&self, stage: Stage) {
        let mut live = self.live();
        let Some(request) = &mut live.request else { return };
        let before = request.stage();
        request.enter(stage);
        if live.blocks.is_empty() {
            live.outside = before.unwrap_or(Stage::Other);
        }
        live.blocks.push(Block { stage, now: stage });
    }

    /// Ends the last block that was begun in this stage. The request is then in the stage of the last one that remains: two
    /// tasks of a request may leave their blocks in any order.
    pub(crate) fn end(&self, stage: Stage) {
        let mut live = self.live();
        let Some(at) = live.blocks.iter().rposition(|block| block.stage == stage) else { return };
        live.blocks.remove(at);
        let stage = live.blocks.last().map_or(live.outside, |block| block.now);
        if let Some(request) = &mut live.request {
            request.enter(stage);
        }
    }

    fn with(&self, tell: impl FnOnce(&mut perfwatch_sdk::Request)) {
        if let Some(request) = self.live().request.as_mut() {
            tell(request);
        }
    }

    fn counted(&self, py: Python<'_>, count: Count, tell: impl FnOnce(&mut perfwatch_sdk::Request, u64)) {
        match count.0 {
            Some(count) => self.with(|request| tell(request, count)),
            None => told::once(py, "a number of tokens is a whole number from 0 up; another value was ignored"),
        }
    }

    fn stage_of(&self, py: Python<'_>, name: Text<'_>) -> Option<Stage> {
        let stage = name.0.map(|name| self.named(&name));
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
    #[pyo3(signature = (stage, /))]
    fn enter(&self, py: Python<'_>, stage: Text<'_>) {
        let Some(stage) = self.stage_of(py, stage) else { return };
        let mut live = self.live();
        if let Some(request) = &mut live.request {
            request.enter(stage);
        }
        if let Some(block) = live.blocks.last_mut() {
            block.now = stage;
        }
    }

    /// A `with` block spent in a stage; after it the request is back in the stage it was in. name: as for `enter`.
    ///
    /// Blocks of several tasks of one request may overlap: the one that began last and has not ended says the stage.
    #[pyo3(signature = (name, /))]
    fn stage(slf: Bound<'_, Self>, name: Text<'_>) -> StageScope {
        let stage = slf.get().stage_of(slf.py(), name);
        StageScope { request: slf.unbind(), stage }
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
    fn fail(&self, kind: Option<Text<'_>>) {
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

    /// The first token is there: as `token`, but does nothing when there was one before.
    fn first_token(&self) {
        self.with(perfwatch_sdk::Request::first_token);
    }

    /// One step of the stream brought this many tokens. The first step gives the time to first token (since the request's
    /// arrival), each later one the time since the one before. A step of 0 tokens is none.
    #[pyo3(signature = (count=Count(Some(1))), text_signature = "($self, count=1)")]
    fn token(&self, py: Python<'_>, count: Count) {
        self.counted(py, count, |request, count| request.tokens(count.min(u64::from(u32::MAX)) as u32));
    }

    /// Says how many tokens the prompt has. Said again, only what is more than before counts.
    #[pyo3(signature = (total, /))]
    fn prompt_tokens(&self, py: Python<'_>, total: Count) {
        self.counted(py, total, perfwatch_sdk::Request::prompt_tokens);
    }

    /// Says how many tokens were generated in all; what `token` counted already does not count twice.
    #[pyo3(signature = (total, /))]
    fn generated_tokens(&self, py: Python<'_>, total: Count) {
        self.counted(py, total, perfwatch_sdk::Request::generated_tokens);
    }

    /// Takes the trace id out of a W3C `traceparent` header, so that a slow request can be looked up. True when it is one.
    #[pyo3(signature = (header, /))]
    fn traceparent(&self, header: Text<'_>) -> bool {
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
        let token = Current::set(py, &slf);
        slf.get().live().token = token;
        slf
    }

    #[pyo3(signature = (kind=None, _error=None, _trace=None, /))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: Option<&Bound<'_, PyAny>>,
        _error: Option<&Bound<'_, PyAny>>,
        _trace: Option<&Bound<'_, PyAny>>,
    ) {
        let (token, request) = {
            let mut live = self.live();
            (live.token.take(), live.request.take())
        };
        if let Some(token) = token {
            Current::reset(py, token);
        }
        match (request, kind.map(|kind| kind.cast::<PyType>())) {
            (None, _) => {}
            (Some(request), None) => request.finish(),
            (Some(request), Some(Ok(kind))) => raised(request, kind),
            (Some(request), Some(Err(_))) => request.fail(),
        }
    }
}

/// Ends a request with an exception: an error of its class's name, unless nothing went wrong with the request. A process
/// that is being stopped says nothing about it; what else is no `Exception` is a cancellation, or a generator's early end.
fn raised(request: perfwatch_sdk::Request, kind: &Bound<'_, PyType>) {
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
#[pyclass(frozen, module = "perfwatch", freelist = 64)]
pub(crate) struct StageScope {
    request: Py<Request>,
    stage: Option<Stage>,
}

#[pymethods]
impl StageScope {
    fn __enter__(&self, py: Python<'_>) -> Py<Request> {
        if let Some(stage) = self.stage {
            self.request.get().begin(stage);
        }
        self.request.clone_ref(py)
    }

    #[pyo3(signature = (_kind=None, _error=None, _trace=None, /))]
    fn __exit__(
        &self,
        _kind: Option<&Bound<'_, PyAny>>,
        _error: Option<&Bound<'_, PyAny>>,
        _trace: Option<&Bound<'_, PyAny>>,
    ) {
        if let Some(stage) = self.stage {
            self.request.get().end(stage);
        }
    }
}
