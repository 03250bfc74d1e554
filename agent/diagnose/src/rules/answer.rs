//! Yes, no, or the reading that is missing; combined so that a missing reading matters only where it decides.

use perfwatch_model::Reason;

use crate::Fact;

/// Whether a condition holds, or why that cannot be told.
pub(super) type Answer = Result<bool, Reason>;

/// Whether a fact reaches a threshold.
pub(super) fn at_least(fact: &Fact<f64>, threshold: f64) -> Answer {
    fact.known_or_reason().map(|value| *value >= threshold)
}

/// Whether a fact stays at or below a threshold.
pub(super) fn at_most(fact: &Fact<f64>, threshold: f64) -> Answer {
    fact.known_or_reason().map(|value| *value <= threshold)
}

pub(super) fn not(answer: Answer) -> Answer {
    answer.map(|holds| !holds)
}

/// Whether all hold. One that does not settles it, whatever else is missing.
pub(super) fn all<const N: usize>(answers: [Answer; N]) -> Answer {
    if answers.contains(&Ok(false)) {
        return Ok(false);
    }
    answers.into_iter().find(Result::is_err).unwrap_or(Ok(true))
}

/// Whether any holds. One that does settles it, whatever else is missing.
pub(super) fn any<const N: usize>(answers: [Answer; N]) -> Answer {
    not(all(answers.map(not)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_reading_matters_only_where_it_decides() {
        let missing = || Err(Reason::fixed("gone", ""));
        assert_eq!(all([missing(), Ok(false)]), Ok(false));
        assert_eq!(all([Ok(true), missing()]), missing());
        assert_eq!(all([Ok(true), Ok(true)]), Ok(true));
        assert_eq!(any([missing(), Ok(true)]), Ok(true));
        assert_eq!(any([Ok(false), missing()]), missing());
        assert_eq!(any([Ok(false), Ok(false)]), Ok(false));
    }
}
