//! Every word of the protocol, said wrongly: the peer hears which rule it broke, and is cut off.

use perfwatch_wire::message::{
    ConfigEntry, ControlGroup, ErrorCount, Histogram, Slot, SlowRequest, StageCount, StageName, StageTime,
};

use super::*;

fn long(bytes: usize) -> String {
    "x".repeat(bytes)
}

fn entry(key: String, value: String) -> ConfigEntry {
    ConfigEntry { key, value }
}

/// Handshakes that are refused, and what the answer names.
fn wrong_hellos() -> Vec<(Hello, &'static str)> {
    let with = |change: fn(&mut Hello)| {
        let mut wrong = hello(9);
        change(&mut wrong);
        wrong
    };
    vec![
        (with(|hello| hello.sdk.clear()), "sdk"),
        (with(|hello| hello.service = long(129)), "service"),
        (with(|hello| hello.instance.clear()), "instance"),
        (with(|hello| hello.session.truncate(15)), "session"),
        (with(|hello| hello.session.clear()), "session"),
        (with(|hello| hello.pids = vec![1; 33]), "pids"),
        (with(|hello| hello.cgroup = long(4_097)), "cgroup"),
        (with(|hello| hello.executable = long(4_097)), "executable"),
        (with(|hello| hello.devices = vec![String::new(); 65]), "devices"),
        (with(|hello| hello.devices = vec![long(4_097)]), "devices"),
        (with(|hello| hello.config = vec![ConfigEntry::default(); 65]), "config"),
        (with(|hello| hello.config = vec![entry(String::new(), String::new())]), "config.key"),
        (with(|hello| hello.config = vec![entry(long(5), long(4_097))]), "config.value"),
    ]
}

/// Flushes that are refused, and what the answer names.
fn wrong_flushes() -> Vec<(Flush, &'static str)> {
    let with = |change: fn(&mut Flush)| {
        let mut wrong = Flush { seq: 7, start_ns: 1_000_000_000, end_ns: 2_000_000_000, ..Flush::default() };
        change(&mut wrong);
        wrong
    };
    vec![
        (with(|flush| flush.seq = 0), "seq"),
        (with(|flush| flush.end_ns = flush.start_ns), "end_ns"),
        (with(|flush| flush.covers_from = Some(7)), "covers_from"),
        (with(|flush| flush.slots = vec![Slot::default(); 65]), "slots"),
        (with(|flush| flush.slots = vec![slot(10, 9)]), "slot"),
        (with(|flush| flush.slots = vec![slot(20, 10)]), "slot"),
        (with(|flush| flush.slots = vec![slot(u64::MAX, 10)]), "slot"),
        (with(|flush| flush.slots = vec![slot(11, 10), slot(11, 10)]), "slot"),
        (with(|flush| flush.slots = vec![Slot { state_ns: vec![u64::MAX; 10], ..slot(10, 10) }]), "slot"),
        (with(|flush| flush.errors = vec![ErrorCount { kind: long(3), count: 1 }; 65]), "errors"),
        (with(|flush| flush.errors = vec![ErrorCount { kind: long(129), count: 1 }]), "errors.kind"),
        (with(|flush| flush.slow = vec![SlowRequest::default(); 65]), "slow"),
        (with(|flush| flush.slow = vec![SlowRequest { duration_ns: 1, ..SlowRequest::default() }]), "slow request"),
        (with(|flush| flush.slow = vec![SlowRequest { trace_id: vec![0; 15], ..SlowRequest::default() }]), "trace id"),
        (with(|flush| flush.slow = vec![SlowRequest { error: long(129), ..SlowRequest::default() }]), "slow.error"),
        (with(|flush| flush.in_flight = vec![StageCount::default(); 17]), "in_flight"),
        (with(|flush| flush.in_flight = vec![StageCount { stage: 16, count: 1 }]), "stage id"),
        (with(|flush| flush.occupancy = vec![StageTime { stage: u32::MAX, ns: 1 }]), "stage id"),
        (with(|flush| flush.stages = vec![StageName { stage: 11, name: long(129) }]), "stages.name"),
        (with(|flush| flush.cpus_allowed = long(4_097)), "cpus_allowed"),
        (
            with(|flush| flush.control_group = Some(ControlGroup { cpus: long(4_097), ..ControlGroup::default() })),
            "control_group.cpus",
        ),
        (with(|flush| flush.histograms = vec![Histogram::default()]), "name or unit"),
        (with(|flush| flush.histograms = vec![histogram(vec![1, 0], vec![1, 1])]), "ascend"),
        (with(|flush| flush.histograms = vec![histogram(vec![1, u32::MAX], vec![1, 1])]), "ascend"),
        (with(|flush| flush.histograms = vec![histogram(vec![1], vec![1, 1])]), "2 counts"),
        (with(|flush| flush.histograms = vec![histogram(vec![1], vec![0])]), "empty bucket"),
    ]
}

