//! What judging costs: facts, ledgers, the window and all rules of one tick.

#[path = "../tests/synthetic/mod.rs"]
mod synthetic;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use perfwatch_diagnose::{Config, Engine};
use synthetic::{Signals, World};

/// One tick in the steady state, its window full.
fn judge(criterion: &mut Criterion) {
    for servers in [1, 16] {
        criterion.bench_function(&format!("judge/{servers}_servers"), |bencher| {
            let mut world = World::new(servers);
            let mut engine = Engine::new(Config::default());
            let signals = Signals::default();
            for _ in 0..12 {
                let tick = world.tick(&signals);
                engine.push(&tick, &world.table);
            }
            bencher.iter_batched(
                || (world.tick(&signals), world.table.clone()),
                |(tick, table)| (black_box(engine.push(black_box(&tick), &table)), tick, table),
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(benches, judge);
criterion_main!(benches);
