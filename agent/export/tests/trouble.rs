//! What happens when the other side is wrong, slow, full or away.

mod feed;

use std::time::Duration;

use feed::{Exporter, Feed, PATIENCE, PROTOCOLS, endpoint, exporter};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use perfwatch_export::Signal;
use perfwatch_export::receiver::{Answer, Attempt, Received, Receiver};
use perfwatch_model::Number;
use perfwatch_model::metrics::server;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Offers one tick with one gauge, which leaves as one point.
fn offer(exporter: &mut Exporter, feed: &mut Feed) {
    let series = feed.series(&server::CPU_QUOTA);
    let tick = feed.tick(&[(series, Number::Float(1.0))], &[]);
    exporter.offer(&tick, &feed.table, &[]);
}

/// Offers one tick with ten gauges.
fn offer_ten(exporter: &mut Exporter, feed: &mut Feed) {
    let number = |at: i64| [perfwatch_model::Attr::int("number", at)];
    let values: Vec<_> = (0..10)
        .map(|at| (feed.table.series(&server::CPU_QUOTA, feed.server, &number(at)), Number::Float(at as f64)))
        .collect();
    let tick = feed.tick(&values, &[]);
    exporter.offer(&tick, &feed.table, &[]);
}

/// An address of loopback at which nothing listens.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports");
    format!("http://{}", listener.local_addr().expect("a bound socket has an address"))
}

/// Data points in a request.
fn points(message: &[u8]) -> usize {
    let request = ExportMetricsServiceRequest::decode(message).expect("a request");
    let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
    scopes
        .flat_map(|scope| scope.metrics)
        .map(|metric| match metric.data {
            Some(opentelemetry_proto::tonic::metrics::v1::metric::Data::Gauge(gauge)) => gauge.data_points.len(),
            other => panic!("not a gauge: {other:?}"),
        })
        .sum()
}

fn messages(received: &Received) -> Vec<&Attempt> {
    received.attempts(Signal::Metrics).collect()
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_blocks_nothing_and_is_told() {
    for protocol in PROTOCOLS {
        let endpoint = nowhere();
        let (mut exporter, mut feed) = (exporter(&endpoint, protocol, &[]), Feed::new());
        for _ in 0..3 {
            offer(&mut exporter, &mut feed);
        }
        // Long enough for some attempts.
        exporter.flush(&feed.table, Duration::from_millis(500)).await;
        assert!(exporter.endpoint().starts_with(&endpoint));
        let state = exporter.state();
        assert!(state.starts_with("cannot connect: ") && state.contains("refused"), "{state}");
        assert_eq!((exporter.sent, exporter.waiting()), (0, 3), "it is tried for ever");
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
        let attempts = messages(&arrived);
        assert_eq!(attempts.len(), 3);
        assert!(attempts.windows(2).all(|pair| pair[0].message == pair[1].message), "the same bytes");
        exporter.flush(&feed.table, PATIENCE).await;
        assert_eq!((exporter.state().as_str(), exporter.sent, exporter.refused.len()), ("ok", 1, 0));
    }
}

#[tokio::test]
async fn an_answer_that_was_lost_brings_the_same_bytes_again() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start().await.expect("loopback has free ports");
        receiver.script(Signal::Metrics, [Answer::Lose, Answer::Lose]);
        let (mut exporter, mut feed) = (exporter(&endpoint(&receiver, protocol), protocol, &[]), Feed::new());
        offer(&mut exporter, &mut feed);
        exporter.flush(&feed.table, PATIENCE).await;
        let arrived = receiver.received();
        assert_eq!(arrived.metrics.len(), 3);
        assert!(arrived.metrics.iter().all(|request| *request == arrived.metrics[0]));
        assert_eq!((exporter.sent, exporter.waiting()), (1, 0));
    }
}

#[tokio::test]
async fn of_every_http_answer_exactly_the_specified_are_repeated() {
    for status in [400, 401, 403, 404, 405, 408, 413, 415, 422, 429, 500, 501, 502, 503, 504, 505] {
        let receiver = Receiver::start().await.expect("loopback has free ports");
        receiver.script(Signal::Metrics, [Answer::Status(status)]);
        let (mut exporter, mut feed) = (exporter(&receiver.http_endpoint(), "http/protobuf", &[]), Feed::new());
        offer(&mut exporter, &mut feed);
        exporter.flush(&feed.table, PATIENCE).await;
        let retried = [429, 502, 503, 504].contains(&status);
        let expected = if retried { (2, 1, 0) } else { (1, 0, 1) };
        let attempts = receiver.received().attempts.len();
        assert_eq!((attempts, exporter.sent, exporter.refused.len()), expected, "{status}: {}", exporter.state());
        if !retried {
            let state = exporter.state();
            assert!(state.starts_with(&format!("refused: HTTP {status}")), "{state}");
        }
    }
}

