//! One connection, from its handshake to its end.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use perfwatch_store::failpoint::{self, Point};
use perfwatch_wire::limits::{MAX_MESSAGE, MAX_MESSAGES_PER_SECOND, MAX_SERIES};
use perfwatch_wire::message::{
    Ack, AgentMessage, ErrorCode, Flush, Hello, Histogram, Welcome, agent_message, client_message,
};
use perfwatch_wire::{ClientMessage, FrameError, FrameReader, OLDEST_PROTOCOL, PROTOCOL, agree, encode, validate};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::pace::Pace;
use super::peer::{self, Credentials, Peer, clean};
use super::room::Share;
use super::sessions::{Receipt, Verdict};
use super::{Delivery, Event, OVERFLOW, Shared};

/// How long a client may take to introduce itself; an SDK does it at once.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a peer may leave our words unread before it is given up.
const WRITE: Duration = Duration::from_secs(5);
/// Receipts that may wait for one peer; it has one flush under way at a time.
const OUTBOX: usize = 16;
/// Read at once. Larger than nearly every flush.
const READ: usize = 16 * 1024;

/// Why a connection ends.
enum End {
    /// The peer closed, or its socket broke, between two messages.
    Closed,
    /// The peer closed in the middle of a message.
    Truncated,
    /// The peer broke the protocol and is told so.
    Told(ErrorCode, String),
    /// The same session connected anew.
    Replaced,
    /// The agent is stopping.
    Stopping,
}

/// Serves one connection.
pub(super) async fn run(stream: UnixStream, shared: &Shared) {
    let credentials = stream.peer_cred().ok().map(|peer| Credentials {
        pid: peer.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0),
        uid: peer.uid(),
        gid: peer.gid(),
    });
    let mut wire = Wire { stream, reader: FrameReader::new(), buffer: vec![0; READ], begun: None };
    let end = match timeout(HANDSHAKE, wire.hello(shared)).await {
        Ok(Ok(hello)) => {
            failpoint::pass(Point::HelloRead);
            let mut peer = Peer::new(hello, credentials);
            if peer.pid.is_none() {
                peer.pid = found(&peer).await;
            }
            serve(&mut wire, Arc::new(peer), shared).await
        }
        Ok(Err(end)) => end,
        Err(_) => End::Told(ErrorCode::OutOfTurn, "no handshake came within 5 s".into()),
    };
    let counters = &shared.counters;
    match end {
        End::Closed | End::Replaced | End::Stopping => {}
        End::Truncated => {
            counters.malformed.fetch_add(1, Relaxed);
        }
        End::Told(code, words) => {
            let counter = match code {
                ErrorCode::Malformed | ErrorCode::OutOfTurn => &counters.malformed,
                ErrorCode::Oversized => &counters.oversized,
                ErrorCode::Protocol | ErrorCode::TooManyPeers => &counters.refused,
            };
            counter.fetch_add(1, Relaxed);
            let (pid, uid) = credentials.map_or((None, None), |known| (known.pid, Some(known.uid)));
            tracing::warn!(pid, uid, reason = words, "probe peer cut off");
            wire.farewell(&code.with(words)).await;
        }
    }
}

/// The pid of a peer that the kernel does not name. Without one its requests are counted, its CPUs are not.
async fn found(peer: &Peer) -> Option<u32> {
    let hello = peer.hello.clone();
    // Reads a file per process of the machine: not on the thread that serves everybody.
    match tokio::task::spawn_blocking(move || peer::find(Path::new("/proc"), &hello)).await {
        Ok(Ok(pid)) => Some(pid),
        Ok(Err(error)) => {
            tracing::warn!(service = peer.hello.service, %error, "a server's process is not visible from here");
            None
        }
        Err(_) => None,
    }
}

/// Tells a peer that there is no place for it.
pub(super) async fn refuse(stream: UnixStream, words: &AgentMessage) {
    Wire { stream, reader: FrameReader::new(), buffer: Vec::new(), begun: None }.farewell(words).await;
}

