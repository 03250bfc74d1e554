//! Many threads and processes record into one server at once.

use super::mortal::Mortal;
use super::recorder::{Order, Recorder};

#[test]
fn twelve_threads_of_three_processes_add_up_to_what_hdrhistogram_counts() {
    let mut agent = Mortal::new();
    agent.start();
    agent.ready();
    let recorders: Vec<_> = (1..=3)
        .map(|number| {
            let order = Order {
                socket: agent.probe_socket(),
                service: "crowd".into(),
                seed: number * 1_000,
                threads: 4,
                steps: 20_000,
                ..Order::default()
            };
            Recorder::start(&order, agent.dir.path())
        })
        .collect();
    let recorded: Vec<_> = recorders.into_iter().flat_map(Recorder::end).collect();
    assert_eq!(recorded.len(), 12);
    // Buckets, counts and sums, first in memory, then on disk.
    assert_eq!(agent.assert_exact("crowd", &recorded), 240_000);
}
