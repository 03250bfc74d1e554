//! What happens when the other side is wrong, slow, full or away.

mod feed;

use std::time::Duration;

use feed::{Feed, PATIENCE, PROTOCOLS, endpoint, exporter};
use perfwatch_export::receiver::{Answer, Attempt, Receiver};
use perfwatch_export::{Exporter, Signal};
use perfwatch_model::Number;
use perfwatch_model::metrics::server;

/// Offers one tick with one gauge.
fn offer(exporter: &mut Exporter, feed: &mut Feed) {
    let series = feed.series(&server::IN_FLIGHT);
    let tick = feed.tick(&[(series, Number::Float(1.0))], &[]);
    exporter.offer(&tick, &feed.table, &[]);
}

fn metrics_view(exporter: &Exporter) -> perfwatch_model::snapshot::ExportView {
    exporter.views().remove(0)
}

/// An address of loopback at which nothing listens.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports");
    format!("http://{}", listener.local_addr().expect("a bound socket has an address"))
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_blocks_nothing_and_is_told() {
    for protocol in PROTOCOLS {
        let endpoint = nowhere();
        let (mut exporter, mut feed) = (exporter(&endpoint, protocol, &[]), Feed::new());
        for _ in 0..3 {
            offer(&mut exporter, &mut feed);
        }
        // Long enough for an attempt; the flush gives up then.
        exporter.flush(&feed.table, Duration::from_millis(500)).await;
        let view = metrics_view(&exporter);
        assert!(view.endpoint.starts_with(&endpoint), "{view:?}");
        assert!(view.state.starts_with("cannot connect: ") && view.state.contains("refused"), "{view:?}");
        assert_eq!((view.sent, view.dropped), (0, 3), "{view:?}");
        assert_eq!(exporter.dropped()["export_shutdown"], 3);
    }
}

#[tokio::test]
async fn a_busy_receiver_gets_the_same_bytes_again_after_the_time_it_asked_for() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start().await.expect("loopback has free ports");
        receiver.script(Signal::Metrics, [Answer::Busy(Some(Duration::from_secs(1))), Answer::Busy(None)]);
        let (mut exporter, mut feed) = (exporter(&endpoint(&receiver, protocol), protocol, &[]), Feed::new());
        let begin = tokio::time::Instant::now();
        offer(&mut exporter, &mut feed);
        let arrived = receiver.wait_for(|received| received.metrics.len() == 1).await.expect("it is sent at last");
        assert!(begin.elapsed() >= Duration::from_secs(1), "Retry-After and RetryInfo are honoured");
        let attempts: Vec<&Attempt> = arrived.attempts(Signal::Metrics).collect();
        assert_eq!(attempts.len(), 3);
        assert!(attempts.windows(2).all(|pair| pair[0].message == pair[1].message), "the same bytes");
        exporter.flush(&feed.table, PATIENCE).await;
        let view = metrics_view(&exporter);
        assert_eq!((view.state.as_str(), view.sent, view.dropped), ("ok", 1, 0));
    }
}

#[tokio::test]
async fn a_refused_request_is_dropped_counted_and_not_repeated() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start().await.expect("loopback has free ports");
        receiver.script(Signal::Metrics, [Answer::Refuse("duplicate\x1b[2J sample".to_owned())]);
        let (mut exporter, mut feed) = (exporter(&endpoint(&receiver, protocol), protocol, &[]), Feed::new());
        offer(&mut exporter, &mut feed);
        exporter.flush(&feed.table, PATIENCE).await;
        assert_eq!(receiver.received().attempts.len(), 1);
        let view = metrics_view(&exporter);
        assert_eq!((view.sent, view.dropped), (0, 1));
        assert!(view.state.starts_with("refused: ") && view.state.ends_with(r"duplicate\x1b[2J sample"), "{view:?}");
        assert_eq!(exporter.dropped()["export_refused"], 1);
    }
}

#[tokio::test]
async fn an_internal_error_is_not_repeated_either() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start().await.expect("loopback has free ports");
        receiver.script(Signal::Metrics, [Answer::Status(500)]);
        let (mut exporter, mut feed) = (exporter(&endpoint(&receiver, protocol), protocol, &[]), Feed::new());
        offer(&mut exporter, &mut feed);
        exporter.flush(&feed.table, PATIENCE).await;
        assert_eq!((receiver.received().attempts.len(), metrics_view(&exporter).dropped), (1, 1));
    }
}

