//! Configuration: flag > environment > file > default, and for every value where it came from.
//!
//! To add a setting, add one field with its documentation to [`Settings`]; its key, its variable, the default file and the
//! output of `perfwatch config` derive from it.

mod doubts;
mod environment;
mod error;
mod file;
mod settings;
mod value;

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use perfwatch_export::OtlpConfig;
use perfwatch_model::printable;
use perfwatch_probes::redact;

use crate::probes::Probes;

pub use environment::Environment;
pub use error::ConfigError;
pub use settings::{KEYS, Key, Settings};
pub use value::{
    Age, Detail, JournalMode, LogFormat, LogLevel, OtlpProtocol, Raw, Reach, Rules, Share, Size, SocketMode, Watch,
};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of a configuration file.
    File(PathBuf, usize),
    /// An environment variable.
    Environment(&'static str),
    /// A command line flag.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "${name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// What the command line contributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--config`: a file that must exist. Wins over `PERFWATCH_CONFIG`.
    pub file: Option<PathBuf>,
    /// (key, value) of every flag that was given, keys as in [`KEYS`]. A list has its items between commas, or its key
    /// several times.
    pub values: Vec<(String, String)>,
}

/// The merged configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The values.
    pub settings: Settings,
    environment: Environment,
    file: Option<PathBuf>,
    origins: Vec<Origin>,
    flags: Flags,
}

/// What became of a newer configuration. Keys that are in neither list have the value they had.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[must_use]
pub struct Adopted {
    /// Keys whose new value is in force.
    pub applied: Vec<&'static str>,
    /// Keys whose new value waits for a new start of the agent.
    pub restart: Vec<&'static str>,
}

/// One line of `perfwatch config`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Described {
    /// Its key in the file.
    pub key: &'static str,
    /// Its value, without secrets; null when it is not set.
    pub value: serde_json::Value,
    /// The same as TOML writes it; empty when it is not set.
    #[serde(skip)]
    pub toml: String,
    /// Where the value came from: `default`, `file:line`, `$VARIABLE` or `flag`.
    pub origin: String,
    /// Its environment variable.
    pub variable: &'static str,
    /// The value that it gets when the agent is started anew, where the configuration was changed since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_restart: Option<serde_json::Value>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            environment: Environment::default(),
            file: None,
            origins: vec![Origin::Default; KEYS.len()],
            flags: Flags::default(),
        }
    }
}

impl Config {
    /// Merges all sources.
    ///
    /// The file is `--config`, else `PERFWATCH_CONFIG`, and then it must exist; else the first that exists of
    /// `$XDG_CONFIG_HOME/perfwatch/perfwatch.toml` (`~/.config` when unset) and `/etc/perfwatch/perfwatch.toml`, and then
    /// none is fine.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown key, or a value that its key does not take; the message names file and line,
    /// variable or flag.
    pub fn load(flags: &Flags, environment: Environment) -> Result<Self, ConfigError> {
        let mut config = Self { environment, flags: flags.clone(), ..Self::default() };
        if let Some((path, text)) = read_file(flags, &config.environment)? {
            for (at, raw, line) in file::values(&path, &text)? {
                config.put(at, &raw, Origin::File(path.clone(), line))?;
            }
            config.file = Some(path);
        }
        for (at, key) in KEYS.iter().enumerate() {
            if let Some(text) =
                config.environment.text(key.variable).map_err(|_| ConfigError::NotUnicode { variable: key.variable })?
            {
                config.put(at, &Raw::Text(text), Origin::Environment(key.variable))?;
            }
        }
        config.put_flags(flags)?;
        Ok(config)
    }

    fn put_flags(&mut self, flags: &Flags) -> Result<(), ConfigError> {
        let mut given: Vec<(usize, Vec<String>)> = Vec::new();
        for (name, value) in &flags.values {
            let at = position(name).ok_or_else(|| ConfigError::unknown("the command line", name))?;
            match given.iter_mut().find(|(known, _)| *known == at) {
                Some((_, values)) => values.push(value.clone()),
                None => given.push((at, vec![value.clone()])),
            }
        }
        for (at, values) in given {
            self.put(at, &Raw::Text(values.join(",")), Origin::Flag)?;
        }
        Ok(())
    }

