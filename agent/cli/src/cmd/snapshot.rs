//! `perfwatch snapshot`: everything at one instant.

use std::process::ExitCode;

use super::top::Look;
use crate::failure::{Failure, print};
use crate::settings::SettingFlags;
use crate::source::{Patience, Source};

/// Print what perfwatch knows now.
///
/// Asks the running agent; without one, measures for a few seconds itself.
#[derive(Debug, clap::Args)]
pub(crate) struct Snapshot {
    /// Print the whole snapshot as JSON (schema: tests/fixtures/snapshot.schema.json).
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    look: Look,
}

/// Columns and rows: everything of one server fits.
const WIDTH: u16 = 100;
/// See [`WIDTH`].
const HEIGHT: u16 = 60;

impl Snapshot {
    pub(crate) fn run(self, settings: &SettingFlags) -> Result<ExitCode, Failure> {
        let snapshot = Source::open(settings)?.one(Patience::Rates)?;
        let text = if self.json {
            format!("{}\n", serde_json::to_string(&snapshot)?)
        } else {
            perfwatch_tui::render_once(&[snapshot], WIDTH, HEIGHT, &self.look.options(false))
        };
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}
