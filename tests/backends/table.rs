//! What Prometheus does with points that are late, early, twice there, or of a kind that it does not keep.
//!
//! `cargo test -p perfwatch --test backends table -- --nocapture` prints the table of agent/export/README.md; each line is
//! asserted, so that a newer Prometheus that behaves otherwise is noticed.

use crate::otlp::{CUMULATIVE, DELTA, bounded, gauge, native, now, post, post_as, request, sum, text, with_exemplar};
use crate::peers::{Peer, prometheus_with};
use prost::Message as _;

const PLAIN: &str = "storage:\n  exemplars:\n    max_exemplars: 100\n";
const WINDOW: &str = "storage:\n  tsdb:\n    out_of_order_time_window: 30m\n";

/// Everything that Prometheus has of a metric in the last three hours: the values by time.
fn has(peer: &Peer, name: &str, instance: &str) -> String {
    let series = peer.query(&format!("last_over_time({{__name__=~\"{name}(_total)?\",instance=\"{instance}\"}}[3h])"));
    let told = |one: &serde_json::Value| match one["value"][1].as_str() {
        Some(text) => text.to_owned(),
        None => format!("count {}", one["histogram"][1]["count"].as_str().unwrap_or("?")),
    };
    let all: Vec<_> = series.iter().map(told).collect();
    if all.is_empty() { "absent".to_owned() } else { all.join(", ") }
}

/// Of 100 that were counted; it extrapolates beyond.
fn all_or_less(increase: f64) -> String {
    (if increase >= 100.0 { "100 or more" } else { "less" }).to_owned()
}

struct Table(Vec<String>);

impl Table {
    fn row(&mut self, sent: &'static str, answer: impl AsRef<str>) {
        // Stamps differ each time.
        let masked: Vec<_> = answer
            .as_ref()
            .split(' ')
            .map(|word| if word.len() > 9 && word.starts_with("17") { "…;" } else { word })
            .collect();
        let line = format!("| {sent} | {} |", masked.join(" "));
        println!("{line}");
        self.0.push(line);
    }
}

fn kinds(table: &mut Table, plain: &Peer) {
    let t = now();
    let answer = post(plain, "delta", vec![sum("d", DELTA, t - 5.0, &[(t, 5.0)]), gauge("beside", t, 1.0)]);
    let there = format!("{}; beside it {}", has(plain, "d", "delta"), has(plain, "beside", "delta"));
    table.row("delta sum beside a gauge", format!("{answer}; {there}"));
    let answer = post(plain, "dhist", vec![native("dh", DELTA, 3, t, &[1, 2]), gauge("beside", t, 1.0)]);
    let there = format!("{}; beside it {}", has(plain, "dh", "dhist"), has(plain, "beside", "dhist"));
    table.row("delta exponential histogram beside a gauge", format!("{answer}; {there}"));
    let answer = post(plain, "coarse", vec![native("coarse", CUMULATIVE, -5, t, &[1]), gauge("beside", t, 1.0)]);
    let there = format!("{}; beside it {}", has(plain, "coarse", "coarse"), has(plain, "beside", "coarse"));
    table.row("scale below -4 beside a gauge", format!("{answer}; {there}"));
    let answer = post(plain, "empty", vec![sum("nothing", CUMULATIVE, t, &[]), gauge("beside", t, 1.0)]);
    table.row("metric without points", format!("{answer}; beside it {}", has(plain, "beside", "empty")));
    let answer = post(plain, "hist", vec![native("h", CUMULATIVE, 3, t, &[1, 2])]);
    table.row(
        "exponential histogram, feature native-histograms not given",
        format!("{answer}; {}", has(plain, "h", "hist")),
    );
    // Index 2k and 2k + 1 of scale 9 are index k of scale 8; sparse, because that is where 3.5 went wrong.
    let counts: Vec<u64> = (0..60).map(|index| u64::from(index % 7 == 3)).collect();
    let answer = post(plain, "fine", vec![native("fine", CUMULATIVE, 9, t, &counts)]);
    let series = plain.query("last_over_time(fine{instance=\"fine\"}[3h])");
    let buckets = series.first().and_then(|series| series["histogram"][1]["buckets"].as_array().cloned());
    let upper = |bucket: &serde_json::Value| bucket[2].as_str().expect("a text").parse::<f64>().expect("a number");
    let told: Vec<i64> =
        buckets.iter().flatten().map(|bucket| (upper(bucket).log2() * 256.0).round() as i64 - 1).collect();
    let right: Vec<i64> = (0..60).filter(|index| index % 7 == 3).map(|index| index >> 1).collect();
    let wrong = told.iter().filter(|index| !right.contains(index)).count();
    table.row("scale 9, sparse buckets", format!("{answer}; {wrong} of {} buckets misplaced", right.len()));
}

