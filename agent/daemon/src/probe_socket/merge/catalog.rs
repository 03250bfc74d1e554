//! Metrics that servers bring along: distributions with names of their own.

use std::collections::{HashMap, HashSet};

use perfwatch_model::{MetricDef, Unit, metrics};

/// Own distributions that one agent takes from all its servers together. Each costs an export series per server.
const MAX_OWN: usize = 1_024;

/// Definitions of servers' own distributions. A definition lives as long as the agent, as the built-in ones do.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    own: HashMap<(String, String), Option<&'static MetricDef>>,
    names: HashSet<String>,
    refused: u64,
}

impl Catalog {
    /// The definition of a distribution with this name and unit; `None` when it is refused.
    pub(super) fn own(&mut self, name: &str, unit: &str) -> Option<&'static MetricDef> {
        let key = (name.to_owned(), unit.to_owned());
        if let Some(known) = self.own.get(&key) {
            self.refused += u64::from(known.is_none());
            return *known;
        }
        if self.own.len() >= MAX_OWN {
            self.refused += 1;
            return None;
        }
        // One name has one unit; the first to use it decides.
        let free = is_name(name) && metrics::find(name).is_none() && self.names.insert(name.to_owned());
        let made = free.then(|| -> &'static MetricDef {
            let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
            let brief = Box::leak(format!("The server's own distribution `{name}`.").into_boxed_str());
            Box::leak(Box::new(MetricDef::histogram(name, unit_of(unit), brief).full()))
        });
        self.refused += u64::from(made.is_none());
        self.own.insert(key, made);
        made
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused
    }
}

/// What OpenTelemetry allows as the name of an instrument, less the prefix that is ours.
fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/'))
        && !name.starts_with("perfwatch.")
}

fn unit_of(ucum: &str) -> Unit {
    match ucum {
        "ns" | "s" => Unit::Seconds,
        "1" | "" => Unit::Ratio,
        "By" => Unit::Bytes,
        other if other.chars().all(|c| c.is_ascii_graphic()) => {
            Unit::Count(Box::leak(other.to_owned().into_boxed_str()))
        }
        _ => Unit::Count("{item}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_definition_and_one_unit() {
        let mut catalog = Catalog::default();
        let first = catalog.own("llm.tokens", "{token}").expect("a fine name");
        assert!(std::ptr::eq(catalog.own("llm.tokens", "{token}").expect("known"), first));
        assert_eq!(first.unit, Unit::Count("{token}"));
        assert_eq!(catalog.own("llm.tokens", "By"), None);
        assert_eq!(catalog.refused(), 1);
    }

    #[test]
    fn names_that_are_ours_or_nobodys_are_refused() {
        let mut catalog = Catalog::default();
        for name in ["perfwatch.x", "system.cpu.time", "", "1st", "a\u{1b}[31m", "request duration"] {
            assert_eq!(catalog.own(name, "1"), None, "{name:?}");
        }
    }

    #[test]
    fn there_is_room_for_so_many_and_no_more() {
        let mut catalog = Catalog::default();
        for number in 0..MAX_OWN {
            assert!(catalog.own(&format!("own.{number}"), "1").is_some());
        }
        assert_eq!(catalog.own("one.more", "1"), None);
    }
}
