//! Headers sent with each request. They hold credentials, so their values are never shown.

use std::fmt;

use http::{HeaderName, HeaderValue};

use super::ConfigError;

/// Names and values, in order.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(HeaderName, HeaderValue)>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name.as_str())).finish()
    }
}

impl Headers {
    /// Reads `key=value,key=value` with percent-encoded values, as W3C Baggage writes it.
    pub(super) fn parse(variable: &str, list: &str) -> Result<Self, ConfigError> {
        let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
        for (at, pair) in list.split(',').map(str::trim).enumerate().filter(|(_, pair)| !pair.is_empty()) {
            let wrong = |what: &str, hint: &str| {
                ConfigError::secret(variable, &format!("header {} of the list {what}", at + 1), hint)
            };
            let Some((name, value)) = pair.split_once('=') else {
                return Err(wrong("has no `=`", "write `name=value,name=value`"));
            };
            let name = HeaderName::try_from(name.trim())
                .map_err(|_| wrong("has a name that HTTP does not allow", "use letters, digits and dashes"))?;
            let value = percent_decode(value.trim()).ok_or_else(|| {
                wrong("has a broken percent-encoding", "write `%20` for a space, `%25` for a percent")
            })?;
            let mut value = HeaderValue::from_bytes(&value)
                .map_err(|_| wrong("has a value with control characters", "remove them"))?;
            value.set_sensitive(true);
            // The last of a name wins, whatever the transport would make of both.
            headers.retain(|(known, _)| *known != name);
            headers.push((name, value));
        }
        Ok(Self(headers))
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

/// The bytes behind `%xx` sequences; `None` when one is cut short or not hexadecimal.
pub(super) fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            out.push((high * 16 + low) as u8);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}