#[tokio::test]
async fn of_every_grpc_answer_exactly_the_specified_are_repeated() {
    let soon = Some(Duration::from_millis(1));
    let codes = (1..=16).map(|code| (code, None)).chain([(8, soon)]);
    for (code, after) in codes {
        let receiver = Receiver::start().await.expect("loopback has free ports");
        receiver.script(Signal::Metrics, [Answer::Code(code, after)]);
        let (mut exporter, mut feed) = (exporter(&receiver.grpc_endpoint(), "grpc", &[]), Feed::new());
        offer(&mut exporter, &mut feed);
        exporter.flush(&feed.table, PATIENCE).await;
        let retried = [1, 4, 10, 11, 14, 15].contains(&code) || (code == 8 && after.is_some());
        let expected = if retried { (2, 1, 0) } else { (1, 0, 1) };
        let attempts = receiver.received().attempts.len();
        assert_eq!((attempts, exporter.sent, exporter.refused.len()), expected, "{code}: {}", exporter.state());
    }
}

#[tokio::test]
async fn a_refused_point_is_told_harmlessly() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start().await.expect("loopback has free ports");
        receiver.script(Signal::Metrics, [Answer::Refuse("duplicate\x1b[2J sample".to_owned())]);
        let (mut exporter, mut feed) = (exporter(&endpoint(&receiver, protocol), protocol, &[]), Feed::new());
        offer(&mut exporter, &mut feed);
        exporter.flush(&feed.table, PATIENCE).await;
        assert_eq!(receiver.received().attempts.len(), 1);
        let state = exporter.state();
        assert!(state.starts_with("refused: ") && state.ends_with(r"duplicate\x1b[2J sample"), "{state}");
        assert_eq!(exporter.refused[0].request.items, 1);
    }
}

/// Refuses whatever has the point with this value in it.
fn cannot_stand(value: f64, answer: Answer) -> impl Fn(&Attempt) -> Option<Answer> {
    let bytes = value.to_le_bytes();
    move |attempt| attempt.message.windows(8).any(|window| window == bytes).then(|| answer.clone())
}

#[tokio::test]
async fn one_poisonous_point_is_found_and_the_others_arrive() {
    for protocol in PROTOCOLS {
        for answer in [Answer::Refuse("out of order".to_owned()), Answer::Status(500)] {
            let receiver = Receiver::start().await.expect("loopback has free ports");
            receiver.rule(cannot_stand(7.0, answer));
            let (mut exporter, mut feed) = (exporter(&endpoint(&receiver, protocol), protocol, &[]), Feed::new());
            offer_ten(&mut exporter, &mut feed);
            offer(&mut exporter, &mut feed);
            exporter.flush(&feed.table, PATIENCE).await;
            let arrived = receiver.received();
            let counts: Vec<_> = arrived.metrics.iter().map(|request| points(&request.encode_to_vec())).collect();
            assert_eq!(counts.iter().sum::<usize>(), 10, "nine of the ten, and the one after them: {counts:?}");
            assert_eq!(exporter.sent, 10);
            let [dead] = exporter.refused.as_slice() else { panic!("{:?}", exporter.refused) };
            assert!(dead.is_poison && dead.request.items == 1, "{dead:?}");
            assert!(arrived.attempts.len() < 12, "it is searched for by halves: {}", arrived.attempts.len());
        }
    }
}

#[tokio::test]
async fn a_point_that_kills_the_receivers_connection_is_found_too() {
    let receiver = Receiver::start().await.expect("loopback has free ports");
    receiver.rule(cannot_stand(3.0, Answer::Close));
    let (mut exporter, mut feed) = (exporter(&receiver.http_endpoint(), "http/protobuf", &[]), Feed::new());
    offer_ten(&mut exporter, &mut feed);
    exporter.flush(&feed.table, PATIENCE).await;
    assert_eq!(exporter.sent, 9);
    let [dead] = exporter.refused.as_slice() else { panic!("{:?}", exporter.refused) };
    assert!(dead.unanswered && dead.is_poison && dead.request.items == 1, "{dead:?}");
}

#[tokio::test]
async fn a_receiver_that_closes_every_connection_is_down_and_nothing_is_given_up() {
    let receiver = Receiver::start().await.expect("loopback has free ports");
    receiver.rule(|_| Some(Answer::Close));
    let (mut exporter, mut feed) = (exporter(&receiver.http_endpoint(), "http/protobuf", &[]), Feed::new());
    offer(&mut exporter, &mut feed);
    receiver.wait_for(|received| received.attempts.len() > 20).await.expect("it is tried for ever");
    assert!(exporter.state().starts_with("connection closed without an answer"), "{}", exporter.state());
    receiver.rule(|_| None);
    exporter.flush(&feed.table, PATIENCE).await;
    assert_eq!((exporter.sent, exporter.refused.len()), (1, 0));
}

