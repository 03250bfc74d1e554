//! `perfwatch top`: the live screen.

use std::process::ExitCode;

use perfwatch_agent::Role;
use perfwatch_tui::{ChannelFeed, LiveFeed, Options};

use crate::failure::{Failure, print};
use crate::hosted::Hosted;
use crate::settings::SettingFlags;
use crate::source::{Patience, Source};

/// Show live where device time and request time go, and what is wrong.
///
/// Attaches to the running agent, else runs one inside. `?` lists the keys.
#[derive(Debug, clap::Args)]
pub(crate) struct Top {
    /// Print one frame as text and exit.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    look: Look,
}

/// How the screen looks.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Look {
    /// Draw with ASCII characters only.
    #[arg(long)]
    ascii: bool,
    /// Colours; NO_COLOR=1 means mono.
    #[arg(long, value_parser = ["auto", "dark", "light", "mono"], default_value = "auto")]
    theme: String,
}

impl Look {
    /// The options of the terminal UI.
    pub(crate) fn options(&self) -> Options {
        Options::from_environment(self.ascii, &self.theme)
    }
}

impl Top {
    pub(crate) fn run(self, settings: &SettingFlags) -> Result<ExitCode, Failure> {
        let source = Source::open(settings)?;
        let options = self.look.options();
        if self.once {
            let snapshot = source.one(Patience::FullWindow)?;
            let (width, height) = perfwatch_tui::terminal_size();
            print(&perfwatch_tui::render_once(&snapshot, width, height, &options))?;
            return Ok(ExitCode::SUCCESS);
        }
        perfwatch_tui::check_terminal().map_err(|error| Failure::usage(error).hint(Some("`perfwatch top --once` prints one frame")))?;
        match source {
            Source::Attached(socket) => perfwatch_tui::run(LiveFeed::new(socket), options)?,
            Source::InProcess(config) => {
                let (_agent, snapshots) = Hosted::start(*config, Role::InProcess)?;
                perfwatch_tui::run(ChannelFeed::new(snapshots), options)?
            }
        };
        Ok(ExitCode::SUCCESS)
    }
}
