//! OTLP from servers that are instrumented already: metrics and traces in, servers with latency, stages and requests out.
//!
//! gRPC is always served on `otlp.sock` in the runtime folder; gRPC and HTTP (protobuf, and JSON) on addresses of loopback
//! when `intake.grpc` and `intake.http` say so (`intake.reach = "network"` lifts the limit to loopback; there is neither
//! encryption nor authentication). Logs are not taken, nor what an agent exports itself, which would go round for ever.
//!
//! # Senders
//!
//! | | |
//! |---|---|
//! | vLLM | `OTEL_EXPORTER_OTLP_TRACES_INSECURE=true vllm serve … --otlp-traces-endpoint unix:///run/perfwatch/otlp.sock`; it traces every request unless `OTEL_TRACES_SAMPLER` says otherwise: `intake.sampling = 1` |
//! | Triton | speaks HTTP only: `intake.http = "127.0.0.1:4318"`, and `--trace-config mode=opentelemetry --trace-config opentelemetry,url=http://127.0.0.1:4318/v1/traces --trace-config level=TIMESTAMPS --trace-config rate=1`; it traces one request in `rate`, 1,000 unless told: `intake.sampling = 1` with the 1 above |
//! | any SDK | `OTEL_EXPORTER_OTLP_ENDPOINT=unix:///run/perfwatch/otlp.sock` with gRPC, where the SDK can (Python, Go, Rust), else an address of loopback |
//!
//! # Servers
//!
//! A resource is a server: `service.name`, and the first there is of `service.instance.id`, `process.pid`, `k8s.pod.name`,
//! `container.id`, `host.name` and the pid at the other end of the socket. Its kind is `vllm`, `triton`, `sglang`, `tgi` or
//! `llama.cpp` where its names, scopes or metrics give it away, else `otlp`. Over the socket it is joined to its process,
//! unless it says that it is another one (a collector passes it on). A server that uses the SDK as well keeps the SDK's
//! requests and stages, which are exact; its metrics are added to it.
//!
//! # Metrics
//!
//! | sent | kept |
//! |---|---|
//! | gauge; up-down counter (delta and cumulative) | a value in the tick in which it came |
//! | counter, delta | the running total, each tick; a repeated export counts once; what comes after a later point is refused |
//! | counter, cumulative | what it gained since this agent knows it, which begins at 0 whatever the sender's total is by then, with each agent and when a server comes back that was forgotten; after a restart of the sender it goes on from where it was |
//! | explicit histogram | what was gained, in the sender's own bounds |
//! | exponential histogram | what was gained: in perfwatch's buckets where values are integers inside (times, bytes, counts), else in the sender's edges |
//! | summary | refused: quantiles cannot be added up |
//!
//! Of a total that is older than the agent, the first point is the baseline, and so the totals of two agents, one after the
//! other, add up to what the sender counted while one of them ran. By its start time a total is younger than the agent, or
//! than the last word of a forgotten server: then all of it was gained. Times become seconds whatever they came in; integers
//! stay integers where the unit allows it. Refused as absurd are counters and sums beyond 2^100, distributions of more than
//! 2^48 values, and exponential buckets in which no number can be.
//! `gen_ai.server.request.duration`, `http.server.request.duration` and `rpc.server.call.duration` count requests (with
//! `error.type` or a status from 500: failed), and give the latency where there are no traces;
//! `http.server.active_requests` is what is inside. They go before traces, which may be sampled.
//!
//! # Traces
//!
//! | span | request | stages |
//! |---|---|---|
//! | with `gen_ai.latency.*` (vLLM's `llm_request`) | `e2e`, else its length | `time_in_queue` → `queue`, `time_in_model_prefill` → `prefill`, `time_in_model_decode` → `decode`; without these `time_in_model_inference` or `…_execute` → `compute` |
//! | Triton's `InferRequest` | its length | `HTTP_SEND_START`…`END`, `GRPC_SEND_…` → `send` |
//! | Triton's model | | `QUEUE_START` to the start of its computation → `queue` |
//! | Triton's `compute` | | `COMPUTE_START`…`INPUT_END` and `OUTPUT_START`…`COMPUTE_END` → `transfer`, between them → `compute` |
//! | kind SERVER or CONSUMER, parent not in this process | its length | |
//! | `gen_ai.operation.name` chat, `text_completion`, `generate_content`, embeddings; kind CLIENT or INTERNAL | when INTERNAL and without a parent | `compute` |
//! | with `perfwatch.stage` | | that stage |
//! | with `db.system.name` | | `data_load` |
//! | kind INTERNAL; last part of the name is a stage's, or `tokenize`, `predict`, `inference` … | | that stage |
//!
//! A server with requests of vLLM's or Triton's kind has no others: its HTTP server's spans would be the same ones again.
//!
//! A stage's time is its span's less that of the stages right below it in the same message. Where what is above a stage came
//! in another message, its time may be in that one's as well: the ledger is `inferred` from then on. Requests and stages enter
//! the tick in which their spans arrive. `gen_ai.latency.time_to_first_token` becomes `gen_ai.server.time_to_first_token`.
//!
//! The ledger is that of the requests that ended: exact (`scraped`) when every request is traced, else `inferred`. Whether
//! it is, a span says by its `tracestate` (`ot=th:…`), or the setting `intake.sampling`; while nothing says it, requests are
//! not counted, and the snapshot says why.
//!
//! # Limits
//!
//! 4 MiB a message, unpacked, and 500,000 parts of it; 16 MiB of messages on their way in per listener, which a message has
//! 30 seconds for; 8 messages decoded at a time; 256 connections per listener; 20,000 points and spans a second with bursts of
//! five seconds, where metrics, scopes and resources without any count as one; 256 servers, forgotten after ten minutes of
//! silence; 2,000 series of a server and 10,000 of all, of which a distribution counts for one more with every 64 buckets;
//! 1,024 metrics; 512 attribute keys; 32 attributes.
//!
//! Beyond the limits of series, deltas go to a series `otel.metric.overflow` and totals are refused. What is refused is
//! counted in a partial success, and in `perfwatch.agent.dropped` by reason: `otlp_rejected` (malformed, or nothing here can
//! hold it), `otlp_series` (beyond the limits of series), `otlp_deferred` (requests told to come again). Too much at a time,
//! or a tick that does not close, is UNAVAILABLE with the time to wait: in `RetryInfo` over gRPC, in `Retry-After` with status
//! 503 over HTTP. A message that is no OTLP, or too large, is `INVALID_ARGUMENT` (`OUT_OF_RANGE`), over HTTP 400, 413, or 415
//! for another content type than `application/x-protobuf` and `application/json`, or another encoding than `gzip`.

