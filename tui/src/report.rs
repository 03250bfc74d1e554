//! What a run without a terminal says at its end: the card, and what the run itself cost.

use std::fmt::Write;

use perfwatch_model::Snapshot;

use crate::card::{CardOptions, card};
use crate::units;

/// The card of the last snapshot, then one line about perfwatch: its CPU, memory, lateness and drops.
pub fn report(snapshot: &Snapshot, options: CardOptions) -> String {
    let mut out = card(snapshot, options);
    let agent = &snapshot.agent;
    let mut words = Vec::new();
    words.extend(agent.cpu_cores.map(|cores| format!("{} of a core", units::percent(cores))));
    words.extend(agent.rss_bytes.map(|rss| units::bytes(rss as f64)));
    words.push(format!("{} dropped", units::digits(agent.dropped as f64)));
    words.push(format!("{} ticks missed", units::digits(agent.ticks_missed as f64)));
    let _infallible = writeln!(out, "{:<10}{}", "its cost", words.join(", "));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn a_report_ends_with_what_perfwatch_itself_took() {
        let text = report(&fixtures::healthy(), CardOptions::default());
        assert_eq!(text.lines().last(), Some("its cost  0.4 % of a core, 9.0 MiB, 0 dropped, 0 ticks missed"));
    }
}
