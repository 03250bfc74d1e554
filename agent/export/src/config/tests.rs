use super::*;

fn config(variables: &[(&str, &str)]) -> Result<OtlpConfig, ConfigError> {
    OtlpConfig::from_lookup(|name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
}

fn metrics(variables: &[(&str, &str)]) -> Target {
    config(variables).expect("valid variables").metrics.expect("an endpoint is set")
}

fn message(variables: &[(&str, &str)]) -> String {
    config(variables).expect_err("invalid variables").to_string()
}

const GENERIC: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:4318");

#[test]
fn without_an_endpoint_nothing_is_exported() {
    let empty = config(&[]).expect("no variables are valid");
    assert!(empty.is_off());
    assert_eq!(empty.interval, Duration::from_secs(10));
    assert!(config(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "  ")]).expect("an empty variable is unset").is_off());
}

#[test]
fn only_the_generic_endpoint_gets_a_path() {
    let all = config(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:4318/base/"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "https://logs/exact"),
    ])
    .expect("valid variables");
    let url = |target: Option<Target>| target.expect("an endpoint is set").url;
    assert_eq!(url(all.metrics), "http://otel:4318/base/v1/metrics");
    assert_eq!(url(all.traces), "http://otel:4318/base/v1/traces");
    assert_eq!(url(all.logs), "https://logs/exact");
}

#[test]
fn grpc_takes_the_endpoint_as_it_is_and_a_bare_host_is_secured_unless_told_otherwise() {
    let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    assert_eq!(metrics(&[GENERIC, grpc]).url, "http://otel:4318");
    let bare = ("OTEL_EXPORTER_OTLP_ENDPOINT", "otel:4317");
    assert_eq!(metrics(&[bare, grpc]).url, "https://otel:4317");
    assert_eq!(metrics(&[bare, grpc, ("OTEL_EXPORTER_OTLP_INSECURE", "true")]).url, "http://otel:4317");
}

#[test]
fn a_signals_own_variable_wins() {
    let target = metrics(&[
        GENERIC,
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "2500"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "none"),
    ]);
    assert_eq!((target.protocol, target.timeout), (Protocol::HttpProtobuf, Duration::from_millis(2500)));
    assert!(!target.gzip);
}

