//! The way of requests to one endpoint: oldest first, one in flight, each until it is settled.
//!
//! A lane keeps nothing: whoever fills it keeps every request until the lane says that it is settled, and drops the lane at
//! the end. What it holds is a window on what waits, so that it never runs dry.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::backoff::{Backoff, RetryPolicy};
use super::outcome::{Fault, Outcome};
use super::{StartError, Transport};
use crate::config::{Signal, Target, without_query};
use crate::otlp::batch::Encoded;
use crate::otlp::bisect::halves;

/// After so many connections that ended without an answer, it is asked whether the receiver dies of this very request.
const POISONOUS: u32 = 5;
/// The same for a part of a request that was found out like this.
const POISONOUS_PART: u32 = 2;
/// Attempts at parts of one request. A receiver that refuses more than some tens of points is not to be asked for each.
const MAX_PARTS: u32 = 128;

/// A request that its receiver will never take, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What the receiver said.
    pub why: String,
    /// The request, or the part as a request.
    pub request: Encoded,
    /// It closed the connection instead of answering.
    pub unanswered: bool,
    /// The receiver takes others: what it cannot stand is in here.
    pub is_poison: bool,
}

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Items that arrived.
    pub sent: u64,
    /// Items that the receiver did not take, although it took the request.
    pub rejected: u64,
    /// The rest.
    pub refused: Vec<Refused>,
}

/// A step on a request's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An attempt begins.
    Sending,
    /// It was answered.
    Answered,
    /// It is over.
    Settled(Settled),
}

/// Told of each step: the number of the request, and which.
pub type Observer = Arc<dyn Fn(u64, Step) + Send + Sync>;

#[derive(Default)]
struct Inner {
    queue: VecDeque<(u64, Encoded)>,
    in_flight: Option<u64>,
    answered: bool,
    /// What went wrong last, until something goes right.
    trouble: Option<String>,
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

    /// The oldest request, once there is one.
    async fn next(&self) -> (u64, Encoded) {
        loop {
            {
                let mut inner = self.lock();
                if let Some((number, request)) = inner.queue.pop_front() {
                    inner.in_flight = Some(number);
                    return (number, request);
                }
            }
            self.wake.notified().await;
        }
    }
}

