//! Counters of a sender that has no receipts: what it tells across a kill is counted once.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use perfwatch_tests::wait_for;
use serde_json::json;

use super::mortal::Mortal;

/// Nanoseconds since 1970, long before any agent of this test began to listen.
const BEGAN: u64 = 1_700_000_000_000_000_000;
const SECOND: u64 = 1_000_000_000;

/// Posts a sum of `value` as of `at` seconds after [`BEGAN`]; the status.
fn post(intake: SocketAddr, name: &str, value: &serde_json::Value, temporality: u64, at: u64) -> Option<u16> {
    let start = if temporality == 1 { BEGAN + (at - 1) * SECOND } else { BEGAN };
    let mut point = json!({"startTimeUnixNano": start.to_string(), "timeUnixNano": (BEGAN + at * SECOND).to_string()});
    let key = if value.is_f64() { "asDouble" } else { "asInt" };
    point[key] = value.clone();
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let body = json!({"resourceMetrics": [{
        "resource": {"attributes": [text("service.name", "meter"), text("service.instance.id", "1")]},
        "scopeMetrics": [{"scope": {"name": "test"}, "metrics": [{
            "name": name, "unit": "{thing}",
            "sum": {"aggregationTemporality": temporality, "isMonotonic": true, "dataPoints": [point]},
        }]}],
    }]})
    .to_string();
    let mut stream = TcpStream::connect(intake).ok()?;
    let length = body.len();
    write!(
        stream,
        "POST /v1/metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

fn total(agent: &Mortal, metric: &str, entity: &str) -> Option<f64> {
    let answer = agent.json(&format!("/v1/query?entity={entity}"))?;
    let all = answer["series"].as_array()?.iter();
    let all: Vec<f64> = all.filter(|series| series["metric"] == metric).filter_map(|s| s["total"].as_f64()).collect();
    (!all.is_empty()).then(|| all.iter().sum())
}

/// Waits until everything that is in the totals now is on disk as well: one thread writes a tick before it adds the next.
fn settled(agent: &Mortal) {
    let own = || total(agent, "perfwatch.agent.probe.time", "agent:perfwatch");
    for _ in 0..2 {
        let before = wait_for("the agent's own total", own);
        wait_for("another tick", || own().filter(|now| *now > before));
    }
}

#[test]
fn what_a_sender_of_otlp_counts_is_in_the_totals_once_across_a_kill() {
    let intake = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback");
    let mut agent = Mortal::new();
    agent.intake = Some(intake);
    let send = |name: &str, value: serde_json::Value, temporality, at| {
        let answer = wait_for("the intake", || post(intake, name, &value, temporality, at));
        assert_eq!(answer, 200, "{name}");
    };
    // The first point of a total is what the next one is compared with. What came while no agent ran, 10 and 0.5, is not
    // known to be new.
    let runs = [
        (1, [1_000, 1_010], [0.5, 0.75], 3, [10.0, 0.25, 3.0]),
        (3, [1_020, 1_025], [1.25, 2.25], 4, [15.0, 1.25, 7.0]),
        (5, [1_030, 1_037], [2.25, 2.5], 5, [22.0, 1.5, 12.0]),
    ];
    for (at, whole, measured, change, expected) in runs {
        agent.start();
        agent.ready();
        for step in 0..2 {
            send("test.whole", json!(whole[step]), 2, at + step as u64);
            send("test.measured", json!(measured[step]), 2, at + step as u64);
            // A tick of its own for each: the first point alone must not count.
            settled(&agent);
        }
        send("test.change", json!(change), 1, at);
        settled(&agent);
        let told = |agent: &Mortal| {
            ["test.whole", "test.measured", "test.change"].map(|name| total(agent, name, "server:meter/1"))
        };
        assert_eq!(told(&agent), expected.map(Some), "at {at}");
        agent.kill();
    }
}
