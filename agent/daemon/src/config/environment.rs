//! The one place where the program's environment is read.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Variables whose name begins like this are kept; others, secrets of other programs among them, are not.
const PREFIXES: [&str; 4] = ["PERFWATCH_", "OTEL_", "XDG_", "STATE_DIRECTORY"];
/// And these: the way to the home folder, and to the network.
const NAMES: [&str; 6] = ["HOME", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD"];

/// The variables that perfwatch looks at, as they were when the program started.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, OsString>);

/// Names only: a value may hold a token (`OTEL_EXPORTER_OTLP_HEADERS`).
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Environment {
    /// The variables of this process.
    pub fn of_process() -> Self {
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect()
    }

    /// A variable as it is; an empty one counts as unset.
    pub fn get(&self, name: &str) -> Option<OsString> {
        self.0.get(name).filter(|value| !value.is_empty()).cloned()
    }

    /// The names of those that are set.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// A variable as a path.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    /// A variable as text.
    ///
    /// # Errors
    /// The raw value when it is not Unicode.
    pub fn text(&self, name: &str) -> Result<Option<String>, OsString> {
        self.get(name).map(OsString::into_string).transpose()
    }

    /// Where a configuration file may lie, in order.
    pub fn default_files(&self) -> Vec<PathBuf> {
        let home = self
            .path("XDG_CONFIG_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| self.path("HOME").map(|home| home.join(".config")));
        home.into_iter().chain([PathBuf::from("/etc")]).map(|base| base.join("perfwatch/perfwatch.toml")).collect()
    }
}

impl<N: Into<String>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let wanted = |name: &str| {
            let is_proxy =
                |known: &str| name == known || (known.ends_with("_PROXY") && name.eq_ignore_ascii_case(known));
            NAMES.into_iter().any(is_proxy) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        };
        Self(
            variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .filter(|(name, _)| wanted(name))
                .collect(),
        )
    }
}
