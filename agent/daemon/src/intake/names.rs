//! Metrics and attribute keys that senders bring along. perfwatch's own live as long as the program, and so do these:
//! both are bounded.

use std::collections::{HashMap, HashSet};

use perfwatch_model::{Instrument, MetricDef, Unit, metrics};

use super::units::{self, Scale};

/// Metrics that one agent takes from all its senders together.
const MAX_METRICS: usize = 1_024;
/// Attribute keys.
const MAX_KEYS: usize = 512;
/// Longest name of a metric, as OpenTelemetry bounds it.
const MAX_NAME: usize = 255;
/// Longest unit; OpenTelemetry allows 63.
const MAX_UNIT: usize = 63;

#[derive(Clone, Debug)]
struct Known {
    metric: &'static MetricDef,
    ucum: String,
    scale: Scale,
}

/// What is known by name.
#[derive(Debug, Default)]
pub(super) struct Names {
    metrics: HashMap<String, Known>,
    keys: HashSet<&'static str>,
}

impl Names {
    /// The definition of a sender's metric, and what its numbers are worth. One name has one unit and one instrument: those
    /// that it first came with.
    pub(super) fn metric(
        &mut self,
        name: &str,
        ucum: &str,
        instrument: Instrument,
    ) -> Result<(&'static MetricDef, Scale), String> {
        if let Some(known) = self.metrics.get(name) {
            if known.ucum != ucum || known.metric.instrument != instrument {
                let (unit, was) = (known.metric.unit.ucum(), known.metric.instrument);
                return Err(format!("{name} was a {was:?} in {unit} before").to_lowercase());
            }
            return Ok((known.metric, known.scale));
        }
        if !is_name(name) || ucum.len() > MAX_UNIT || !ucum.chars().all(|c| !c.is_control() && c != ' ') {
            return Err("a metric has no name, or a name or unit that OpenTelemetry does not allow".to_owned());
        }
        if name.starts_with("perfwatch.") {
            return Err(format!("{name} belongs to perfwatch itself"));
        }
        if self.metrics.len() >= MAX_METRICS {
            return Err(format!("this agent takes {MAX_METRICS} metrics and knows as many already"));
        }
        let known = units::known(ucum);
        let (metric, scale) = if let Some(ours) = metrics::find(name) {
            let same = matches!(ours.unit, Unit::Count(what) if what == ucum);
            let scale = known.or_else(|| same.then_some(Scale { outside: 1.0, unit: ours.unit }));
            let scale = scale.filter(|scale| scale.unit == ours.unit && ours.instrument == instrument);
            let here = || format!("{name} is a {:?} in {} here", ours.instrument, ours.unit.ucum()).to_lowercase();
            (ours, scale.ok_or_else(here)?)
        } else {
            // From here on it is kept: what is refused must not stay behind.
            let scale = known.unwrap_or_else(|| Scale { outside: 1.0, unit: Unit::Count(keep(ucum)) });
            (define(name, scale.unit, instrument), scale)
        };
        self.metrics.insert(name.to_owned(), Known { metric, ucum: ucum.to_owned(), scale });
        Ok((metric, scale))
    }

    /// An attribute's key; `None` when there are too many.
    pub(super) fn key(&mut self, key: &str) -> Option<&'static str> {
        if let Some(known) = self.keys.get(key) {
            return Some(known);
        }
        if self.keys.len() >= MAX_KEYS || key.is_empty() || key.len() > MAX_NAME || key.chars().any(char::is_control) {
            return None;
        }
        let key = keep(key);
        self.keys.insert(key);
        Some(key)
    }
}

/// A text for as long as the program lives.
fn keep(text: &str) -> &'static str {
    #[cfg(test)]
    tests::KEPT.with(|kept| kept.set(kept.get() + 1));
    Box::leak(text.to_owned().into_boxed_str())
}

fn define(name: &str, unit: Unit, instrument: Instrument) -> &'static MetricDef {
    let (name, brief) = (keep(name), keep(&format!("`{name}`, as the server sent it.")));
    let metric = match instrument {
        Instrument::Gauge => MetricDef::gauge(name, unit, brief),
        Instrument::Counter => MetricDef::counter(name, unit, brief),
        Instrument::Histogram => MetricDef::histogram(name, unit, brief),
    };
    Box::leak(Box::new(metric.full()))
}

/// OpenTelemetry's rule, and the colon that Prometheus allows: the Collector passes `vllm:…` on as it is.
fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ':'))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// Texts that this thread has kept.
        pub(super) static KEPT: Cell<usize> = const { Cell::new(0) };
    }

    #[test]
    fn what_is_refused_leaves_nothing_behind() {
        let mut names = Names::default();
        names.metric("shop.items", "{item}", Instrument::Counter).expect("a fine name");
        let before = KEPT.get();
        for number in 0..100 {
            let unit = format!("{{thing{number}}}");
            assert!(names.metric("system.cpu.time", &unit, Instrument::Counter).is_err(), "ours is in seconds");
            assert!(names.metric("shop.items", &unit, Instrument::Counter).is_err(), "was in items");
            assert!(names.metric("perfwatch.mine", &unit, Instrument::Counter).is_err(), "ours alone");
        }
        assert_eq!(KEPT.get(), before);
        names.metric("shop.other", "{thing}", Instrument::Counter).expect("a fine name");
        assert_eq!(KEPT.get(), before + 3, "name, brief and unit");
    }

    #[test]
    fn a_name_keeps_the_unit_and_instrument_it_came_with() {
        let mut names = Names::default();
        let (metric, _) = names.metric("vllm:num_requests_running", "", Instrument::Gauge).expect("a fine name");
        let (again, _) = names.metric("vllm:num_requests_running", "", Instrument::Gauge).expect("known");
        assert!(std::ptr::eq(metric, again));
        let error = names.metric("vllm:num_requests_running", "s", Instrument::Gauge).expect_err("another unit");
        assert_eq!(error, "vllm:num_requests_running was a gauge in 1 before");
    }

    #[test]
    fn names_that_are_ours_or_nobodys_are_refused() {
        let mut names = Names::default();
        for name in ["perfwatch.server.requests", "", "1st", "a\u{1b}[31m", "request duration"] {
            assert!(names.metric(name, "1", Instrument::Gauge).is_err(), "{name:?}");
        }
        let (ours, _) = names.metric("system.cpu.time", "s", Instrument::Counter).expect("the same as ours");
        assert!(std::ptr::eq(ours, metrics::find("system.cpu.time").expect("ours")));
        assert!(names.metric("system.memory.usage", "s", Instrument::Gauge).is_err(), "ours is in bytes");
    }

    #[test]
    fn there_is_room_for_so_many_and_no_more() {
        let mut names = Names::default();
        for number in 0..MAX_KEYS {
            assert!(names.key(&format!("key.{number}")).is_some());
        }
        assert_eq!(names.key("one.more"), None);
        assert_eq!(names.key("key.0"), Some("key.0"), "the known ones go on");
        for number in 0..MAX_METRICS {
            assert!(names.metric(&format!("m.{number}"), "1", Instrument::Gauge).is_ok());
        }
        assert!(names.metric("m", "1", Instrument::Gauge).is_err());
    }
}
