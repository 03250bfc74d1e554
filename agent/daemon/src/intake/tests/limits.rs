//! How much is taken, and what happens to the rest.

use super::*;

#[tokio::test]
async fn beyond_the_limit_of_series_deltas_go_to_an_overflow_series_and_totals_are_refused() {
    let mut rig = Rig::new();
    let points = |value| (0..2_100).map(|number| point(value, &format!("r{number}"))).collect::<Vec<_>>();
    let answer = rig.metrics(vec![sum("d", AggregationTemporality::Delta, points(2))]).await.expect("taken");
    assert_eq!(answer.partial_success, None);
    let tick = rig.tick();
    let values = rig.values(&tick, "d");
    assert_eq!(values.len(), 2_001);
    assert_eq!(values["overflow"], Number::Int(200), "nothing is lost");
    let (count, why) = rig.refused(vec![sum("c", AggregationTemporality::Cumulative, points(2))]).await;
    assert_eq!(count, 2_100);
    assert!(why.starts_with("the limit of series is reached"), "{why}");
    assert_eq!(rig.intake.counts().series, 2_100);
    let known = sum("d", AggregationTemporality::Delta, vec![point(5, "r3")]);
    assert_eq!(rig.metrics(vec![known]).await.expect("taken").partial_success, None, "the known ones go on");
    let tick = rig.tick();
    assert_eq!(rig.values(&tick, "d")["r3"], Number::Int(7));
}

#[tokio::test]
async fn wide_distributions_count_for_many_series_and_cannot_grow_past_the_limit() {
    let mut rig = Rig::new();
    let wide = |count: usize, bounds: u32| {
        let point = |number| HistogramDataPoint {
            attributes: vec![attribute("route", &format!("r{number}"))],
            count: 1,
            sum: Some(0.0),
            bucket_counts: std::iter::once(1).chain((0..bounds).map(|_| 0)).collect(),
            explicit_bounds: (0..bounds).map(f64::from).collect(),
            ..HistogramDataPoint::default()
        };
        let data_points = (0..count).map(point).collect();
        let aggregation_temporality = AggregationTemporality::Cumulative as i32;
        vec![metric("wide", Data::Histogram(Histogram { data_points, aggregation_temporality }))]
    };
    assert_eq!(rig.metrics(wide(100, 8)).await.expect("taken").partial_success, None);
    // 17 of the 2,000 each: 117 fit, of which 100 are there already and grow.
    let (count, why) = rig.refused(wide(150, 1_024)).await;
    assert_eq!(count, 150 - 117);
    assert!(why.contains("limit of series"), "{why}");
    assert_eq!(rig.intake.counts().series, 33);
    rig.tick();
}

#[tokio::test]
async fn servers_without_end_are_refused_and_the_known_ones_go_on() {
    let mut rig = Rig::new();
    let of = |name: &str| {
        let mut sent = request(vec![gauge("level", vec![point(1, "a")])]);
        sent.resource_metrics[0].resource =
            Some(Resource { attributes: vec![attribute("service.name", name)], ..Resource::default() });
        sent.encode_to_vec()
    };
    let mut refused = 0;
    for number in 0..300 {
        let (status, _, answer) =
            rig.post("/v1/metrics", "Content-Type: application/x-protobuf\r\n", &of(&format!("s{number}"))).await;
        let answer = ExportMetricsServiceResponse::decode(&answer[..]).expect("an answer");
        refused += answer.partial_success.map_or(0, |partial| partial.rejected_data_points);
        assert_eq!(status, 200);
    }
    assert_eq!((refused, rig.intake.counts().rejected), (44, 44));
    rig.tick();
    assert_eq!(rig.table.entities().count(), 256);
    let (_, _, answer) = rig.post("/v1/metrics", "Content-Type: application/x-protobuf\r\n", &of("s0")).await;
    assert_eq!(ExportMetricsServiceResponse::decode(&answer[..]).expect("an answer").partial_success, None);
}

#[tokio::test]
async fn a_flood_is_unavailable_with_the_time_to_wait_on_both_transports() {
    let rig = Rig::new();
    // Refused for their lack of a name, and counted all the same.
    let flood = || vec![gauge("", vec![NumberDataPoint::default(); 60_000])];
    let mut status = None;
    for _ in 0..3 {
        status = rig.metrics(flood()).await.err();
    }
    let status = status.expect("the third is one too many");
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let retry = status.get_details_retry_info().and_then(|info| info.retry_delay).expect("RetryInfo");
    assert_eq!(retry, Duration::from_secs(1));
    let body = request(vec![gauge("level", vec![point(1, "a")])]).encode_to_vec();
    let (status, head, _) = rig.post("/v1/metrics", "Content-Type: application/x-protobuf\r\n", &body).await;
    assert_eq!(status, 503);
    assert!(head.to_ascii_lowercase().contains("retry-after: 1"), "{head}");
    rig.clock.0.store(SECOND, Ordering::Relaxed);
    assert!(rig.metrics(vec![gauge("level", vec![point(1, "a")])]).await.is_ok(), "and recovers");
    assert_eq!(rig.intake.counts().deferred, 2);
}

#[tokio::test]
async fn what_has_no_points_is_a_flood_too() {
    let rig = Rig::new();
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(rig.metrics(vec![gauge("nothing", Vec::new()); 60_000]).await.map_err(|status| status.code()));
    }
    assert!(answers[0].is_ok());
    assert_eq!(answers[2], Err(tonic::Code::Unavailable));
}

#[tokio::test]
async fn senders_that_stop_half_way_keep_nobody_out() {
    let rig = Rig::new();
    let address = rig.intake.http().expect("configured");
    let mut stalled = Vec::new();
    let all_wait = async {
        for _ in 0..2 * MAX_MESSAGES {
            let mut stream = tokio::net::TcpStream::connect(address).await.expect("the intake listens");
            let head = "POST /v1/metrics HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                        Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n";
            stream.write_all(head.as_bytes()).await.expect("it reads");
            // This is said when somebody waits for the message.
            let mut answer = [0; 25];
            stream.read_exact(&mut answer).await.expect("it answers");
            assert!(answer.starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&answer));
            stream.write_all(b"{").await.expect("it reads");
            stalled.push(stream);
        }
    };
    tokio::time::timeout(Duration::from_mins(1), all_wait).await.expect("each is waited for beside the others");
    let honest = async {
        rig.metrics(vec![gauge("level", vec![point(1, "a")])]).await.expect("by the socket");
        let (status, ..) = rig.post("/v1/metrics", "Content-Type: application/json\r\n", b"{}").await;
        assert_eq!(status, 200, "and beside them");
    };
    tokio::time::timeout(Duration::from_secs(20), honest).await.expect("before the others' time is up");
    assert_eq!(rig.intake.counts().deferred, 0);
}

#[tokio::test]
async fn while_no_tick_closes_senders_are_asked_to_wait() {
    let mut rig = Rig::new();
    rig.clock.0.store(6 * SECOND, Ordering::Relaxed);
    let send = || vec![gauge("level", vec![point(1, "a")])];
    assert_eq!(rig.metrics(send()).await.expect_err("stalled").code(), tonic::Code::Unavailable);
    rig.tick();
    assert!(rig.metrics(send()).await.is_ok());
}
