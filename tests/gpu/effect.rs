//! What a running agent costs somebody else's work on the GPU.

use std::path::Path;
use std::time::Duration;

use perfwatch_tests::Agent;

use crate::interval::{Interval, loss};
use crate::torch::{PRODUCTS, Worker};
use crate::watch::card;

/// The release build of this tree, or what `PERFWATCH_TEST_BINARY` names.
const BINARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/perfwatch");
/// A loss below this is none that anybody would see.
const LIMIT: f64 = 0.001;
/// Length of one measurement in seconds.
const SECONDS: f64 = 3.0;
/// As long as an agent needs to have read everything once.
const SETTLED: Duration = Duration::from_secs(2);

fn setting(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

/// Without, with, with and without an agent, `PERFWATCH_TEST_ROUNDS` times.
#[test]
fn what_a_running_agent_costs_a_workload() {
    let _alone = crate::alone();
    let card = card();
    let binary = setting("PERFWATCH_TEST_BINARY", BINARY);
    assert!(
        Path::new(&binary).is_file(),
        "no {binary}: run `cargo build --release`, or name one by PERFWATCH_TEST_BINARY"
    );
    let rounds: usize = setting("PERFWATCH_TEST_ROUNDS", "20").parse().expect("PERFWATCH_TEST_ROUNDS is a number");
    let mut worker = Worker::on_demand(&card.uuid, PRODUCTS);
    // Until it is as warm as it gets.
    worker.rate(20.0);
    let mut losses = Vec::new();
    for round in 1..=rounds {
        let rates = [false, true, true, false].map(|with| {
            let agent = with.then(|| Agent::spawn(&binary, &[], &[]));
            std::thread::sleep(SETTLED);
            let rate = worker.rate(SECONDS);
            drop(agent);
            rate
        });
        losses.push(loss(rates));
        println!("round {round}: {rates:.3?} a second, {:+.4} %", losses[round - 1] * 100.0);
    }
    let interval = Interval::of(&losses);
    let percent = |share: f64| share * 100.0;
    println!(
        "the workload lost {:+.4} % ± {:.4} % (95 %, {rounds} rounds): {}",
        percent(interval.mean),
        percent(interval.half),
        interval.verdict(LIMIT)
    );
    assert!(interval.mean - interval.half < 0.01, "more than 1 % is lost for certain: {interval:?}");
}
