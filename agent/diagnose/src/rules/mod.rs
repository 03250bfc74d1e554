//! What can be wrong. One file per rule.
//!
//! A rule is data, words and one pure function of a [`ServerWindow`]. It has three answers, not two: what cannot be
//! decided, because a reading is missing, is said to be so. To add one, copy the nearest file and add two adjacent lines
//! here; a test catches the forgotten one.

mod answer;
mod bound;
mod cpu_contention;
mod cpu_quota_throttled;
mod data_loading_bound;
mod gpu_compute_bound;
mod gpu_memory_bandwidth_bound;
mod gpu_memory_nearly_full;
mod gpu_noisy_neighbour;
mod gpu_starved_by_host;
mod gpu_throttled;
mod gpu_unhealthy;
mod no_batching;
mod overload;

use std::borrow::Cow;

use perfwatch_model::{Evidence, MetricDef, Reason, Remedy, Severity};

use crate::{GpuWindow, HostFacts, ServerWindow};
use answer::Answer;

/// Every rule about a server, first the causes from outside it, then those inside it, last what is left when nothing else is
/// wrong. Findings of the same severity come in this order.
pub const RULES: &[&dyn Rule<ServerWindow>] = &[
    &cpu_quota_throttled::CpuQuotaThrottled,
    &cpu_contention::CpuContention,
    &no_batching::NoBatching,
    &data_loading_bound::DataLoadingBound,
    &overload::Overload,
];

/// Every rule about a GPU: what is broken first, what is taken from outside, what it waits for, what it is made for last.
pub const GPU_RULES: &[&dyn Rule<GpuWindow>] = &[
    &gpu_unhealthy::GpuUnhealthy,
    &gpu_throttled::GpuThrottled,
    &gpu_noisy_neighbour::GpuNoisyNeighbour,
    &gpu_memory_nearly_full::GpuMemoryNearlyFull,
    &gpu_starved_by_host::GpuStarvedByHost,
    &gpu_compute_bound::GpuComputeBound,
    &gpu_memory_bandwidth_bound::GpuMemoryBandwidthBound,
];

/// Which of them it is that looks at what a GPU went through.
pub(crate) const UNHEALTHY: usize = 0;

/// Every rule about the machine: it looks at the newest tick alone, which says how the machine is.
pub const HOST_RULES: &[&dyn Rule<HostFacts>] = &[&gpu_unhealthy::GpuUnhealthy];

pub(crate) use gpu_starved_by_host::is_starvation;
pub use gpu_unhealthy::SETTINGS;
pub(crate) use gpu_unhealthy::says_nothing;

/// Something that can be wrong with what a `Window` shows: a server, a GPU, the machine (of which one tick is enough).
pub trait Rule<Window>: Sync {
    /// Kebab-case name, the same as the file's.
    fn id(&self) -> &'static str;

    /// What is wrong when it fires, in a few words that need no numbers.
    fn summary(&self) -> &'static str;

    /// The metrics that the facts it looks at are made of.
    fn needs(&self) -> &'static [&'static MetricDef];

    /// True for a rule that no recording of a real GPU has proven yet. It is asked only where that is wanted.
    fn is_experimental(&self) -> bool {
        false
    }

    /// True for a rule that looks at no more than how things are at the end of the window, and is asked from the first
    /// tick on.
    fn is_of_the_moment(&self) -> bool {
        false
    }

    /// Looks at one window. The engine asks only when it is full, but for what is of the moment.
    fn judge(&self, window: &Window) -> Verdict;
}

/// A rule's answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It is wrong.
    Firing(Diagnosis),
    /// It is not.
    Clear,
    /// A reading is missing without which neither can be said.
    Undecided(Reason),
}

impl Verdict {
    fn of(answer: Answer, diagnosis: impl FnOnce() -> Diagnosis) -> Self {
        match answer {
            Ok(true) => Self::Firing(diagnosis()),
            Ok(false) => Self::Clear,
            Err(reason) => Self::Undecided(reason),
        }
    }
}

/// What a rule that fires has to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong, as a sentence with its numbers.
    pub detail: String,
    /// What that rests on.
    pub evidence: Vec<Evidence>,
    /// What to try, best first.
    pub remedies: Vec<Remedy>,
}

