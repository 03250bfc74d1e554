//! An OTLP receiver for tests: both protocols on loopback, keeps what it takes, and answers as it is told to.
//!
//! Feature `receiver`. It shares no code with the exporter but the protocol's own messages.

mod answer;
mod grpc;
mod http;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use answer::Answer;

use crate::config::Signal;

/// Everything that arrived.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Accepted metrics, in order of arrival; partially accepted ones too.
    pub metrics: Vec<ExportMetricsServiceRequest>,
    /// Accepted logs.
    pub logs: Vec<ExportLogsServiceRequest>,
    /// Accepted spans.
    pub traces: Vec<ExportTraceServiceRequest>,
    /// Every attempt, accepted or not.
    pub attempts: Vec<Attempt>,
}

impl Received {
    /// The attempts for a signal.
    pub fn attempts(&self, signal: Signal) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(move |attempt| attempt.signal == signal)
    }
}

/// One request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What it was about.
    pub signal: Signal,
    /// The encoded message, decompressed.
    pub message: Bytes,
    /// HTTP headers or gRPC metadata, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Attempt {
    /// The first header with this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct Store {
    received: Received,
    script: HashMap<Signal, VecDeque<Answer>>,
    rule: Option<Rule>,
}

/// How an attempt is answered that no script is for; `None` accepts it.
type Rule = Box<dyn Fn(&Attempt) -> Option<Answer> + Send>;

/// Shared between the servers and the test.
struct Shared {
    store: Mutex<Store>,
    arrivals: watch::Sender<u64>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an attempt and says how to answer it.
    fn arrive(&self, attempt: Attempt) -> Answer {
        let mut store = self.lock();
        let answer = store.script.get_mut(&attempt.signal).and_then(VecDeque::pop_front);
        let ruled = || store.rule.as_ref().and_then(|rule| rule(&attempt));
        let answer = answer.or_else(ruled).unwrap_or(Answer::Accept);
        store.received.attempts.push(attempt);
        drop(store);
        self.arrivals.send_modify(|count| *count += 1);
        answer
    }

    /// Keeps what was accepted, then wakes those who wait.
    fn keep(&self, keep: impl FnOnce(&mut Received)) {
        keep(&mut self.lock().received);
        self.arrivals.send_modify(|count| *count += 1);
    }
}

/// A running receiver; stops when dropped.
pub struct Receiver {
    shared: Arc<Shared>,
    http: SocketAddr,
    grpc: SocketAddr,
    tasks: [JoinHandle<()>; 2],
}

impl Receiver {
    /// Listens on two free ports of loopback. Must be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// When no socket can be had.
    pub async fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared { store: Mutex::default(), arrivals: watch::Sender::new(0) });
        let (http, grpc) = (TcpListener::bind(("127.0.0.1", 0)).await?, TcpListener::bind(("127.0.0.1", 0)).await?);
        let (http_address, grpc_address) = (http.local_addr()?, grpc.local_addr()?);
        let tasks = [
            tokio::spawn(http::serve(http, Arc::clone(&shared))),
            tokio::spawn(grpc::serve(grpc, Arc::clone(&shared))),
        ];
        Ok(Self { shared, http: http_address, grpc: grpc_address, tasks })
    }

    /// The base URL for `http/protobuf`.
    pub fn http_endpoint(&self) -> String {
        format!("http://{}", self.http)
    }

    /// The URL for `grpc`.
    pub fn grpc_endpoint(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// Answers the next requests for a signal like this, one each; then everything is accepted again.
    pub fn script(&self, signal: Signal, answers: impl IntoIterator<Item = Answer>) {
        self.shared.lock().script.entry(signal).or_default().extend(answers);
    }

    /// From now on answers what no script is for by this rule; where it says nothing, it accepts.
    pub fn rule(&self, rule: impl Fn(&Attempt) -> Option<Answer> + Send + 'static) {
        self.shared.lock().rule = Some(Box::new(rule));
    }

    /// A copy of everything that arrived so far.
    pub fn received(&self) -> Received {
        self.shared.lock().received.clone()
    }

    /// Waits until what arrived is as wanted, and returns it; `None` if it is not within half a minute.
    pub async fn wait_for(&self, wanted: impl Fn(&Received) -> bool) -> Option<Received> {
        let mut arrivals = self.shared.arrivals.subscribe();
        let wait = async {
            loop {
                let received = self.received();
                if wanted(&received) {
                    return Some(received);
                }
                arrivals.changed().await.ok()?;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.ok().flatten()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}
