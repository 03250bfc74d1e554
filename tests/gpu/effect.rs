//! What a running agent costs somebody else's work on the GPU.

use perfwatch_tests::Agent;

use crate::binary;
use crate::interval::{Interval, loss};
use crate::torch::{PRODUCTS, Worker};
use crate::watch::card;

/// A loss below this is none that anybody would see.
const LIMIT: f64 = 0.001;
/// Length of one measurement in seconds.
const SECONDS: f64 = 3.0;
/// As long as an agent needs, once it is ready, to have read everything once. The work goes on meanwhile, so that it is as warm.
const SETTLED: f64 = 1.0;

/// Without, with, with and without an agent, `PERFWATCH_TEST_ROUNDS` times: two pairs each.
#[test]
fn what_a_running_agent_costs_a_workload() {
    let _alone = crate::alone();
    let card = card();
    let binary = binary::path().unwrap_or_else(|missing| panic!("{missing}"));
    let rounds = std::env::var("PERFWATCH_TEST_ROUNDS").unwrap_or_else(|_| "20".to_owned());
    let rounds: usize = rounds.parse().expect("PERFWATCH_TEST_ROUNDS is a number");
    let mut worker = Worker::on_demand(&card.uuid, PRODUCTS);
    // Until it is as warm as it gets.
    worker.rate(20.0);
    let (mut losses, mut interval) = (Vec::new(), None);
    for round in 1..=rounds {
        let rates = [false, true, true, false].map(|with| {
            let agent = with.then(|| Agent::spawn(&binary, &[], &[]));
            worker.rate(SETTLED);
            if round == 1
                && let Some(agent) = &agent
            {
                assert!(sees(agent, &card.uuid), "the agent sees no {}: {}", card.uuid, agent.json("/v1/snapshot"));
            }
            let rate = worker.rate(SECONDS);
            drop(agent);
            rate
        });
        losses.push(loss(rates));
        let so_far = Interval::of(&losses);
        say!(
            "round {round}: {rates:.3?} a second, {:+.4} %; so far {}",
            losses[round - 1] * 100.0,
            told(so_far, round)
        );
        interval = Some(so_far);
    }
    let interval = interval.expect("PERFWATCH_TEST_ROUNDS is 1 or more");
    say!("the workload lost {}", told(interval, rounds));
    assert!(interval.mean - interval.half < 0.01, "more than 1 % is lost for certain: {interval:?}");
}

fn told(interval: Interval, rounds: usize) -> String {
    format!(
        "{:+.4} % ± {:.4} % (95 %, {} pairs): {}",
        interval.mean * 100.0,
        interval.half * 100.0,
        2 * rounds,
        interval.verdict(LIMIT)
    )
}

/// What an agent costs that sees no GPU is nothing.
fn sees(agent: &Agent, uuid: &str) -> bool {
    let snapshot = agent.json("/v1/snapshot");
    let devices = snapshot["devices"].as_array().map_or(&[][..], Vec::as_slice);
    devices.iter().any(|device| device["id"] == format!("gpu:{uuid}") && !device["gpu"]["utilization"].is_null())
}
