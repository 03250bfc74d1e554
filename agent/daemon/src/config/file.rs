//! Reads a TOML file into (key, value, line), and refuses what no key claims.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, KEYS, Raw, position};

/// Every value of the file with the position of its key in [`KEYS`] and its line.
pub(super) fn values(path: &Path, text: &str) -> Result<Vec<(usize, Raw, usize)>, ConfigError> {
    let table = DeTable::parse(text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        message: error.message().replace('\n', ", "),
    })?;
    let mut found = Vec::new();
    collect(path, text, "", table.get_ref(), &mut found)?;
    Ok(found)
}

fn collect(
    path: &Path,
    text: &str,
    prefix: &str,
    table: &DeTable<'_>,
    found: &mut Vec<(usize, Raw, usize)>,
) -> Result<(), ConfigError> {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
        let line = line_of(text, name.span().start);
        let place = format!("{}:{line}", path.display());
        let is_table = KEYS.iter().any(|known| known.name.strip_prefix(&key).is_some_and(|rest| rest.starts_with('.')));
        match (value.get_ref(), position(&key)) {
            (DeValue::Table(inner), None) if is_table => collect(path, text, &key, inner, found)?,
            (_, Some(at)) => {
                let raw = raw(value).ok_or_else(|| ConfigError::BadValue {
                    place,
                    key: KEYS[at].name,
                    reason: "takes a text, a number or a list of texts".to_owned(),
                })?;
                found.push((at, raw, line));
            }
            (_, None) => return Err(ConfigError::unknown(place, &key)),
        }
    }
    Ok(())
}

fn raw(value: &Spanned<DeValue<'_>>) -> Option<Raw> {
    match value.get_ref() {
        DeValue::String(text) => Some(Raw::Text(text.to_string())),
        DeValue::Integer(number) => Some(Raw::Number(number.to_string())),
        DeValue::Float(number) => Some(Raw::Number(number.to_string())),
        DeValue::Boolean(value) => Some(Raw::Text(value.to_string())),
        DeValue::Array(items) => items
            .iter()
            .map(|item| match raw(item)? {
                Raw::Text(text) | Raw::Number(text) => Some(text),
                Raw::List(_) => None,
            })
            .collect::<Option<Vec<_>>>()
            .map(Raw::List),
        DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or(text).matches('\n').count() + 1
}
