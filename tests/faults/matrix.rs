//! The confusion matrix: what was injected against what was named first.

use std::collections::BTreeMap;
use std::fmt;

use crate::trial::{Outcome, Trial};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../diagnose/README.md");
const BEGIN: &str = "<!-- faults table: begin -->\n";
const END: &str = "<!-- faults table: end -->";

#[derive(Default)]
struct Row {
    expected: Option<&'static str>,
    named: BTreeMap<String, usize>,
    delays_s: Vec<f64>,
    contaminated: usize,
    did_not_bite: usize,
    not_possible: usize,
    broken: usize,
}

/// Outcomes by injected fault.
#[derive(Default)]
pub(crate) struct Matrix {
    rows: BTreeMap<String, Row>,
}

impl Matrix {
    pub(crate) fn add(&mut self, trial: &Trial, outcome: Outcome) {
        let row = self.rows.entry(trial.fault.unwrap_or("healthy").to_owned()).or_default();
        row.expected = trial.expected();
        match outcome {
            Outcome::Clean { first, after_s } => {
                if first.as_deref() == row.expected {
                    row.delays_s.extend(after_s);
                }
                *row.named.entry(first.unwrap_or_else(|| "none".to_owned())).or_default() += 1;
            }
            Outcome::Contaminated => row.contaminated += 1,
            Outcome::DidNotBite => row.did_not_bite += 1,
            Outcome::NotPossible(_) => row.not_possible += 1,
            Outcome::Broken(_) => row.broken += 1,
        }
    }

    /// Clean runs that named what was injected, and healthy runs that named nothing.
    pub(crate) fn right(&self) -> usize {
        self.rows.values().map(Row::right).sum()
    }

    /// Clean runs that did not, and broken ones.
    pub(crate) fn wrong(&self) -> usize {
        self.rows.values().map(|row| row.clean() - row.right() + row.broken).sum()
    }

    /// Runs that say nothing about the rules.
    pub(crate) fn apart(&self) -> usize {
        self.rows.values().map(|row| row.contaminated + row.did_not_bite + row.not_possible).sum()
    }

    pub(crate) fn broken(&self) -> usize {
        self.rows.values().map(|row| row.broken).sum()
    }

    /// Findings above a note on a healthy server.
    pub(crate) fn false_alarms(&self) -> usize {
        self.rows.get("healthy").map_or(0, |row| row.clean() - row.right())
    }

    /// Replaces the table in the README of the rules.
    pub(crate) fn write_into_readme(&self) {
        let text = std::fs::read_to_string(README).expect("agent/diagnose/README.md can be read");
        let begin = text.find(BEGIN).expect("the README marks the begin of the table") + BEGIN.len();
        let end = text.find(END).expect("the README marks the end of the table");
        let text = format!("{}{self}{}", &text[..begin], &text[end..]);
        std::fs::write(README, text).expect("agent/diagnose/README.md can be written");
    }
}

impl Row {
    fn clean(&self) -> usize {
        self.named.values().sum()
    }

    fn right(&self) -> usize {
        self.named.get(self.expected.unwrap_or("none")).copied().unwrap_or(0)
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| injected | must be named first | clean runs | right | named first | median delay | contaminated | did not bite | not possible |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        for (fault, row) in &self.rows {
            let named: Vec<_> = row.named.iter().map(|(id, count)| format!("{id} ×{count}")).collect();
            let mut delays = row.delays_s.clone();
            delays.sort_by(f64::total_cmp);
            let delay = delays.get(delays.len() / 2).map_or("–".to_owned(), |delay| format!("{delay:.0} s"));
            writeln!(
                f,
                "| {fault} | {} | {} | {} | {} | {delay} | {} | {} | {} |",
                row.expected.unwrap_or("nothing above a note"),
                row.clean(),
                row.right(),
                named.join(", "),
                row.contaminated,
                row.did_not_bite,
                row.not_possible,
            )?;
        }
        let faults = || self.rows.iter().filter(|(fault, _)| *fault != "healthy").map(|(_, row)| row);
        writeln!(
            f,
            "\n{} of {} faults named right; {} false alarms in {} healthy runs.",
            faults().map(Row::right).sum::<usize>(),
            faults().map(Row::clean).sum::<usize>(),
            self.false_alarms(),
            self.rows.get("healthy").map_or(0, Row::clean),
        )
    }
}