mod arrival;
mod authority;
mod book;
mod bulk;
mod codec;
mod exponential;
mod gate;
mod grpc;
mod http;
mod inlet;
mod json;
mod listen;
mod metered;
mod metrics;
mod names;
mod resource;
mod sampling;
mod server;
mod spans;
mod stream;
#[cfg(test)]
mod tests;
mod traced;
mod units;
mod watch;

use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use perfwatch_model::snapshot::ServerView;
use perfwatch_model::{Clock, EntityId, SeriesTable, Tick};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;

use crate::config::Settings;
use crate::error::Error;
use book::Book;
pub(crate) use book::Counts;
pub use inlet::{Inlet, Untaken};

/// Name of the socket in the runtime folder.
pub(crate) const SOCKET: &str = "otlp.sock";

/// Messages that are unpacked and decoded at a time, over all listeners. One is taken in within milliseconds, once all of it
/// is there: no place waits for a sender.
const MAX_MESSAGES: usize = 8;

/// What the listeners and the tick share.
struct Shared {
    book: Mutex<Book>,
    clock: Arc<dyn Clock>,
    places: Semaphore,
}

impl Shared {
    /// Waits for a place among the messages that are decoded; `None` when that takes too long.
    async fn place(&self) -> Option<SemaphorePermit<'_>> {
        let place = tokio::time::timeout(arrival::AGAIN, self.places.acquire()).await.ok()?;
        Some(place.expect("nobody closes the semaphore"))
    }

    /// Counts a message that is told to come again.
    fn defer(&self) {
        self.book().counts.deferred += 1;
    }

    /// The lock is held for one resource of one message at a time, never across a wait.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mono_ns(&self) -> u64 {
        self.clock.now().mono_ns
    }

    fn admit(&self, points: u64) -> Result<(), Duration> {
        let mono_ns = self.mono_ns();
        self.book().admit(points, mono_ns)
    }
}

