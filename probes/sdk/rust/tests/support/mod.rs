//! An agent that acknowledges everything and tells in the end what it got.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use perfwatch_sdk::Stage;
use perfwatch_wire::message::{Ack, Flush, Welcome, client_message};
use perfwatch_wire::{AgentMessage, ClientMessage, FrameReader, encode};
use prost::Message as _;

pub(crate) struct Agent {
    pub(crate) socket: PathBuf,
    thread: JoinHandle<Vec<Flush>>,
    _folder: tempfile::TempDir,
}

impl Agent {
    /// Serves one connection, until it is closed. `begin` runs on its thread first.
    pub(crate) fn start(begin: impl FnOnce() + Send + 'static) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("probe.sock");
        let listener = UnixListener::bind(&socket).expect("a free path");
        let thread = std::thread::spawn(move || {
            begin();
            serve(&listener)
        });
        Self { socket, thread, _folder: folder }
    }

    /// What came, once the server is closed.
    pub(crate) fn flushes(self) -> Vec<Flush> {
        self.thread.join().expect("no panic")
    }
}

/// A counter over all flushes.
pub(crate) fn sum(flushes: &[Flush], field: fn(&Flush) -> u64) -> u64 {
    flushes.iter().map(field).sum()
}

/// Requests that failed, by kind.
pub(crate) fn kinds(flushes: &[Flush]) -> Vec<(String, u64)> {
    let mut kinds = BTreeMap::<_, u64>::new();
    for error in flushes.iter().flat_map(|flush| &flush.errors) {
        *kinds.entry(error.kind.clone()).or_default() += error.count;
    }
    kinds.into_iter().collect()
}

/// How many values a distribution has.
pub(crate) fn values(flushes: &[Flush], name: &str, stage: Option<Stage>) -> u64 {
    let stage = stage.map(|stage| stage.index() as u32);
    let all = flushes.iter().flat_map(|flush| &flush.histograms);
    all.filter(|known| known.name == name && known.stage == stage).flat_map(|known| &known.counts).sum()
}

fn serve(listener: &UnixListener) -> Vec<Flush> {
    let (mut stream, _) = listener.accept().expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a valid timeout");
    let (mut reader, mut flushes, mut buffer) = (FrameReader::new(), Vec::new(), vec![0; 65_536]);
    loop {
        while let Some(frame) = reader.next().expect("well-formed") {
            let answer = match ClientMessage::decode(frame).expect("a message").body {
                Some(client_message::Body::Hello(_)) => {
                    AgentMessage::from(Welcome { protocol: 1, max_series: 256, ..Welcome::default() })
                }
                Some(client_message::Body::Flush(flush)) => {
                    assert_eq!(perfwatch_wire::validate::flush(&flush), Ok(()));
                    let seq = flush.seq;
                    flushes.push(flush);
                    AgentMessage::from(Ack { seq, durable_seq: Some(seq) })
                }
                None => panic!("an unknown message"),
            };
            // The client may have closed right after its last flush.
            if stream.write_all(&encode(&answer)).is_err() {
                return flushes;
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return flushes,
            Ok(length) => reader.push(&buffer[..length]),
        }
    }
}
