//! The standard `OTEL_*` variables, read once through a lookup so that tests need no environment.
//!
//! A signal's own variable wins over the generic one; an empty variable is an unset one. Nothing is exported unless an
//! endpoint is set. Values that may hold credentials (headers, the user part of a URL) never reach an error or a log.

mod endpoint;
mod error;
mod headers;
mod resource;

pub(crate) use endpoint::without_query;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use error::ConfigError;
pub use headers::Headers;

use error::{Lookup, parse_bool, parse_millis};

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    /// Everything measured.
    Metrics,
    /// Findings, and the agent's own log.
    Logs,
    /// The agent's own spans.
    Traces,
}

impl Signal {
    /// The word in variable names.
    const fn word(self) -> &'static str {
        match self {
            Self::Metrics => "METRICS",
            Self::Logs => "LOGS",
            Self::Traces => "TRACES",
        }
    }

    /// What follows a base URL in OTLP/HTTP.
    pub(crate) const fn http_path(self) -> &'static str {
        match self {
            Self::Metrics => "v1/metrics",
            Self::Logs => "v1/logs",
            Self::Traces => "v1/traces",
        }
    }

    /// The method in OTLP/gRPC.
    pub(crate) const fn grpc_path(self) -> &'static str {
        match self {
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        }
    }
}

/// How requests travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP/HTTP with binary protobuf, the default; usually port 4318.
    HttpProtobuf,
    /// OTLP/gRPC; usually port 4317.
    Grpc,
}

/// Files for TLS, in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Authorities to trust instead of the system's.
    pub certificate: Option<PathBuf>,
    /// The client's certificate chain, for mutual TLS.
    pub client_certificate: Option<PathBuf>,
    /// Its private key.
    pub client_key: Option<PathBuf>,
}

/// Where one signal goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// Full URL. Holds no credentials.
    pub url: String,
    /// The variable the URL came from, for messages.
    pub variable: String,
    /// How requests travel.
    pub protocol: Protocol,
    /// Sent with each request.
    pub headers: Headers,
    /// For one attempt, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// Whether requests are compressed with gzip.
    pub gzip: bool,
    /// Files for TLS.
    pub tls: TlsFiles,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("url", &self.url)
            .field("protocol", &self.protocol)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

/// Everything that the environment says about export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpConfig {
    /// Where metrics go, if anywhere.
    pub metrics: Option<Target>,
    /// Where findings and the agent's log go, if anywhere.
    pub logs: Option<Target>,
    /// Where the agent's spans go, if anywhere.
    pub traces: Option<Target>,
    /// Time between two exports of metrics; 10 s unless set. OpenTelemetry's own default is 60 s, too long to see a
    /// queue build up.
    pub interval: Duration,
    /// Attributes of the resource, `service.name` among them.
    pub resource: Vec<(String, String)>,
    /// Settings that were understood and are not followed, with the reason; to be logged at the start.
    pub warnings: Vec<String>,
}

/// Unless `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise; the specification's default.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Unless `OTEL_METRIC_EXPORT_INTERVAL` says otherwise.
const INTERVAL: Duration = Duration::from_secs(10);

impl OtlpConfig {
    /// Reads the variables. `lookup` gives the value of a variable, if it is set.
    ///
    /// # Errors
    ///
    /// When a variable has a value that cannot be followed; the error names it and says what to do.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let lookup = Lookup::new(&lookup);
        let mut warnings = Vec::new();
        let disabled = match lookup.get("OTEL_SDK_DISABLED") {
            Some(value) => parse_bool("OTEL_SDK_DISABLED", &value)?,
            None => false,
        };
        let target = |signal| if disabled { Ok(None) } else { target(&lookup, signal) };
        let (metrics, logs, traces) = (target(Signal::Metrics)?, target(Signal::Logs)?, target(Signal::Traces)?);
        let interval = match lookup.get("OTEL_METRIC_EXPORT_INTERVAL") {
            Some(value) => parse_millis("OTEL_METRIC_EXPORT_INTERVAL", &value)?,
            None => INTERVAL,
        };
        if interval < Duration::from_secs(1) {
            warnings.push("OTEL_METRIC_EXPORT_INTERVAL is below a tick; exporting once a second".to_owned());
        }
        if metrics.is_some() {
            warnings.extend(unsupported(&lookup));
        }
        Ok(Self {
            metrics,
            logs,
            traces,
            interval: interval.max(Duration::from_secs(1)),
            resource: resource::attributes(&lookup)?,
            warnings,
        })
    }

    /// True when nothing is exported.
    pub fn is_off(&self) -> bool {
        self.metrics.is_none() && self.logs.is_none() && self.traces.is_none()
    }
}