/// The running intake; stops when dropped.
pub(crate) struct Intake {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
    grpc: Option<SocketAddr>,
    http: Option<SocketAddr>,
}

impl Drop for Intake {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Intake {
    /// Serves on `socket` (bound and non-blocking) and on the addresses of the settings, inside the running tokio runtime.
    ///
    /// # Errors
    /// An address is not one of loopback and was not allowed to be, or cannot be listened on.
    pub(crate) fn start(socket: UnixListener, settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let sampling = settings.intake_sampling.map(|share| share.0);
        let book = Mutex::new(Book::new(sampling, clock.now()));
        let shared = Arc::new(Shared { book, clock, places: Semaphore::new(MAX_MESSAGES) });
        let mut intake = Self { shared: Arc::clone(&shared), tasks: Vec::new(), grpc: None, http: None };
        let socket = tokio::net::UnixListener::from_std(socket)
            .map_err(|source| Error::Bind { socket: SOCKET.into(), source })?;
        intake.tasks.push(tokio::spawn(grpc::serve(listen::accepted(socket), Arc::clone(&shared))));
        if let Some(address) = settings.intake_grpc {
            let (listener, address) = crate::listen::on(address, "intake.grpc")?;
            intake.grpc = Some(address);
            intake.tasks.push(tokio::spawn(grpc::serve(listen::accepted(listener), Arc::clone(&shared))));
        }
        if let Some(address) = settings.intake_http {
            let (listener, address) = crate::listen::on(address, "intake.http")?;
            intake.http = Some(address);
            intake.tasks.push(tokio::spawn(http::serve(listener, shared)));
        }
        Ok(intake)
    }

    /// Where gRPC is served besides the socket; the port is the one that the system gave for 0.
    pub(crate) fn grpc(&self) -> Option<SocketAddr> {
        self.grpc
    }

    /// Where HTTP is served.
    pub(crate) fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Appends what came to a tick. `sdk` tells whether the SDK speaks for an entity.
    pub(crate) fn close(&self, tick: &mut Tick, table: &mut SeriesTable, sdk: &impl Fn(EntityId) -> bool) {
        self.shared.book().close(tick, table, sdk);
    }

    /// Forgets servers that were silent for ten minutes.
    pub(crate) fn retire(&self, mono_ns: u64, table: &mut SeriesTable) {
        self.shared.book().retire(mono_ns, table);
    }

    /// Servers whose process is known, by what the kernel says.
    pub(crate) fn pids(&self) -> Vec<(EntityId, Vec<u32>)> {
        self.shared.book().pids()
    }

    /// Adds what only the intake knows to a server's view; views of other servers stay as they are.
    pub(crate) fn complete(&self, entity: EntityId, view: &mut ServerView) {
        let mono_ns = self.shared.mono_ns();
        self.shared.book().complete(entity, view, mono_ns);
    }

    /// What was refused since the start.
    pub(crate) fn counts(&self) -> Counts {
        self.shared.book().counts
    }
}