#[test]
fn a_wrong_endpoint_is_named_with_what_to_do() {
    for (value, expected) in [
        (
            "otel:4318",
            "OTEL_EXPORTER_OTLP_ENDPOINT: `otel:4318` has no scheme; give a URL such as http://localhost:4318",
        ),
        (
            "htp://otel",
            "OTEL_EXPORTER_OTLP_ENDPOINT: `htp://otel` has the scheme `htp`, which OTLP does not use; give a URL such \
             as http://localhost:4318",
        ),
        (
            "http://otel:99999",
            "OTEL_EXPORTER_OTLP_ENDPOINT: `http://otel:99999` has no port between 1 and 65535 after the colon; give a \
             URL such as http://localhost:4318",
        ),
    ] {
        assert_eq!(message(&[("OTEL_EXPORTER_OTLP_ENDPOINT", value)]), expected);
    }
    for value in ["http://", "http:// x", "http://otel:", "http://[::1", "http://otel:x"] {
        let message = message(&[("OTEL_EXPORTER_OTLP_ENDPOINT", value)]);
        assert!(message.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT: `http://"), "{value}: {message}");
    }
    assert_eq!(metrics(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[::1]:4318")]).url, "http://[::1]:4318/v1/metrics");
}

#[test]
fn half_of_an_identity_is_an_error() {
    let message = message(&[GENERIC, ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key.pem")]);
    let wanted = "OTEL_EXPORTER_OTLP_CLIENT_KEY: `/key.pem` is only half of a client's identity; set \
                  OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE too";
    assert_eq!(message, wanted);
}

#[test]
fn what_the_specification_ignores_is_said_and_stops_nothing() {
    let plain = config(&[GENERIC]).expect("valid variables");
    for (variable, value, expected) in [
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "udp", "perfwatch does not speak"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json", "perfwatch does not speak"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "no time in milliseconds"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "-1", "no time in milliseconds"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "no compression of OTLP"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "yes", "only `true` is true"),
        ("OTEL_SDK_DISABLED", "1", "only `true` is true"),
        ("OTEL_METRICS_EXPORTER", "prometheus", "`otlp` and `none` alone"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "30000", "has no effect"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team=a,region", "none of them is taken"),
        ("OTEL_RESOURCE_ATTRIBUTES", "team=%2", "none of them is taken"),
        ("OTEL_RESOURCE_ATTRIBUTES", "le=1", "keep for themselves"),
    ] {
        let read = config(&[GENERIC, (variable, value)]).expect("it stops nothing");
        let [warning] = read.warnings.as_slice() else { panic!("{variable}={value}: {:?}", read.warnings) };
        assert!(warning.starts_with(variable) && warning.contains(expected), "{warning}");
        assert_eq!(OtlpConfig { warnings: Vec::new(), ..read }, plain, "{variable}={value} is as if it were unset");
    }
}

#[test]
fn a_list_of_exporters_has_otlp_in_it_or_not() {
    let is_exported = |list| config(&[GENERIC, ("OTEL_METRICS_EXPORTER", list)]).expect("valid").metrics.is_some();
    assert_eq!(["OTLP", "otlp,console", "console"].map(is_exported), [true; 3]);
    assert_eq!(["none", "None", "console,none"].map(is_exported), [false; 3]);
    let nowhere = config(&[("OTEL_METRICS_EXPORTER", "prometheus")]).expect("valid");
    assert!(nowhere.is_off() && nowhere.warnings.is_empty(), "who exports nothing hears nothing of it");
}

#[test]
fn words_are_known_in_any_case_and_a_timeout_of_0_is_as_good_as_none() {
    let target = metrics(&[
        GENERIC,
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "GRPC"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "None"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
    ]);
    assert_eq!((target.protocol, target.gzip, target.timeout), (Protocol::Grpc, false, NO_TIMEOUT));
}

#[test]
fn credentials_are_in_no_message() {
    let secret = "hunter2";
    let url = format!("http://user:{secret}@otel:4318");
    let in_url = message(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &url)]);
    assert!(in_url.contains("OTEL_EXPORTER_OTLP_HEADERS"), "{in_url}");
    for url in [format!("http://user:pa/{secret}@otel:4318"), format!("http://user:12/{secret}@otel:4318")] {
        let split = message(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &url)]);
        assert!(split.contains("credentials in the URL") && !split.contains(secret), "{split}");
    }
    let odd_url = message(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("htp://user:{secret}@otel"))]);
    let in_query = message(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("htp://otel/?token={secret}"))]);
    let no_value = message(&[GENERIC, ("OTEL_EXPORTER_OTLP_HEADERS", secret)]);
    let broken = message(&[GENERIC, ("OTEL_EXPORTER_OTLP_HEADERS", &format!("authorization={secret}%2"))]);
    assert!(broken.contains("header 1 of the list has a broken percent-encoding"), "{broken}");
    let valid = metrics(&[GENERIC, ("OTEL_EXPORTER_OTLP_HEADERS", &format!("authorization={secret}"))]);
    let query = metrics(&[("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("https://otel/?token={secret}"))]);
    for text in [in_url, odd_url, in_query, no_value, broken, format!("{valid:?} {query:?}")] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn headers_are_percent_decoded() {
    let target =
        metrics(&[GENERIC, ("OTEL_EXPORTER_OTLP_HEADERS", "x-scope=b,authorization=Basic%20YTpi, x-scope = a ,")]);
    let headers: Vec<_> =
        target.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("ascii"))).collect();
    assert_eq!(headers, [("authorization", "Basic YTpi"), ("x-scope", "a")]);
}

#[test]
fn the_resource_is_who_the_environment_says() {
    let config = config(&[
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,deployment.environment.name=prod%2Ceu,host.name=node-7"),
        ("OTEL_SERVICE_NAME", "b"),
    ])
    .expect("valid variables");
    let expected = [
        ("service.name", "b"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("deployment.environment.name", "prod,eu"),
        ("host.name", "node-7"),
    ];
    assert_eq!(config.resource, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
}

#[test]
fn what_is_not_followed_is_said() {
    let delta = ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta");
    let config = config(&[GENERIC, delta]).expect("asking for delta is no error");
    assert_eq!(config.warnings.len(), 1);
    assert!(config.warnings[0].contains("cumulative data only"), "{}", config.warnings[0]);
}

#[test]
fn a_signal_or_everything_can_be_switched_off() {
    let no_logs = config(&[GENERIC, ("OTEL_LOGS_EXPORTER", "none")]).expect("valid variables");
    assert!(no_logs.logs.is_none() && no_logs.metrics.is_some());
    assert!(config(&[GENERIC, ("OTEL_SDK_DISABLED", "true")]).expect("valid variables").is_off());
}

#[test]
fn hosts_are_told_apart_unless_the_environment_does_so_itself() {
    let resource = |variables: &[(&str, &str)]| {
        let config = config(variables).expect("valid variables").sent_from("node-7");
        let value = |key: &str| config.resource.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone());
        (value("host.name"), value("service.instance.id"))
    };
    let node = Some("node-7".to_owned());
    assert_eq!(resource(&[]), (node.clone(), node.clone()));
    let own = ("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=blue");
    assert_eq!(resource(&[own]), (node, Some("blue".to_owned())));
}
