//! What can be wrong with a configuration.

use std::path::PathBuf;

use super::KEYS;

/// Why the configuration cannot be used. The message says what and where; [`ConfigError::hint`] what to do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there, or may not be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}:{line}: not valid TOML: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What the parser said.
        message: String,
    },
    /// There is no such key.
    #[error("{place}: unknown key `{key}`")]
    UnknownKey {
        /// `file:line`, or `the command line`.
        place: String,
        /// The key as written, with its table.
        key: String,
        /// The nearest key there is.
        nearest: Option<&'static str>,
    },
    /// The key does not take this value.
    #[error("{place}: `{key}` {reason}")]
    BadValue {
        /// `file:line`, `$VARIABLE` or `--flag`.
        place: String,
        /// The key.
        key: &'static str,
        /// What it takes and what it got.
        reason: String,
    },
    /// A variable that only the exporter knows has a value that it cannot follow.
    #[error("{0}")]
    Export(String),
    /// A variable holds bytes that are not text.
    #[error("${variable} is not valid UTF-8")]
    NotUnicode {
        /// The variable.
        variable: &'static str,
    },
}

impl ConfigError {
    /// An unknown key, with the nearest known one looked up.
    pub(super) fn unknown(place: impl Into<String>, key: &str) -> Self {
        // A table is spelt with its keys, so compare what the person wrote with both the whole key and its last part.
        let distance = |known: &str| {
            let last = known.rsplit('.').next().unwrap_or(known);
            strsim::damerau_levenshtein(known, key).min(strsim::damerau_levenshtein(last, key))
        };
        let nearest = KEYS.iter().map(|known| (distance(known.name), known.name)).min();
        // A third of the letters wrong is a typing mistake, more is another word.
        let nearest = nearest.filter(|(distance, _)| distance * 3 <= key.len()).map(|(_, name)| name);
        Self::UnknownKey { place: place.into(), key: key.to_owned(), nearest }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable { .. } => Some("`perfwatch config --default` prints one to start from".to_owned()),
            Self::UnknownKey { nearest: Some(nearest), .. } => {
                Some(format!("did you mean `{nearest}`? `perfwatch config` lists all {}", KEYS.len()))
            }
            Self::UnknownKey { nearest: None, .. } => Some(format!("`perfwatch config` lists all {} keys", KEYS.len())),
            Self::Syntax { .. } | Self::BadValue { .. } | Self::Export(_) | Self::NotUnicode { .. } => None,
        }
    }
}
