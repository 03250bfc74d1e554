//! One destination: a bounded queue, one request in flight, oldest first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::backoff::{Backoff, RetryPolicy};
use super::outcome::{Fault, Outcome};
use super::{StartError, Transport};
use crate::config::{Signal, Target, without_query};
use crate::otlp::batch::Encoded;

/// Requests that wait; when full, the oldest goes. At an export each 10 s this outlasts an outage of ten minutes, in some
/// megabytes.
pub(crate) const QUEUE: usize = 64;
/// After so many connections that ended without an answer, a request is given up: some receivers die of what they read,
/// and would of every repetition.
const POISONOUS: u32 = 5;

/// Why items were not delivered.
pub(crate) mod reason {
    /// The queue was full.
    pub(crate) const OVERFLOW: &str = "export_queue_full";
    /// The receiver refused the whole request.
    pub(crate) const REFUSED: &str = "export_refused";
    /// The receiver took the request but not these items.
    pub(crate) const REJECTED: &str = "export_rejected";
    /// The receiver closed the connection on it again and again.
    pub(crate) const POISON: &str = "export_no_answer";
    /// The agent stopped first.
    pub(crate) const SHUTDOWN: &str = "export_shutdown";
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<Encoded>,
    in_flight: u64,
    closed: bool,
    sent: u64,
    dropped: BTreeMap<&'static str, u64>,
    /// What went wrong last, until something goes right.
    trouble: Option<String>,
}

impl Inner {
    fn drop_items(&mut self, reason: &'static str, items: u64) {
        if items > 0 {
            *self.dropped.entry(reason).or_default() += items;
        }
    }
}

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    wake: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest request, once there is one; `None` when closed and empty.
    async fn next(&self) -> Option<Encoded> {
        loop {
            {
                let mut inner = self.lock();
                if let Some(next) = inner.queue.pop_front() {
                    inner.in_flight = next.items;
                    return Some(next);
                }
                if inner.closed {
                    return None;
                }
            }
            self.wake.notified().await;
        }
    }
}

/// A destination and the task that sends to it.
pub(crate) struct Sender {
    endpoint: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Sender {
    pub(crate) fn start(
        target: &Target,
        signal: Signal,
        policy: RetryPolicy,
        runtime: &Handle,
    ) -> Result<Self, StartError> {
        let transport = {
            let _within = runtime.enter();
            Transport::open(target, signal)?
        };
        let shared = Arc::new(Shared::default());
        let endpoint = without_query(&target.url).to_owned();
        let run = run(transport, Arc::clone(&shared), policy, endpoint.clone());
        Ok(Self { endpoint, shared, task: runtime.spawn(run) })
    }

    /// Queues a request. Never waits.
    pub(crate) fn offer(&self, request: Encoded) {
        {
            let mut inner = self.shared.lock();
            inner.queue.push_back(request);
            while inner.queue.len() > QUEUE {
                let oldest = inner.queue.pop_front().map_or(0, |oldest| oldest.items);
                inner.drop_items(reason::OVERFLOW, oldest);
            }
        }
        self.shared.wake.notify_one();
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// `ok`, `waiting` before the first answer, or what went wrong last.
    pub(crate) fn state(&self) -> String {
        let inner = self.shared.lock();
        match &inner.trouble {
            Some(trouble) => trouble.clone(),
            None if inner.sent == 0 => "waiting".to_owned(),
            None => "ok".to_owned(),
        }
    }

    /// Items that the receiver took.
    pub(crate) fn sent(&self) -> u64 {
        self.shared.lock().sent
    }

    /// Items that were not delivered, by reason.
    pub(crate) fn dropped(&self) -> BTreeMap<&'static str, u64> {
        self.shared.lock().dropped.clone()
    }

    /// Takes no more and sends what waits, within a time; the rest is dropped and counted.
    pub(crate) async fn finish(&mut self, within: Duration) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
        if tokio::time::timeout(within, &mut self.task).await.is_err() {
            self.task.abort();
        }
        let mut inner = self.shared.lock();
        let left =
            std::mem::take(&mut inner.in_flight) + inner.queue.drain(..).map(|request| request.items).sum::<u64>();
        inner.drop_items(reason::SHUTDOWN, left);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(transport: Transport, shared: Arc<Shared>, policy: RetryPolicy, endpoint: String) {
    while let Some(request) = shared.next().await {
        deliver(&transport, &shared, policy, &endpoint, request).await;
        shared.lock().in_flight = 0;
    }
}

/// Sends one request until it is taken or must be given up.
async fn deliver(transport: &Transport, shared: &Shared, policy: RetryPolicy, endpoint: &str, request: Encoded) {
    let items = request.items;
    let body = transport.prepare(request.body);
    let mut backoff = Backoff::new(policy);
    let mut closed = 0;
    loop {
        match transport.send(body.clone()).await {
            Outcome::Accepted { rejected, message } => {
                let mut inner = shared.lock();
                let rejected = rejected.min(items);
                inner.sent += items - rejected;
                inner.drop_items(reason::REJECTED, rejected);
                let trouble = (rejected > 0 || !message.is_empty())
                    .then(|| format!("the receiver rejected {rejected} of {items} items: {message}"));
                report(&mut inner, endpoint, trouble);
                return;
            }
            Outcome::Refused { why } => {
                let mut inner = shared.lock();
                inner.drop_items(reason::REFUSED, items);
                report(&mut inner, endpoint, Some(format!("refused: {why}")));
                return;
            }
            Outcome::Retry { after, fault, why } => {
                closed += u32::from(fault == Fault::Closed);
                let wait = {
                    let mut inner = shared.lock();
                    if closed == POISONOUS {
                        inner.drop_items(reason::POISON, items);
                        report(&mut inner, endpoint, Some(format!("given up after {POISONOUS} attempts: {why}")));
                        return;
                    }
                    let trouble = match fault {
                        Fault::Unreachable => format!("cannot connect: {why}"),
                        Fault::Closed => format!("connection closed without an answer: {why}"),
                        Fault::Busy => format!("trying again: {why}"),
                    };
                    report(&mut inner, endpoint, Some(trouble));
                    backoff.wait(after)
                };
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// Notes how it goes; logs when that changes, not at every attempt.
fn report(inner: &mut Inner, endpoint: &str, trouble: Option<String>) {
    match (&inner.trouble, &trouble) {
        (old, Some(new)) if old.as_ref() != Some(new) => {
            tracing::warn!(endpoint, trouble = new, "export has trouble");
        }
        (Some(_), None) => tracing::info!(endpoint, "export works again"),
        _ => {}
    }
    inner.trouble = trouble;
}
