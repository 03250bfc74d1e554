//! The same of a machine whose driver shows no GPU, or one less, that it could be told of.

use perfwatch_model::{MetricDef, Quality};

use super::{FAULTS, GpuUnhealthy, NEEDS, SUMMARY};
use crate::rules::{Diagnosis, Rule, Verdict, remedy};
use crate::window::{evidence, seconds};
use crate::{Fact, HostFacts};

impl Rule<HostFacts> for GpuUnhealthy {
    fn id(&self) -> &'static str {
        super::ID
    }

    fn summary(&self) -> &'static str {
        SUMMARY
    }

    fn needs(&self) -> &'static [&'static MetricDef] {
        NEEDS
    }

    fn is_of_the_moment(&self) -> bool {
        true
    }

    fn judge(&self, facts: &HostFacts) -> Verdict {
        let driver = &facts.driver;
        let known = FAULTS.iter().filter(|(fault, ..)| driver.faults.iter().any(|has| has == fault));
        let known: Vec<_> = known.collect();
        // Where all GPUs are seen, or there is no driver, nothing is wrong with it.
        let Some((_, severity, said, action, why)) = known.first() else { return Verdict::Clear };
        let said = driver.reason.as_ref().map_or_else(|| (*said).to_owned(), |reason| reason.text.to_string());
        let cure = driver.reason.as_ref().map(|reason| reason.cure.to_string()).filter(|cure| !cure.is_empty());
        let faults = Fact::known(known.len() as f64, Quality::Counter);
        Verdict::Firing(Diagnosis {
            severity: *severity,
            detail: format!("{} GPU can be seen: {said}.", if driver.shows_gpus { "Not every" } else { "No" }),
            evidence: evidence(seconds(facts.dt_ns), "gpu.faults", &faults, Some(1.0), "{fault}").into_iter().collect(),
            remedies: vec![remedy(cure.unwrap_or_else(|| (*action).to_owned()), why)],
        })
    }
}
