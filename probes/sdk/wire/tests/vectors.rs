//! What is in the vectors. `UPDATE=1` writes them, for a message that is new; those of a release never change.

use perfwatch_wire::message::client_message::Body;
use perfwatch_wire::message::{
    Ack, AgentMessage, ClientMessage, ConfigEntry, ControlGroup, ErrorCode, ErrorCount, Flush, Hello, Histogram, Slot,
    SlowRequest, StageCount, StageName, StageTime, Welcome,
};
use perfwatch_wire::{FrameReader, encode, sparse, validate, vectors};
use prost::Message as _;

/// Everything that version 0.1.0 could say.
fn hello() -> Hello {
    Hello {
        protocol: 1,
        sdk: "perfwatch-sdk-rust/0.1.0".into(),
        service: "llama-70b".into(),
        instance: "4021:81234".into(),
        session: (0..16).collect(),
        pids: vec![4021, 7],
        start_ticks: 81_234,
        cgroup: "0::/app\n".into(),
        devices: vec!["GPU-5c1f".into()],
        config: vec![ConfigEntry { key: "workers".into(), value: "2".into() }],
        max_batch_size: 8,
        executable: "/usr/bin/server".into(),
        oldest_protocol: 0,
    }
}

/// Everything that version 0.1.0 could say.
fn flush() -> Flush {
    let mut histogram = Histogram {
        name: "stage.duration".into(),
        stage: Some(5),
        unit: "ns".into(),
        sum: 3_000_300,
        ..Histogram::default()
    };
    sparse::pack(&mut histogram, [(3, 1), (256, 2), (1_700, 300)]);
    let mut state_ns = vec![0; 10];
    (state_ns[0], state_ns[9]) = (40_000_000, 60_000_000);
    Flush {
        seq: 1,
        start_ns: 7_000_000_000,
        end_ns: 8_000_000_000,
        histograms: vec![histogram],
        requests_started: 5,
        requests_completed: 3,
        requests_failed: 1,
        requests_abandoned: 1,
        dispatches: 2,
        dispatches_ready2: 1,
        in_flight: vec![StageCount { stage: 5, count: 1 }],
        occupancy: vec![StageTime { stage: 5, ns: 900_000_000 }],
        slots: vec![Slot { index: 73, state_ns, occupancy: vec![StageTime { stage: 5, ns: 40_000_000 }] }],
        stages: vec![StageName { stage: 11, name: "detokenise".into() }],
        cpu_ns: Some(500_000_000),
        run_delay_ns: Some(0),
        threads: 9,
        cpus_allowed: "0-3,8".into(),
        slots_lost: 9,
        series_dropped: 1,
        ..Flush::default()
    }
}

fn client_messages() -> Vec<(&'static str, ClientMessage)> {
    let full = Flush {
        requests_cancelled: 2,
        errors: vec![ErrorCount { kind: "timeout".into(), count: 1 }],
        prompt_tokens: 512,
        generated_tokens: 64,
        cache_hits: 3,
        cache_misses: 1,
        slow: vec![SlowRequest {
            end_ns: 7_900_000_000,
            duration_ns: 300_000_000,
            stages: vec![StageTime { stage: 0, ns: 100_000_000 }, StageTime { stage: 7, ns: 200_000_000 }],
            trace_id: (16..32).collect(),
            error: "timeout".into(),
            prompt_tokens: 512,
            generated_tokens: 64,
            first_token_ns: Some(120_000_000),
        }],
        control_group: Some(ControlGroup {
            cpus: "0-3".into(),
            quota_ns_per_s: Some(1_500_000_000),
            periods: Some(10),
            throttled_periods: Some(2),
            throttled_ns: Some(30_000_000),
            memory_bytes: Some(1 << 30),
            memory_limit_bytes: Some(2 << 30),
            memory_limit_hits: Some(0),
            oom_kills: Some(0),
            cpu_some_ns: Some(1),
            memory_some_ns: Some(2),
            memory_full_ns: Some(3),
            io_some_ns: Some(4),
            io_full_ns: Some(5),
            cpu_ns: Some(6),
        }),
        ..flush()
    };
    let catch_up =
        Flush { seq: 9, covers_from: Some(4), slots: Vec::new(), slow: Vec::new(), slots_lost: 10, ..full.clone() };
    vec![
        ("hello-0.1.0", hello().into()),
        ("flush-0.1.0", flush().into()),
        ("hello", Hello { oldest_protocol: 1, ..hello() }.into()),
        ("flush", full.into()),
        ("flush-catch-up", catch_up.into()),
    ]
}

/// Everything that version 0.1.0 could say.
fn welcome() -> Welcome {
    Welcome {
        protocol: 1,
        last_committed_seq: 0,
        max_message_bytes: 1 << 20,
        max_series: 256,
        max_messages_per_second: 20,
        catch_up: false,
        durable_seq: None,
    }
}

