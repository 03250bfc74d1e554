//! The standard `OTEL_*` variables, read once through a lookup so that tests need no environment.
//!
//! A signal's own variable wins over the generic one; an empty variable is an unset one. Nothing is exported unless an
//! endpoint is set. Values that may hold credentials (headers, the user part of a URL) never reach an error or a log.

mod endpoint;
mod error;
mod headers;
mod proxy;
mod resource;

pub(crate) use endpoint::without_query;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use error::ConfigError;
pub use headers::Headers;
pub(crate) use proxy::Proxy;

use error::Lookup;
use proxy::Proxies;

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
    /// The proxy on the way, if any.
    pub(crate) proxy: Option<Proxy>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("url", &without_query(&self.url))
            .field("protocol", &self.protocol)
            .field("headers", &self.headers)
            .field("proxy", &self.proxy)
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
/// What a timeout of 0 stands for: no limit, says the specification; but a receiver that never answers would hold
/// everything up for ever.
const NO_TIMEOUT: Duration = Duration::from_hours(1);
/// Nothing is new more often.
const TICK: Duration = Duration::from_secs(1);
/// Unless `OTEL_METRIC_EXPORT_INTERVAL` says otherwise.
const INTERVAL: Duration = Duration::from_secs(10);

impl OtlpConfig {
    /// Reads the variables. `lookup` gives the value of a variable, if it is set.
    ///
    /// # Errors
    ///
    /// When an endpoint, headers, or a client's identity cannot be used; the error names the variable and says what to do.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let lookup = Lookup::new(&lookup);
        let disabled = lookup.get("OTEL_SDK_DISABLED").is_some_and(|value| lookup.is_true("OTEL_SDK_DISABLED", &value));
        let target = |signal| if disabled { Ok(None) } else { target(&lookup, signal) };
        let (metrics, logs, traces) = (target(Signal::Metrics)?, target(Signal::Logs)?, target(Signal::Traces)?);
        if metrics.is_some() {
            unsupported(&lookup);
        }
        let interval = interval(&lookup);
        let resource = resource::attributes(&lookup);
        Ok(Self { metrics, logs, traces, interval, resource, warnings: lookup.warnings() })
    }

    /// The same, with what tells this sender from others where the environment does not: `host.name`, and as
    /// `service.instance.id` the host's name too, for there is one agent on a host. Without the latter the hosts' own
    /// series would all be one to a backend. It stays the same over restarts, so that their streams go on.
    #[must_use]
    pub fn sent_from(mut self, host: &str) -> Self {
        for key in ["host.name", "service.instance.id"] {
            if !host.is_empty() && !self.resource.iter().any(|(known, _)| known == key) {
                self.resource.push((key.to_owned(), host.to_owned()));
            }
        }
        self
    }

    /// True when nothing is exported.
    pub fn is_off(&self) -> bool {
        self.metrics.is_none() && self.logs.is_none() && self.traces.is_none()
    }
}

/// Time between two exports.
fn interval(lookup: &Lookup<'_>) -> Duration {
    const VARIABLE: &str = "OTEL_METRIC_EXPORT_INTERVAL";
    let Some(value) = lookup.get(VARIABLE) else { return INTERVAL };
    let Some(interval) = lookup.millis(VARIABLE, &value) else { return INTERVAL };
    if interval < TICK {
        lookup.ignore(VARIABLE, &value, "which is less than a tick; metrics are exported once a second");
    }
    interval.max(TICK)
}

/// Settings of metrics that are known and not followed.
fn unsupported(lookup: &Lookup<'_>) {
    for (variable, followed, why) in [
        (
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            "cumulative",
            "but perfwatch exports cumulative data only",
        ),
        (
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "base2_exponential_bucket_histogram",
            "but perfwatch exports its histograms as base2_exponential_bucket_histogram",
        ),
        (
            "OTEL_METRIC_EXPORT_TIMEOUT",
            "",
            "which has no effect: requests wait until they are delivered. OTEL_EXPORTER_OTLP_TIMEOUT bounds an attempt",
        ),
    ] {
        if let Some(value) = lookup.get(variable).filter(|value| !value.eq_ignore_ascii_case(followed)) {
            lookup.ignore(variable, &value, why);
        }
    }
}

