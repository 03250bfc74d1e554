//! Units as senders write them, and what their numbers are worth in perfwatch's.

use perfwatch_model::{Number, Unit};

/// What one of a sender's numbers is worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    /// Times this it is in the metric's unit.
    pub(super) outside: f64,
    /// The metric's unit.
    pub(super) unit: Unit,
}

impl Scale {
    /// Factor from the sender's number to an inside integer.
    pub(super) fn inside(self) -> f64 {
        self.outside / self.unit.scale()
    }

    /// Whether values of this unit are kept as integers, so that a distribution of them fits perfwatch's own buckets.
    pub(super) fn is_integral(self) -> bool {
        matches!(self.unit, Unit::Seconds | Unit::Bytes | Unit::Joules | Unit::Count(_))
    }

    /// A sender's integer, which stays one in every unit of which ours is a whole part: totals of integers are exact.
    pub(super) fn int(self, value: i64) -> Number {
        let factor = self.inside().round();
        let is_whole = factor >= 1.0 && (factor - self.inside()).abs() < factor * 1e-9;
        match u64::try_from(value) {
            Ok(value) if is_whole => Number::Int(value.saturating_mul(factor as u64)),
            _ => self.float(value as f64),
        }
    }

    /// A sender's floating-point number. Times and energies become integers of nanoseconds and millijoules.
    pub(super) fn float(self, value: f64) -> Number {
        match self.unit {
            Unit::Seconds | Unit::Joules if value >= 0.0 => Number::Int((value * self.inside()).round() as u64),
            _ => Number::Float(value * self.outside),
        }
    }
}

/// The unit that a UCUM text stands for; `None` for a unit that only the caller can name.
pub(super) fn known(ucum: &str) -> Option<Scale> {
    let (unit, outside) = match ucum {
        "s" => (Unit::Seconds, 1.0),
        "ms" => (Unit::Seconds, 1e-3),
        "us" | "\u{b5}s" | "\u{3bc}s" => (Unit::Seconds, 1e-6),
        "ns" => (Unit::Seconds, 1e-9),
        "min" => (Unit::Seconds, 60.0),
        "h" => (Unit::Seconds, 3_600.0),
        "By" => (Unit::Bytes, 1.0),
        "kBy" => (Unit::Bytes, 1e3),
        "MBy" => (Unit::Bytes, 1e6),
        "KiBy" => (Unit::Bytes, 1_024.0),
        "MiBy" => (Unit::Bytes, 1_048_576.0),
        "1" | "" => (Unit::Ratio, 1.0),
        "%" => (Unit::Ratio, 0.01),
        "Hz" => (Unit::Hertz, 1.0),
        "MHz" => (Unit::Hertz, 1e6),
        "W" => (Unit::Watts, 1.0),
        "mW" => (Unit::Watts, 1e-3),
        "J" => (Unit::Joules, 1.0),
        "mJ" => (Unit::Joules, 1e-3),
        "Cel" => (Unit::Celsius, 1.0),
        _ => return None,
    };
    Some(Scale { outside, unit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_nanoseconds_whatever_they_came_in() {
        let inside = |ucum: &str, value: f64| known(ucum).expect("known").float(value);
        assert_eq!(inside("s", 1.5), Number::Int(1_500_000_000));
        assert_eq!(inside("ms", 1.5), Number::Int(1_500_000));
        assert_eq!(inside("us", 1.0), Number::Int(1_000));
        assert_eq!(known("ns").expect("known").int(7), Number::Int(7));
        assert_eq!(known("ms").expect("known").int(7), Number::Int(7_000_000));
    }

    #[test]
    fn integers_stay_integers_in_every_unit_that_holds_them() {
        for ucum in ["1", "", "By", "Hz", "W", "Cel"] {
            assert_eq!(known(ucum).expect("known").int(3), Number::Int(3), "{ucum}");
        }
        assert_eq!(known("KiBy").expect("known").int(3), Number::Int(3_072));
        assert_eq!(known("h").expect("known").int(i64::MAX), Number::Int(u64::MAX), "and are bounded");
        assert_eq!(known("1").expect("known").float(3.0), Number::Float(3.0));
        assert_eq!(known("Cel").expect("known").int(-3), Number::Float(-3.0));
    }

    #[test]
    fn fractions_stay_fractions() {
        assert_eq!(known("%").expect("known").int(50), Number::Float(0.5));
        assert_eq!(known("1").expect("known").float(0.25), Number::Float(0.25));
        assert_eq!(known("By").expect("known").int(3), Number::Int(3));
        assert_eq!(known("{token}"), None);
    }
}
