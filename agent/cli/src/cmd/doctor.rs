//! `perfwatch doctor`: what cannot be measured here, why, and what would give it.

use std::process::ExitCode;

use perfwatch_model::snapshot::AgentView;
use perfwatch_tui::gaps::gaps;
use perfwatch_tui::inventory::{inventory, subject};
use perfwatch_tui::plain::{Clean, plain};

use crate::failure::{Failure, print};
use crate::settings::SettingFlags;
use crate::source::{Patience, Source};

/// List every metric that is unavailable here, why, and what would give it.
///
/// Asks the running agent; without one, measures for a few seconds itself. Exits 0: a missing metric is not a failure.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(crate) fn run(self, settings: &SettingFlags) -> Result<ExitCode, Failure> {
        let source = Source::open(settings)?;
        let origin = match &source {
            Source::Attached(socket) => format!("agent      running, {}", socket.display()),
            Source::InProcess(_) => "agent      not running; this is what it would see".to_owned(),
        };
        let snapshot = source.one(Patience::Rates)?;
        if self.json {
            print(&format!("{}\n", serde_json::to_string_pretty(&snapshot.unavailable)?))?;
        } else {
            print(&report(&origin, &snapshot.into()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn report(origin: &str, snapshot: &Clean) -> String {
    let servers: Vec<_> = snapshot.servers.iter().map(|server| server.name.as_str()).collect();
    let servers = if servers.is_empty() { "none".to_owned() } else { servers.join(", ") };
    let mut text =
        format!("{origin}\nhost       {}, {} CPUs\nservers    {servers}\n", snapshot.host.name, snapshot.host.cpus);
    for line in inventory(snapshot) {
        text.push_str(&format!("{line}\n"));
    }
    text.push_str(&format!("history    {}\n", history(&snapshot.agent)));
    for export in &snapshot.agent.exports {
        text.push_str(&format!("export     {} to {}: {}\n", export.signal, export.endpoint, export.standing()));
    }
    if snapshot.unavailable.is_empty() {
        text.push_str("\nEverything that perfwatch can measure is available here.\n");
        return text;
    }
    text.push_str("\nNot available here:\n");
    for gap in gaps(&snapshot.unavailable) {
        text.push_str(&format!("\n  {}: {}\n", subject(snapshot, gap.entity), gap.reason));
        if !gap.cure.is_empty() {
            text.push_str(&format!("    to get it: {}\n", gap.cure));
        }
        for metric in gap.metrics {
            text.push_str(&format!("    - {metric}\n"));
        }
    }
    text.lines().map(|line| format!("{}\n", plain(line).trim_end())).collect()
}

/// Where the history is, and how far back it reaches.
fn history(agent: &AgentView) -> String {
    let since = |what: &str, since: &Option<String>| since.as_ref().map(|since| format!(", {what} since {since}"));
    let reach = [since("seconds", &agent.seconds_since), since("minutes", &agent.minutes_since)];
    format!("{}{}", agent.store, reach.into_iter().flatten().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_says_where_it_is_and_how_far_back_it_reaches() {
        let mut agent = AgentView { store: "memory".to_owned(), ..AgentView::default() };
        assert_eq!(history(&agent), "memory");
        agent.store = "/var/lib/perfwatch/journal.db".to_owned();
        agent.seconds_since = Some("2026-11-26T12:00:01.000Z".to_owned());
        agent.minutes_since = Some("2026-11-20T12:01:00.000Z".to_owned());
        let wanted = "/var/lib/perfwatch/journal.db, seconds since 2026-11-26T12:00:01.000Z, minutes since \
                      2026-11-20T12:01:00.000Z";
        assert_eq!(history(&agent), wanted);
    }
}