/// A slot of 100 ms in one state, which lists so many states.
fn slot(index: u64, states: usize) -> Slot {
    let mut state_ns = vec![0; states];
    state_ns[0] = 100_000_000;
    Slot { index, state_ns, occupancy: Vec::new() }
}

fn histogram(index_deltas: Vec<u32>, counts: Vec<u64>) -> Histogram {
    Histogram { name: "own".into(), unit: "1".into(), index_deltas, counts, ..Histogram::default() }
}

/// The peer hears this and is cut off.
async fn refused(client: &mut Client, word: &str) {
    let (code, words) = client.error().await;
    assert_eq!(code, ErrorCode::Malformed as u32, "{words}");
    assert!(words.contains(word), "`{words}` does not say `{word}`");
}

#[tokio::test]
async fn each_rule_of_the_protocol_that_is_broken_is_named_to_the_peer_and_nobody_else_notices() {
    let mut rig = Rig::new();
    let mut good = rig.dial().await;
    good.greet(1).await;
    let mut broken = 0;
    for (hello, word) in wrong_hellos() {
        let mut client = rig.dial().await;
        client.send(&encode(&ClientMessage::from(hello))).await;
        refused(&mut client, word).await;
        broken += 1;
    }
    for (flush, word) in wrong_flushes() {
        let mut client = rig.dial().await;
        client.greet(2).await;
        client.send(&encode(&ClientMessage::from(flush))).await;
        refused(&mut client, word).await;
        broken += 1;
    }
    // A message whose fields have the wrong types.
    let mut client = rig.dial().await;
    client.greet(2).await;
    client.send(&[6, 0x12, 4, 0x08, 0xff, 0xff, 0xff]).await;
    refused(&mut client, "decoded").await;
    // Hello twice.
    let mut client = rig.dial().await;
    client.greet(2).await;
    client.send(&encode(&ClientMessage::from(hello(2)))).await;
    assert_eq!(client.error().await.0, ErrorCode::OutOfTurn as u32);
    assert_eq!(rig.socket.counters.read().malformed, broken + 2);

    good.send(&flush(1)).await;
    rig.delivery().await.receipt.commit();
    assert_eq!(good.hear().await, Some(agent_message::Body::Ack(Ack { seq: 1, durable_seq: None })));
    assert_eq!(rig.socket.counters.read().flushes, 1, "nothing of what was wrong was delivered");
}

#[tokio::test]
async fn one_that_says_nothing_does_not_keep_its_place_and_one_that_floods_waits() {
    let rig = Rig::new();
    let mut silent = rig.dial().await;
    assert_eq!(silent.error().await.0, ErrorCode::OutOfTurn as u32, "after five seconds");
    let mut flooding = rig.dial().await;
    flooding.greet(1).await;
    for seq in 1..=20 {
        flooding.send(&flush(seq)).await;
    }
    // No tick takes anything: four wait for it, and the rest in the socket.
    while rig.socket.counters.read().flushes < 4 {
        tokio::task::yield_now().await;
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.socket.counters.read().flushes, 4);
}
