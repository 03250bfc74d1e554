//! The agent's spans and log arrive: `opentelemetry-otlp` as a sender that knows nothing of our receiver.

mod feed;

use std::time::Duration;

use feed::{PROTOCOLS, config, endpoint};
use perfwatch_export::OwnTelemetry;
use perfwatch_export::receiver::{Answer, Receiver};
use tokio::runtime::Handle;
use tracing_subscriber::layer::SubscriberExt as _;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_and_events_of_the_agent_arrive() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start().await.expect("loopback has free ports");
        let config = config(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint(&receiver, protocol)),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20t"),
        ]);
        let own =
            OwnTelemetry::start(&config, &Handle::current()).expect("no files are needed").expect("endpoints are set");
        let subscriber = tracing_subscriber::registry().with(own.layer());
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!(target: "perfwatch_agent::schedule", "tick", number = 7);
            let _within = span.enter();
            tracing::warn!(target: "perfwatch_agent::schedule", probe = "nvidia", "probe skipped this tick");
            tracing::warn!(target: "perfwatch_export::client", "about exporting");
        });
        tokio::task::spawn_blocking(move || own.shutdown(Duration::from_secs(20))).await.expect("no panic");
        let arrived = receiver
            .wait_for(|received| !received.traces.is_empty() && !received.logs.is_empty())
            .await
            .unwrap_or_else(|| panic!("{protocol}: {:?}", receiver.received()));

        let spans = &arrived.traces[0].resource_spans[0].scope_spans[0].spans;
        assert_eq!((spans.len(), spans[0].name.as_str()), (1, "tick"), "{protocol}");
        let records = &arrived.logs[0].resource_logs[0].scope_logs[0].log_records;
        assert_eq!((records.len(), records[0].severity_text.as_str()), (1, "WARN"), "{protocol}");
        assert_eq!(records[0].trace_id, spans[0].trace_id, "the event belongs to its span");
        let resource = arrived.traces[0].resource_spans[0].resource.as_ref().expect("a resource");
        assert!(resource.attributes.iter().any(|attribute| attribute.key == "service.name"), "{protocol}");
        assert!(
            arrived.attempts.iter().all(|attempt| attempt.header("authorization") == Some("Bearer t")),
            "{protocol}"
        );
        let encoding = if protocol == "grpc" { "grpc-encoding" } else { "content-encoding" };
        assert!(arrived.attempts.iter().all(|attempt| attempt.header(encoding) == Some("gzip")), "{protocol}");
    }
}

#[tokio::test]
async fn without_an_endpoint_there_is_nothing() {
    assert!(OwnTelemetry::start(&config(&[]), &Handle::current()).expect("nothing to go wrong").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_never_answers_is_waited_for_no_longer_than_told() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start().await.expect("loopback has free ports");
        let never = || Answer::After(Duration::from_hours(1), Box::new(Answer::Accept));
        receiver.rule(move |_| Some(never()));
        let config = config(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint(&receiver, protocol)),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "300"),
        ]);
        let own =
            OwnTelemetry::start(&config, &Handle::current()).expect("no files are needed").expect("endpoints are set");
        let subscriber = tracing_subscriber::registry().with(own.layer());
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::info_span!(target: "perfwatch_agent::schedule", "tick").entered();
            tracing::warn!(target: "perfwatch_agent::schedule", "probe skipped this tick");
        });
        let end = tokio::task::spawn_blocking(move || own.shutdown(Duration::from_mins(2)));
        let ended = tokio::time::timeout(Duration::from_mins(1), end).await;
        assert!(ended.is_ok(), "{protocol}: it waits for ever");
        assert!(!receiver.received().attempts.is_empty(), "{protocol}: it had been asked");
    }
}

#[tokio::test]
async fn a_file_without_a_certificate_is_an_error_at_the_start_that_holds_no_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ca.der");
    std::fs::write(&file, b"0\x82 no PEM").expect("the folder is ours");
    for protocol in PROTOCOLS {
        let config = config(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://localhost:1/?token=hunter2"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", file.to_str().expect("a plain path")),
        ]);
        let error = OwnTelemetry::start(&config, &Handle::current()).map(|_| ()).expect_err("no such certificate");
        let text = error.to_string();
        assert!(text.contains("holds no certificate") && !text.contains("hunter2"), "{protocol}: {text}");
    }
}
