//! The matrix product, for each instruction set, chosen at run time.
//!
//! One body, instantiated with each instruction set's vector operations: left to the auto-vectoriser, the same loop ran
//! twenty times slower under AVX-512 than under AVX2. `unsafe` is left for two things only: loads and stores through
//! pointers to arrays of exactly a vector's size, and calls whose one precondition is a detected feature.

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

    /// Outputs it computes side by side. Eight columns of sums must fit the 16 or 32
    /// vector registers beside the weights and the input, so it is one vector everywhere.
    pub(super) fn lanes(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => 16,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => 8,
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => 4,
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
            Isa::Portable => product_portable(weights, input, output),
        }
    }
}

/// Panels outside, blocks of columns inside: a panel comes from memory for the first block and from the cache for the
/// rest, which is why a batch costs little more than a single request.
macro_rules! product {
    ($lanes:literal, $panel_block:ident, $weights:ident, $input:ident, $output:ident) => {
        for index in 0..$weights.outputs() / $lanes {
            let (panel, _) = $weights.panel(index).as_chunks::<$lanes>();
            let (bias, _) = $weights.panel_bias(index).as_chunks::<$lanes>();
            for block in 0..$input.blocks() {
                let source = $input.block(block);
                let width = $input.width(block);
                let target = &mut $output.block_mut(block)[index * $lanes * width..][..$lanes * width];
                match width {
                    1 => $panel_block::<1>(panel, &bias[0], source, target),
                    2 => $panel_block::<2>(panel, &bias[0], source, target),
                    3 => $panel_block::<3>(panel, &bias[0], source, target),
                    4 => $panel_block::<4>(panel, &bias[0], source, target),
                    5 => $panel_block::<5>(panel, &bias[0], source, target),
                    6 => $panel_block::<6>(panel, &bias[0], source, target),
                    7 => $panel_block::<7>(panel, &bias[0], source, target),
                    _ => $panel_block::<8>(panel, &bias[0], source, target),
                }
            }
        }
    };
}

/// Writes a panel's sums to their interleaved places.
#[inline]
fn scatter<const LANES: usize, const WIDTH: usize>(sums: &[[f32; LANES]; WIDTH], target: &mut [f32]) {
    let (target, _) = target.as_chunks_mut::<WIDTH>();
    for (lane, row) in target.iter_mut().enumerate() {
        for (value, sum) in row.iter_mut().zip(sums) {
            *value = sum[lane];
        }
    }
}

/// The product with one instruction set's vectors of `$lanes` floats.
macro_rules! simd_product {
    ($product:ident, $panel_block:ident, $features:literal, $lanes:literal, $arch:ident,
     $load:ident, $store:ident, $splat:ident, $fma:expr) => {
        #[target_feature(enable = $features)]
        fn $product(weights: &Packed, input: &Columns, output: &mut Columns) {
            product!($lanes, $panel_block, weights, input, output);
        }

        /// One panel times one block of `WIDTH` columns; the sums stay in registers.
        #[target_feature(enable = $features)]
        #[inline]
        #[allow(unsafe_code, reason = "each pointer is to an array of exactly one vector's size")]
        #[allow(clippy::needless_range_loop, reason = "iterators are not inlined here without link-time optimisation")]
        fn $panel_block<const WIDTH: usize>(
            panel: &[[f32; $lanes]],
            bias: &[f32; $lanes],
            source: &[f32],
            target: &mut [f32],
        ) {
            use std::arch::$arch::{$load, $splat, $store};
            let (source, _) = source.as_chunks::<WIDTH>();
            let source = &source[..panel.len()];
            let mut sums = [unsafe { $load(bias.as_ptr()) }; WIDTH];
            // Index loops, not iterators: those stayed calls in builds without link-time optimisation, four times
            // slower.
            for row in 0..panel.len() {
                let weights = unsafe { $load(panel[row].as_ptr()) };
                for column in 0..WIDTH {
                    sums[column] = $fma(weights, $splat(source[row][column]), sums[column]);
                }
            }
            let mut stored = [[0.0_f32; $lanes]; WIDTH];
            for column in 0..WIDTH {
                unsafe { $store(stored[column].as_mut_ptr(), sums[column]) };
            }
            scatter(&stored, target);
        }
    };
}

#[cfg(target_arch = "x86_64")]
simd_product!(
    product_avx512,
    panel_block_avx512,
    "avx512f",
    16,
    x86_64,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    std::arch::x86_64::_mm512_fmadd_ps
);

#[cfg(target_arch = "x86_64")]
simd_product!(
    product_avx2,
    panel_block_avx2,
    "avx2,fma",
    8,
    x86_64,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    std::arch::x86_64::_mm256_fmadd_ps
);

#[cfg(target_arch = "aarch64")]
simd_product!(
    product_neon,
    panel_block_neon,
    "neon",
    4,
    aarch64,
    vld1q_f32,
    vst1q_f32,
    vdupq_n_f32,
    // NEON's operand order is sum, factor, factor.
    |a, b, sum| std::arch::aarch64::vfmaq_f32(sum, a, b)
);

fn product_portable(weights: &Packed, input: &Columns, output: &mut Columns) {
    product!(4, panel_block_portable, weights, input, output);
}

/// Four lanes: what the baseline of every supported processor has.
#[inline]
#[allow(clippy::needless_range_loop, reason = "iterators are not inlined here without link-time optimisation")]
fn panel_block_portable<const WIDTH: usize>(panel: &[[f32; 4]], bias: &[f32; 4], source: &[f32], target: &mut [f32]) {
    let (source, _) = source.as_chunks::<WIDTH>();
    let source = &source[..panel.len()];
    let mut sums = [*bias; WIDTH];
    for row in 0..panel.len() {
        for column in 0..WIDTH {
            for lane in 0..4 {
                // Not `mul_add`: without the instruction it is a library call, a hundred times slower.
                sums[column][lane] += panel[row][lane] * source[row][column];
            }
        }
    }
    scatter(&sums, target);
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
                            assert!(
                                (a - b).abs() < 1e-4,
                                "{}: {outputs}x{inputs}x{count} at {row},{column}: {a} and {b}",
                                kernel.name()
                            );
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