fn agent_messages() -> Vec<(&'static str, AgentMessage)> {
    vec![
        ("welcome-0.1.0", welcome().into()),
        ("ack-0.1.0", Ack { seq: 1, durable_seq: None }.into()),
        ("error-0.1.0", ErrorCode::Protocol.with("this agent speaks protocol 1, the client 2: update the older")),
        ("welcome", Welcome { last_committed_seq: 4, catch_up: true, durable_seq: Some(3), ..welcome() }.into()),
        ("ack", Ack { seq: 9, durable_seq: Some(9) }.into()),
    ]
}

/// Messages that no present peer says: a body of an unknown kind (field 15), and known ones with an unknown field (200).
fn from_the_future() -> Vec<(&'static str, Vec<u8>)> {
    let framed = |message: &[u8]| {
        let mut frame = Vec::new();
        prost::encoding::encode_varint(message.len() as u64, &mut frame);
        [&frame, message].concat()
    };
    // `field` is the body's place in ClientMessage or AgentMessage.
    let with_more = |field: u8, mut body: Vec<u8>| {
        body.extend([0xc2, 0x0c, 3, b'n', b'e', b'w']); // Field 200, a text.
        framed(&[vec![field << 3 | 2], framed(&body)].concat())
    };
    let newer = Hello { protocol: 2, oldest_protocol: 1, ..hello() };
    vec![
        ("hello-from-the-future", with_more(1, newer.encode_to_vec())),
        ("client-message-from-the-future", framed(&[0x7a, 2, 8, 1])),
        ("agent-message-from-the-future", framed(&[0x7a, 2, 8, 1])),
        ("flush-from-the-future", with_more(2, Flush { seq: 2, ..flush() }.encode_to_vec())),
        ("welcome-from-the-future", with_more(1, welcome().encode_to_vec())),
        ("ack-from-the-future", with_more(2, Ack { seq: 1, durable_seq: None }.encode_to_vec())),
    ]
}

#[test]
fn the_vectors_are_what_the_messages_encode_to() {
    let mut all: Vec<(&str, Vec<u8>)> = Vec::new();
    all.extend(client_messages().iter().map(|(name, message)| (*name, encode(message))));
    all.extend(agent_messages().iter().map(|(name, message)| (*name, encode(message))));
    all.extend(from_the_future());
    let text: String = all
        .iter()
        .map(|(name, bytes)| format!("{name} {}\n", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
        .collect();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/vectors.txt"), &text).expect("writable");
    } else {
        assert_eq!(text, vectors::VECTORS, "run with UPDATE=1 if a message is new; those of a release never change");
    }
}

fn frame(name: &str) -> Vec<u8> {
    let mut reader = FrameReader::new();
    reader.push(&vectors::bytes(name));
    let frame = reader.next().expect("framed").expect("whole").to_vec();
    assert!(!reader.is_mid_frame(), "{name} is one message");
    frame
}

#[test]
fn the_vectors_are_understood() {
    for (name, message) in client_messages() {
        assert_eq!(ClientMessage::decode(frame(name).as_slice()), Ok(message.clone()), "{name}");
        match message.body.expect("it has one") {
            Body::Hello(hello) => assert_eq!(validate::hello(&hello), Ok(()), "{name}"),
            Body::Flush(flush) => assert_eq!(validate::flush(&flush), Ok(()), "{name}"),
        }
    }
    for (name, message) in agent_messages() {
        assert_eq!(AgentMessage::decode(frame(name).as_slice()), Ok(message), "{name}");
    }
}

#[test]
fn what_a_newer_peer_adds_is_ignored() {
    let frame_of = |name| frame(name);
    assert_eq!(ClientMessage::decode(frame_of("client-message-from-the-future").as_slice()).map(|m| m.body), Ok(None));
    assert_eq!(AgentMessage::decode(frame_of("agent-message-from-the-future").as_slice()).map(|m| m.body), Ok(None));
    let newer = ClientMessage::decode(frame_of("hello-from-the-future").as_slice()).expect("readable");
    let wanted = Hello { protocol: 2, oldest_protocol: 1, ..hello() };
    assert_eq!(newer, ClientMessage::from(wanted));
    assert_eq!(
        ClientMessage::decode(frame_of("flush-from-the-future").as_slice()),
        Ok(Flush { seq: 2, ..flush() }.into())
    );
    assert_eq!(AgentMessage::decode(frame_of("welcome-from-the-future").as_slice()), Ok(welcome().into()));
    assert_eq!(frame_of("ack-from-the-future").len(), frame_of("ack-0.1.0").len() + 6);
}
