//! What is wrong with a variable, and the values that every variable may have.

use std::cell::RefCell;
use std::collections::BTreeSet;
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
///
/// A value that OpenTelemetry's specification tells to ignore does not stop the agent, as it would not stop any other
/// program that has the same environment: it is taken as unset, and [`Lookup::warnings`] says so.
pub(super) struct Lookup<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    warnings: RefCell<BTreeSet<String>>,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(get: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { get, warnings: RefCell::default() }
    }

    pub(super) fn get(&self, variable: &str) -> Option<String> {
        (self.get)(variable).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// The first of the variables that is set, with its value.
    pub(super) fn first(&self, variables: [String; 2]) -> Option<(String, String)> {
        variables.into_iter().find_map(|variable| self.get(&variable).map(|value| (variable, value)))
    }

    /// Says that a variable is not followed.
    pub(super) fn ignore(&self, variable: &str, value: &str, why: &str) {
        // Escaped: the value comes from outside and may be written to a terminal.
        self.warnings.borrow_mut().insert(format!("{variable} is `{}`, {why}", value.escape_debug()));
    }

    /// What was not followed, each thing once.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.warnings.borrow().iter().cloned().collect()
    }

    /// True only for `true`, as the specification has it.
    pub(super) fn is_true(&self, variable: &str, value: &str) -> bool {
        if !value.eq_ignore_ascii_case("true") && !value.eq_ignore_ascii_case("false") {
            self.ignore(variable, value, "which counts as false; only `true` is true");
        }
        value.eq_ignore_ascii_case("true")
    }

    /// A time in milliseconds.
    pub(super) fn millis(&self, variable: &str, value: &str) -> Option<Duration> {
        let millis = value.parse().ok().map(Duration::from_millis);
        if millis.is_none() {
            self.ignore(variable, value, "which is no time in milliseconds, and is ignored; 10 seconds are `10000`");
        }
        millis
    }
}
