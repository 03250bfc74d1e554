//! One flag per setting, made from the settings' own table, so that key, variable, flag and help cannot disagree.

use std::path::PathBuf;

use clap::error::Error;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use perfwatch_agent::config::{JournalMode, KEYS};
use perfwatch_agent::{Config, ConfigError, Environment, Flags};

use crate::failure::Failure;

/// The settings that were given on the command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct SettingFlags(Flags);

impl SettingFlags {
    /// Merges flags, environment and file.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        Config::load(&self.0, Environment::of_process()).map_err(usage)
    }

    /// The same, with what no single value tells looked at too.
    pub(crate) fn checked_config(&self) -> Result<Config, Failure> {
        let config = self.config()?;
        config.check().map_err(usage)?;
        if config.settings.journal_mode == JournalMode::Disk {
            config.check_journal().map_err(usage)?;
        }
        Ok(config)
    }

    /// Refuses settings that were given one by one, where a recording is shown: they would have no effect. A file may be in
    /// every call of a script, for the sake of other commands, and is let be.
    pub(crate) fn refuse_for_recording(&self) -> Result<(), Failure> {
        let mut given: Vec<String> = self.0.values.iter().map(|(key, _)| format!("--{}", flag_name(key))).collect();
        given.dedup();
        if given.is_empty() {
            return Ok(());
        }
        let (have, it) = if given.len() == 1 { ("has", "it") } else { ("have", "them") };
        let error = anyhow::anyhow!("{} {have} no effect on a recording", given.join(", "));
        let hint =
            format!("leave {it} out: a recording was measured and judged with the settings of the agent that made it");
        Err(Failure::usage(error).hint(Some(hint)))
    }
}

fn usage(error: ConfigError) -> Failure {
    let hint = error.hint();
    Failure::usage(error).hint(hint)
}

/// `otlp.endpoint` is `--otlp-endpoint`. There are a dozen, made once: clap wants names that live as long as the program.
fn flag(key: &str) -> &'static str {
    flag_name(key).leak()
}

fn flag_name(key: &str) -> String {
    key.replace(['.', '_'], "-")
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .global(true)
            .help_heading("Settings")
            .help(
                "Configuration file; must exist. Without it, the first of $XDG_CONFIG_HOME/perfwatch/perfwatch.toml \
                 (~/.config) and /etc/perfwatch/perfwatch.toml that exists [env: PERFWATCH_CONFIG]",
            );
        KEYS.iter().fold(command.arg(file), |command, key| {
            let doc: Vec<_> = key.doc.iter().map(|line| line.trim()).collect();
            let doc = doc.join(" ");
            command.arg(
                Arg::new(key.name)
                    .long(flag(key.name))
                    .value_name("VALUE")
                    .action(ArgAction::Append)
                    .global(true)
                    .hide_short_help(true)
                    .help_heading("Settings")
                    .help(format!("{} [env: {}]", doc.trim_end_matches('.'), key.variable)),
            )
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.file = matches.get_one::<PathBuf>("config").cloned();
        self.0.values = KEYS
            .iter()
            .flat_map(|key| {
                let given = matches.get_many::<String>(key.name).into_iter().flatten();
                given.map(|value| (key.name.to_owned(), value.clone()))
            })
            .collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use crate::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_has_its_flag() {
        use clap::Parser;
        let cli = Cli::parse_from(["perfwatch", "agent", "--otlp-endpoint", "http://127.0.0.1:1", "--budget=2%"]);
        let config = cli.settings.config().expect("valid");
        assert_eq!(config.settings.otlp_endpoint.as_deref(), Some("http://127.0.0.1:1"));
        assert!((config.settings.budget.0 - 0.02).abs() < 1e-12);
    }
}
