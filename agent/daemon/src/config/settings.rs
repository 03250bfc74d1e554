//! Every setting there is: one field, its documentation, its key and its variable.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::value::{
    Age, Detail, JournalMode, LogFormat, LogLevel, OtlpProtocol, Raw, Reach, Rules, Share, Size, SocketMode, Value,
    Watch,
};

/// A setting's place in file and environment. Made from a field of [`Settings`].
pub struct Key {
    /// Its name in the file, with its table.
    pub name: &'static str,
    /// Its environment variable.
    pub variable: &'static str,
    /// The field's documentation, line by line.
    pub doc: &'static [&'static str],
    /// A value to show where the default is "not set".
    pub example: &'static str,
    pub(super) set: fn(&mut Settings, &Raw) -> Result<(), String>,
    pub(super) show: fn(&Settings) -> String,
    pub(super) same: fn(&Settings, &Settings) -> bool,
    pub(super) copy: fn(&mut Settings, &Settings),
}

macro_rules! settings {
    ($( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr, $key:literal, $variable:literal, $example:literal; )+) => {
        /// The values of a configuration.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Settings {
            $( $(#[doc = $doc])+ pub $field: $type, )+
        }

        impl Default for Settings {
            fn default() -> Self {
                Self { $( $field: $default, )+ }
            }
        }

        /// All keys, tables last, in the order of the documentation.
        pub const KEYS: &[Key] = &[$( Key {
            name: $key,
            variable: $variable,
            doc: &[$($doc),+],
            example: $example,
            set: |settings, raw| { settings.$field = Value::parse(raw)?; Ok(()) },
            show: |settings| settings.$field.show(),
            same: |left, right| left.$field == right.$field,
            copy: |to, from| to.$field = from.$field.clone(),
        } ),+];
    };
}

settings! {
    /// Folder of the sockets. When it is not set, the first that can be used of `/run/perfwatch`,
    /// `$XDG_RUNTIME_DIR/perfwatch` and `/tmp/perfwatch-$UID`.
    runtime_dir: Option<PathBuf> = None, "runtime_dir", "PERFWATCH_RUNTIME_DIR", r#""/run/perfwatch""#;

    /// Permissions of the sockets, octal. Whoever may write to a socket may read what the agent knows, and send it measurements; only root and
    /// the agent's own user may make it do something.
    socket_mode: SocketMode = SocketMode::DEFAULT, "socket_mode", "PERFWATCH_SOCKET_MODE", "";

    /// Share of one core that probes may use. Above it, slow-moving probes run less often, and the agent says which.
    budget: Share = Share::BUDGET, "budget", "PERFWATCH_BUDGET", "";

    /// Probes that are not run, by name.
    probes_off: Vec<String> = Vec::new(), "probes_off", "PERFWATCH_PROBES_OFF", "";

    /// Processes to watch as servers although they do not use the SDK: process ids or names.
    watch: Vec<Watch> = Vec::new(), "watch", "PERFWATCH_WATCH", "";

    /// Which rules judge: proven ones, or all: those too that no recording of a real GPU has proven yet. Their findings say so.
    rules: Rules = Rules::Proven, "rules", "PERFWATCH_RULES", "";

    /// Driver library to load instead of the system's libnvidia-ml.so.1.
    nvml_lib: Option<PathBuf> = None, "nvml_lib", "PERFWATCH_NVML_LIB", r#""/usr/lib/libnvidia-ml.so.1""#;

    /// Where metrics and findings go. Nothing is sent when it is not set.
    otlp_endpoint: Option<String> = None, "otlp.endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT", r#""http://127.0.0.1:4318""#;

    /// How they go there: grpc or http/protobuf.
    otlp_protocol: OtlpProtocol = OtlpProtocol::HttpProtobuf, "otlp.protocol", "OTEL_EXPORTER_OTLP_PROTOCOL", "";

    /// How much goes there: default (enough for every dashboard) or full.
    otlp_level: Detail = Detail::Default, "otlp.level", "PERFWATCH_OTLP_LEVEL", "";

    /// Most that undelivered requests may take of the disk while the endpoint is away. Beyond, the oldest go; totals stay. In
    /// memory it is at most 16MB.
    otlp_outbox_cap: Size = Size::OUTBOX, "otlp.outbox_cap", "PERFWATCH_OTLP_OUTBOX_CAP", "";

    /// Address on which OTLP over gRPC is taken in, besides the socket `otlp.sock` that is always there.
    intake_grpc: Option<SocketAddr> = None, "intake.grpc", "PERFWATCH_INTAKE_GRPC", r#""127.0.0.1:4317""#;

    /// Address on which OTLP over HTTP (protobuf, or JSON) is taken in.
    intake_http: Option<SocketAddr> = None, "intake.http", "PERFWATCH_INTAKE_HTTP", r#""127.0.0.1:4318""#;

    /// Who may reach these addresses: loopback, or network. They have neither encryption nor authentication.
    intake_reach: Reach = Reach::Loopback, "intake.reach", "PERFWATCH_INTAKE_REACH", "";

    /// Share of requests that senders trace, where their spans do not say it themselves. At 1 stages are exact.
    intake_sampling: Option<Share> = None, "intake.sampling", "PERFWATCH_INTAKE_SAMPLING", "1";

    /// Address on which `/metrics` is served for Prometheus, besides the socket of the local API.
    metrics_listen: Option<SocketAddr> = None, "metrics.listen", "PERFWATCH_METRICS_LISTEN", r#""127.0.0.1:9464""#;

    /// Who may reach it: loopback, or network. It has neither encryption nor authentication, and can only be read.
    metrics_reach: Reach = Reach::Loopback, "metrics.reach", "PERFWATCH_METRICS_REACH", "";

    /// Where history is kept: disk, or memory.
    journal_mode: JournalMode = JournalMode::Disk, "journal.mode", "PERFWATCH_JOURNAL_MODE", "";

    /// File of the journal. When it is not set, `journal.db` in `$STATE_DIRECTORY`, else in `$XDG_STATE_HOME/perfwatch`,
    /// else in `~/.local/state/perfwatch`.
    journal_path: Option<PathBuf> = None, "journal.path", "PERFWATCH_JOURNAL_PATH", r#""/var/lib/perfwatch/journal.db""#;

    /// Most that the journal may take of the disk, from 16MB. Beyond, the oldest history goes; totals stay.
    journal_cap: Size = Size::JOURNAL, "journal.cap", "PERFWATCH_JOURNAL_CAP", "";

    /// How long every second is kept, counted in seconds of measuring, as far as the cap allows.
    journal_keep: Age = Age(perfwatch_store::DEFAULT_KEEP_S), "journal.keep", "PERFWATCH_JOURNAL_KEEP", "";

    /// How long minutes are kept: sums of counters, means and extremes of gauges, merged distributions, and findings.
    journal_keep_minutes: Age = Age(perfwatch_store::DEFAULT_KEEP_MINUTES_S), "journal.keep_minutes", "PERFWATCH_JOURNAL_KEEP_MINUTES", "";

    /// Least severe messages to log: error, warn, info, debug or trace.
    log_level: LogLevel = LogLevel::Info, "log.level", "PERFWATCH_LOG_LEVEL", "";

    /// How to write the log: text or json.
    log_format: LogFormat = LogFormat::Text, "log.format", "PERFWATCH_LOG_FORMAT", "";
}
