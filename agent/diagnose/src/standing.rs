//! Hysteresis: a finding rises when its rule fired several times in a row and falls when it was clear several times in a
//! row, so that a single second neither raises nor hides it.

use crate::rules::{Diagnosis, Verdict};

/// Evaluations in a row that must fire before a finding rises. Windows overlap by nine tenths, so three say that the
/// cause lasted for two seconds more than the window in which it first showed; a lone burst at one edge does not.
const RISE: u32 = 3;
/// Evaluations in a row that must be clear before it falls: longer than the rise, so that a cause that comes and goes is
/// one finding and not many.
const FALL: u32 = 5;
/// Evaluations in a row without an answer after which a finding falls: nothing that proved it is left in a window of 10 s.
const STALE: u32 = 10;

/// Where a rule stands with a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    fired: u32,
    cleared: u32,
    undecided: u32,
    /// Evaluations in a row that were less severe than the finding says.
    milder: u32,
    finding: Option<Diagnosis>,
}

impl Standing {
    /// Takes in the next answer.
    pub(crate) fn update(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Firing(diagnosis) => {
                self.fired += 1;
                (self.cleared, self.undecided) = (0, 0);
                if self.finding.is_some() || self.fired >= RISE {
                    self.adopt(diagnosis);
                }
            }
            Verdict::Clear => {
                self.cleared += 1;
                (self.fired, self.undecided) = (0, 0);
                if self.cleared >= FALL {
                    self.finding = None;
                }
            }
            // A missing answer breaks a rise, and does not count towards a fall until nothing is left to stand on.
            Verdict::Undecided(_) => {
                self.undecided += 1;
                (self.fired, self.cleared) = (0, 0);
                if self.undecided >= STALE {
                    self.finding = None;
                }
            }
        }
    }

    /// What stands, with its newest numbers.
    pub(crate) fn finding(&self) -> Option<&Diagnosis> {
        self.finding.as_ref()
    }

    /// Of a finding that stood with whoever judged before: the first evaluation that fires raises it again.
    pub(crate) fn going_on() -> Self {
        Self { fired: RISE - 1, ..Self::default() }
    }

    /// Takes over the newest numbers. Severity rises at once and falls as slowly as a finding does.
    fn adopt(&mut self, mut diagnosis: Diagnosis) {
        match &self.finding {
            Some(standing) if diagnosis.severity < standing.severity => {
                self.milder += 1;
                if self.milder < FALL {
                    diagnosis.severity = standing.severity;
                } else {
                    self.milder = 0;
                }
            }
            _ => self.milder = 0,
        }
        self.finding = Some(diagnosis);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfwatch_model::{Reason, Severity};

    fn firing(severity: Severity) -> Verdict {
        Verdict::Firing(Diagnosis { severity, detail: String::new(), evidence: Vec::new(), remedies: Vec::new() })
    }

    fn undecided() -> Verdict {
        Verdict::Undecided(Reason::fixed("missing", ""))
    }

    /// Whether the finding stands after each verdict.
    fn stands(verdicts: impl IntoIterator<Item = Verdict>) -> Vec<bool> {
        let mut standing = Standing::default();
        let after = |verdict| {
            standing.update(verdict);
            standing.finding.is_some()
        };
        verdicts.into_iter().map(after).collect()
    }

    #[test]
    fn a_finding_rises_on_the_third_firing_in_a_row_and_falls_on_the_fifth_clear() {
        let mut verdicts = vec![firing(Severity::Warning); 3];
        verdicts.extend(vec![Verdict::Clear; 5]);
        assert_eq!(stands(verdicts), [false, false, true, true, true, true, true, false]);
    }

    #[test]
    fn firing_every_other_second_never_rises() {
        let verdicts = (0..20).map(|at| if at % 2 == 0 { firing(Severity::Critical) } else { Verdict::Clear });
        assert!(stands(verdicts).iter().all(|stands| !stands));
    }

    #[test]
    fn a_missing_answer_breaks_a_rise_but_does_not_end_a_finding_at_once() {
        let fire = || firing(Severity::Warning);
        assert_eq!(stands([fire(), fire(), undecided(), fire(), fire()]), [false; 5]);
        let mut verdicts = vec![fire(); 3];
        verdicts.extend(vec![undecided(); 10]);
        let stood = stands(verdicts);
        assert!(stood[2..12].iter().all(|stands| *stands));
        assert!(!stood[12], "nothing that proved it is left in the window");
    }

    #[test]
    fn severity_rises_at_once_and_falls_slowly() {
        let mut standing = Standing::default();
        let mut severity = |verdict| {
            standing.update(verdict);
            standing.finding.as_ref().map(|finding| finding.severity)
        };
        (0..3).for_each(|_| _ = severity(firing(Severity::Warning)));
        assert_eq!(severity(firing(Severity::Critical)), Some(Severity::Critical));
        for _ in 0..4 {
            assert_eq!(severity(firing(Severity::Warning)), Some(Severity::Critical));
        }
        assert_eq!(severity(firing(Severity::Warning)), Some(Severity::Warning));
    }
}
