//! `perfwatch config`: what is set, and by whom.

use std::process::ExitCode;

use crate::failure::{Failure, print};
use crate::settings::SettingFlags;

/// Show every setting with its value and where that came from.
///
/// A flag wins over the environment variable, the variable over the file, the file over the default.
#[derive(Debug, clap::Args)]
pub(crate) struct Config {
    /// Print a configuration file with every setting, its documentation and its default instead.
    #[arg(long)]
    default: bool,
    /// Print JSON.
    #[arg(long, conflicts_with = "default")]
    json: bool,
}

impl Config {
    pub(crate) fn run(self, settings: &SettingFlags) -> Result<ExitCode, Failure> {
        if self.default {
            print(&perfwatch_agent::Config::default_text())?;
            return Ok(ExitCode::SUCCESS);
        }
        let config = settings.config()?;
        let described = config.describe();
        if self.json {
            print(&format!("{}\n", serde_json::to_string_pretty(&described)?))?;
            return Ok(ExitCode::SUCCESS);
        }
        let shown = |value: &str| if value.is_empty() { "(not set)".to_owned() } else { value.to_owned() };
        let keys = described.iter().map(|line| line.key.len()).max().unwrap_or(0);
        let values = described.iter().map(|line| shown(&line.value).len()).max().unwrap_or(0);
        let mut text = match config.file() {
            Some(file) => format!("file: {}\n\n", file.display()),
            None => "file: none\n\n".to_owned(),
        };
        for line in &described {
            text.push_str(&format!(
                "{:keys$}  {:values$}  {}\n",
                line.key,
                shown(&line.value),
                if line.origin == "default" {
                    format!("default; set with ${}", line.variable)
                } else {
                    line.origin.clone()
                },
            ));
        }
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}
