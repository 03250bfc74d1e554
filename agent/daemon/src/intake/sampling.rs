//! How many requests a traced one stands for.

/// What is known about sampling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Sampling {
    /// Nothing: neither the span nor the configuration says it.
    Unknown,
    /// This share is traced, above 0, up to 1.
    Share(f64),
}

impl Sampling {
    /// What a span's `tracestate` says, else what the configuration says.
    ///
    /// OpenTelemetry's consistent sampling writes the rejection threshold: `ot=th:8` rejects below 0x8 of 0x10 (the digits
    /// that follow are zeros), so half are traced; `th:0` rejects none.
    pub(super) fn of(trace_state: &str, configured: Option<f64>) -> Self {
        threshold(trace_state).or(configured).map_or(Self::Unknown, Self::Share)
    }
}

fn threshold(trace_state: &str) -> Option<f64> {
    let ot = trace_state.split(',').find_map(|member| member.trim().strip_prefix("ot="))?;
    let digits = ot.split(';').find_map(|field| field.strip_prefix("th:"))?;
    if digits.is_empty() || digits.len() > 14 {
        return None;
    }
    let rejected = u64::from_str_radix(digits, 16).ok()? << (4 * (14 - digits.len()));
    let share = 1.0 - rejected as f64 / (1_u64 << 56) as f64;
    (share > 0.0).then_some(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_knows_better_than_the_configuration() {
        assert_eq!(Sampling::of("ot=th:0", Some(0.1)), Sampling::Share(1.0));
        assert_eq!(Sampling::of("vendor=x,ot=rv:1;th:8", None), Sampling::Share(0.5));
        assert_eq!(Sampling::of("ot=th:c", None), Sampling::Share(0.25));
        assert_eq!(Sampling::of("", Some(0.1)), Sampling::Share(0.1));
        assert_eq!(Sampling::of("", None), Sampling::Unknown);
        assert_eq!(Sampling::of("ot=th:xyz", None), Sampling::Unknown);
        assert_eq!(Sampling::of("ot=th:123456789012345", None), Sampling::Unknown);
    }
}
