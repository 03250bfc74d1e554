//! `perfwatch top`: the live screen.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use perfwatch_agent::Role;
use perfwatch_tui::views::{VIEWS, number_of};
use perfwatch_tui::{ChannelFeed, Exit, LiveFeed, Options, Theme, ThemeName};

use crate::failure::{Failure, print};
use crate::hosted::Hosted;
use crate::logging;
use crate::settings::SettingFlags;
use crate::source::{Patience, Source};

/// Columns and rows of a frame that goes to a file or a pipe.
const PLAIN_SIZE: (u16, u16) = (80, 24);

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
    pub(super) ascii: bool,
    /// Colours of the screen; auto follows the terminal, and `NO_COLOR`. Text for a file or a pipe has none.
    #[arg(long, value_name = "NAME", value_parser = ["auto", "dark", "light", "mono"], default_value = "auto")]
    theme: String,
    /// View to begin with [default: overview; of `demo --replay` gpus]
    #[arg(long, value_name = "VIEW", value_parser = views())]
    pub(super) view: Option<String>,
}

/// The names of the views.
fn views() -> PossibleValuesParser {
    PossibleValuesParser::new(VIEWS.iter().map(|view| view.name()))
}

impl Look {
    /// The options of the terminal UI.
    pub(crate) fn options(&self, quit_at_end: bool) -> Options {
        self.options_in(VIEWS[0].name(), quit_at_end)
    }

    /// The same, with this view to begin with unless another was asked for.
    pub(crate) fn options_in(&self, view: &str, quit_at_end: bool) -> Options {
        let name = match self.theme.as_str() {
            "dark" => ThemeName::Dark,
            "light" => ThemeName::Light,
            "mono" => ThemeName::Mono,
            _ => ThemeName::Auto,
        };
        let theme = Theme::detect(name, self.ascii, |variable| std::env::var(variable).ok());
        Options { theme, quit_at_end, view: number_of(self.view.as_deref().unwrap_or(view)).unwrap_or(0) }
    }
}

/// Columns and rows of one frame as text: the terminal's, where there is one.
pub(super) fn size() -> (u16, u16) {
    let size = rustix::termios::tcgetwinsize(std::io::stdout());
    // A serial line or a container's terminal may not know its size.
    let size = size.ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    size.map_or(PLAIN_SIZE, |size| (size.ws_col, size.ws_row))
}

/// The exit code of a screen that ended: a shell expects 128 + n after signal n.
pub(crate) fn exit_code(exit: Exit) -> ExitCode {
    match exit {
        Exit::Quit | Exit::Ended => ExitCode::SUCCESS,
        Exit::Signal(signal) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(1)),
    }
}

/// What the terminal UI refuses is the user's to mend; what the terminal does is not.
pub(crate) fn screen_failure(error: perfwatch_tui::Error) -> Failure {
    match error {
        perfwatch_tui::Error::NotATerminal(_) => Failure::usage(error),
        other => Failure::from(other),
    }
}

impl Top {
    pub(crate) fn run(self, settings: &SettingFlags) -> Result<ExitCode, Failure> {
        let source = Source::open(settings)?;
        let options = self.look.options(false);
        if self.once {
            let snapshot = source.one(Patience::FullWindow)?;
            let (width, height) = size();
            print(&perfwatch_tui::render_once(&[snapshot], width, height, &options))?;
            return Ok(ExitCode::SUCCESS);
        }
        // Before an agent is started for nothing.
        if !std::io::stdout().is_terminal() {
            return Err(screen_failure(perfwatch_tui::Error::NotATerminal("standard output")));
        }
        let exit = match source {
            Source::Attached(socket) => perfwatch_tui::run(LiveFeed::new(socket)?, &options),
            Source::InProcess(config) => {
                logging::to_file(&config, "top.log");
                let (_agent, snapshots) = Hosted::start(*config, Role::InProcess, false)?;
                perfwatch_tui::run(ChannelFeed::new(snapshots), &options)
            }
        };
        Ok(exit_code(exit.map_err(screen_failure)?))
    }
}
