//! The classifier: attention-pooled token embeddings and stored features, residual layers, softmax.

use super::kernel::Kernel;
use super::matrix::{Columns, Packed};
use crate::rng::Rng;

/// Tokens the model knows.
pub const VOCABULARY: usize = 8_192;
/// Stored features (of the caller's account, say) that come with every request.
pub const FEATURES: usize = 256;
/// Labels it tells apart.
pub const CLASSES: usize = 1_024;
/// Size of a token's embedding.
const EMBEDDING: usize = 256;
/// Width of the residual stream.
const WIDTH: usize = 1_024;
/// Width inside a residual layer.
const HIDDEN: usize = 4_096;
/// Residual layers. Two hold 67 MB of weights: more than the last-level cache that one core can use on common machines
/// (32 MiB on the one this was sized on), little enough to start in well under a second.
const LAYERS: usize = 2;
/// Parts of a text that are read on their own and averaged before the last layer. More windows mean more arithmetic for
/// the same weights, so this number sets what batching is worth (see `benches/batching.rs`).
const WINDOWS: usize = 3;

/// One request as the model sees it.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// Token ids, each below [`VOCABULARY`].
    pub tokens: Vec<u32>,
    /// [`FEATURES`] stored features.
    pub features: Vec<f32>,
}

#[derive(Debug)]
struct Layer {
    up: Packed,
    down: Packed,
}

/// Weights, fixed by a seed, and room to compute in.
#[derive(Debug)]
pub struct Model {
    kernel: Kernel,
    embedding: Vec<f32>,
    attention: Vec<f32>,
    entry: Packed,
    layers: Vec<Layer>,
    head: Packed,
    room: Room,
}

/// Buffers that are kept from batch to batch.
#[derive(Debug, Default)]
struct Room {
    input: Columns,
    stream: Columns,
    normed: Columns,
    hidden: Columns,
    update: Columns,
    pooled: Columns,
    logits: Columns,
}

impl Model {
    /// The model of `seed`, to be evaluated with `kernel`.
    pub fn new(seed: u64, kernel: Kernel) -> Self {
        let mut rng = Rng::new(seed);
        let mut vector = |size: usize| (0..size).map(|_| rng.signed()).collect::<Vec<_>>();
        let (embedding, attention) = (vector(VOCABULARY * EMBEDDING), vector(EMBEDDING));
        let entry = Packed::random(WIDTH, EMBEDDING + FEATURES, kernel, &mut rng);
        let mut layer = || {
            let up = Packed::random(HIDDEN, WIDTH, kernel, &mut rng);
            Layer { up, down: Packed::random(WIDTH, HIDDEN, kernel, &mut rng) }
        };
        let layers = (0..LAYERS).map(|_| layer()).collect();
        let head = Packed::random(CLASSES, WIDTH, kernel, &mut rng);
        Self { kernel, embedding, attention, entry, layers, head, room: Room::default() }
    }

    /// The kernel it computes with.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Bytes of weights that each batch streams from memory.
    pub fn weight_bytes(&self) -> usize {
        let layers: usize = self.layers.iter().map(|layer| layer.up.bytes() + layer.down.bytes()).sum();
        self.entry.bytes() + layers + self.head.bytes()
    }

    /// Evaluates a batch: for each input the probabilities of the [`CLASSES`] labels.
    ///
    /// # Panics
    /// If a token is not below [`VOCABULARY`] or an input has not exactly [`FEATURES`] features.
    pub fn evaluate(&mut self, batch: &[Input]) -> Vec<Vec<f32>> {
        if batch.is_empty() {
            return Vec::new();
        }
        let Room { input, stream, normed, hidden, update, pooled, logits } = &mut self.room;
        input.reshape(EMBEDDING + FEATURES, batch.len() * WINDOWS);
        for (index, request) in batch.iter().enumerate() {
            for window in 0..WINDOWS {
                let tokens = window_of(&request.tokens, window);
                let column = index * WINDOWS + window;
                pool(&self.embedding, &self.attention, tokens, |row, value| input.set(row, column, value));
                assert_eq!(request.features.len(), FEATURES, "a request comes with all its features");
                for (row, value) in request.features.iter().enumerate() {
                    input.set(EMBEDDING + row, column, *value);
                }
            }
        }
        self.kernel.product(&self.entry, input, stream);
        for layer in &self.layers {
            normalise(stream, normed);
            self.kernel.product(&layer.up, normed, hidden);
            for value in hidden.values_mut() {
                *value = value.max(0.0);
            }
            self.kernel.product(&layer.down, hidden, update);
            for (value, update) in stream.values_mut().iter_mut().zip(update.values_mut()) {
                *value += *update;
            }
        }
        normalise(stream, normed);
        pooled.reshape(WIDTH, batch.len());
        for index in 0..batch.len() {
            for row in 0..WIDTH {
                let sum: f32 = (0..WINDOWS).map(|window| normed.at(row, index * WINDOWS + window)).sum();
                pooled.set(row, index, sum / WINDOWS as f32);
            }
        }
        self.kernel.product(&self.head, pooled, logits);
        (0..batch.len()).map(|index| softmax(logits.column(index))).collect()
    }
}

