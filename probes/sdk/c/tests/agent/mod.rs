//! An agent that acknowledges everything and adds it up.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use perfwatch_wire::message::{Ack, Flush, Welcome, client_message};
use perfwatch_wire::{AgentMessage, ClientMessage, FrameReader, encode};
use prost::Message as _;

/// What one session told.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) service: String,
    pub(crate) started: u64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    pub(crate) abandoned: u64,
    pub(crate) cancelled: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    /// Read, and generated.
    pub(crate) tokens: (u64, u64),
    /// Hits, and misses.
    pub(crate) cache: (u64, u64),
    /// Of the slow requests that had one.
    pub(crate) trace_ids: Vec<Vec<u8>>,
    pub(crate) dispatches: u64,
    pub(crate) stages: Vec<String>,
    pub(crate) histograms: BTreeMap<String, Distribution>,
}

/// A histogram's totals.
#[derive(Debug, Default)]
pub(crate) struct Distribution {
    pub(crate) count: u64,
    pub(crate) sum: u64,
    pub(crate) unit: String,
}

impl Seen {
    fn add(&mut self, flush: Flush) {
        self.started += flush.requests_started;
        self.completed += flush.requests_completed;
        self.failed += flush.requests_failed;
        self.abandoned += flush.requests_abandoned;
        self.cancelled += flush.requests_cancelled;
        for error in flush.errors {
            *self.errors.entry(error.kind).or_default() += error.count;
        }
        self.tokens = (self.tokens.0 + flush.prompt_tokens, self.tokens.1 + flush.generated_tokens);
        self.cache = (self.cache.0 + flush.cache_hits, self.cache.1 + flush.cache_misses);
        self.trace_ids.extend(flush.slow.into_iter().map(|slow| slow.trace_id).filter(|id| !id.is_empty()));
        self.dispatches += flush.dispatches;
        self.stages = flush.stages.into_iter().map(|stage| stage.name).collect();
        for histogram in flush.histograms.into_iter().filter(|histogram| histogram.stage.is_none()) {
            let known = self.histograms.entry(histogram.name).or_default();
            known.count += histogram.counts.iter().sum::<u64>();
            known.sum += histogram.sum;
            known.unit = histogram.unit;
        }
    }
}

/// Listens for one session.
pub(crate) struct Agent {
    pub(crate) socket: PathBuf,
    thread: JoinHandle<Seen>,
}

impl Agent {
    pub(crate) fn listen(folder: &Path) -> Self {
        let socket = folder.join("probe.sock");
        let listener = UnixListener::bind(&socket).expect("a free path");
        Self { socket, thread: std::thread::spawn(move || serve(&listener)) }
    }

    /// Everything the session told, once its process is gone.
    pub(crate) fn seen(self) -> Seen {
        self.thread.join().expect("a well-behaved client")
    }
}

fn serve(listener: &UnixListener) -> Seen {
    let (mut stream, _) = listener.accept().expect("a connection");
    stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a valid timeout");
    let (mut reader, mut seen, mut buffer) = (FrameReader::new(), Seen::default(), vec![0; 65_536]);
    loop {
        while let Some(frame) = reader.next().expect("well-formed") {
            let answer = match ClientMessage::decode(frame).expect("a message").body {
                Some(client_message::Body::Hello(hello)) => {
                    seen.service = hello.service;
                    AgentMessage::from(Welcome { protocol: 1, max_series: 256, ..Welcome::default() })
                }
                Some(client_message::Body::Flush(flush)) => {
                    let seq = flush.seq;
                    seen.add(flush);
                    AgentMessage::from(Ack { seq, ..Ack::default() })
                }
                None => panic!("an unknown message"),
            };
            // The client may have closed right after its last flush.
            if stream.write_all(&encode(&answer)).is_err() {
                return seen;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return seen,
            Ok(length) => reader.push(&buffer[..length]),
        }
    }
}
