//! Tests of the whole SDK, with time under their control and a scripted agent at the other end.

mod catch_up;
mod protocol;
mod slots;
mod totals;

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use perfwatch_wire::message::{Ack, Flush, Hello, Welcome, client_message};
use perfwatch_wire::{AgentMessage, ClientMessage, FrameReader, encode};
use prost::Message as _;

use crate::Server;
use crate::clock::Clock;
use crate::collect::{Collector, Origin};
use crate::core::Core;
use crate::flusher::Flusher;
use crate::fork;

/// A server whose clock stands at the rig's command and whose flusher has no thread.
struct Rig {
    server: Server,
    core: &'static Core,
    hand: Arc<AtomicU64>,
}

const MS: u64 = 1_000_000;
/// Tests begin here: a whole second, far from zero.
const EPOCH: u64 = 1_000_000_000_000;

impl Rig {
    fn new(socket: impl Into<PathBuf>) -> Self {
        let hand = Arc::new(AtomicU64::new(EPOCH));
        let settings = Server::builder("rig").socket(socket).max_batch_size(8).settings;
        let core = Core::leak(settings, Clock::Manual(Arc::clone(&hand)));
        Self { server: Server::of(Some(core)), core, hand }
    }

    /// Moves the clock to this many milliseconds after the beginning.
    fn at(&self, milliseconds: u64) {
        self.at_ns(milliseconds * MS);
    }

    fn at_ns(&self, nanoseconds: u64) {
        self.hand.store(EPOCH + nanoseconds, Ordering::SeqCst);
    }

    fn origin(&self) -> Origin {
        Origin::of(self.core, self.core.clock.now(), &fork::enter())
    }

    fn collector(&self) -> Collector {
        Collector::new(self.core, self.origin())
    }

    fn flusher(&self) -> Flusher {
        Flusher::new(self.core, self.origin())
    }
}

/// An agent that does what a test tells it, one step at a time.
struct Agent {
    listener: UnixListener,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Agent {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("probe.sock");
        let listener = UnixListener::bind(&path).expect("a free path");
        Self { listener, path, _folder: folder }
    }

    /// Takes the next connection and reads its handshake.
    fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a valid timeout");
        let mut peer = Peer { stream, reader: FrameReader::new(), hello: Hello::default() };
        match peer.read() {
            Some(client_message::Body::Hello(hello)) => peer.hello = hello,
            other => panic!("expected a handshake, got {other:?}"),
        }
        peer
    }
}

struct Peer {
    stream: UnixStream,
    reader: FrameReader,
    hello: Hello,
}

impl Peer {
    fn read(&mut self) -> Option<client_message::Body> {
        loop {
            if let Some(frame) = self.reader.next().expect("well-formed") {
                return ClientMessage::decode(frame).expect("a message").body;
            }
            let mut buffer = vec![0; 65_536];
            // A client that closes without reading its last receipt resets the connection.
            let length = match self.stream.read(&mut buffer) {
                Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
                read => read.expect("the client speaks or closes"),
            };
            if length == 0 {
                return None;
            }
            self.reader.push(&buffer[..length]);
        }
    }

    fn flush(&mut self) -> Flush {
        match self.read() {
            Some(client_message::Body::Flush(flush)) => {
                assert_eq!(perfwatch_wire::validate::flush(&flush), Ok(()));
                flush
            }
            other => panic!("expected a flush, got {other:?}"),
        }
    }

    fn say(&mut self, message: &AgentMessage) {
        self.send(&encode(message));
    }

    fn send(&mut self, bytes: &[u8]) {
        // A client that closes does not wait for the receipt of its last flush.
        match self.stream.write_all(bytes) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            written => written.expect("the client listens"),
        }
    }

    fn welcome(&mut self, last_committed_seq: u64) {
        self.say(&AgentMessage::from(Welcome {
            protocol: 1,
            last_committed_seq,
            max_message_bytes: 1 << 20,
            max_series: 256,
            max_messages_per_second: 20,
            catch_up: false,
            durable_seq: None,
        }));
    }

    fn ack(&mut self, seq: u64) {
        self.say(&AgentMessage::from(Ack { seq, durable_seq: None }));
    }
}
