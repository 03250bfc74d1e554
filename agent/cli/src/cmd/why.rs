//! `perfwatch why`: one card that can be pasted into a chat.

use std::process::ExitCode;

use perfwatch_model::{Severity, Snapshot};

use crate::failure::{Failure, print};
use crate::settings::SettingFlags;
use crate::source::{Patience, Source};

/// Say in one card what is wrong, what it rests on and what to try.
///
/// At once from a running agent, else within 15 s. Exit code: 0 nothing is wrong, 3 undecided, 10 note, 11 warning,
/// 12 critical.
#[derive(Debug, clap::Args)]
pub(crate) struct Why {
    /// Print the whole snapshot as JSON instead; same exit codes.
    #[arg(long)]
    json: bool,
}

impl Why {
    pub(crate) fn run(self, settings: &SettingFlags) -> Result<ExitCode, Failure> {
        let snapshot = Source::open(settings)?.one(Patience::FullWindow)?;
        let text = if self.json {
            format!("{}\n", serde_json::to_string(&snapshot)?)
        } else {
            perfwatch_tui::card(&snapshot, crate::source::card_options())
        };
        print(&text)?;
        Ok(ExitCode::from(code(&snapshot)))
    }
}

/// The worst finding decides; without one, whether every rule could decide, and of all GPUs.
fn code(snapshot: &Snapshot) -> u8 {
    match snapshot.findings.iter().map(|finding| finding.severity).max() {
        Some(Severity::Critical) => 12,
        Some(Severity::Warning) => 11,
        Some(Severity::Note) => 10,
        None if !snapshot.has_subjects() || !snapshot.undecided.is_empty() => 3,
        None if perfwatch_tui::card::is_in_doubt(snapshot) => 3,
        None => 0,
    }
}