async fn serve(wire: &mut Wire, peer: Arc<Peer>, shared: &Shared) -> End {
    let (outbox, mut inbox) = mpsc::channel(OUTBOX);
    let opened = shared.sessions.open(peer.session, outbox);
    shared.counters.connected.fetch_add(1, Relaxed);
    let welcome = Welcome {
        protocol: agree(peer.hello.protocol, peer.hello.oldest_protocol).unwrap_or(PROTOCOL),
        last_committed_seq: opened.committed,
        max_message_bytes: MAX_MESSAGE as u32,
        max_series: MAX_SERIES as u32,
        max_messages_per_second: MAX_MESSAGES_PER_SECOND,
        catch_up: shared.catch_up,
        durable_seq: shared.catch_up.then_some(opened.durable),
    };
    let mut end = None;
    if shared.events.send(Event::Joined(Arc::clone(&peer))).await.is_err() {
        end = Some(End::Stopping);
    }
    if !wire.say(&AgentMessage::from(welcome)).await {
        end = Some(End::Closed);
    }
    let mut intake = Intake {
        peer: &peer,
        shared,
        pace: Pace::new(Instant::now()),
        share: shared.room.share(),
        names: HashSet::new(),
    };
    if end.is_none() {
        // A client that does not wait for Welcome may have said more already.
        end = wire.handle(&mut intake).await.err();
    }
    let end = loop {
        if let Some(end) = end.take() {
            break end;
        }
        let deadline = wire.begun.map(|begun| begun + shared.rest);
        tokio::select! {
            // What came is read before it is called missing.
            biased;
            words = inbox.recv() => match words {
                Some(AgentMessage { body: Some(agent_message::Body::Error(error)) }) => {
                    break End::Told(ErrorCode::TooManyPeers, error.message);
                }
                Some(words) if wire.say(&words).await => {}
                Some(_) => break End::Closed,
                None => break End::Replaced,
            },
            read = wire.stream.read(&mut wire.buffer) => end = wire.take_in(&read, &mut intake).await.err(),
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                let words = format!("the rest of a message did not come within {} s", shared.rest.as_secs());
                break End::Told(ErrorCode::OutOfTurn, words);
            }
        }
    };
    shared.sessions.close(peer.session, opened.connection);
    shared.counters.connected.fetch_sub(1, Relaxed);
    // Also when it was replaced: joined and left come in pairs, and the newer connection joined on its own.
    let _ = shared.events.send(Event::Left(peer)).await;
    end
}

struct Wire {
    stream: UnixStream,
    reader: FrameReader,
    buffer: Vec<u8>,
    /// When the message that is not complete yet began, after the handshake.
    begun: Option<Instant>,
}

impl Wire {
    /// Reads the handshake.
    async fn hello(&mut self, shared: &Shared) -> Result<Hello, End> {
        loop {
            if let Some(frame) = self.reader.next().map_err(|error| frame_error(&error))? {
                let Some(client_message::Body::Hello(hello)) = decode(frame)? else {
                    return Err(End::Told(ErrorCode::OutOfTurn, "the first message must be Hello".into()));
                };
                if agree(hello.protocol, hello.oldest_protocol).is_none() {
                    let words = format!(
                        "this agent speaks protocol {OLDEST_PROTOCOL} to {PROTOCOL}, the client {} to {}: update the older",
                        if hello.oldest_protocol == 0 { hello.protocol } else { hello.oldest_protocol },
                        hello.protocol
                    );
                    return Err(End::Told(ErrorCode::Protocol, words));
                }
                return match validate::hello(&hello) {
                    Ok(()) => Ok(hello),
                    Err(error) => Err(End::Told(ErrorCode::Malformed, error.to_string())),
                };
            }
            let read = self.stream.read(&mut self.buffer).await;
            self.push(&read, shared)?;
        }
    }

    /// Takes in bytes, or the end of them.
    fn push(&mut self, read: &std::io::Result<usize>, shared: &Shared) -> Result<(), End> {
        match read {
            Ok(0) | Err(_) => Err(if self.reader.is_mid_frame() { End::Truncated } else { End::Closed }),
            Ok(length) => {
                shared.counters.bytes.fetch_add(*length as u64, Relaxed);
                self.reader.push(&self.buffer[..*length]);
                Ok(())
            }
        }
    }

    /// Takes in bytes and handles every message that they make whole.
    async fn take_in(&mut self, read: &std::io::Result<usize>, intake: &mut Intake<'_>) -> Result<(), End> {
        self.push(read, intake.shared)?;
        self.handle(intake).await
    }

    /// Handles every whole message that was read.
    async fn handle(&mut self, intake: &mut Intake<'_>) -> Result<(), End> {
        while let Some(frame) = self.reader.next().map_err(|error| frame_error(&error))? {
            let length = frame.len();
            self.begun = None;
            let flush = match decode(frame)? {
                Some(client_message::Body::Flush(flush)) => flush,
                Some(client_message::Body::Hello(_)) => {
                    return Err(End::Told(ErrorCode::OutOfTurn, "Hello came twice".into()));
                }
                None => continue, // From a newer client: not for us.
            };
            if let Some(words) = intake.accept(flush, length).await?
                && !self.say(&words).await
            {
                return Err(End::Closed);
            }
        }
        self.begun = self.reader.is_mid_frame().then(|| self.begun.unwrap_or_else(Instant::now));
        Ok(())
    }

    /// Writes one message; false when the peer cannot be reached any more.
    async fn say(&mut self, words: &AgentMessage) -> bool {
        let bytes = encode(words);
        let steps = steps(words);
        if let Some([due, half, _]) = steps {
            failpoint::pass(due);
            if failpoint::is_due(half) {
                let _ = self.stream.write_all(&bytes[..bytes.len() / 2]).await;
                failpoint::die();
            }
        }
        let said = matches!(timeout(WRITE, self.stream.write_all(&bytes)).await, Ok(Ok(())));
        if let Some([.., written]) = steps {
            failpoint::pass(written);
        }
        said
    }

