//! A mean and how well it is known.

/// 0.975 quantiles of Student's distribution, from one degree of freedom on. With more than there are here the last one is a little
/// too wide.
const QUANTILES: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// A mean with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Interval {
    pub(crate) mean: f64,
    /// Of the interval's width.
    pub(crate) half: f64,
}

impl Interval {
    /// Of independent measurements. One alone says nothing about how well it is known.
    pub(crate) fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let Some(freedom) = values.len().checked_sub(2) else { return Self { mean, half: f64::INFINITY } };
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
        Self { mean, half: QUANTILES[freedom.min(QUANTILES.len() - 1)] * (variance / count).sqrt() }
    }

    /// What may be said of a loss that is to be below a limit.
    pub(crate) fn verdict(self, limit: f64) -> String {
        if self.mean + self.half < limit { format!("< {} %", limit * 100.0) } else { "unresolved".to_owned() }
    }
}

/// What B lost of A's rate in measurements made in the order A, B, B, A: what drifts evenly is no part of it.
pub(crate) fn loss([first, second, third, fourth]: [f64; 4]) -> f64 {
    1.0 - (second + third) / (first + fourth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_students() {
        let interval = Interval::of(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!((interval.mean - 3.0).abs() < 1e-9 && (interval.half - 2.776 * 0.5_f64.sqrt()).abs() < 1e-9);
        assert!(Interval::of(&[7.0]).half.is_infinite());
        let many = Interval::of(&(0..1000).map(|at| f64::from(at % 2)).collect::<Vec<_>>());
        assert!((many.half - 2.042 * (0.25 / 999.0_f64).sqrt()).abs() < 1e-6, "{many:?}");
    }

    #[test]
    fn a_loss_is_small_only_where_the_whole_interval_is() {
        let verdict = |mean, half| Interval { mean, half }.verdict(0.001);
        assert_eq!(verdict(0.0002, 0.0005), "< 0.1 %");
        assert_eq!(verdict(-0.003, 0.001), "< 0.1 %", "faster is no loss");
        assert_eq!([verdict(0.0002, 0.0009), verdict(0.002, 0.0001)], ["unresolved", "unresolved"]);
        assert_eq!(verdict(0.0, f64::INFINITY), "unresolved");
    }

    #[test]
    fn an_even_drift_is_no_loss() {
        assert!(loss([100.0, 99.0, 98.0, 97.0]).abs() < 1e-9);
        assert!((loss([100.0, 90.0, 90.0, 100.0]) - 0.1).abs() < 1e-9);
    }
}
