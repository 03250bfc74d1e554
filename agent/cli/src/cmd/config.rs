//! `perfwatch config`: what is set, and by whom.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use perfwatch_agent::config::Described;
use perfwatch_model::printable;

use crate::failure::{Failure, print, tell};
use crate::settings::SettingFlags;
use crate::source::api_sockets;

/// Show every setting with its value and where that came from.
///
/// Endpoints, addresses, names and the journal's file are checked as the agent would; what is set and has no effect is told on
/// stderr. Where an agent runs with other values, they are listed after.
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
        let config = settings.checked_config()?;
        let described = config.describe();
        if self.json {
            print(&format!("{}\n", serde_json::to_string_pretty(&described)?))?;
            return Ok(ExitCode::SUCCESS);
        }
        let shown = |value: &str| if value.is_empty() { "(not set)".to_owned() } else { value.to_owned() };
        let keys = described.iter().map(|line| line.key.len()).max().unwrap_or(0);
        let values = described.iter().map(|line| shown(&line.toml).len()).max().unwrap_or(0);
        let mut text = match config.file() {
            Some(file) => format!("file: {}\n\n", file.display()),
            None => "file: none\n\n".to_owned(),
        };
        for line in &described {
            text.push_str(&format!(
                "{:keys$}  {:values$}  {}\n",
                line.key,
                shown(&line.toml),
                if line.origin == "default" {
                    format!("default; set with ${}", line.variable)
                } else {
                    line.origin.clone()
                },
            ));
        }
        if let Some((socket, running)) = running(&config) {
            text.push_str(&differences(&socket, &running, &described));
        }
        print(&text)?;
        for doubt in config.doubts() {
            tell(&format!("warning: {doubt}"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Longer than any configuration, and a limit for whatever else may listen there.
const MOST: u64 = 1 << 20;

/// The socket of a running agent, and what it runs with. An agent that does not answer is no reason to show nothing.
fn running(config: &perfwatch_agent::Config) -> Option<(PathBuf, Vec<serde_json::Value>)> {
    api_sockets(config).into_iter().find_map(|socket| {
        let mut stream = UnixStream::connect(&socket).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        stream.write_all(b"GET /v1/config HTTP/1.0\r\nHost: perfwatch\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.take(MOST).read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some((socket, serde_json::from_str(body).ok()?))
    })
}

/// Where a running agent has other values than its sources have now.
fn differences(socket: &Path, running: &[serde_json::Value], described: &[Described]) -> String {
    let mut lines = String::new();
    for line in described {
        let Some(has) = running.iter().find(|known| known["key"] == line.key) else { continue };
        if has["value"] != line.value {
            let origin = has["origin"].as_str().unwrap_or_default();
            let waits = if perfwatch_agent::is_live(line.key) { "" } else { "; changes with a new start" };
            let has = match &has["value"] {
                serde_json::Value::Null => "(not set)".to_owned(),
                value => value.to_string(),
            };
            let text = format!("  {}: {has} ({origin}{waits})", line.key);
            lines.push_str(&(printable(text.as_bytes()) + "\n"));
        }
    }
    if lines.is_empty() {
        return String::new();
    }
    let reads = "it reads them anew at SIGHUP";
    format!("\nThe agent at {} runs with other values; {reads}:\n{lines}", socket.display())
}