    fn put(&mut self, at: usize, raw: &Raw, origin: Origin) -> Result<(), ConfigError> {
        let key = &KEYS[at];
        // The reason quotes the value, and whatever a person puts into the wrong place may be a secret.
        (key.set)(&mut self.settings, raw).map_err(|reason| ConfigError::BadValue {
            place: place(key, &origin),
            key: key.name,
            reason: redact::text(&reason),
        })?;
        self.origins[at] = origin;
        Ok(())
    }

    /// The variables that were read, for what is configured by variables alone (`OTEL_*`, `XDG_*`).
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The file that was read, if any.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// What the exporter is to do: the `otlp` settings, and every other `OTEL_*` variable as the environment has it.
    ///
    /// # Errors
    /// A setting that the exporter cannot follow.
    pub fn otlp(&self) -> Result<OtlpConfig, perfwatch_export::ConfigError> {
        let protocol = position("otlp.protocol").is_some_and(|at| self.origins[at] != Origin::Default);
        let config = OtlpConfig::from_lookup(|name| match name {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => self.settings.otlp_endpoint.clone(),
            // Unset, the exporter may know better, for example from a signal's own variable.
            "OTEL_EXPORTER_OTLP_PROTOCOL" => protocol.then(|| self.settings.otlp_protocol.name().to_owned()),
            _ => self.environment.text(name).ok().flatten(),
        })?;
        Ok(config.sent_from(&rustix::system::uname().nodename().to_string_lossy()))
    }

    /// Every key with its value and where that came from, in the order of the documentation.
    pub fn describe(&self) -> Vec<Described> {
        KEYS.iter()
            .zip(&self.origins)
            .map(|(key, origin)| Described {
                key: key.name,
                value: json(&without_secrets(&(key.show)(&self.settings))),
                toml: without_secrets(&(key.show)(&self.settings)),
                origin: printable(origin.to_string().as_bytes()),
                variable: key.variable,
                after_restart: None,
            })
            .collect()
    }

    /// The configuration as its sources are now: the same flags and variables, and the file read anew.
    ///
    /// # Errors
    /// As [`Config::load`] and [`Config::check`].
    pub fn reload(&self) -> Result<Self, ConfigError> {
        let config = Self::load(&self.flags, self.environment.clone())?;
        config.check()?;
        Ok(config)
    }

