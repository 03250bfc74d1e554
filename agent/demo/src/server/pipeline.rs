//! The way of a request through the server: queue, preprocess, data load, batch, compute, postprocess, send.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use perfwatch_model::Stage;
use serde::{Deserialize, Serialize};

use super::connection::{Connection, Reply};
use super::counters::{Counters, Ticket};
use super::http::{self, Status};
use super::queue::Queue;
use super::store::Store;
use super::tokenize::Tokenizer;
use crate::net::{Input, Model};

/// Labels in an answer.
const TOP: usize = 5;

/// A request on its way.
pub(super) struct Job {
    request: perfwatch_sdk::Request,
    connection: Arc<Connection>,
    sequence: u64,
    keep_alive: bool,
    body: Vec<u8>,
    input: Input,
    probabilities: Vec<f32>,
    _ticket: Ticket,
}

impl Job {
    pub(super) fn new(
        request: perfwatch_sdk::Request,
        ticket: Ticket,
        connection: Arc<Connection>,
        sequence: u64,
        body: Vec<u8>,
        keep_alive: bool,
    ) -> Self {
        let (input, probabilities) = (Input::default(), Vec::new());
        Self { request, connection, sequence, keep_alive, body, input, probabilities, _ticket: ticket }
    }

    fn answer(self, status: Status, body: &str) {
        let bytes = http::response(status, body, self.keep_alive);
        let reply = Reply { bytes, request: Some(self.request), ok: status == Status::Ok, close: !self.keep_alive };
        self.connection.reply(self.sequence, reply);
    }
}

/// The body of `POST /v1/classify`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Question<'a> {
    pub(crate) user: u64,
    #[serde(borrow)]
    pub(crate) text: std::borrow::Cow<'a, str>,
}

#[derive(Debug, Serialize)]
struct Answer {
    labels: Vec<Label>,
}

#[derive(Debug, Serialize)]
struct Label {
    label: usize,
    probability: f32,
}

/// The queues between the threads, and what the threads share.
pub(super) struct Pipeline {
    pub(super) server: perfwatch_sdk::Server,
    pub(super) counters: Arc<Counters>,
    arrived: Queue<Job>,
    ready: Queue<Job>,
    computed: Queue<Job>,
    tokenizer: Tokenizer,
    store: Store,
}

impl Pipeline {
    pub(super) fn new(server: perfwatch_sdk::Server, tokenizer: Tokenizer, store: Store) -> Self {
        let (arrived, ready, computed) = (Queue::new(), Queue::new(), Queue::new());
        Self { server, counters: Arc::default(), arrived, ready, computed, tokenizer, store }
    }

    /// Starts the threads: `loaders` that preprocess and load, one that computes, one that answers.
    pub(super) fn start(
        self: &Arc<Self>,
        loaders: usize,
        model: Model,
        max_batch: usize,
        max_wait: Duration,
    ) -> io::Result<Vec<JoinHandle<()>>> {
        let mut threads = Vec::with_capacity(loaders + 2);
        let mut start = |name: String, run: Box<dyn FnOnce(&Self) + Send>| {
            let pipeline = Arc::clone(self);
            threads.push(thread::Builder::new().name(name).spawn(move || run(&pipeline))?);
            io::Result::Ok(())
        };
        for index in 0..loaders {
            start(format!("loader-{index}"), Box::new(Self::prepare))?;
        }
        start("compute".into(), Box::new(move |pipeline| pipeline.compute(model, max_batch, max_wait)))?;
        start("answer".into(), Box::new(Self::respond))?;
        Ok(threads)
    }

    /// Takes up a request that has just been read.
    pub(super) fn accept(&self, job: Job) {
        self.arrived.push(job);
    }

    /// Ends the threads. Requests that are waiting are abandoned.
    pub(super) fn close(&self) {
        self.arrived.close();
        self.ready.close();
    }

    /// A loader thread: one request at a time, CPU work first, then the wait for its data.
    fn prepare(&self) {
        while let Some(mut job) = self.arrived.pop() {
            job.request.enter(Stage::Preprocess);
            let body = std::mem::take(&mut job.body);
            let Ok(question) = serde_json::from_slice::<Question<'_>>(&body) else {
                self.counters.failed.fetch_add(1, Relaxed);
                job.answer(Status::BadRequest, "{\"error\":\"expected {\\\"user\\\": number, \\\"text\\\": string}\"}");
                continue;
            };
            job.input.tokens = self.tokenizer.encode(&question.text);
            job.request.enter(Stage::DataLoad);
            let Ok(features) = self.store.read(question.user) else {
                self.counters.failed.fetch_add(1, Relaxed);
                job.answer(Status::Failed, "{\"error\":\"the feature store cannot be read\"}");
                continue;
            };
            job.input.features = features;
            job.request.enter(Stage::BatchWait);
            self.ready.push(job);
        }
    }

    /// The compute thread: batches of whatever is ready.
    fn compute(&self, mut model: Model, max_batch: usize, max_wait: Duration) {
        while let Some(mut batch) = self.ready.pop_batch(max_batch, max_wait) {
            for job in &mut batch.items {
                job.request.enter(Stage::Compute);
            }
            self.server.dispatch(batch.items.len() as u32, batch.ready as u32);
            self.counters.dispatch(batch.items.len(), batch.ready);
            let inputs: Vec<Input> = batch.items.iter_mut().map(|job| std::mem::take(&mut job.input)).collect();
            for (mut job, probabilities) in batch.items.into_iter().zip(model.evaluate(&inputs)) {
                job.probabilities = probabilities;
                job.request.enter(Stage::Postprocess);
                self.computed.push(job);
            }
        }
        self.computed.close();
    }

    /// The answering thread: the best labels as JSON, then out.
    fn respond(&self) {
        while let Some(job) = self.computed.pop() {
            let labels = best(&job.probabilities)
                .into_iter()
                .map(|label| Label { label, probability: job.probabilities[label] })
                .collect();
            let body = serde_json::to_string(&Answer { labels }).expect("plain numbers are always JSON");
            // Counted before the bytes leave: whoever has an answer finds it counted.
            self.counters.completed.fetch_add(1, Relaxed);
            job.answer(Status::Ok, &body);
        }
    }
}

/// The labels of the largest probabilities, best first.
fn best(probabilities: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    let by_probability = |a: &usize, b: &usize| probabilities[*b].total_cmp(&probabilities[*a]);
    if order.len() > TOP {
        order.select_nth_unstable_by(TOP, by_probability);
        order.truncate(TOP);
    }
    order.sort_unstable_by(by_probability);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_labels_come_best_first() {
        assert_eq!(best(&[0.1, 0.3, 0.05, 0.2, 0.15, 0.12, 0.08]), [1, 3, 4, 5, 0]);
        assert_eq!(best(&[0.1, 0.9]), [1, 0]);
        assert!(best(&[]).is_empty());
    }
}