/// Whether the list of a signal's exporters has OTLP among them; it does without one.
fn is_wanted(lookup: &Lookup<'_>, signal: Signal) -> bool {
    let variable = format!("OTEL_{}_EXPORTER", signal.word());
    let Some(list) = lookup.get(&variable) else { return true };
    let names: Vec<_> = list.split(',').map(|name| name.trim().to_ascii_lowercase()).collect();
    if names.iter().any(|name| name != "otlp" && name != "none") {
        lookup.ignore(
            &variable,
            &list,
            "of which perfwatch knows `otlp` and `none` alone; a Prometheus can pull /metrics",
        );
    }
    // Nothing that is known: as if it were unset.
    names.iter().any(|name| name == "otlp") || names.iter().all(|name| name != "none")
}

/// Where a signal goes; `None` without an endpoint or when its exporter is `none`.
fn target(lookup: &Lookup<'_>, signal: Signal) -> Result<Option<Target>, ConfigError> {
    let own = |name: &str| format!("OTEL_EXPORTER_OTLP_{}_{name}", signal.word());
    let either = |name: &str| lookup.first([own(name), format!("OTEL_EXPORTER_OTLP_{name}")]);

    let Some((variable, value)) = either("ENDPOINT") else { return Ok(None) };
    if !is_wanted(lookup, signal) {
        return Ok(None);
    }
    let protocol = either("PROTOCOL").and_then(|(variable, value)| protocol(lookup, &variable, &value));
    let protocol = protocol.unwrap_or(Protocol::HttpProtobuf);
    let insecure = either("INSECURE").is_some_and(|(variable, value)| lookup.is_true(&variable, &value));
    let is_base = variable == "OTEL_EXPORTER_OTLP_ENDPOINT";
    let url = endpoint::parse(&variable, &value, protocol, is_base.then_some(signal), insecure)?;
    let headers = match either("HEADERS") {
        None => Headers::default(),
        Some((variable, value)) => Headers::parse(&variable, &value)?,
    };
    let timeout = match either("TIMEOUT").map(|(variable, value)| lookup.millis(&variable, &value)) {
        None | Some(None) => TIMEOUT,
        Some(Some(Duration::ZERO)) => NO_TIMEOUT,
        Some(Some(timeout)) => timeout,
    };
    // Tick data shrinks to a fifth; every OTLP receiver must accept gzip.
    let gzip = either("COMPRESSION").is_none_or(|(variable, value)| is_gzip(lookup, &variable, &value));
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
    let proxy = Proxies::from_lookup(lookup).on_the_way_to(&url)?;
    Ok(Some(Target { url, variable, protocol, headers, timeout, gzip, tls, proxy }))
}

fn protocol(lookup: &Lookup<'_>, variable: &str, value: &str) -> Option<Protocol> {
    match value.to_ascii_lowercase().as_str() {
        "http/protobuf" => Some(Protocol::HttpProtobuf),
        "grpc" => Some(Protocol::Grpc),
        _ => {
            lookup.ignore(
                variable,
                value,
                "which perfwatch does not speak; it takes http/protobuf. `grpc` is the other",
            );
            None
        }
    }
}

fn is_gzip(lookup: &Lookup<'_>, variable: &str, value: &str) -> bool {
    let known = ["gzip", "none"].iter().any(|known| value.eq_ignore_ascii_case(known));
    if !known {
        lookup.ignore(variable, value, "which is no compression of OTLP; perfwatch takes gzip. `none` is the other");
    }
    !value.eq_ignore_ascii_case("none")
}

#[cfg(test)]
mod tests;