fn order(table: &mut Table, peer: &Peer, names: [&'static str; 9]) {
    let t = now();
    let at = |back: f64| t - back;
    post(peer, "order", vec![gauge("a", at(10.0), 1.0)]);
    let late = vec![gauge("b", at(5.0), 1.0), gauge("a", at(20.0), 2.0), gauge("c", at(5.0), 1.0)];
    let answer = post(peer, "order", late);
    let there = ["a", "b", "c"].map(|name| format!("{name} {}", has(peer, name, "order"))).join(", ");
    table.row(names[0], format!("{answer}; {there}"));
    post(peer, "info", vec![gauge("a", at(10.0), 1.0)]);
    let answer = post(peer, "info", vec![gauge("other", at(60.0), 1.0)]);
    table.row(names[1], format!("{answer}; {}", has(peer, "other", "info")));
    let early = post(peer, "early", vec![gauge("a", at(-300.0), 1.0)]);
    let then = post(peer, "early", vec![gauge("b", at(0.0), 1.0)]);
    table.row(names[2], format!("{early}; then a point of now {then}; {}", has(peer, "b", "early")));
    table.row(names[3], post(peer, "far", vec![gauge("a", at(-660.0), 1.0)]));
    post(peer, "twice", vec![gauge("a", at(10.0), 1.0)]);
    table.row(names[4], post(peer, "twice", vec![gauge("a", at(10.0), 1.0)]));
    let answer = post(peer, "twice", vec![gauge("a", at(10.0), 2.0)]);
    table.row(names[5], format!("{answer}; {}", has(peer, "a", "twice")));
    table.row(names[6], post(peer, "old", vec![gauge("a", at(5_400.0), 1.0)]));
    post(peer, "nath", vec![native("h", CUMULATIVE, 3, at(10.0), &[1, 2])]);
    table.row(names[7], post(peer, "nath", vec![native("h", CUMULATIVE, 3, at(10.0), &[1, 2])]));
    table.row(names[8], post(peer, "nath", vec![native("h", CUMULATIVE, 3, at(20.0), &[1, 1])]));
}

fn wire(table: &mut Table, plain: &Peer) {
    let t = now();
    let body = request("wire", vec![gauge("a", t, 1.0)]).encode_to_vec();
    let kind = "Content-Type: application/x-protobuf\r\n";
    table.row("`Content-Encoding: zstd`", post_as(plain, &body, &format!("{kind}Content-Encoding: zstd\r\n")));
    let charset = "Content-Type: application/x-protobuf; charset=utf-8\r\n";
    table.row("`Content-Type: application/x-protobuf; charset=utf-8`", post_as(plain, &body, charset));
    let answer = post(plain, "le", vec![bounded("b", t, vec![text("le", "1")]), gauge("beside", t, 1.0)]);
    table.row("attribute `le` on an explicit histogram", format!("{answer}; beside it {}", has(plain, "beside", "le")));
    let counted = |at: f64, value: f64| with_exemplar(sum("x", CUMULATIVE, t - 60.0, &[(at, value)]), at);
    let exemplars = || {
        let (from, to) = (t - 600.0, t + 600.0);
        let answer = plain.json(&format!("/api/v1/query_exemplars?query=x_total&start={from}&end={to}"));
        answer["data"][0]["exemplars"].as_array().map_or(0, Vec::len)
    };
    let first = post(plain, "exemplar", vec![counted(t - 10.0, 1.0)]);
    let after_first = exemplars();
    let second = post(plain, "exemplar", vec![counted(t, 2.0)]);
    table.row(
        "exemplar on a new series, then one more",
        format!("{first}, {after_first} kept; {second}, {} kept", exemplars()),
    );
    let increase = |name: &str| plain.number(&format!("increase({name}_total[2m])")).unwrap_or(-1.0);
    post(plain, "start", vec![sum("bare", CUMULATIVE, t - 60.0, &[(t - 40.0, 100.0), (t - 20.0, 100.0)])]);
    table.row("counter whose first point is 100: `increase()`", format!("{}", increase("bare")));
    post(
        plain,
        "zero",
        vec![sum("zero", CUMULATIVE, t - 60.0, &[(t - 60.0, 0.0), (t - 40.0, 100.0), (t - 20.0, 100.0)])],
    );
    table.row("the same behind a point of 0 at its start", all_or_less(increase("zero")));
    let reset = [(t - 60.0, 100.0), (t - 40.0, 160.0), (t - 20.0, 20.0)];
    post(plain, "reset", vec![sum("back", CUMULATIVE, t - 80.0, &reset)]);
    let resets = plain.number("resets(back_total[2m])").unwrap_or(-1.0);
    table.row("counter that goes 100, 160, 20: `resets()`", format!("{resets}"));
}

fn features(table: &mut Table) -> Option<()> {
    let t = now();
    let deltas = |peer: &Peer| {
        post(peer, "delta", vec![sum("d", DELTA, t - 30.0, &[(t - 20.0, 5.0)])]);
        let answer = post(peer, "delta", vec![sum("d", DELTA, t - 20.0, &[(t - 10.0, 7.0)])]);
        format!("{answer}; {}", has(peer, "d", "delta"))
    };
    let native_delta = prometheus_with(PLAIN, "otlp-native-delta-ingestion")?;
    table.row("delta sums 5, 7 with feature otlp-native-delta-ingestion", deltas(&native_delta));
    let cumulative = prometheus_with(PLAIN, "otlp-deltatocumulative")?;
    table.row("delta sums 5, 7 with feature otlp-deltatocumulative", deltas(&cumulative));
    let created = prometheus_with(PLAIN, "created-timestamp-zero-ingestion")?;
    post(&created, "start", vec![sum("bare", CUMULATIVE, t - 60.0, &[(t - 40.0, 100.0), (t - 20.0, 100.0)])]);
    let increase = created.number("increase(bare_total[2m])").unwrap_or(-1.0);
    let answer = all_or_less(increase);
    table.row("feature created-timestamp-zero-ingestion: counter whose first point is 100: `increase()`", answer);
    Some(())
}

#[test]
fn the_table_of_what_prometheus_does_holds() {
    let Some(plain) = prometheus_with(PLAIN, "exemplar-storage") else { return };
    let Some(window) = prometheus_with(WINDOW, "") else { return };
    let mut table = Table(Vec::new());
    kinds(&mut table, &plain);
    order(
        &mut table,
        &plain,
        [
            "one out-of-order sample (a) in a batch of three series",
            "older batch of another series of the same resource",
            "a point five minutes ahead",
            "a point eleven minutes ahead",
            "the same point twice",
            "the same time, another value",
            "a new series, 90 minutes old",
            "the same native histogram twice",
            "an older native histogram",
        ],
    );
    order(
        &mut table,
        &window,
        [
            "window of 30 min: one out-of-order sample (a) in a batch of three series",
            "window of 30 min: older batch of another series of the same resource",
            "window of 30 min: a point five minutes ahead",
            "window of 30 min: a point eleven minutes ahead",
            "window of 30 min: the same point twice",
            "window of 30 min: the same time, another value",
            "window of 30 min: a new series, 90 minutes old",
            "window of 30 min: the same native histogram twice",
            "window of 30 min: an older native histogram",
        ],
    );
    wire(&mut table, &plain);
    if features(&mut table).is_none() {
        return;
    }
    let documented = include_str!("../../agent/export/README.md");
    let new: Vec<_> = table.0.iter().filter(|line| !documented.contains(line.as_str())).collect();
    assert!(new.is_empty(), "Prometheus behaves otherwise than agent/export/README.md says: {new:#?}");
}
