//! The matrix product, once, compiled for each instruction set and chosen at run time.
//!
//! The body is plain Rust over fixed-size arrays; each entry point below only raises the instruction set under which
//! the compiler vectorises it. That keeps `unsafe` to the calls whose one precondition is a detected feature.

use super::matrix::{Columns, Packed};

/// An instruction set to multiply with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel(Isa);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Portable,
}

impl Kernel {
    /// The fastest this processor has.
    pub fn detect() -> Self {
        Self::available()[0]
    }

    /// Every one this processor can run, fastest first.
    pub fn available() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") {
                found.push(Self(Isa::Avx512));
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                found.push(Self(Isa::Avx2));
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            found.push(Self(Isa::Neon));
        }
        found.push(Self(Isa::Portable));
        found
    }

    /// Its name, as shown to people.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => "AVX-512",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => "AVX2",
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => "NEON",
            Isa::Portable => "portable",
        }
    }

    /// Outputs it computes side by side. Eight columns of sums must fit its registers: 8 × 1 of AVX-512's 32 and of
    /// AVX2's 16, 8 × 2 of NEON's 32, 8 × 1 of SSE2's 16.
    pub(super) fn lanes(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => 16,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => 8,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => 8,
            Isa::Portable => 4,
        }
    }

    /// `output = weights × input + bias`, for every column of `input`; `output` is reshaped to fit.
    ///
    /// # Panics
    /// If the sizes do not match or the weights were packed for another kernel.
    pub fn product(self, weights: &Packed, input: &Columns, output: &mut Columns) {
        assert_eq!(input.rows(), weights.inputs(), "the layer does not fit its input");
        assert_eq!(weights.lanes(), self.lanes(), "the weights were packed for another kernel");
        output.reshape(weights.outputs(), input.count());
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                #[allow(unsafe_code, reason = "a kernel of this kind exists only where avx512f was detected")]
                unsafe {
                    product_avx512(weights, input, output);
                }
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                #[allow(unsafe_code, reason = "a kernel of this kind exists only where avx2 and fma were detected")]
                unsafe {
                    product_avx2(weights, input, output);
                }
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => {
                #[allow(unsafe_code, reason = "a kernel of this kind exists only where neon was detected")]
                unsafe {
                    product_neon(weights, input, output);
                }
            }
            Isa::Portable => product::<4, false>(weights, input, output),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn product_avx512(weights: &Packed, input: &Columns, output: &mut Columns) {
    product::<16, true>(weights, input, output);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn product_avx2(weights: &Packed, input: &Columns, output: &mut Columns) {
    product::<8, true>(weights, input, output);
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn product_neon(weights: &Packed, input: &Columns, output: &mut Columns) {
    product::<8, true>(weights, input, output);
}

/// Panels outside, blocks of columns inside: a panel comes from memory for the first block and from the cache for the
/// rest, which is why a batch costs little more than a single request.
#[inline(always)]
#[allow(clippy::inline_always, reason = "the body takes on its caller's instruction set only when inlined into it")]
fn product<const LANES: usize, const FMA: bool>(weights: &Packed, input: &Columns, output: &mut Columns) {
    for index in 0..weights.outputs() / LANES {
        let (panel, _) = weights.panel(index).as_chunks::<LANES>();
        let (bias, _) = weights.panel_bias(index).as_chunks::<LANES>();
        for block in 0..input.blocks() {
            let source = input.block(block);
            let width = input.width(block);
            let target = &mut output.block_mut(block)[index * LANES * width..][..LANES * width];
            match width {
                1 => panel_block::<LANES, 1, FMA>(panel, &bias[0], source, target),
                2 => panel_block::<LANES, 2, FMA>(panel, &bias[0], source, target),
                3 => panel_block::<LANES, 3, FMA>(panel, &bias[0], source, target),
                4 => panel_block::<LANES, 4, FMA>(panel, &bias[0], source, target),
                5 => panel_block::<LANES, 5, FMA>(panel, &bias[0], source, target),
                6 => panel_block::<LANES, 6, FMA>(panel, &bias[0], source, target),
                7 => panel_block::<LANES, 7, FMA>(panel, &bias[0], source, target),
                _ => panel_block::<LANES, 8, FMA>(panel, &bias[0], source, target),
            }
        }
    }
}

/// One panel times one block of `WIDTH` columns; the sums stay in registers.
#[inline(always)]
#[allow(clippy::inline_always, reason = "the body takes on its caller's instruction set only when inlined into it")]
fn panel_block<const LANES: usize, const WIDTH: usize, const FMA: bool>(
    panel: &[[f32; LANES]],
    bias: &[f32; LANES],
    source: &[f32],
    target: &mut [f32],
) {
    let (source, _) = source.as_chunks::<WIDTH>();
    let (target, _) = target.as_chunks_mut::<WIDTH>();
    let mut sums = [*bias; WIDTH];
    for (weights, inputs) in panel.iter().zip(source) {
        for (sum, input) in sums.iter_mut().zip(inputs) {
            for (sum, weight) in sum.iter_mut().zip(weights) {
                // Without the instruction `mul_add` is a library call, a hundred times slower than this.
                *sum = if FMA { weight.mul_add(*input, *sum) } else { weight * input + *sum };
            }
        }
    }
    for (lane, row) in target.iter_mut().enumerate() {
        for (value, sum) in row.iter_mut().zip(&sums) {
            *value = sum[lane];
        }
    }
}

/// The textbook product, one column at a time: what the kernels are tested against and compared with.
pub fn naive_product(weights: &Packed, input: &Columns, output: &mut Columns) {
    output.reshape(weights.outputs(), input.count());
    for column in 0..input.count() {
        for row in 0..weights.outputs() {
            let sum = (0..weights.inputs()).map(|i| weights.weight(row, i) * input.at(i, column)).sum();
            output.set(row, column, sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn every_kernel_agrees_with_the_textbook_for_every_batch_size() {
        for kernel in Kernel::available() {
            for (outputs, inputs) in [(16, 1), (48, 37), (64, 256)] {
                let mut rng = Rng::new(3);
                let weights = Packed::random(outputs, inputs, kernel, &mut rng);
                for count in (1..=9).chain([16, 17, 24]) {
                    let mut input = Columns::zeros(inputs, count);
                    for value in input.values_mut() {
                        *value = rng.signed();
                    }
                    let (mut fast, mut slow) = (Columns::default(), Columns::default());
                    kernel.product(&weights, &input, &mut fast);
                    naive_product(&weights, &input, &mut slow);
                    for column in 0..count {
                        for row in 0..outputs {
                            let (a, b) = (fast.at(row, column), slow.at(row, column));
                            assert!((a - b).abs() < 1e-4, "{}: {outputs}x{inputs}x{count} at {row},{column}: {a} and {b}", kernel.name());
                        }
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "the layer does not fit its input")]
    fn a_wrong_shape_is_refused() {
        let kernel = Kernel::detect();
        let weights = Packed::random(16, 4, kernel, &mut Rng::new(0));
        kernel.product(&weights, &Columns::zeros(5, 1), &mut Columns::default());
    }
}