/// A way to one endpoint, and the task that walks it.
pub struct Lane {
    endpoint: String,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Lane {
    /// A lane to a target. Connects when something is to be sent, not before.
    ///
    /// # Errors
    ///
    /// When a file for TLS cannot be used.
    pub fn start(
        target: &Target,
        signal: Signal,
        policy: RetryPolicy,
        runtime: &Handle,
        observer: Observer,
    ) -> Result<Self, StartError> {
        let transport = {
            let _within = runtime.enter();
            Transport::open(target, signal)?
        };
        let shared = Arc::new(Shared::default());
        let endpoint = without_query(&target.url).to_owned();
        let walker = Walker {
            transport,
            signal,
            policy,
            shared: Arc::clone(&shared),
            endpoint: endpoint.clone(),
            observer,
            refuses_everything: false,
        };
        Ok(Self { endpoint, shared, task: runtime.spawn(walker.walk()) })
    }

    /// Adds a request behind those that wait. Never waits.
    pub fn push(&self, number: u64, request: Encoded) {
        self.shared.lock().queue.push_back((number, request));
        self.shared.wake.notify_one();
    }

    /// Takes a request back that waits; false when it is in flight, or not here.
    pub fn withdraw(&self, number: u64) -> bool {
        let mut inner = self.shared.lock();
        let before = inner.queue.len();
        inner.queue.retain(|(known, _)| *known != number);
        inner.queue.len() < before
    }

    /// Requests that wait here and their bytes; the one in flight is not among them.
    pub fn waiting(&self) -> (usize, usize) {
        let inner = self.shared.lock();
        (inner.queue.len(), inner.queue.iter().map(|(_, request)| request.body.len()).sum())
    }

    /// Where it goes, without a query.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// `ok`, `waiting` before the first answer, or what went wrong last.
    pub fn state(&self) -> String {
        let inner = self.shared.lock();
        match &inner.trouble {
            Some(trouble) => trouble.clone(),
            None if !inner.answered => "waiting".to_owned(),
            None => "ok".to_owned(),
        }
    }

    /// True while something is wrong.
    pub fn is_troubled(&self) -> bool {
        self.shared.lock().trouble.is_some()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What became of a part.
enum End {
    Accepted { rejected: u64, message: String },
    Refused { why: String, divisible: bool, unanswered: bool },
}

struct Walker {
    transport: Transport,
    signal: Signal,
    policy: RetryPolicy,
    shared: Arc<Shared>,
    endpoint: String,
    observer: Observer,
    /// The last request that was taken apart was refused in every part: it is not the points.
    refuses_everything: bool,
}

impl Walker {
    async fn walk(mut self) {
        loop {
            let (number, request) = self.shared.next().await;
            let settled = self.settle(number, request).await;
            self.shared.lock().in_flight = None;
            (self.observer)(number, Step::Settled(settled));
        }
    }

    /// Sends a request until every part of it is taken or refused.
    async fn settle(&mut self, number: u64, request: Encoded) -> Settled {
        let mut settled = Settled::default();
        let (mut parts, mut taken_apart) = (vec![request], 0);
        while let Some(part) = parts.pop() {
            match self.deliver(number, &part, taken_apart > 0).await {
                End::Accepted { rejected, message } => {
                    let rejected = rejected.min(part.items);
                    settled.sent += part.items - rejected;
                    settled.rejected += rejected;
                    self.refuses_everything = false;
                    let trouble = (rejected > 0 || !message.is_empty())
                        .then(|| format!("the receiver rejected {rejected} of {} items: {message}", part.items));
                    self.report(trouble);
                }
                End::Refused { why, divisible, unanswered } => {
                    let may_divide = divisible && !self.refuses_everything && taken_apart < MAX_PARTS;
                    if may_divide && let Some([first, second]) = halves(self.signal, &part) {
                        taken_apart += 2;
                        parts.extend([second, first]);
                        continue;
                    }
                    self.report(Some(format!("refused: {why}")));
                    settled.refused.push(Refused { why, request: part, unanswered, is_poison: divisible });
                }
            }
        }
        if settled.sent == 0 && taken_apart > 0 {
            self.refuses_everything = true;
        }
        if self.refuses_everything {
            settled.refused.iter_mut().for_each(|refused| refused.is_poison = false);
        }
        settled
    }

    async fn deliver(&self, number: u64, part: &Encoded, is_part: bool) -> End {
        let Some(body) = self.transport.prepare(part.body.clone()) else {
            return End::Refused { why: "it cannot be read any more".into(), divisible: false, unanswered: false };
        };
        let mut backoff = Backoff::new(self.policy);
        let mut closed = 0;
        loop {
            (self.observer)(number, Step::Sending);
            let outcome = self.transport.send(body.clone()).await;
            (self.observer)(number, Step::Answered);
            match outcome {
                Outcome::Accepted { rejected, message } => return End::Accepted { rejected, message },
                Outcome::Refused { why, divisible } => return End::Refused { why, divisible, unanswered: false },
                Outcome::Retry { after, fault, why } => {
                    closed = if fault == Fault::Closed { closed + 1 } else { 0 };
                    let limit = if is_part { POISONOUS_PART } else { POISONOUS };
                    if closed >= limit {
                        if self.is_alive().await {
                            let why = format!("the connection was closed on it {closed} times: {why}");
                            return End::Refused { why, divisible: true, unanswered: true };
                        }
                        closed = 0;
                    }
                    self.report(Some(match fault {
                        Fault::Unreachable => format!("cannot connect: {why}"),
                        Fault::Closed => format!("connection closed without an answer: {why}"),
                        Fault::Busy => format!("trying again: {why}"),
                    }));
                    tokio::time::sleep(backoff.wait(after)).await;
                }
            }
        }
    }

    /// Whether the receiver answers a request with nothing in it, which is the same in every signal: then it is up, and what
    /// it did not answer is to blame.
    async fn is_alive(&self) -> bool {
        let Some(nothing) = self.transport.prepare(Bytes::from(crate::gzip::pack(&[]))) else { return false };
        match self.transport.send(nothing).await {
            Outcome::Accepted { .. } | Outcome::Refused { .. } => true,
            Outcome::Retry { fault, .. } => fault == Fault::Busy,
        }
    }

    /// Notes how it goes; logs when that changes, not at every attempt.
    fn report(&self, trouble: Option<String>) {
        let mut inner = self.shared.lock();
        inner.answered |= trouble.is_none();
        match (&inner.trouble, &trouble) {
            (old, Some(new)) if old.as_ref() != Some(new) => {
                tracing::warn!(endpoint = self.endpoint, trouble = new, "export has trouble");
            }
            (Some(_), None) => tracing::info!(endpoint = self.endpoint, "export works again"),
            _ => {}
        }
        inner.trouble = trouble;
    }
}
