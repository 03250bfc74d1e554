//! What could not be measured, by reason: metrics that one cure would give belong together.

use perfwatch_model::snapshot::Unavailable;

/// Metrics of one entity that are missing for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap<'a> {
    /// What they would have been about, as `kind:id`.
    pub entity: &'a str,
    /// Why there are none.
    pub reason: &'a str,
    /// What would give them; empty when nothing would.
    pub cure: &'a str,
    /// Their names, sorted.
    pub metrics: Vec<&'a str>,
}

/// The gaps, in the order in which their first metrics are reported.
pub fn gaps(unavailable: &[Unavailable]) -> Vec<Gap<'_>> {
    let mut gaps: Vec<Gap<'_>> = Vec::new();
    for missing in unavailable {
        let (entity, reason, cure) = (&missing.entity, &missing.reason, &missing.cure);
        match gaps.iter_mut().find(|gap| gap.entity == entity && gap.reason == reason && gap.cure == cure) {
            Some(gap) => gap.metrics.push(&missing.metric),
            None => gaps.push(Gap { entity, reason, cure, metrics: vec![&missing.metric] }),
        }
    }
    for gap in &mut gaps {
        gap.metrics.sort_unstable();
        gap.metrics.dedup();
    }
    gaps
}

#[cfg(test)]
mod tests {
    use perfwatch_model::AbsenceKind;

    use super::*;

    #[test]
    fn metrics_with_one_reason_share_a_gap() {
        let missing = |metric: &str, reason: &str| Unavailable {
            metric: metric.to_owned(),
            entity: "host:here".to_owned(),
            reason: reason.to_owned(),
            cure: String::new(),
            kind: AbsenceKind::Normal,
        };
        let unavailable = [missing("b", "no driver"), missing("c", "no PSI"), missing("a", "no driver")];
        let gaps = gaps(&unavailable);
        assert_eq!(gaps.len(), 2);
        assert_eq!((gaps[0].reason, &gaps[0].metrics), ("no driver", &vec!["a", "b"]));
    }
}