#[tokio::test]
async fn what_is_partially_rejected_is_counted_and_not_repeated() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start().await.expect("loopback has free ports");
        let partial = Answer::Partial { rejected: 1, message: "too old".to_owned() };
        receiver.script(Signal::Metrics, [partial]);
        let (mut exporter, mut feed) = (exporter(&endpoint(&receiver, protocol), protocol, &[]), Feed::new());
        let (gauge, counter) = (feed.series(&server::IN_FLIGHT), feed.series(&server::CPU_TIME));
        let tick = feed.tick(&[(gauge, Number::Float(1.0)), (counter, Number::Int(7))], &[]);
        exporter.offer(&tick, &feed.table, &[]);
        exporter.flush(&feed.table, PATIENCE).await;
        let view = metrics_view(&exporter);
        assert_eq!((receiver.received().attempts.len(), view.sent, view.dropped), (1, 1, 1));
        assert_eq!(view.state, "the receiver rejected 1 of 2 items: too old");
        assert_eq!(exporter.dropped()["export_rejected"], 1);
    }
}

#[tokio::test]
async fn a_request_that_kills_its_connection_again_and_again_is_given_up_and_the_next_goes_through() {
    let receiver = Receiver::start().await.expect("loopback has free ports");
    receiver.script(Signal::Metrics, vec![Answer::Close; 5]);
    let (mut exporter, mut feed) = (exporter(&receiver.http_endpoint(), "http/protobuf", &[]), Feed::new());
    offer(&mut exporter, &mut feed);
    offer(&mut exporter, &mut feed);
    exporter.flush(&feed.table, PATIENCE).await;
    let view = metrics_view(&exporter);
    assert_eq!((receiver.received().metrics.len(), view.sent, view.dropped), (1, 1, 1), "{view:?}");
    assert_eq!(exporter.dropped()["export_no_answer"], 1);
}

#[tokio::test]
async fn a_slow_receiver_is_asked_again_after_the_timeout() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start().await.expect("loopback has free ports");
        let late = Answer::After(Duration::from_secs(20), Box::new(Answer::Refuse("never seen".to_owned())));
        receiver.script(Signal::Metrics, [late]);
        let timeout = [("OTEL_EXPORTER_OTLP_TIMEOUT", "300")];
        let (mut exporter, mut feed) = (exporter(&endpoint(&receiver, protocol), protocol, &timeout), Feed::new());
        offer(&mut exporter, &mut feed);
        let arrived = receiver.wait_for(|received| received.metrics.len() == 1).await.expect("the second attempt");
        assert_eq!(arrived.attempts.len(), 2);
    }
}

#[tokio::test]
async fn a_full_queue_drops_the_oldest_and_counts_them() {
    let receiver = Receiver::start().await.expect("loopback has free ports");
    let hold = Answer::After(Duration::from_secs(1), Box::new(Answer::Accept));
    receiver.script(Signal::Metrics, [hold]);
    let (mut exporter, mut feed) = (exporter(&receiver.http_endpoint(), "http/protobuf", &[]), Feed::new());
    offer(&mut exporter, &mut feed);
    receiver.wait_for(|received| received.attempts.len() == 1).await.expect("the first attempt");
    // The first is in flight; 64 wait; 3 are too many.
    for _ in 0..67 {
        offer(&mut exporter, &mut feed);
    }
    exporter.flush(&feed.table, PATIENCE).await;
    let arrived = receiver.received();
    let times: Vec<u64> = arrived
        .metrics
        .iter()
        .map(|request| {
            let metric = request.resource_metrics[0].scope_metrics[0].metrics[0].data.clone();
            let Some(opentelemetry_proto::tonic::metrics::v1::metric::Data::Gauge(gauge)) = metric else {
                panic!("not a gauge")
            };
            (gauge.data_points[0].time_unix_nano - feed::EPOCH) / feed::SECOND
        })
        .collect();
    let expected: Vec<u64> = [1].into_iter().chain(5..=68).collect();
    assert_eq!(times, expected, "in order, without the oldest that waited");
    assert_eq!(exporter.dropped()["export_queue_full"], 3);
}

#[tokio::test]
async fn a_missing_certificate_is_told_at_the_start() {
    let config = feed::config(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://localhost:4318"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent/ca.pem"),
    ]);
    let error = Exporter::start(&config, false, &tokio::runtime::Handle::current()).err().expect("the file is missing");
    let message = error.to_string();
    assert!(message.contains("/nonexistent/ca.pem") && message.contains("No such file"), "{message}");
}
