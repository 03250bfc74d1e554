//! What a person set and what has no effect. It is said, and nothing is refused for it.

use super::{Config, Environment, KEYS};

/// Variables of perfwatch that are no setting's: they choose the file, and configure the SDKs.
const OTHERS: [&str; 4] = ["PERFWATCH_CONFIG", "PERFWATCH_SOCKET", "PERFWATCH_DISABLED", "PERFWATCH_INSTANCE"];
const PREFIX: &str = "PERFWATCH_";

impl Config {
    /// One sentence for each setting that is not followed: variables that look like a misspelt one of ours, and those of
    /// OpenTelemetry that are to be ignored where they make no sense.
    pub fn doubts(&self) -> Vec<String> {
        let exported = self.otlp().map(|otlp| otlp.warnings).unwrap_or_default();
        misspelt(&self.environment).into_iter().chain(exported).collect()
    }
}

/// Only what nearly has the name of a setting: Kubernetes gives pods beside a service of the name `perfwatch` variables that
/// begin like ours (`PERFWATCH_SERVICE_HOST`, `PERFWATCH_PORT`), and a team may have some of its own.
fn misspelt(environment: &Environment) -> Vec<String> {
    let known: Vec<_> =
        KEYS.iter().map(|key| key.variable).chain(OTHERS).filter_map(|name| name.strip_prefix(PREFIX)).collect();
    let set = environment.names().filter_map(|name| name.strip_prefix(PREFIX));
    set.filter(|name| !known.contains(name))
        .filter_map(|name| {
            let near = known.iter().map(|known| (strsim::damerau_levenshtein(known, name), known)).min()?;
            let (distance, nearest) = near;
            // Two slips of the fingers, and never half of the word.
            (distance <= 2 && distance * 3 <= name.len())
                .then(|| format!("${PREFIX}{name} is not known and has no effect; did you mean ${PREFIX}{nearest}?"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_variable_is_told_and_what_others_set_is_not() {
        let environment: Environment = [
            ("PERFWATCH_JOURNAL_PTAH", "x"),
            ("PERFWATCH_BUDGTE", "1%"),
            ("PERFWATCH_BUDGET", "1%"),
            ("PERFWATCH_SOCKET", "x"),
            ("PERFWATCH_SERVICE_HOST", "10.0.0.1"),
            ("PERFWATCH_SERVICE_PORT", "80"),
            ("PERFWATCH_PORT", "tcp://10.0.0.1:80"),
            ("PERFWATCH_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("PERFWATCH_METRICS_SERVICE_HOST", "10.0.0.1"),
            ("PERFWATCH_OWNER", "team-a"),
        ]
        .into_iter()
        .collect();
        let told = misspelt(&environment);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].contains("$PERFWATCH_BUDGTE") && told[0].ends_with("did you mean $PERFWATCH_BUDGET?"),
            "{told:?}"
        );
        assert!(told[1].ends_with("did you mean $PERFWATCH_JOURNAL_PATH?"), "{told:?}");
    }
}
