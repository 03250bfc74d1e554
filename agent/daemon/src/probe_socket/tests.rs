//! The socket against well-behaved, broken and hostile peers, over real UNIX sockets.

mod words;

use std::path::Path;
use std::time::Duration;

use perfwatch_wire::message::{Ack, AgentMessage, ErrorCode, Flush, Hello, Welcome, agent_message};
use perfwatch_wire::{ClientMessage, FrameReader, encode};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::{Delivery, Event, ProbeSocket, REST, resume, start};

/// Long enough for the slowest machine; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

struct Rig {
    socket: ProbeSocket,
    folder: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        Self::with_rest(REST)
    }

    fn with_rest(rest: Duration) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listener = std::os::unix::net::UnixListener::bind(folder.path().join("probe.sock")).expect("a free path");
        listener.set_nonblocking(true).expect("a valid listener");
        let socket = start(listener, std::iter::empty(), false, rest).expect("inside a runtime");
        Self { socket, folder }
    }

    async fn dial(&self) -> Client {
        Client::dial(&self.folder.path().join("probe.sock")).await
    }

    async fn event(&mut self) -> Event {
        tokio::time::timeout(PATIENCE, self.socket.events.recv()).await.expect("in time").expect("an event")
    }

    async fn delivery(&mut self) -> Delivery {
        loop {
            if let Event::Flush(delivery) = self.event().await {
                return delivery;
            }
        }
    }
}

struct Client {
    stream: UnixStream,
    reader: FrameReader,
}

impl Client {
    async fn dial(path: &Path) -> Self {
        Self { stream: UnixStream::connect(path).await.expect("a listener"), reader: FrameReader::new() }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the agent reads");
    }

    /// The agent's next word; `None` when it closed.
    async fn hear(&mut self) -> Option<agent_message::Body> {
        loop {
            if let Some(frame) = self.reader.next().expect("well-formed") {
                return AgentMessage::decode(frame).expect("a message").body;
            }
            let mut buffer = [0; 4096];
            let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut buffer)).await.expect("in time");
            match read {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.reader.push(&buffer[..length]),
            }
        }
    }

    async fn greet(&mut self, session: u8) -> Welcome {
        self.send(&encode(&ClientMessage::from(hello(session)))).await;
        match self.hear().await {
            Some(agent_message::Body::Welcome(welcome)) => welcome,
            other => panic!("expected a welcome, got {other:?}"),
        }
    }

    async fn error(&mut self) -> (u32, String) {
        match self.hear().await {
            Some(agent_message::Body::Error(error)) => {
                assert_eq!(self.hear().await, None, "and is cut off");
                (error.code, error.message)
            }
            other => panic!("expected an error, got {other:?}"),
        }
    }
}

fn hello(session: u8) -> Hello {
    Hello {
        protocol: 1,
        sdk: "test/1".into(),
        service: "demo".into(),
        instance: "one".into(),
        session: vec![session; 16],
        ..Hello::default()
    }
}

fn flush(seq: u64) -> Vec<u8> {
    encode(&ClientMessage::from(Flush { seq, start_ns: seq, end_ns: seq + 1, ..Flush::default() }))
}

#[tokio::test]
async fn a_flush_is_acknowledged_when_its_tick_commits_it_and_not_before() {
    let mut rig = Rig::new();
    let mut client = rig.dial().await;
    assert_eq!(client.greet(1).await.last_committed_seq, 0);
    client.send(&flush(1)).await;
    let delivery = rig.delivery().await;
    assert_eq!(delivery.peer.credentials.and_then(|peer| peer.pid), Some(std::process::id()));
    let nothing = tokio::time::timeout(Duration::from_millis(50), client.hear()).await;
    assert!(nothing.is_err(), "no receipt before the commit");
    delivery.receipt.commit();
    assert_eq!(client.hear().await, Some(agent_message::Body::Ack(Ack { seq: 1, durable_seq: None })));
    drop(client);
    assert_eq!(rig.dial().await.greet(1).await.last_committed_seq, 1);
}

#[tokio::test]
async fn a_flush_resent_over_a_new_connection_is_delivered_once_and_acknowledged_there() {
    let mut rig = Rig::new();
    let mut first = rig.dial().await;
    first.greet(1).await;
    first.send(&flush(1)).await;
    let delivery = rig.delivery().await;
    let mut second = rig.dial().await;
    assert_eq!(second.greet(1).await.last_committed_seq, 0);
    assert_eq!(first.hear().await, None, "the older connection is closed");
    second.send(&flush(1)).await;
    // A later flush of another session proves that the duplicate was read and not delivered.
    let mut other = rig.dial().await;
    other.greet(2).await;
    while rig.socket.counters.read().duplicates == 0 {
        tokio::task::yield_now().await;
    }
    other.send(&flush(9)).await;
    assert_eq!(rig.delivery().await.flush.seq, 9);
    delivery.receipt.commit();
    assert_eq!(second.hear().await, Some(agent_message::Body::Ack(Ack { seq: 1, durable_seq: None })));
    second.send(&flush(1)).await;
    assert_eq!(second.hear().await, Some(agent_message::Body::Ack(Ack { seq: 1, durable_seq: None })));
}