/// The tokens of one window: the text in [`WINDOWS`] nearly equal parts.
fn window_of(tokens: &[u32], window: usize) -> &[u32] {
    &tokens[tokens.len() * window / WINDOWS..tokens.len() * (window + 1) / WINDOWS]
}

/// Attention pooling: the mean of the tokens' embeddings, weighted by how well each matches the attention vector.
fn pool(embedding: &[f32], attention: &[f32], tokens: &[u32], mut put: impl FnMut(usize, f32)) {
    let row = |token: &u32| &embedding[*token as usize * EMBEDDING..][..EMBEDDING];
    let dot = |a: &[f32]| a.iter().zip(attention).map(|(a, b)| a * b).sum::<f32>() / (EMBEDDING as f32).sqrt();
    let weights = softmax(tokens.iter().map(|token| dot(row(token))));
    let mut sums = [0.0_f32; EMBEDDING];
    for (token, weight) in tokens.iter().zip(weights) {
        for (sum, value) in sums.iter_mut().zip(row(token)) {
            *sum += weight * value;
        }
    }
    for (index, sum) in sums.into_iter().enumerate() {
        put(index, sum);
    }
}

/// Root-mean-square normalisation of every column.
fn normalise(source: &Columns, target: &mut Columns) {
    target.reshape(source.rows(), source.count());
    for block in 0..source.blocks() {
        let width = source.width(block);
        let mut squares = [0.0_f32; super::BLOCK];
        for row in source.block(block).chunks_exact(width) {
            for (square, value) in squares.iter_mut().zip(row) {
                *square += value * value;
            }
        }
        // The small constant keeps an all-zero column finite.
        let scale = squares.map(|square| 1.0 / (square / source.rows() as f32 + 1e-6).sqrt());
        let rows = source.block(block).chunks_exact(width).zip(target.block_mut(block).chunks_exact_mut(width));
        for (from, to) in rows {
            for ((to, from), scale) in to.iter_mut().zip(from).zip(&scale) {
                *to = from * scale;
            }
        }
    }
}

/// Probabilities from scores; shifted by the largest so that none overflows.
fn softmax(scores: impl Iterator<Item = f32>) -> Vec<f32> {
    let mut values: Vec<f32> = scores.collect();
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for value in &mut values {
        *value = (*value - largest).exp();
        sum += *value;
    }
    for value in &mut values {
        *value /= sum;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(count: usize) -> Vec<Input> {
        let mut rng = Rng::new(11);
        (0..count)
            .map(|index| Input {
                tokens: (0..40 + index * 7).map(|_| rng.below(VOCABULARY as u64) as u32).collect(),
                features: (0..FEATURES).map(|_| rng.signed()).collect(),
            })
            .collect()
    }

    #[test]
    fn a_request_gets_the_same_answer_alone_and_in_a_batch() {
        let mut model = Model::new(5, Kernel::detect());
        let batch = inputs(8);
        let together = model.evaluate(&batch);
        for (input, expected) in batch.iter().zip(&together) {
            let alone = model.evaluate(std::slice::from_ref(input));
            let apart = alone[0].iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart < 1e-5, "differs by {apart}");
        }
        assert_ne!(together[0], together[1], "different texts give different answers");
    }

    #[test]
    fn every_kernel_computes_the_same_model() {
        let batch = inputs(3);
        let reference = Model::new(5, Kernel::detect()).evaluate(&batch);
        for kernel in Kernel::available() {
            for (a, b) in Model::new(5, kernel).evaluate(&batch).iter().flatten().zip(reference.iter().flatten()) {
                assert!((a - b).abs() < 1e-4, "{}: {a} and {b}", kernel.name());
            }
        }
    }

    #[test]
    fn probabilities_sum_to_one_even_for_an_empty_text() {
        let mut model = Model::new(5, Kernel::detect());
        let mut batch = inputs(1);
        batch.push(Input { tokens: Vec::new(), features: vec![0.0; FEATURES] });
        for probabilities in model.evaluate(&batch) {
            assert_eq!(probabilities.len(), CLASSES);
            let sum: f32 = probabilities.iter().sum();
            assert!((sum - 1.0).abs() < 1e-3, "sum {sum}");
            assert!(probabilities.iter().all(|p| p.is_finite() && *p >= 0.0));
        }
    }

    #[test]
    fn an_empty_batch_is_no_work() {
        assert!(Model::new(5, Kernel::detect()).evaluate(&[]).is_empty());
    }

    #[test]
    fn the_weights_outgrow_a_common_last_level_cache() {
        assert!(Model::new(5, Kernel::detect()).weight_bytes() > 64 << 20);
    }
}
