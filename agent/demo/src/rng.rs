//! A small seeded random number generator: same seed, same weights, same texts, same arrivals, on every machine.

/// `SplitMix64`: one addition and a few mixes per number, no state worth more than its seed.
#[derive(Debug, Clone)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// Starts the sequence that belongs to `seed`; neighbouring seeds give unrelated sequences.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        // 53 bits are what a double holds exactly.
        (self.bits() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// A number in `-1.0..1.0`, for weights.
    pub fn signed(&mut self) -> f32 {
        // 24 bits are what a float holds exactly; one draw per weight keeps start-up short.
        (self.bits() >> 40) as f32 * (2.0 / (1_u32 << 24) as f32) - 1.0
    }

    /// An integer in `0..bound`; `bound` must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias is bound / 2^64: nothing here can see it.
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// An exponentially distributed number with mean 1: the gaps of a Poisson process.
    pub fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_sequence() {
        let (mut a, mut b) = (Rng::new(7), Rng::new(7));
        assert!((0..100).all(|_| a.bits() == b.bits()));
        assert_ne!(Rng::new(7).bits(), Rng::new(8).bits());
    }

    #[test]
    fn the_distributions_have_the_moments_they_promise() {
        let mut rng = Rng::new(1);
        let n = 100_000;
        let (mut unit, mut signed, mut exponential) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            let u = rng.unit();
            assert!((0.0..1.0).contains(&u));
            let s = f64::from(rng.signed());
            assert!((-1.0..1.0).contains(&s));
            assert!(rng.below(10) < 10);
            let e = rng.exponential();
            assert!(e >= 0.0);
            unit += u;
            signed += s;
            exponential += e;
        }
        let n = f64::from(n);
        assert!((unit / n - 0.5).abs() < 0.01);
        assert!((signed / n).abs() < 0.01);
        assert!((exponential / n - 1.0).abs() < 0.02);
    }
}
