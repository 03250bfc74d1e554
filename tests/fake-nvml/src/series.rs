//! How one scripted value moves: by call, or by seconds since `nvmlInit`.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize;
use serde_json::Value;

/// A scripted value. The forms it can take in a scenario are listed in the crate's documentation.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
pub struct Series {
    shape: Shape,
    calls: AtomicUsize,
}

#[derive(Debug, PartialEq)]
enum Shape {
    Steps(Vec<f64>),
    Cycle(Vec<f64>),
    At { points: Vec<(f64, f64)>, repeat_s: Option<f64> },
    Ramp { from: f64, to: f64, seconds: f64, repeat_s: Option<f64> },
    Counter { start: f64, per_second: f64 },
    Rates { points: Vec<(f64, f64)>, repeat_s: Option<f64>, full_at: Option<f64>, each_s: Option<f64> },
    Garbage { seed: u64 },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Garbage {
    garbage: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cycle {
    cycle: Vec<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    at: Vec<(f64, f64)>,
    repeat_s: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ramp {
    #[serde(rename = "ramp")]
    from_to: (f64, f64),
    seconds: f64,
    repeat_s: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Counter {
    start: f64,
    per_second: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rates {
    #[serde(rename = "rates")]
    points: Vec<(f64, f64)>,
    repeat_s: Option<f64>,
    full_at: Option<f64>,
    each_s: Option<f64>,
}

impl Series {
    /// The value for the next call, `elapsed_s` seconds after `nvmlInit`.
    pub fn next(&self, elapsed_s: f64) -> f64 {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        match &self.shape {
            Shape::Steps(values) => values[call.min(values.len() - 1)],
            Shape::Cycle(values) => values[call % values.len()],
            Shape::At { points, repeat_s } => {
                let now = wrapped(elapsed_s, *repeat_s);
                let reached = points.iter().take_while(|(from, _)| *from <= now).last();
                reached.unwrap_or(&points[0]).1
            }
            Shape::Ramp { from, to, seconds, repeat_s } => {
                let share = (wrapped(elapsed_s, *repeat_s) / seconds).min(1.0);
                from + (to - from) * share
            }
            Shape::Counter { start, per_second } => start + per_second * elapsed_s,
            Shape::Rates { points, repeat_s, full_at, each_s } => {
                let refreshed_s = each_s.map_or(elapsed_s, |each| (elapsed_s / each).floor() * each);
                let counted = counted(points, refreshed_s, *repeat_s);
                full_at.map_or(counted, |full| counted.floor() % full)
            }
            Shape::Garbage { seed } => garbage(seed.wrapping_add(call as u64)),
        }
    }

    /// The smallest value the series can reach; negative infinity for a counter that falls.
    pub(crate) fn lowest(&self) -> f64 {
        match &self.shape {
            Shape::Steps(values) | Shape::Cycle(values) => values.iter().copied().fold(f64::INFINITY, f64::min),
            Shape::At { points, .. } => points.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min),
            Shape::Ramp { from, to, .. } => from.min(*to),
            Shape::Counter { per_second, .. } if *per_second < 0.0 => f64::NEG_INFINITY,
            Shape::Counter { start, .. } => *start,
            Shape::Rates { points, .. } if points.iter().any(|(_, rate)| *rate < 0.0) => f64::NEG_INFINITY,
            Shape::Rates { .. } | Shape::Garbage { .. } => 0.0,
        }
    }
}

/// What a counter reaches that rises at each of these rates from its second on, and at none before the first.
fn counted(points: &[(f64, f64)], elapsed_s: f64, repeat_s: Option<f64>) -> f64 {
    let until = |second: f64| -> f64 {
        let ends = points.iter().skip(1).map(|(from, _)| *from).chain([f64::INFINITY]);
        points.iter().zip(ends).map(|((from, rate), to)| rate * (second.min(to) - from).max(0.0)).sum()
    };
    repeat_s.map_or_else(
        || until(elapsed_s),
        |period| (elapsed_s / period).floor() * until(period) + until(elapsed_s % period),
    )
}

/// A number of any size, the same for the same seed.
fn garbage(seed: u64) -> f64 {
    // SplitMix64.
    let mut bits = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^= bits >> 31;
    match bits % 7 {
        0 => 0.0,
        1 | 2 => f64::from((bits >> 8) as u8),
        3 => (bits >> 32) as f64,
        4 => f64::from(u32::MAX),
        5 => bits as f64,
        _ => f64::NAN,
    }
}

fn wrapped(elapsed_s: f64, repeat_s: Option<f64>) -> f64 {
    repeat_s.map_or(elapsed_s, |period| elapsed_s % period)
}

impl TryFrom<Value> for Series {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let shape = shape(&value).map_err(|reason| format!("series `{value}`: {reason}"))?;
        Ok(Self { shape, calls: AtomicUsize::new(0) })
    }
}

fn shape(value: &Value) -> Result<Shape, String> {
    match value {
        Value::Number(number) => Ok(Shape::Steps(vec![number.as_f64().ok_or("not a finite number")?])),
        Value::Array(_) => Ok(Shape::Steps(not_empty(parse(value)?)?)),
        Value::Object(keys) if keys.contains_key("cycle") => Ok(Shape::Cycle(not_empty(parse::<Cycle>(value)?.cycle)?)),
        Value::Object(keys) if keys.contains_key("at") => {
            let At { at, repeat_s } = parse(value)?;
            let points = not_empty(at)?;
            if !points.is_sorted_by(|earlier, later| earlier.0 < later.0) {
                return Err("the seconds of `at` must rise".into());
            }
            Ok(Shape::At { points, repeat_s: positive("repeat_s", repeat_s)? })
        }
        Value::Object(keys) if keys.contains_key("ramp") => {
            let Ramp { from_to: (from, to), seconds, repeat_s } = parse(value)?;
            positive("seconds", Some(seconds))?;
            Ok(Shape::Ramp { from, to, seconds, repeat_s: positive("repeat_s", repeat_s)? })
        }
        Value::Object(keys) if keys.contains_key("rates") => {
            let Rates { points, repeat_s, full_at, each_s } = parse(value)?;
            let points = not_empty(points)?;
            if !points.is_sorted_by(|earlier, later| earlier.0 < later.0) {
                return Err("the seconds of `rates` must rise".into());
            }
            let repeat_s = positive("repeat_s", repeat_s)?;
            Ok(Shape::Rates { points, repeat_s, full_at: positive("full_at", full_at)?, each_s: positive("each_s", each_s)? })
        }
        Value::Object(keys) if keys.contains_key("garbage") => {
            Ok(Shape::Garbage { seed: parse::<Garbage>(value)?.garbage })
        }
        Value::Object(keys) if keys.contains_key("per_second") => {
            let Counter { start, per_second } = parse(value)?;
            Ok(Shape::Counter { start, per_second })
        }
        _ => Err(
            "expected a number, a list of numbers, or an object with `cycle`, `at`, `ramp`, `rates`, `garbage` or `per_second`"
                .into(),
        ),
    }
}

fn parse<T: for<'de> Deserialize<'de>>(value: &Value) -> Result<T, String> {
    T::deserialize(value).map_err(|error| error.to_string())
}

fn not_empty<T>(values: Vec<T>) -> Result<Vec<T>, String> {
    if values.is_empty() { Err("needs at least one value".into()) } else { Ok(values) }
}

fn positive(key: &str, value: Option<f64>) -> Result<Option<f64>, String> {
    match value {
        Some(value) if value <= 0.0 => Err(format!("`{key}` must be above 0")),
        other => Ok(other),
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "scripted values come back exactly")]
mod tests {
    use serde_json::json;

    use super::*;

    fn series(value: Value) -> Series {
        Series::try_from(value).expect("a valid series")
    }

    #[test]
    fn steps_go_by_call_and_hold_the_last() {
        let steps = series(json!([1, 2]));
        assert_eq!([steps.next(0.0), steps.next(9.0), steps.next(0.0)], [1.0, 2.0, 2.0]);
        let cycle = series(json!({"cycle": [1, 2]}));
        assert_eq!([cycle.next(0.0), cycle.next(0.0), cycle.next(0.0)], [1.0, 2.0, 1.0]);
    }

    #[test]
    fn timed_shapes_go_by_the_clock_not_by_call() {
        let at = series(json!({"at": [[0, 10], [5, 97]], "repeat_s": 10}));
        assert_eq!([at.next(0.0), at.next(4.9), at.next(5.0), at.next(12.0)], [10.0, 10.0, 97.0, 10.0]);
        let ramp = series(json!({"ramp": [0, 100], "seconds": 10}));
        assert_eq!([ramp.next(0.0), ramp.next(5.0), ramp.next(99.0)], [0.0, 50.0, 100.0]);
        let counter = series(json!({"start": 7, "per_second": 2}));
        assert_eq!([counter.next(0.0), counter.next(1.5)], [7.0, 10.0]);
    }

    #[test]
    fn a_counter_rises_at_its_rates_begins_anew_when_it_is_full_and_stands_still_between_refreshes() {
        let bursts = series(json!({"rates": [[0, 1], [4, 10]], "repeat_s": 5}));
        assert_eq!([0.0, 2.0, 4.5, 5.0, 9.5].map(|at| bursts.next(at)), [0.0, 2.0, 9.0, 14.0, 23.0]);
        let short = series(json!({"rates": [[0, 10]], "full_at": 16, "each_s": 2}));
        assert_eq!([0.0, 1.9, 2.0, 3.9, 4.0].map(|at| short.next(at)), [0.0, 0.0, 4.0, 4.0, 8.0]);
        let late = series(json!({"rates": [[3, 10]]}));
        assert_eq!([2.0, 3.5].map(|at| late.next(at)), [0.0, 5.0]);
    }

    #[test]
    fn garbage_is_of_every_size_and_the_same_for_the_same_seed() {
        let of = |seed| {
            let series = series(json!({"garbage": seed}));
            std::array::from_fn::<_, 64, _>(|_| series.next(0.0).to_bits())
        };
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
        let drawn = of(7).map(f64::from_bits);
        assert!(drawn.contains(&0.0) && drawn.iter().any(|value| value.is_nan()));
        assert!(drawn.iter().any(|value| *value > 1e15) && drawn.iter().any(|value| (1.0..256.0).contains(value)));
    }

    #[test]
    fn a_series_that_cannot_be_played_says_why() {
        let refused = [
            (json!([]), "at least one value"),
            (json!("on"), "expected a number"),
            (json!({"cycle": [1], "ramp": [0, 1]}), "unknown field"),
            (json!({"at": [[5, 1], [0, 2]]}), "must rise"),
            (json!({"ramp": [0, 1], "seconds": 0}), "above 0"),
            (json!({"rates": [[5, 1], [0, 2]]}), "must rise"),
            (json!({"rates": [[0, 1]], "full_at": 0}), "above 0"),
        ];
        for (value, reason) in refused {
            let error = Series::try_from(value.clone()).expect_err("refused");
            assert!(error.contains(reason), "{value}: {error}");
        }
    }
}
