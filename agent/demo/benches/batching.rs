//! What batching is worth: the cost of one request at each batch size, and of the textbook product for comparison.
//!
//! `cargo bench -p perfwatch-demo`. The demo's faults need a gain of 2 or more from batch 1 to batch 8.

#![allow(missing_docs, reason = "the macros of criterion make undocumented functions")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use perfwatch_demo::net::{Columns, FEATURES, Input, Kernel, Model, Packed, VOCABULARY, naive_product};
use perfwatch_demo::rng::Rng;

fn batch(size: usize) -> Vec<Input> {
    let mut rng = Rng::new(1);
    let tokens = |rng: &mut Rng| (0..120).map(|_| rng.below(VOCABULARY as u64) as u32).collect();
    (0..size).map(|_| Input { tokens: tokens(&mut rng), features: vec![0.5; FEATURES] }).collect()
}

fn model(c: &mut Criterion) {
    let mut group = c.benchmark_group("model");
    group.sample_size(20);
    for kernel in Kernel::available() {
        let mut model = Model::new(1, kernel);
        for size in [1, 2, 4, 8] {
            let inputs = batch(size);
            // Elements per second = requests per second: the ratio of two lines is the gain from batching.
            group.throughput(Throughput::Elements(size as u64));
            group.bench_function(format!("{}/batch {size}", kernel.name()), |b| {
                b.iter(|| model.evaluate(black_box(&inputs)));
            });
        }
    }
    group.finish();
}

fn naive(c: &mut Criterion) {
    let mut group = c.benchmark_group("naive product, one layer");
    group.sample_size(10);
    let weights = Packed::random(4_096, 1_024, Kernel::detect(), &mut Rng::new(1));
    for size in [1, 8] {
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(format!("batch {size}"), |b| {
            let input = Columns::zeros(1_024, size);
            b.iter_batched_ref(
                Columns::default,
                |output| naive_product(black_box(&weights), black_box(&input), output),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, model, naive);
criterion_main!(benches);
