//! The handle that a model server holds.

use std::path::PathBuf;

use perfwatch_sdk::{Stage, Status, Unit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::argument::{Count, Text};
use crate::fork::Used;
use crate::histogram::Histogram;
use crate::request::Request;
use crate::told;

/// A model server that perfwatch watches.
///
/// Starting never fails and recording never blocks; without an agent beside the server the numbers wait in a few KiB.
/// Any thread may use it. After a fork each child counts for itself; workers of one parent are shown as one server.
///
/// service: what the server is called, at most 128 bytes.
/// instance: which of the service's instances; workers that give the same are one server. Default: found out.
/// `max_batch_size`: requests the server puts into one batch at most; 0: not declared.
/// config: settings that a finding may name; no secrets, they are shown as they are. At most 64 leave.
/// socket: path of the agent's probe socket, instead of the usual places.
/// `flush_at_exit`: at the interpreter's exit, wait for the agent's receipt of what is left: up to 1.5 s where an agent
/// is, no time where none is.
///
/// A pickled one is made anew, of the same arguments, where it arrives: in a process that was spawned, say. A copy is the
/// same one.
#[pyclass(frozen, module = "perfwatch")]
pub(crate) struct Server {
    pub(crate) inner: perfwatch_sdk::Server,
    pub(crate) used: Used,
    /// What it was made of.
    service: String,
    keywords: Py<PyDict>,
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (service, *, instance=None, max_batch_size=None, config=None, socket=None, flush_at_exit=true))]
    fn new(
        py: Python<'_>,
        service: Text<'_>,
        instance: Option<Text<'_>>,
        max_batch_size: Option<Count>,
        config: Option<Bound<'_, PyAny>>,
        socket: Option<Bound<'_, PyAny>>,
        flush_at_exit: bool,
    ) -> PyResult<Py<Self>> {
        let service = service.0.filter(|name| !name.is_empty()).unwrap_or_else(|| {
            told::once(py, "a server's name is a str that is not empty; this one is called unnamed");
            "unnamed".into()
        });
        let name = service.clone().into_owned();
        let keywords = PyDict::new(py);
        keywords.set_item("instance", instance.as_ref().and_then(|text| text.0.as_deref()))?;
        keywords.set_item("max_batch_size", max_batch_size.as_ref().and_then(|count| count.0))?;
        keywords.set_item("config", &config)?;
        keywords.set_item("socket", &socket)?;
        keywords.set_item("flush_at_exit", flush_at_exit)?;
        let keywords = keywords.unbind();
        let mut builder = perfwatch_sdk::Server::builder(service).on_status(report);
        if let Some(instance) = instance.and_then(|text| text.0) {
            builder = builder.instance(instance);
        }
        if let Some(most) = max_batch_size.and_then(|count| count.0) {
            builder = builder.max_batch_size(most.min(u64::from(u32::MAX)) as u32);
        }
        if let Some(config) = config {
            match settings(&config) {
                Ok(settings) => {
                    builder = settings.into_iter().fold(builder, |builder, (key, value)| builder.config(key, value));
                }
                Err(error) => told::once(py, &format!("config is a dict; it was left out: {error}")),
            }
        }
        if let Some(socket) = socket {
            match socket.extract::<PathBuf>() {
                Ok(path) => builder = builder.socket(path),
                Err(error) => told::once(py, &format!("socket is a path; the usual places are tried instead: {error}")),
            }
        }
        let server = Py::new(py, Self { inner: builder.start(), used: Used::now(), service: name, keywords })?;
        if flush_at_exit {
            // Without atexit (an embedded interpreter) the last second is lost, as when the process is killed.
            let _ =
                py.import("atexit").and_then(|atexit| atexit.call_method1("register", (server.getattr(py, "close")?,)));
        }
        Ok(server)
    }

    /// A request arrived; it is in the given stage, or in `other`, until it enters another.
    ///
    /// Use it in a `with` statement, which also makes it the current request of the thread or asyncio task: it finishes
    /// at the end, fails on an `Exception` (of its name), and is cancelled when its task or generator is.
    #[pyo3(signature = (stage=None))]
    fn request(slf: Bound<'_, Self>, stage: Option<Text<'_>>) -> Request {
        let server = slf.get();
        server.used.mark();
        let mut request = server.inner.request();
        if let Some(name) = stage.and_then(|text| text.0) {
            request.enter(server.stage(&name));
        }
        Request::new(request, slf.unbind())
    }

    /// A batch of `size` requests was executed, formed when `ready` requests were waiting for it in stage `batch_wait`.
    /// `ready` tells a server that cannot batch from one that need not.
    #[pyo3(signature = (size, ready=Count(Some(1))), text_signature = "($self, size, ready=1)")]
    fn dispatch(&self, py: Python<'_>, size: Count, ready: Count) {
        let (Some(size), Some(ready)) = (size.0, ready.0) else {
            return told::once(py, "dispatch takes two numbers of requests; a call was ignored");
        };
        self.used.mark();
        let most = u64::from(u32::MAX);
        self.inner.dispatch(size.min(most) as u32, ready.min(most) as u32);
    }

    /// A look-up in a cache (of results, prefixes, embeddings) was answered from it.
    fn cache_hit(&self) {
        self.used.mark();
        self.inner.cache_hit();
    }

    /// A look-up in a cache was not answered from it.
    fn cache_miss(&self) {
        self.used.mark();
        self.inner.cache_miss();
    }

    /// A handle to a distribution of the server's own, as `llm.prompt_length`. Get it once, record often.
    ///
    /// unit: "s" (record seconds as float; kept in nanoseconds), "By", "{token}", "{request}" or "{item}" (record integers).
    /// The same name gives the same distribution, and the unit given first holds.
    #[pyo3(signature = (name, unit=Text(None)), text_signature = "($self, name, unit='s')")]
    fn histogram(slf: Bound<'_, Self>, name: Text<'_>, unit: Text<'_>) -> Histogram {
        let (py, server) = (slf.py(), slf.get());
        let unit = match unit.0.as_deref() {
            None | Some("s") => Unit::Seconds,
            Some("By") => Unit::Bytes,
            Some("{token}") => Unit::Count("{token}"),
            Some("{request}") => Unit::Count("{request}"),
            Some("{item}") => Unit::Count("{item}"),
            Some(other) => {
                told::once(
                    py,
                    &format!("a unit is s, By, {{token}}, {{request}} or {{item}}; {other} is taken for {{item}}"),
                );
                Unit::Count("{item}")
            }
        };
        let name = name.0.unwrap_or_else(|| {
            told::once(py, "a histogram's name is a str; this one is called unnamed");
            "unnamed".into()
        });
        Histogram::new(server.inner.histogram(&name, unit), name.into_owned(), unit, slf.unbind())
    }

    /// What became of the connection to the agent: "disabled", "starting", "connected", "no agent", "permission denied",
    /// "refused", "no thread" or "closed".
    #[getter]
    fn status(&self) -> &'static str {
        match self.inner.status() {
            Status::Disabled => "disabled",
            Status::Starting => "starting",
            Status::Connected(_) => "connected",
            Status::NoAgent => "no agent",
            Status::PermissionDenied(_) => "permission denied",
            Status::Refused(_) => "refused",
            Status::NoThread(_) => "no thread",
            Status::Closed => "closed",
        }
    }

    /// Sends everything up to now and waits up to 4 s for the agent's receipt; true when the agent has it. Other threads
    /// run meanwhile.
    fn flush(&self, py: Python<'_>) -> bool {
        // In a child that never used the server there is nothing to send, and nobody who would.
        !self.used.here() || py.detach(|| self.inner.flush_now())
    }

    /// Sends what is left as `flush` does, and ends the server's thread. A second call does nothing.
    fn close(&self, py: Python<'_>) -> bool {
        !self.used.here() || py.detach(|| self.inner.clone().close())
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) {
        self.close(py);
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, ())> {
        let (py, server) = (slf.py(), slf.get());
        let partial = py.import("functools")?.getattr("partial")?;
        Ok((partial.call((slf.get_type(), &server.service), Some(server.keywords.bind(py)))?, ()))
    }

    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
}

impl Server {
    pub(crate) fn stage(&self, name: &str) -> Stage {
        self.inner.stage(name)
    }
}

fn settings(config: &Bound<'_, PyAny>) -> PyResult<Vec<(String, String)>> {
    let items = config.call_method0("items")?;
    items
        .try_iter()?
        .map(|item| {
            let (key, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item?.extract()?;
            Ok((key.str()?.to_string_lossy().into_owned(), value.str()?.to_string_lossy().into_owned()))
        })
        .collect()
}

/// Logs what an administrator has to mend. Called from the flusher's thread; an interpreter on its way out is left alone.
fn report(status: &Status) {
    let text = match status {
        Status::PermissionDenied(path) => {
            format!(
                "the agent's socket {} is not for this user: join its group, or start the agent with --socket-mode",
                path.display()
            )
        }
        Status::Refused(reason) => format!("the agent refused this server: {reason}"),
        Status::NoThread(error) => format!("no thread could be started, so nothing is sent: {error}"),
        _ => return,
    };
    Python::try_attach(|py| told::once(py, &text));
}
