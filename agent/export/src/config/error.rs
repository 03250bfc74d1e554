//! What is wrong with a variable, and the values that every variable may have.

use std::fmt;
use std::time::Duration;

/// A variable whose value cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    variable: String,
    value: Option<String>,
    problem: String,
    hint: String,
}

impl ConfigError {
    pub(super) fn new(variable: &str, value: &str, problem: &str, hint: &str) -> Self {
        let value = Some(value.to_owned());
        Self { variable: variable.to_owned(), value, problem: problem.to_owned(), hint: hint.to_owned() }
    }

    /// For values that may hold credentials.
    pub(super) fn secret(variable: &str, problem: &str, hint: &str) -> Self {
        Self { value: None, ..Self::new(variable, "", problem, hint) }
    }

    /// The variable.
    pub fn variable(&self) -> &str {
        &self.variable
    }

    /// What to do about it.
    pub fn hint(&self) -> &str {
        &self.hint
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            // Escaped: the value comes from outside and may be written to a terminal.
            Some(value) => write!(f, "{}: `{}` {}", self.variable, value.escape_debug(), self.problem)?,
            None => write!(f, "{}: {}", self.variable, self.problem)?,
        }
        write!(f, "; {}", self.hint)
    }
}

impl std::error::Error for ConfigError {}

/// The environment, with empty variables taken as unset.
pub(super) struct Lookup<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(get: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { get }
    }

    pub(super) fn get(&self, variable: &str) -> Option<String> {
        (self.get)(variable).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// The first of the variables that is set, with its value.
    pub(super) fn first(&self, variables: [String; 2]) -> Option<(String, String)> {
        variables.into_iter().find_map(|variable| self.get(&variable).map(|value| (variable, value)))
    }
}

pub(super) fn parse_bool(variable: &str, value: &str) -> Result<bool, ConfigError> {
    match value.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(ConfigError::new(variable, value, "is neither true nor false", "use `true` or `false`")),
    }
}

pub(super) fn parse_millis(variable: &str, value: &str) -> Result<Duration, ConfigError> {
    match value.parse() {
        Ok(millis) if millis > 0 => Ok(Duration::from_millis(millis)),
        _ => Err(ConfigError::new(
            variable,
            value,
            "is no time in milliseconds",
            "use a whole number above 0, as `10000` for 10 seconds",
        )),
    }
}
