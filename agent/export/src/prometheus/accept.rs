//! Which format a scraper gets: what its `Accept` header says, by q-values.

/// A format of the exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4, which everything reads.
    Text,
    /// `OpenMetrics` 1.0: with exemplars, units and times of creation.
    OpenMetrics,
    /// Length-delimited `io.prometheus.client.MetricFamily` messages: the only format with native histograms.
    Protobuf,
}

impl Format {
    /// What the answer says about itself.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// The format that a scraper likes best. Of equals the first; text for whoever asks for nothing that there is, since a
    /// scraper that gets text can at least say what is wrong.
    pub fn asked(accept: &str) -> Self {
        let mut best = (0.0, Self::Text);
        for range in accept.split(',') {
            let Some((format, q)) = offered(range) else { continue };
            if q > best.0 {
                best = (q, format);
            }
        }
        best.1
    }
}

/// The format that one media range means, and how much it is liked; `None` when there is no such format.
fn offered(range: &str) -> Option<(Format, f64)> {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next()?.to_ascii_lowercase();
    let (mut q, mut version, mut message, mut encoding) = (1.0, None, None, None);
    for parameter in parts {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.trim().trim_matches('"');
        match key.trim().to_ascii_lowercase().as_str() {
            // A weight that is none is no wish.
            "q" => q = value.parse::<f64>().ok().filter(|q| (0.0..=1.0).contains(q))?,
            "version" => version = Some(value),
            "proto" => message = Some(value),
            "encoding" => encoding = Some(value),
            _ => {}
        }
    }
    let format = match media.as_str() {
        "text/plain" if matches!(version, None | Some("0.0.4")) => Format::Text,
        "*/*" | "text/*" => Format::Text,
        "application/openmetrics-text" if matches!(version, None | Some("1.0.0")) => Format::OpenMetrics,
        "application/vnd.google.protobuf"
            if message == Some("io.prometheus.client.MetricFamily") && encoding == Some("delimited") =>
        {
            Format::Protobuf
        }
        _ => return None,
    };
    Some((format, q))
}

#[cfg(test)]
mod tests {
    use super::Format::{self, OpenMetrics, Protobuf, Text};

    /// What Prometheus 3 sends with and without native histograms.
    const NATIVE: &str = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
        application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
        application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
        text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    const PLAIN: &str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
        application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
        text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

    #[test]
    fn the_best_liked_format_that_there_is_wins() {
        for (accept, format) in [
            ("", Text),
            ("*/*", Text),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Text),
            ("application/json", Text),
            (NATIVE, Protobuf),
            (PLAIN, OpenMetrics),
            ("text/plain;version=0.0.4;q=0.5,application/openmetrics-text;q=0.4", Text),
            ("application/openmetrics-text; version=1.0.0; q=0, text/plain", Text),
            ("application/openmetrics-text;version=0.0.1", Text),
            ("Application/OpenMetrics-Text; Version=\"1.0.0\"", OpenMetrics),
            ("application/vnd.google.protobuf", Text),
            ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", Text),
            ("application/openmetrics-text;q=2,text/plain;q=0.1", Text),
            ("application/openmetrics-text;q=NaN", Text),
            (";;,,=;q=", Text),
        ] {
            assert_eq!(Format::asked(accept), format, "{accept}");
        }
    }
}