#[tokio::test]
async fn whoever_breaks_the_protocol_is_told_and_cut_off_and_the_others_go_on() {
    let mut rig = Rig::new();
    let mut good = rig.dial().await;
    good.greet(1).await;

    let mut noise = rig.dial().await;
    noise
        .send(
            b"GET / HTTP/1.1\r\nHost: here\r\n\r\n and so on until the announced length is there, which takes a while",
        )
        .await;
    assert_eq!(noise.error().await.0, ErrorCode::Malformed as u32);

    let mut oversized = rig.dial().await;
    oversized.greet(2).await;
    oversized.send(&[0xff, 0xff, 0xff, 0x7f]).await;
    assert_eq!(oversized.error().await.0, ErrorCode::Oversized as u32);

    let mut newer = rig.dial().await;
    newer.send(&encode(&ClientMessage::from(Hello { protocol: 2, ..hello(3) }))).await;
    let (code, words) = newer.error().await;
    assert_eq!(code, ErrorCode::Protocol as u32);
    assert!(words.contains("protocol 1"), "{words}");

    let mut early = rig.dial().await;
    early.send(&flush(1)).await;
    assert_eq!(early.error().await.0, ErrorCode::OutOfTurn as u32);

    let mut nameless = rig.dial().await;
    nameless.send(&encode(&ClientMessage::from(Hello { service: String::new(), ..hello(4) }))).await;
    assert_eq!(nameless.error().await.0, ErrorCode::Malformed as u32);

    let mut backward = rig.dial().await;
    backward.greet(5).await;
    let wrong = Flush { seq: 1, start_ns: 9, end_ns: 3, ..Flush::default() };
    backward.send(&encode(&ClientMessage::from(wrong))).await;
    let (code, words) = backward.error().await;
    assert_eq!(code, ErrorCode::Malformed as u32);
    assert!(words.contains("end_ns"), "{words}");

    let mut cut = rig.dial().await;
    cut.greet(6).await;
    cut.send(&flush(1)[..3]).await;
    drop(cut);

    good.send(&flush(1)).await;
    rig.delivery().await.receipt.commit();
    assert_eq!(good.hear().await, Some(agent_message::Body::Ack(Ack { seq: 1, durable_seq: None })));
    while rig.socket.counters.read().malformed < 5 {
        tokio::task::yield_now().await;
    }
    let counts = rig.socket.counters.read();
    assert_eq!((counts.malformed, counts.oversized, counts.refused, counts.flushes), (5, 1, 1, 1));
}

#[tokio::test]
async fn a_message_that_is_not_finished_is_not_waited_for_for_ever() {
    let mut rig = Rig::with_rest(Duration::from_secs(1));
    let mut stuck = rig.dial().await;
    stuck.greet(1).await;
    // A whole one and the beginning of another.
    let whole = flush(1);
    stuck.send(&[&whole[..], &flush(2)[..3]].concat()).await;
    rig.delivery().await.receipt.commit();
    assert_eq!(stuck.hear().await, Some(agent_message::Body::Ack(Ack { seq: 1, durable_seq: None })));
    // Bytes that come meanwhile do not buy time.
    stuck.send(&flush(2)[3..4]).await;
    let (code, words) = stuck.error().await;
    assert_eq!(code, ErrorCode::OutOfTurn as u32);
    assert!(words.contains("within 1 s"), "{words}");
    // Who says nothing between two messages is not late.
    let mut quiet = rig.dial().await;
    quiet.greet(2).await;
    let nothing = tokio::time::timeout(Duration::from_millis(1_500), quiet.hear()).await;
    assert!(nothing.is_err(), "it is left alone");
    quiet.send(&flush(1)).await;
    rig.delivery().await.receipt.commit();
    assert_eq!(quiet.hear().await, Some(agent_message::Body::Ack(Ack { seq: 1, durable_seq: None })));
}

#[tokio::test]
async fn a_peer_for_whose_server_there_is_no_place_is_told_and_may_come_again() {
    let mut rig = Rig::new();
    let mut client = rig.dial().await;
    client.greet(1).await;
    client.send(&flush(1)).await;
    rig.delivery().await.receipt.refuse("no place");
    assert_eq!(client.error().await, (ErrorCode::TooManyPeers as u32, "no place".into()));
    assert_eq!(rig.socket.counters.read().refused, 1);
    let mut again = rig.dial().await;
    assert_eq!(again.greet(1).await.last_committed_seq, 0);
    again.send(&flush(1)).await;
    assert_eq!(rig.delivery().await.flush.seq, 1, "it is taken as if it came for the first time");
}

