//! `perfwatch doctor`: what cannot be measured here, why, and what would give it.

use std::collections::BTreeMap;
use std::process::ExitCode;

use perfwatch_model::Snapshot;
use perfwatch_tui::plain::plain;

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
            print(&report(&origin, &snapshot))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn report(origin: &str, snapshot: &Snapshot) -> String {
    let servers: Vec<_> = snapshot.servers.iter().map(|server| server.name.as_str()).collect();
    let devices: Vec<_> = snapshot.devices.iter().map(|device| device.name.as_str()).collect();
    let or_none = |names: &[&str]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let mut text = format!(
        "{origin}\nhost       {}, {} CPUs\nservers    {}\ndevices    {}\n",
        snapshot.host.name,
        snapshot.host.cpus,
        or_none(&servers),
        or_none(&devices),
    );
    if snapshot.unavailable.is_empty() {
        text.push_str("\nEverything that perfwatch can measure is available here.\n");
        return text;
    }
    // Metrics that are missing for the same reason belong together: one cure gives them all.
    let mut reasons: BTreeMap<(&str, &str, &str), Vec<&str>> = BTreeMap::new();
    for missing in &snapshot.unavailable {
        let key = (missing.entity.as_str(), missing.reason.as_str(), missing.cure.as_str());
        reasons.entry(key).or_default().push(&missing.metric);
    }
    text.push_str("\nNot available here:\n");
    for ((entity, reason, cure), mut metrics) in reasons {
        metrics.sort_unstable();
        metrics.dedup();
        text.push_str(&format!("\n  {entity}: {reason}\n"));
        if !cure.is_empty() {
            text.push_str(&format!("    to get it: {cure}\n"));
        }
        for metric in metrics {
            text.push_str(&format!("    - {metric}\n"));
        }
    }
    text.lines().map(|line| format!("{}\n", plain(line).trim_end())).collect()
}
