//! What dies with the model server: at most the time since its last flush.

use std::thread::sleep;
use std::time::Duration;

use super::mortal::Mortal;
use super::recorder::{Order, Recorder};

/// A flush is made at each whole second and sent within the next 0.3 s, so that this is what it comes to on a machine that
/// is not overloaded. Half of the rounds must show it.
const USUAL_NS: u64 = 1_500_000_000;
/// No round may lose more, however busy the machine.
const MOST_NS: u64 = 6_000_000_000;

fn rounds() -> u64 {
    if std::env::var_os("PERFWATCH_TEST_KILLS").is_some() { 20 } else { 5 }
}

#[test]
fn killing_the_server_loses_at_most_one_flush() {
    let mut agent = Mortal::new();
    agent.start();
    agent.ready();
    let mut lost: Vec<u64> = (1..=rounds())
        .map(|round| {
            let service = format!("doomed-{round}");
            let order = Order {
                socket: agent.probe_socket(),
                service: service.clone(),
                seed: round * 1_000,
                threads: 1,
                tells: true,
                ..Order::default()
            };
            let doomed = Recorder::start(&order, agent.dir.path());
            sleep(Duration::from_millis(2_500 + round * 173 % 1_000));
            let told = doomed.kill();
            agent.quiet();
            let totals = agent.totals(&service);
            let [_, recorded, died_ns] = *told.last().expect("it recorded");
            let counted = ["perfwatch.server.requests.started", "llm.tokens"].map(|name| {
                let count = totals.get(name).map_or(0, |amount| amount.0 as u64);
                // The step after the last one that was told may have been under way.
                assert!(count <= recorded + 1, "{name}: {count} of {recorded}");
                count
            });
            let least = counted.into_iter().min().expect("two");
            let committed_ns = told.iter().find(|[_, steps, _]| *steps > least).map_or(died_ns, |[.., ns]| *ns);
            died_ns - committed_ns
        })
        .collect();
    lost.sort_unstable();
    let seconds = |ns: u64| ns as f64 / 1e9;
    let (median, most) = (lost[lost.len() / 2], lost[lost.len() - 1]);
    println!(
        "{} servers killed: {:.2} s lost in the median, {:.2} s at most",
        lost.len(),
        seconds(median),
        seconds(most)
    );
    assert!(median <= USUAL_NS && most <= MOST_NS, "{lost:?}");
}