    /// Says why and closes, giving the peer time to read it: closing with unread bytes of the peer would discard it.
    async fn farewell(&mut self, words: &AgentMessage) {
        if self.say(words).await && self.stream.shutdown().await.is_ok() {
            self.buffer.resize(READ, 0);
            let drain = async { while matches!(self.stream.read(&mut self.buffer).await, Ok(1..)) {} };
            let _ = timeout(Duration::from_secs(1), drain).await;
        }
    }
}

/// One peer's flushes on their way to the tick.
struct Intake<'a> {
    peer: &'a Arc<Peer>,
    shared: &'a Shared,
    pace: Pace,
    /// What it may have waiting for the tick.
    share: Share,
    /// Distinct series of this connection.
    names: HashSet<(String, Option<u32>)>,
}

impl Intake<'_> {
    /// Checks a flush and delivers it; returns what to answer at once, if anything.
    async fn accept(&mut self, mut flush: Flush, length: usize) -> Result<Option<AgentMessage>, End> {
        failpoint::pass(Point::FlushRead);
        let counters = &self.shared.counters;
        let wait = self.pace.take(Instant::now());
        if !wait.is_zero() {
            counters.slowed.fetch_add(1, Relaxed);
            sleep(wait).await;
        }
        if let Err(error) = validate::flush(&flush) {
            return Err(End::Told(ErrorCode::Malformed, error.to_string()));
        }
        let seq = flush.seq;
        match self.shared.sessions.receive(self.peer.session, seq) {
            Verdict::Committed => {
                counters.duplicates.fetch_add(1, Relaxed);
                return Ok(Some(AgentMessage::from(Ack { seq, durable_seq: None })));
            }
            Verdict::Pending => {
                counters.duplicates.fetch_add(1, Relaxed);
                return Ok(None);
            }
            Verdict::New => {}
        }
        let receipt = Receipt::new(&self.shared.sessions, self.peer.session, seq);
        let receipt = receipt.placed(self.share.place(length).await);
        let folded = self.fold_excess(&mut flush);
        counters.series_dropped.fetch_add(folded + flush.series_dropped, Relaxed);
        counters.flushes.fetch_add(1, Relaxed);
        flush.stages.iter_mut().for_each(|stage| clean(&mut stage.name));
        flush.errors.iter_mut().for_each(|error| clean(&mut error.kind));
        flush.slow.iter_mut().for_each(|slow| clean(&mut slow.error));
        let delivery = Delivery { peer: Arc::clone(self.peer), flush: Box::new(flush), receipt };
        match self.shared.events.send(Event::Flush(delivery)).await {
            Ok(()) => {
                failpoint::pass(Point::FlushDelivered);
                Ok(None)
            }
            Err(_) => Err(End::Stopping),
        }
    }

    /// Puts one histogram in the place of those beyond the limits; of them it has but how many values they had. Returns how
    /// many they were.
    fn fold_excess(&mut self, flush: &mut Flush) -> u64 {
        let before = flush.histograms.len();
        let values =
            |histogram: &Histogram| histogram.counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count));
        let mut overflow =
            flush.histograms.drain(before.min(MAX_SERIES)..).map(|h| values(&h)).fold(0, u64::saturating_add);
        flush.histograms.shrink_to_fit();
        flush.histograms.retain(|histogram| {
            let name = (histogram.name.clone(), histogram.stage);
            let room = self.names.contains(&name) || (self.names.len() < MAX_SERIES && self.names.insert(name));
            overflow = overflow.saturating_add(if room { 0 } else { values(histogram) });
            room
        });
        let folded = (before - flush.histograms.len()) as u64;
        if overflow > 0 {
            let (name, unit) = (OVERFLOW.to_owned(), "{value}".to_owned());
            flush.histograms.push(Histogram {
                name,
                unit,
                index_deltas: vec![0],
                counts: vec![overflow],
                ..Histogram::default()
            });
        }
        folded
    }
}

/// Where a test may let the agent die: before, in the middle of and after these words.
fn steps(words: &AgentMessage) -> Option<[Point; 3]> {
    match words.body {
        Some(agent_message::Body::Welcome(_)) => Some([Point::WelcomeDue, Point::WelcomeHalf, Point::WelcomeWritten]),
        Some(agent_message::Body::Ack(_)) => Some([Point::AckDue, Point::AckHalf, Point::AckWritten]),
        Some(agent_message::Body::Error(_)) | None => None,
    }
}

fn decode(frame: &[u8]) -> Result<Option<client_message::Body>, End> {
    match ClientMessage::decode(frame) {
        Ok(message) => Ok(message.body),
        Err(error) => Err(End::Told(ErrorCode::Malformed, format!("a message cannot be decoded: {error}"))),
    }
}

fn frame_error(error: &FrameError) -> End {
    let code = match error {
        FrameError::Oversized { .. } => ErrorCode::Oversized,
        FrameError::BadLength => ErrorCode::Malformed,
    };
    End::Told(code, error.to_string())
}
