//! `kill -9` at random, and at every step of the protocol, while servers record and fork.

use std::thread::sleep;
use std::time::Duration;

use perfwatch_store::failpoint::POINTS;
use perfwatch_tests::wait_for;

use super::mortal::{End, Mortal};
use super::recorder::{Load, Order, Recorder};

/// Kills of a run that is not told otherwise: each failpoint once, and as many at random.
const SAMPLE: usize = 36;
/// From so many on it is the whole test: each failpoint several times, and the agent away for two minutes.
const WHOLE: usize = 200;

fn kills() -> usize {
    std::env::var("PERFWATCH_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(SAMPLE)
}

/// The places that an agent passes which exports nothing; those of export are in `outbox` and the backends' tests, those
/// that come now and then in `rare`.
fn passed() -> impl Iterator<Item = &'static str> {
    POINTS.iter().filter(|(point, _)| !point.ships() && !point.is_rare()).map(|(_, name)| *name)
}

/// Every failpoint as often as there is room for in half of the kills, at least once; the rest at random.
fn plan(kills: usize) -> Vec<End> {
    let points: Vec<_> = if cfg!(debug_assertions) { passed().collect() } else { Vec::new() };
    let rounds = if points.is_empty() { 0 } else { (kills / 2 / points.len()).max(1) };
    let mut ends: Vec<End> = (1..=rounds as u32)
        .flat_map(|round| points.iter().map(move |name| End::At(name, 1 + (round - 1) % 3)))
        .collect();
    let mut chance = 0x9e37_79b9_u64;
    let random = kills.saturating_sub(ends.len());
    for number in 0..random {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Lengths that no second divides, so that every moment of a tick, a flush and a handshake is met.
        let end = End::Random(200 + (chance >> 33) % 2_600);
        ends.insert((number * (ends.len() + 1) / random + number).min(ends.len()), end);
    }
    ends
}

#[test]
fn every_failpoint_is_in_the_plan_and_so_are_kills_at_random() {
    for kills in [SAMPLE, WHOLE] {
        let plan = plan(kills);
        assert_eq!(plan.len(), kills);
        assert!(plan.iter().filter(|end| matches!(end, End::Random(_))).count() >= 16);
        if cfg!(debug_assertions) {
            for name in passed() {
                assert!(plan.iter().any(|end| matches!(end, End::At(at, _) if *at == name)), "{name}");
            }
        }
    }
}

/// Starts the agent and sees it end as planned. A failpoint that is never reached fails here, at the deadline.
fn live_and_die(agent: &mut Mortal, end: End, lose_socket: bool) {
    match end {
        End::Random(life_ms) => {
            agent.start();
            if lose_socket {
                agent.ready();
                // Connections outlive the socket's name; whoever wants a new one waits for the next agent.
                std::fs::remove_file(agent.probe_socket()).expect("it is there");
            }
            sleep(Duration::from_millis(life_ms));
            agent.kill();
        }
        End::At(name, nth) => {
            agent.start_to_die_at(name, nth);
            agent.killed_itself(&format!("the failpoint {name}, passing {nth}"));
        }
    }
}

#[test]
fn kill_9_at_random_and_at_every_step_loses_nothing_and_counts_nothing_twice() {
    let kills = kills();
    let whole = kills >= WHOLE;
    let mut agent = Mortal::new();
    let server = agent.server("mortal");
    let load = Load::on(&server, 1..3);
    let order = Order {
        socket: agent.probe_socket(),
        service: "mortal".into(),
        seed: 1_000,
        threads: 2,
        forks: if whole { 60 } else { 12 },
        fork_steps: if whole { 10_000 } else { 4_000 },
        ..Order::default()
    };
    let forking = Recorder::start(&order, agent.dir.path());
    let (mut restarts, mut sockets, mut absence) = (0, 0, 0);
    for (round, end) in plan(kills).into_iter().enumerate() {
        let lose_socket = round % 3 == 1 && matches!(end, End::Random(_));
        sockets += u32::from(lose_socket);
        live_and_die(&mut agent, end, lose_socket);
        if round % 7 == 3 {
            agent.start();
            agent.ready();
            agent.ask_to_stop();
            let status = agent.end("the agent to stop when asked");
            assert!(status.success(), "{status}");
            restarts += 1;
        }
        if round == kills / 2 {
            absence = if whole { 120 } else { 5 };
            sleep(Duration::from_secs(absence));
        }
    }
    agent.start();
    agent.ready();
    let mut recorded = load.stop();
    recorded.extend(forking.stop());
    wait_for("the last receipt", || server.flush_now().then_some(()));
    server.close();
    let forked = recorded.iter().filter(|(seed, _)| *seed >= 1_500).count();
    assert!(forked > 0 && sockets > 0, "{forked} forks, {sockets} sockets deleted");
    let requests = agent.assert_exact("mortal", &recorded);
    assert_eq!(agent.store(), Some(agent.journal()));
    assert!(requests > 10_000, "{requests}");
    println!(
        "{kills} kills, {restarts} restarts, {sockets} sockets deleted, {absence} s without agent, {forked} forks: \
         {requests} requests recorded, mismatch 0"
    );
}