#[tokio::test]
async fn a_receiver_that_refuses_everything_is_not_asked_for_every_point_of_every_request() {
    let receiver = Receiver::start().await.expect("loopback has free ports");
    receiver.rule(|_| Some(Answer::Status(500)));
    let (mut exporter, mut feed) = (exporter(&receiver.http_endpoint(), "http/protobuf", &[]), Feed::new());
    for _ in 0..4 {
        offer_ten(&mut exporter, &mut feed);
    }
    exporter.flush(&feed.table, PATIENCE).await;
    assert_eq!(receiver.received().attempts.len(), 19 + 3, "the first in all its parts, then each once");
    assert_eq!(exporter.refused.iter().map(|refused| refused.request.items).sum::<u64>(), 40);
    assert!(exporter.refused.iter().all(|refused| !refused.is_poison), "it is not the points");
    // Once it takes something again, points are looked for again.
    receiver.rule(cannot_stand(7.0, Answer::Status(500)));
    offer(&mut exporter, &mut feed);
    offer_ten(&mut exporter, &mut feed);
    exporter.flush(&feed.table, PATIENCE).await;
    assert_eq!(exporter.sent, 10);
}

#[tokio::test]
async fn who_is_not_let_in_does_not_try_with_every_half() {
    for (protocol, answer) in [("http/protobuf", Answer::Status(401)), ("grpc", Answer::Code(16, None))] {
        let receiver = Receiver::start().await.expect("loopback has free ports");
        receiver.script(Signal::Metrics, [answer]);
        let (mut exporter, mut feed) = (exporter(&endpoint(&receiver, protocol), protocol, &[]), Feed::new());
        offer_ten(&mut exporter, &mut feed);
        exporter.flush(&feed.table, PATIENCE).await;
        let [refused] = exporter.refused.as_slice() else { panic!("{:?}", exporter.refused) };
        assert!(refused.request.items == 10 && !refused.is_poison, "{refused:?}");
        assert_eq!(receiver.received().attempts.len(), 1);
    }
}

#[tokio::test]
async fn what_is_partially_rejected_is_counted_and_not_repeated() {
    for protocol in PROTOCOLS {
        let receiver = Receiver::start().await.expect("loopback has free ports");
        let partial = Answer::Partial { rejected: 1, message: "too old".to_owned() };
        let warning = Answer::Partial { rejected: 0, message: "mind the units".to_owned() };
        receiver.script(Signal::Metrics, [partial, warning]);
        let (mut exporter, mut feed) = (exporter(&endpoint(&receiver, protocol), protocol, &[]), Feed::new());
        offer_ten(&mut exporter, &mut feed);
        exporter.flush(&feed.table, PATIENCE).await;
        assert_eq!((receiver.received().attempts.len(), exporter.sent, exporter.rejected), (1, 9, 1));
        assert_eq!(exporter.state(), "the receiver rejected 1 of 10 items: too old");
        offer(&mut exporter, &mut feed);
        exporter.flush(&feed.table, PATIENCE).await;
        assert_eq!((exporter.sent, exporter.rejected), (10, 1), "a warning rejects nothing");
        assert_eq!(exporter.state(), "the receiver rejected 0 of 1 items: mind the units");
    }
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

/// A server that answers every request with these bytes and closes.
async fn answers_with(bytes: &'static [u8]) -> String {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has free ports");
    let address = listener.local_addr().expect("a bound socket has an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(bytes).await;
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn an_acceptance_that_is_cut_short_is_one_and_a_cut_head_is_none() {
    let cut_body = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 100\r\n\r\n\x0a";
    let (mut exporter, mut feed) = (exporter(&answers_with(cut_body).await, "http/protobuf", &[]), Feed::new());
    offer(&mut exporter, &mut feed);
    exporter.flush(&feed.table, PATIENCE).await;
    assert_eq!((exporter.sent, exporter.waiting()), (1, 0));

    let cut_head = b"HTTP/1.1 200 OK\r\ncontent-ty";
    let mut exporter = feed::exporter(&answers_with(cut_head).await, "http/protobuf", &[]);
    offer(&mut exporter, &mut feed);
    exporter.flush(&feed.table, Duration::from_millis(500)).await;
    assert_eq!((exporter.sent, exporter.waiting()), (0, 1), "{}", exporter.state());
}

#[tokio::test]
async fn requests_arrive_in_order_one_after_the_other() {
    let receiver = Receiver::start().await.expect("loopback has free ports");
    let hold = Answer::After(Duration::from_millis(300), Box::new(Answer::Busy(None)));
    receiver.script(Signal::Metrics, [hold]);
    let (mut exporter, mut feed) = (exporter(&receiver.http_endpoint(), "http/protobuf", &[]), Feed::new());
    for _ in 0..20 {
        offer(&mut exporter, &mut feed);
    }
    exporter.flush(&feed.table, PATIENCE).await;
    let times: Vec<u64> = receiver
        .received()
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
    assert_eq!(times, (1..=20).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_missing_certificate_is_told_at_the_start() {
    let config = feed::config(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://localhost:4318"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent/ca.pem"),
    ]);
    let error = Exporter::start(&config).err().expect("the file is missing");
    let message = error.to_string();
    assert!(message.contains("/nonexistent/ca.pem") && message.contains("No such file"), "{message}");
}
