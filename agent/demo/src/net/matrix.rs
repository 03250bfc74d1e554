//! Packed weights and interleaved activations: the two layouts that let one pass over the weights serve a whole batch.

use super::kernel::Kernel;
use crate::rng::Rng;

/// Columns that one pass of the kernel computes together: with 8, every instruction set here keeps its sums in registers.
pub const BLOCK: usize = 8;

/// A weight matrix and its bias, packed in panels of as many outputs as the kernel has lanes.
///
/// A panel holds, for each input in turn, the weights of its outputs side by side. The kernel reads it strictly
/// forward, so the memory prefetcher keeps up, and a batch reads it from memory once.
#[derive(Debug)]
pub struct Packed {
    outputs: usize,
    inputs: usize,
    lanes: usize,
    weights: Vec<f32>,
    bias: Vec<f32>,
}

impl Packed {
    /// Packs random weights scaled to keep the activations' size (uniform, variance 1 / inputs) for `kernel`.
    ///
    /// # Panics
    /// If `outputs` is not a multiple of 16, the widest kernel's lanes: the shapes here are constants.
    pub fn random(outputs: usize, inputs: usize, kernel: Kernel, rng: &mut Rng) -> Self {
        // Drawn row by row, so that every kernel computes with the same matrix.
        let scale = (3.0 / inputs as f32).sqrt();
        Self::build(outputs, inputs, kernel, |_, _| rng.signed() * scale)
    }

    /// Packs `weight(output, input)`, asked for row by row.
    fn build(outputs: usize, inputs: usize, kernel: Kernel, mut weight: impl FnMut(usize, usize) -> f32) -> Self {
        assert_eq!(outputs % 16, 0, "layers are sized in multiples of the widest kernel");
        let lanes = kernel.lanes();
        let mut weights = vec![0.0; outputs * inputs];
        for output in 0..outputs {
            let panel = output / lanes * lanes * inputs;
            let lane = output % lanes;
            for input in 0..inputs {
                weights[panel + input * lanes + lane] = weight(output, input);
            }
        }
        Self { outputs, inputs, lanes, weights, bias: vec![0.0; outputs] }
    }

    /// Outputs (rows).
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Inputs (columns).
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Outputs side by side in a panel.
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// Size in memory, in bytes.
    pub fn bytes(&self) -> usize {
        size_of_val(self.weights.as_slice()) + size_of_val(self.bias.as_slice())
    }

    /// One weight.
    pub fn weight(&self, output: usize, input: usize) -> f32 {
        self.weights[output / self.lanes * self.lanes * self.inputs + input * self.lanes + output % self.lanes]
    }

    /// The weights of panel `index`: `inputs × lanes` numbers.
    pub(super) fn panel(&self, index: usize) -> &[f32] {
        let size = self.lanes * self.inputs;
        &self.weights[index * size..][..size]
    }

    /// The biases of panel `index`.
    pub(super) fn panel_bias(&self, index: usize) -> &[f32] {
        &self.bias[index * self.lanes..][..self.lanes]
    }
}

/// Several vectors side by side, in blocks of up to [`BLOCK`], interleaved within a block.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    rows: usize,
    count: usize,
    data: Vec<f32>,
}

impl Columns {
    /// `count` zero vectors of `rows` numbers.
    pub fn zeros(rows: usize, count: usize) -> Self {
        Self { rows, count, data: vec![0.0; rows * count] }
    }

    /// Reshapes, keeping the allocation; the contents are then unspecified.
    pub fn reshape(&mut self, rows: usize, count: usize) {
        (self.rows, self.count) = (rows, count);
        self.data.resize(rows * count, 0.0);
    }

    /// Length of each vector.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many vectors.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many blocks.
    pub(super) fn blocks(&self) -> usize {
        self.count.div_ceil(BLOCK)
    }

    /// Vectors in block `index`.
    pub(super) fn width(&self, index: usize) -> usize {
        (self.count - index * BLOCK).min(BLOCK)
    }

    /// Block `index`: `rows × width` numbers.
    pub(super) fn block(&self, index: usize) -> &[f32] {
        &self.data[index * BLOCK * self.rows..][..self.rows * self.width(index)]
    }

    /// Block `index`, to write.
    pub(super) fn block_mut(&mut self, index: usize) -> &mut [f32] {
        let size = self.rows * self.width(index);
        &mut self.data[index * BLOCK * self.rows..][..size]
    }

    /// Every number, in no particular order: for what is done to each alike.
    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.data
    }

    fn position(&self, row: usize, column: usize) -> usize {
        let block = column / BLOCK;
        block * BLOCK * self.rows + row * self.width(block) + column % BLOCK
    }

    /// One number.
    pub fn at(&self, row: usize, column: usize) -> f32 {
        self.data[self.position(row, column)]
    }

    /// Sets one number.
    pub fn set(&mut self, row: usize, column: usize, value: f32) {
        let position = self.position(row, column);
        self.data[position] = value;
    }

    /// One vector, gathered.
    pub fn column(&self, column: usize) -> impl Iterator<Item = f32> + '_ {
        (0..self.rows).map(move |row| self.at(row, column))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_keeps_every_weight() {
        for kernel in Kernel::available() {
            let packed = Packed::build(48, 5, kernel, |o, i| (o * 100 + i) as f32);
            for o in 0..48 {
                for i in 0..5 {
                    assert_eq!(packed.weight(o, i).to_bits(), ((o * 100 + i) as f32).to_bits());
                }
            }
        }
    }

    #[test]
    fn columns_hold_what_was_set_across_blocks() {
        let mut columns = Columns::zeros(3, 19);
        for c in 0..19 {
            for r in 0..3 {
                columns.set(r, c, (c * 10 + r) as f32);
            }
        }
        for c in 0..19 {
            let expected: Vec<f32> = (0..3).map(|r| (c * 10 + r) as f32).collect();
            assert_eq!(columns.column(c).collect::<Vec<_>>(), expected);
        }
    }
}
