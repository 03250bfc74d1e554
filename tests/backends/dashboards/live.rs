//! Every query of every dashboard, asked of a real Prometheus that real programs have filled.

use std::collections::BTreeSet;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use perfwatch_model::metrics;
use perfwatch_model::prometheus::metric_name;
use perfwatch_tests::{Agent, wait_for};
use serde_json::Value;

use super::api;
use super::filled::{STREAMER, fill};
use super::grafana::{Dashboard, Query};
use crate::peers::Peer;

/// What is looked back at, in seconds.
const SPAN_S: u64 = 120;

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// How many values, or histograms, a query answers with.
fn answers(prometheus: &Peer, query: &Query) -> usize {
    let end = now_s();
    let (start, end) = ((end - SPAN_S).to_string(), end.to_string());
    let parameters = [("query", query.expr.as_str()), ("start", &start), ("end", &end), ("step", "2")];
    let data = api(prometheus, "query_range", &parameters);
    let series = data["result"].as_array().expect("a matrix");
    let values_of = |series: &Value| {
        if query.heatmap {
            return series["histograms"].as_array().map_or(0, Vec::len);
        }
        let values = series["values"].as_array().map(Vec::as_slice).unwrap_or_default();
        values.iter().filter(|value| value[1].as_str().is_some_and(|number| number != "NaN")).count()
    };
    series.iter().map(values_of).sum()
}

/// Names in Prometheus of what this machine does not let perfwatch measure, by the agent's own word. Control groups, whose
/// metrics partly have the names of the host's, are on no dashboard.
fn unavailable(agent: &Agent) -> BTreeSet<String> {
    let snapshot = agent.json("/v1/snapshot");
    let missing = snapshot["unavailable"].as_array().expect("a list").clone();
    let missing =
        missing.iter().filter(|one| !one["entity"].as_str().is_some_and(|entity| entity.starts_with("cgroup:")));
    missing.filter_map(|one| metrics::find(one["metric"].as_str()?)).map(metric_name).collect()
}

/// Asks every query; those that answer nothing although what they ask for can be measured here.
fn silent(prometheus: &Peer, queries: &[Query], excused: &BTreeSet<String>) -> Vec<String> {
    let is_excused = |query: &Query| excused.iter().any(|name| query.expr.contains(&format!("{name}{{")));
    let empty = queries.iter().filter(|query| answers(prometheus, query) == 0);
    empty.filter(|query| !is_excused(query)).map(|query| format!("{}: {}", query.place, query.expr)).collect()
}

/// Every name in Prometheus is one that the catalogue translates to, so no panel asks for a name that is not there.
fn names_are_those_of_the_catalogue(prometheus: &Peer) {
    let names = api(prometheus, "label/__name__/values", &[]);
    let known: BTreeSet<String> = metrics::all().map(metric_name).collect();
    let names: Vec<&str> = names.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let ours: Vec<_> = names.iter().filter(|name| !name.contains(':')).collect();
    let foreign: Vec<_> = ours
        .iter()
        .filter(|name| !known.contains(***name) && !["target_info", "ALERTS", "ALERTS_FOR_STATE"].contains(name))
        .collect();
    assert!(foreign.is_empty(), "{foreign:?} are names that the catalogue does not translate to");
    assert!(ours.len() > 30, "{ours:?}");
}

/// Series that one agent sends by default beside one server: native histograms are one each.
fn series_of(prometheus: &Peer, instance: &str) -> usize {
    let all = format!("{{__name__=~\"[^:]+\", __name__!~\"ALERTS.*|target_info\", instance=\"{instance}\"}}");
    api(prometheus, "series", &[("match[]", &all)]).as_array().map_or(0, Vec::len)
}

fn rules_work(prometheus: &Peer) {
    let recorded = api(prometheus, "label/__name__/values", &[]);
    let recorded: Vec<&str> = recorded.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    for name in [
        "server:perfwatch_requests:rate5m",
        "server:perfwatch_request_failures:ratio_rate5m",
        "server:perfwatch_request_duration_seconds:p50_rate5m",
        "server:perfwatch_request_duration_seconds:p99_rate5m",
    ] {
        assert!(recorded.contains(&name), "{name} was not recorded: {recorded:?}");
    }
    let alerts = api(prometheus, "alerts", &[]);
    let pending = alerts["alerts"].as_array().expect("a list").iter();
    let names: Vec<_> = pending.map(|alert| alert["labels"]["alertname"].as_str().unwrap_or_default()).collect();
    assert!(names.contains(&"PerfwatchWarning"), "a warning stands, and no alert waits: {names:?}");
}

#[test]
fn every_query_of_every_dashboard_answers_from_a_prometheus_that_a_real_demo_filled() {
    let began = Instant::now();
    let Some((prometheus, agent, _driver)) = fill() else { return };
    let excused = unavailable(&agent);
    let mut asked = 0;
    for dashboard in Dashboard::all() {
        // The newest export may still be on its way.
        let all = dashboard.queries(&dashboard.all_chosen());
        asked += all.len();
        let mut left = Vec::new();
        for _ in 0..5 {
            left = silent(&prometheus, &all, &excused);
            if left.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_secs(1));
        }
        assert!(left.is_empty(), "no answer, all chosen:\n{}", left.join("\n"));
        // The streaming server does everything that a panel shows, so a choice of it alone answers too.
        let choice = dashboard.chosen(&prometheus, &["streaming-host", STREAMER]);
        let left = silent(&prometheus, &dashboard.queries(&choice), &excused);
        assert!(left.is_empty(), "no answer, {choice:?} chosen:\n{}", left.join("\n"));
    }
    assert!(asked > 50, "{asked} queries");
    names_are_those_of_the_catalogue(&prometheus);
    wait_for("the rules", || {
        let alerts = api(&prometheus, "alerts", &[]);
        (!alerts["alerts"].as_array()?.is_empty()).then_some(())
    });
    rules_work(&prometheus);
    let series = series_of(&prometheus, "streaming-host");
    assert!(series > 30, "{series} series of a host and its server");
    println!(
        "{asked} queries, {series} series of a host with a server, {:.0} s; this machine does not measure {excused:?}",
        began.elapsed().as_secs_f64()
    );
}