/// Settings of metrics that are known and not followed.
fn unsupported(lookup: &Lookup<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    let temporality = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
    if let Some(value) = lookup.get(temporality).filter(|value| !value.eq_ignore_ascii_case("cumulative")) {
        warnings.push(format!("{temporality} is `{value}`, but perfwatch exports cumulative data only"));
    }
    let aggregation = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
    let exponential = "base2_exponential_bucket_histogram";
    if let Some(value) = lookup.get(aggregation).filter(|value| !value.eq_ignore_ascii_case(exponential)) {
        warnings.push(format!("{aggregation} is `{value}`, but perfwatch exports its histograms as {exponential}"));
    }
    warnings
}

/// Where a signal goes; `None` without an endpoint or when its exporter is `none`.
fn target(lookup: &Lookup<'_>, signal: Signal) -> Result<Option<Target>, ConfigError> {
    let exporter = format!("OTEL_{}_EXPORTER", signal.word());
    match lookup.get(&exporter).as_deref() {
        None | Some("otlp") => {}
        Some("none") => return Ok(None),
        Some(other) => {
            return Err(ConfigError::new(&exporter, other, "is not known to perfwatch", "use `otlp` or `none`"));
        }
    }
    let own = |name: &str| format!("OTEL_EXPORTER_OTLP_{}_{name}", signal.word());
    let either = |name: &str| lookup.first([own(name), format!("OTEL_EXPORTER_OTLP_{name}")]);

    let Some((variable, value)) = either("ENDPOINT") else { return Ok(None) };
    let protocol = match either("PROTOCOL") {
        None => Protocol::HttpProtobuf,
        Some((variable, value)) => parse_protocol(&variable, &value)?,
    };
    let insecure = match either("INSECURE") {
        None => false,
        Some((variable, value)) => parse_bool(&variable, &value)?,
    };
    let is_base = variable == "OTEL_EXPORTER_OTLP_ENDPOINT";
    let url = endpoint::parse(&variable, &value, protocol, is_base.then_some(signal), insecure)?;
    let headers = match either("HEADERS") {
        None => Headers::default(),
        Some((variable, value)) => Headers::parse(&variable, &value)?,
    };
    let timeout = match either("TIMEOUT") {
        None => TIMEOUT,
        Some((variable, value)) => parse_millis(&variable, &value)?,
    };
    let gzip = match either("COMPRESSION") {
        // Tick data shrinks to a fifth; every OTLP receiver must accept gzip.
        None => true,
        Some((variable, value)) => parse_compression(&variable, &value)?,
    };
    let path = |name: &str| either(name).map(|(_, value)| PathBuf::from(value));
    let tls = TlsFiles {
        certificate: path("CERTIFICATE"),
        client_certificate: path("CLIENT_CERTIFICATE"),
        client_key: path("CLIENT_KEY"),
    };
    if tls.client_certificate.is_some() != tls.client_key.is_some() {
        let (set, missing) = if tls.client_key.is_some() {
            ("CLIENT_KEY", "CLIENT_CERTIFICATE")
        } else {
            ("CLIENT_CERTIFICATE", "CLIENT_KEY")
        };
        let (variable, value) = either(set).expect("it was just read");
        let hint = format!("set OTEL_EXPORTER_OTLP_{missing} too");
        return Err(ConfigError::new(&variable, &value, "is only half of a client's identity", &hint));
    }
    Ok(Some(Target { url, variable, protocol, headers, timeout, gzip, tls }))
}

fn parse_protocol(variable: &str, value: &str) -> Result<Protocol, ConfigError> {
    match value {
        "http/protobuf" => Ok(Protocol::HttpProtobuf),
        "grpc" => Ok(Protocol::Grpc),
        "http/json" => {
            let hint = "use `http/protobuf` (same port, same path) or `grpc`";
            Err(ConfigError::new(variable, value, "is not spoken by perfwatch", hint))
        }
        _ => Err(ConfigError::new(variable, value, "is no OTLP protocol", "use `http/protobuf` or `grpc`")),
    }
}

fn parse_compression(variable: &str, value: &str) -> Result<bool, ConfigError> {
    match value {
        "gzip" => Ok(true),
        "none" => Ok(false),
        _ => Err(ConfigError::new(variable, value, "is no compression of OTLP", "use `gzip` or `none`")),
    }
}

#[cfg(test)]
mod tests;
