//! URLs of endpoints.

use http::Uri;

use super::{ConfigError, Protocol, Signal};

/// The URL that requests go to. `base_for` is the signal whose path is appended to the URL of the generic variable.
pub(super) fn parse(
    variable: &str,
    value: &str,
    protocol: Protocol,
    base_for: Option<Signal>,
    insecure: bool,
) -> Result<String, ConfigError> {
    let example = match protocol {
        Protocol::HttpProtobuf => "give a URL such as http://localhost:4318",
        Protocol::Grpc => "give a URL such as http://localhost:4317",
    };
    // Before anything that repeats the value in a message.
    if without_query(value).contains('@') {
        let hint = "put them into OTEL_EXPORTER_OTLP_HEADERS, as authorization=Basic%20…";
        return Err(ConfigError::secret(variable, "credentials in the URL are not sent", hint));
    }
    let shown = without_query(value);
    if value.contains('#') {
        return Err(ConfigError::new(variable, shown, "has a `#` behind it, which no request carries", example));
    }
    if protocol == Protocol::Grpc && value.starts_with("unix:") {
        return Ok(value.to_owned());
    }
    let value = match value.split_once("://") {
        Some(("http" | "https", _)) => value.to_owned(),
        Some((scheme, _)) => {
            let problem = format!("has the scheme `{scheme}`, which OTLP does not use");
            return Err(ConfigError::new(variable, shown, &problem, example));
        }
        // The specification lets a gRPC endpoint be a bare host and port, secured unless told otherwise.
        None if protocol == Protocol::Grpc => format!("{}://{value}", if insecure { "http" } else { "https" }),
        None => return Err(ConfigError::new(variable, shown, "has no scheme", example)),
    };
    let uri: Uri =
        value.parse().map_err(|error| ConfigError::new(variable, shown, &format!("is no URL ({error})"), example))?;
    if uri.host().is_none_or(str::is_empty) {
        return Err(ConfigError::new(variable, shown, "names no host", example));
    }
    // `Uri` takes `host:` and `host:99999` for an authority without a port.
    let after_host = uri.authority().map_or("", |authority| {
        let host_ends = authority.as_str().rfind(']').map_or(0, |at| at + 1);
        authority.as_str()[host_ends..].split_once(':').map_or("", |(_, port)| port)
    });
    let has_colon = uri.authority().is_some_and(|authority| authority.as_str().ends_with(':'));
    if has_colon || (!after_host.is_empty() && !after_host.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err(ConfigError::new(variable, shown, "has no port between 1 and 65535 after the colon", example));
    }
    Ok(match (protocol, base_for) {
        (Protocol::HttpProtobuf, Some(signal)) => append(&value, signal.http_path()),
        _ => value,
    })
}

/// A URL without its query, which may hold a token.
pub(crate) fn without_query(value: &str) -> &str {
    value.split(['?', '#']).next().unwrap_or_default()
}

/// The base URL with a path added; a query stays at the end.
fn append(base: &str, path: &str) -> String {
    let (base, query) = base.split_once('?').map_or((base, None), |(base, query)| (base, Some(query)));
    let mut url = format!("{}/{path}", base.trim_end_matches('/'));
    if let Some(query) = query {
        url.push('?');
        url.push_str(query);
    }
    url
}