#[tokio::test]
async fn series_beyond_the_limit_become_one_that_counts_their_values() {
    let mut rig = Rig::new();
    let mut client = rig.dial().await;
    client.greet(1).await;
    for seq in 1..=2 {
        let histograms = (0..200)
            .map(|number| perfwatch_wire::message::Histogram {
                name: format!("own.{seq}.{number}"),
                unit: "1".into(),
                sum: 1,
                index_deltas: vec![1],
                counts: vec![1],
                ..Default::default()
            })
            .collect();
        let flush = Flush { seq, start_ns: 1, end_ns: 2, histograms, ..Flush::default() };
        client.send(&encode(&ClientMessage::from(flush))).await;
    }
    assert_eq!(rig.delivery().await.flush.histograms.len(), 200);
    let second = rig.delivery().await.flush.histograms;
    let (overflow, own) = second.split_last().expect("some have room");
    assert_eq!((own.len(), overflow.name.as_str(), &*overflow.counts), (56, super::OVERFLOW, &[144][..]));
    assert_eq!(rig.socket.counters.read().series_dropped, 144);
}

#[tokio::test]
async fn a_hostile_name_arrives_without_its_escape_sequences() {
    let mut rig = Rig::new();
    let mut client = rig.dial().await;
    client.send(&encode(&ClientMessage::from(Hello { service: "a\u{1b}[2Jb".into(), ..hello(1) }))).await;
    let Event::Joined(peer) = rig.event().await else { panic!("joined comes first") };
    assert_eq!(peer.hello.service, "a\\x1b[2Jb");
}

#[tokio::test]
async fn the_end_of_a_connection_is_an_event_and_dropping_the_socket_ends_all() {
    let mut rig = Rig::new();
    let mut client = rig.dial().await;
    client.greet(1).await;
    assert!(matches!(rig.event().await, Event::Joined(_)));
    assert_eq!(rig.socket.counters.read().connected, 1);
    drop(client);
    assert!(matches!(rig.event().await, Event::Left(_)));
    assert_eq!(rig.socket.counters.read().connected, 0);
    let mut last = rig.dial().await;
    last.greet(2).await;
    drop(rig.socket);
    assert_eq!(last.hear().await, None);
}

#[tokio::test]
async fn an_sdk_from_before_and_one_from_the_future_are_understood() {
    use perfwatch_wire::vectors::bytes;
    let mut rig = Rig::new();
    for (hello, session) in [("hello-0.1.0", 0), ("hello-from-the-future", 1)] {
        let mut client = rig.dial().await;
        client.send(&bytes(hello)).await;
        let Some(agent_message::Body::Welcome(welcome)) = client.hear().await else { panic!("{hello} is welcome") };
        assert_eq!((welcome.protocol, welcome.last_committed_seq), (1, session), "{hello}");
        client.send(&bytes("client-message-from-the-future")).await;
        if session == 0 {
            client.send(&bytes("flush-0.1.0")).await;
            let delivery = rig.delivery().await;
            assert_eq!((delivery.flush.requests_failed, delivery.flush.errors.len()), (1, 0));
            delivery.receipt.commit();
            assert_eq!(client.hear().await, Some(agent_message::Body::Ack(Ack { seq: 1, durable_seq: None })));
        } else {
            client.send(&bytes("flush-from-the-future")).await;
            let delivery = rig.delivery().await;
            assert_eq!(
                (delivery.flush.seq, delivery.flush.requests_failed),
                (2, 1),
                "what it does not know it ignores"
            );
            delivery.receipt.commit();
            assert_eq!(client.hear().await, Some(agent_message::Body::Ack(Ack { seq: 2, durable_seq: None })));
            client.send(&bytes("flush-catch-up")).await;
            assert_eq!(rig.delivery().await.flush.covers_from, Some(4));
        }
    }
    assert_eq!(rig.socket.counters.read().malformed, 0);
}

#[tokio::test]
async fn an_agent_with_a_journal_asks_for_what_only_memory_held() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let listener = std::os::unix::net::UnixListener::bind(folder.path().join("probe.sock")).expect("a free path");
    listener.set_nonblocking(true).expect("a valid listener");
    let _socket = resume(listener, std::iter::once(([7; 16], 5))).expect("inside a runtime");
    let welcome = Client::dial(&folder.path().join("probe.sock")).await.greet(7).await;
    assert_eq!((welcome.last_committed_seq, welcome.catch_up, welcome.durable_seq), (5, true, Some(5)));
    let welcome = Rig::new().dial().await.greet(7).await;
    assert_eq!((welcome.catch_up, welcome.durable_seq), (false, None));
}