/// Severity of a cause that costs capacity: critical once users feel it.
fn by_harm(window: &ServerWindow) -> Severity {
    if window.load.users_are_hurt() { Severity::Critical } else { Severity::Warning }
}

/// Whether something outside the server takes its CPUs away: a quota or neighbours.
fn external_cause(window: &ServerWindow) -> Answer {
    answer::any([cpu_quota_throttled::holds(window), cpu_contention::holds(window)])
}

fn remedy(action: impl Into<Cow<'static, str>>, why: &'static str) -> Remedy {
    Remedy { action: action.into(), why: Cow::Borrowed(why) }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// `; p99 was 52 ms`, or nothing when no request ended.
fn p99_clause(window: &ServerWindow) -> String {
    match window.p99_s() {
        Some(p99) if p99 < 1.0 => format!("; p99 was {:.0} ms", p99 * 1e3),
        Some(p99) => format!("; p99 was {p99:.1} s"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfwatch_model::metrics;
    use std::collections::BTreeSet;

    /// Id, summary and needs of every rule.
    fn all() -> impl Iterator<Item = (&'static str, &'static str, &'static [&'static MetricDef])> {
        let of_servers = RULES.iter().map(|rule| (rule.id(), rule.summary(), rule.needs()));
        let of_gpus = GPU_RULES.iter().map(|rule| (rule.id(), rule.summary(), rule.needs()));
        let of_hosts = HOST_RULES.iter().map(|rule| (rule.id(), rule.summary(), rule.needs()));
        of_servers.chain(of_gpus).chain(of_hosts)
    }

    #[test]
    fn every_file_is_listed() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/rules");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .expect("the folder of this file")
            .map(|entry| entry.expect("readable").file_name().to_string_lossy().replace(".rs", "").replace('_', "-"))
            .filter(|name| !["mod", "answer", "bound"].contains(&name.as_str()))
            .collect();
        let ids: BTreeSet<String> = all().map(|(id, ..)| id.to_owned()).collect();
        assert_eq!(files, ids, "add the rule to RULES, GPU_RULES or HOST_RULES in agent/diagnose/src/rules/mod.rs");
        // A rule about two sorts of things has one name and one sentence.
        let sentences: BTreeSet<_> = all().map(|(id, summary, _)| (id, summary)).collect();
        assert_eq!(ids.len(), sentences.len(), "two rules share an id");
        let sorts = [RULES.len(), GPU_RULES.len(), HOST_RULES.len()];
        let ids = |from: usize| all().skip(from).map(|(id, ..)| id);
        for (from, count) in [(0, sorts[0]), (sorts[0], sorts[1]), (sorts[0] + sorts[1], sorts[2])] {
            assert_eq!(ids(from).take(count).collect::<BTreeSet<_>>().len(), count, "two rules share an id");
        }
    }

    #[test]
    fn the_rule_that_looks_at_what_a_gpu_went_through_is_where_it_is_said_to_be() {
        assert_eq!(GPU_RULES[UNHEALTHY].id(), "gpu-unhealthy");
    }

    #[test]
    fn every_rule_names_metrics_of_the_catalogue_and_says_what_is_wrong() {
        for (id, summary, needs) in all() {
            assert!(!needs.is_empty(), "{id}");
            for metric in needs {
                assert!(metrics::find(metric.name).is_some(), "{id} needs the unknown {}", metric.name);
            }
            assert!(!summary.ends_with('.') && !summary.contains(char::is_numeric) && summary.len() < 80, "{summary}");
        }
    }

    #[test]
    fn what_no_real_gpu_and_no_scenario_proves_is_experimental() {
        let experimental: BTreeSet<_> =
            GPU_RULES.iter().filter(|rule| rule.is_experimental()).map(|rule| rule.id()).collect();
        let expected =
            ["gpu-compute-bound", "gpu-memory-bandwidth-bound", "gpu-noisy-neighbour", "gpu-starved-by-host"];
        assert_eq!(experimental, expected.into());
    }

    #[test]
    fn the_readme_documents_every_rule() {
        let readme = include_str!("../../README.md");
        for (id, ..) in all() {
            assert!(readme.contains(&format!("`{id}`")), "add {id} to agent/diagnose/README.md");
        }
    }
}