    /// Looks at what no single value tells: whether the exporter can follow its settings, whether all probes exist, and
    /// whether what is open to the network was meant to be.
    ///
    /// # Errors
    /// What is wrong, and in which file and line, variable or flag.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.otlp().map_err(|error| self.placed(&error))?;
        for off in &self.settings.probes_off {
            if Probes::known().all(|name| name != off) {
                let known: Vec<_> = Probes::known().collect();
                let reason = format!("names the unknown probe `{off}`; there are: {}", known.join(", "));
                return Err(self.bad("probes_off", &reason));
            }
        }
        let Settings { metrics_listen, metrics_reach, intake_grpc, intake_http, intake_reach, .. } = &self.settings;
        for (key, address, reach, reach_key, can) in [
            ("metrics.listen", metrics_listen, metrics_reach, "metrics.reach", "read what is measured"),
            ("intake.grpc", intake_grpc, intake_reach, "intake.reach", "send what he likes"),
            ("intake.http", intake_http, intake_reach, "intake.reach", "send what he likes"),
        ] {
            if let Some(address) = address.filter(|address| *reach == Reach::Loopback && !address.ip().is_loopback()) {
                let reason = format!(
                    "is {address}, no address of loopback: whoever reaches it can {can}; set {reach_key} to network if \
                     that is meant"
                );
                return Err(self.bad(key, &reason));
            }
        }
        Ok(())
    }

    /// Whether the journal may be written where it is to be, for an agent that writes one.
    ///
    /// # Errors
    /// The file is one of something else.
    pub fn check_journal(&self) -> Result<(), ConfigError> {
        match self.settings.journal_path.as_deref() {
            Some(path) if perfwatch_store::holds_something_else(path) => {
                let reason = format!("is {}, a file that is no journal; name another, or move it away", path.display());
                Err(self.bad("journal.path", &reason))
            }
            _ => Ok(()),
        }
    }

    /// What is wrong with the value of a key, and where that value stands.
    fn bad(&self, name: &'static str, reason: &str) -> ConfigError {
        let place = position(name).map_or_else(String::new, |at| place(&KEYS[at], &self.origins[at]));
        ConfigError::BadValue { place, key: name, reason: redact::text(reason) }
    }

    /// The exporter knows variables; a value of a key may come from a file or a flag.
    fn placed(&self, error: &perfwatch_export::ConfigError) -> ConfigError {
        let text = error.to_string();
        let key = KEYS.iter().find(|key| key.variable == error.variable());
        match key {
            Some(key) => {
                let reason =
                    text.strip_prefix(key.variable).map_or(text.as_str(), |rest| rest.trim_start_matches(": "));
                self.bad(key.name, reason)
            }
            None => ConfigError::Export(text),
        }
    }

    /// Takes over what `newer` says of the keys that may change while the agent runs.
    pub(crate) fn adopt(&mut self, newer: &Self, live: &[&str]) -> Adopted {
        let mut adopted = Adopted::default();
        for (at, key) in KEYS.iter().enumerate() {
            let changed = !(key.same)(&self.settings, &newer.settings);
            if changed && !live.contains(&key.name) {
                adopted.restart.push(key.name);
                continue;
            }
            if changed {
                (key.copy)(&mut self.settings, &newer.settings);
                adopted.applied.push(key.name);
            }
            self.origins[at] = newer.origins[at].clone();
        }
        self.file.clone_from(&newer.file);
        adopted
    }

    /// A configuration file with every key, its documentation and its default, all commented out.
    pub fn default_text() -> String {
        let mut lines = vec![
            "# perfwatch.toml: every setting with its default. A flag wins over the variable, the variable over this file."
                .to_owned(),
        ];
        let settings = Settings::default();
        let mut table = "";
        for key in KEYS {
            let (in_table, name) = key.name.rsplit_once('.').unwrap_or(("", key.name));
            if in_table != table {
                table = in_table;
                lines.extend([String::new(), format!("[{table}]")]);
            }
            lines.push(String::new());
            lines.extend(key.doc.iter().map(|line| format!("#{}", line.trim_end())));
            lines.push(format!("# Variable: {}", key.variable));
            let value = (key.show)(&settings);
            lines.push(format!("#{name} = {}", if value.is_empty() { key.example } else { &value }));
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

/// A value as TOML without what looks like a secret in it, by the rules for command lines: both are shown to others.
fn without_secrets(value: &str) -> String {
    match value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(text) => format!("\"{}\"", redact::text(text)),
        None => redact::text(value),
    }
}

/// A value as TOML in JSON; null for one that is not set.
fn json(value: &str) -> serde_json::Value {
    let read = |text: &str| toml::from_str::<toml::Table>(&format!("v = {text}\n")).ok()?.remove("v");
    match read(value) {
        None if value.is_empty() => serde_json::Value::Null,
        None => serde_json::Value::from(value),
        Some(value) => serde_json::to_value(value).unwrap_or_default(),
    }
}

/// Where a value was given, for messages.
fn place(key: &Key, origin: &Origin) -> String {
    match origin {
        Origin::Flag => format!("--{}", key.name.replace(['.', '_'], "-")),
        other => other.to_string(),
    }
}

fn position(name: &str) -> Option<usize> {
    KEYS.iter().position(|key| key.name == name)
}

fn read_file(flags: &Flags, environment: &Environment) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let named = flags.file.clone().or_else(|| environment.path("PERFWATCH_CONFIG"));
    let unreadable =
        |path: &Path, error: std::io::Error| ConfigError::Unreadable { path: path.to_owned(), source: error };
    if let Some(path) = named {
        return match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some((path, text))),
            Err(error) => Err(unreadable(&path, error)),
        };
    }
    for path in environment.default_files() {
        match std::fs::read_to_string(&path) {
            Ok(text) => return Ok(Some((path, text))),
            // A file where a folder is looked for means just as well that nobody wrote a configuration there.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(unreadable(&path, error)),
        }
    }
    Ok(None)
}
