//! Findings in the agent's log: once when they rise, once when they are over.

use perfwatch_model::{Finding, Severity};

/// Tells what is found now and was not before, and what is not found any more. A finding that only changes its numbers is no news.
pub(crate) fn tell(before: &[Finding], now: &[Finding]) {
    let is_among = |all: &[Finding], one: &Finding| {
        all.iter().any(|other| (&other.id, &other.entity, other.severity) == (&one.id, &one.entity, one.severity))
    };
    for new in now.iter().filter(|new| !is_among(before, new)) {
        let (finding, entity, severity) = (new.id.as_ref(), &new.entity, new.severity.name());
        if new.severity >= Severity::Warning {
            tracing::warn!(finding, entity, severity, detail = new.detail, "found");
        } else {
            tracing::info!(finding, entity, severity, detail = new.detail, "found");
        }
    }
    let is_found = |old: &Finding| now.iter().any(|new| (&new.id, &new.entity) == (&old.id, &old.entity));
    for old in before.iter().filter(|old| !is_found(old)) {
        tracing::info!(finding = old.id.as_ref(), entity = old.entity, "found no more");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::told::lines;

    fn finding(id: &'static str, severity: Severity, detail: &str) -> Finding {
        Finding {
            id: id.into(),
            severity,
            entity: "gpu:GPU-a".to_owned(),
            summary: "".into(),
            detail: detail.to_owned(),
            evidence: Vec::new(),
            cost: None,
            remedies: Vec::new(),
            experimental: false,
        }
    }

    #[test]
    fn a_finding_is_told_when_it_rises_gets_worse_and_is_over() {
        let ticks = [
            vec![],
            vec![finding("hot", Severity::Warning, "30 %")],
            vec![finding("hot", Severity::Warning, "31 %")],
            vec![finding("hot", Severity::Critical, "60 %"), finding("full", Severity::Note, "95 %")],
            vec![finding("full", Severity::Note, "95 %")],
        ];
        let told = lines(|| ticks.windows(2).for_each(|pair| tell(&pair[0], &pair[1])));
        let expected = [
            r#"WARN found finding="hot" entity="gpu:GPU-a" severity="warning" detail="30 %""#,
            r#"WARN found finding="hot" entity="gpu:GPU-a" severity="critical" detail="60 %""#,
            r#"INFO found finding="full" entity="gpu:GPU-a" severity="note" detail="95 %""#,
            r#"INFO found no more finding="hot" entity="gpu:GPU-a""#,
        ];
        assert_eq!(told, expected);
    }
}
