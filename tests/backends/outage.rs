//! Outages: the backend is away, slow, refuses or hangs up, and the agent is killed meanwhile at every step of keeping and
//! shipping. Afterwards a real Prometheus has exactly what was measured.
//!
//! `PERFWATCH_TEST_ROUNDS=100 cargo test -p perfwatch --test backends outage -- --nocapture` is the whole of it.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use perfwatch_model::metrics;
use perfwatch_model::prometheus::{label_name, metric_name};
use perfwatch_store::failpoint::POINTS;

use crate::load::Load;
use crate::mortal::{End, Mortal};
use crate::peers::{self, PROMETHEUS_OTLP, Peer};
use crate::proxy::{Fate, Fault, PATIENCE_MS, Proxy};
use crate::sequence::{self, Progress};

/// Rounds of a run that is not told otherwise.
const SAMPLE: usize = 24;
/// From so many on the backend is also away for minutes.
const WHOLE: usize = 100;
/// How long a failpoint may take to be reached while the fault lasts; some are reached only once it is over.
const UNDER_FAULT: Duration = Duration::from_secs(6);
/// How long a round may take to be made good: the sender may be waiting for half a minute.
const RECOVERY: Duration = Duration::from_mins(2);
const NAME: &str = "outage";

/// One after the other. Every answer of the retry tables, and every way to get none.
const FAULTS: &[Fault] = &[
    Fault::Down,
    Fault::Status(503, "Retry-After: 1\r\n"),
    Fault::CutAnswer,
    Fault::Status(400, ""),
    Fault::SlowAnswer(PATIENCE_MS + 1_000),
    Fault::Status(429, ""),
    Fault::CutRequest,
    Fault::Status(500, ""),
    Fault::NoAnswer,
    Fault::Status(504, ""),
    Fault::Stall(PATIENCE_MS + 1_000),
    Fault::Status(413, ""),
    Fault::SlowAnswer(500),
    Fault::Status(502, "Retry-After: Wed, 01 Jan 2020 00:00:00 GMT\r\n"),
    Fault::Status(404, ""),
];

/// Every failpoint that these agents pass: their journals are new, and so need no migration.
fn points() -> impl Iterator<Item = &'static str> {
    POINTS.iter().map(|(_, name)| *name).filter(|name| *name != "migrated")
}

/// Two of three at a failpoint, those of shipping first; the rest at random.
fn plan(rounds: usize) -> Vec<(Fault, End)> {
    let is_ours = |name: &str| ["stream", "outbox", "send"].iter().any(|word| name.starts_with(word));
    let order: Vec<&str> =
        points().filter(|name| is_ours(name)).chain(points().filter(|name| !is_ours(name))).collect();
    let mut at = (0..).map(|number: usize| {
        let name = order[number % order.len()];
        // The one server of these tests shakes hands once with each agent, and a minute has one end.
        let once = ["hello", "welcome", "minute"].iter().any(|word| name.starts_with(word));
        (name, if once { 1 } else { 1 + (number / order.len()) as u32 % 3 })
    });
    let mut chance = 0x9e37_79b9_u64;
    let round = |number: usize| {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let end = match number % 3 {
            2 => End::Random(500 + (chance >> 33) % 5_000),
            _ if cfg!(debug_assertions) => at.next().map_or(End::Random(1_000), |(name, nth)| End::At(name, nth)),
            _ => End::Random(1_000),
        };
        (FAULTS[number % FAULTS.len()], end)
    };
    (0..rounds).map(round).collect()
}

#[test]
fn the_whole_plan_has_every_failpoint_and_every_fault() {
    let plan = plan(WHOLE);
    for fault in FAULTS {
        assert!(plan.iter().filter(|(planned, _)| planned == fault).count() >= 6);
    }
    for name in points().filter(|_| cfg!(debug_assertions)) {
        assert!(plan.iter().filter(|(_, end)| matches!(end, End::At(at, _) if *at == name)).count() >= 2, "{name}");
    }
}

/// Count and sum of everything that the sequence determines, by metric and attribute.
type Counts = BTreeMap<String, (f64, f64)>;

/// What was recorded.
fn recorded(progress: Progress) -> Counts {
    let all = sequence::expected(&[progress]).into_iter();
    all.map(|(key, (count, sum, _))| (key, (count as f64, sum as f64))).collect()
}

/// The metric's name in Prometheus; of the server's own distribution, which counts tokens, its own.
fn stored_as(name: &str) -> String {
    metrics::find(name).map_or_else(|| name.replace('.', "_"), metric_name)
}

/// The same as Prometheus has it.
fn arrived(prometheus: &Peer, keys: &Counts) -> Counts {
    let series = prometheus.query(&format!("last_over_time({{perfwatch_server_name=\"{NAME}\"}}[6h])"));
    let mut by_name = BTreeMap::new();
    for key in keys.keys() {
        let (name, value) = key.split_once(' ').unwrap_or((key, ""));
        by_name.insert((stored_as(name), value.to_owned()), key.clone());
    }
    let mut out = Counts::new();
    for one in &series {
        let label = |name: &str| one["metric"][name].as_str().map(str::to_owned);
        let by = ["perfwatch.outcome", "error.type", "gen_ai.token.type"].map(label_name);
        let value = by.iter().find_map(|name| label(name)).unwrap_or_default();
        let Some(key) = by_name.get(&(label("__name__").expect("a name"), value)) else { continue };
        let number = |value: &serde_json::Value| value.as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
        let amount = match &one["histogram"] {
            serde_json::Value::Null => (number(&one["value"][1]), 0.0),
            histogram => (number(&histogram[1]["count"]), number(&histogram[1]["sum"])),
        };
        assert!(out.insert(key.clone(), amount).is_none(), "two series for {key}: {series:#?}");
    }
    out
}

fn apart(expected: &Counts, told: &Counts) -> Vec<String> {
    let nothing = (0.0, 0.0);
    let differing = expected.iter().filter_map(|(key, wanted)| {
        let got = told.get(key).unwrap_or(&nothing);
        (got != wanted).then(|| format!("{key}: {got:?} instead of {wanted:?}"))
    });
    differing.collect()
}

/// The outage, and the agent's death in it.
fn suffer(agent: &mut Mortal, proxy: &Proxy, (fault, end): (Fault, End), down_for: Duration) {
    proxy.set(fault);
    match end {
        End::Random(life_ms) => {
            agent.start();
            sleep(Duration::from_millis(life_ms));
            agent.kill();
        }
        End::At(name, nth) => {
            agent.start_to_die_at(name, nth);
            if !agent.ended_within(UNDER_FAULT) {
                proxy.set(Fault::None);
            }
            agent.killed_itself(&format!("the failpoint {name}, passing {nth}, under {fault:?}"));
            proxy.set(fault);
        }
    }
    agent.start();
    // The outage outlasts the restart.
    agent.ready();
    sleep(Duration::from_millis(1_500).max(down_for));
    proxy.set(Fault::None);
}

/// Waits until Prometheus has what was measured, to the last digit; the seconds that it took.
fn assert_made_good(prometheus: &Peer, agent: &Mortal, load: &Load, what: &str) -> (f64, Progress) {
    let progress = load.pause();
    let expected = recorded(progress);
    let (begin, mut differences) = (Instant::now(), Vec::new());
    while begin.elapsed() < RECOVERY {
        differences = apart(&expected, &arrived(prometheus, &expected));
        if differences.is_empty() {
            load.resume();
            return (begin.elapsed().as_secs_f64(), progress);
        }
        sleep(Duration::from_millis(250));
    }
    let snapshot = agent.json("/v1/snapshot");
    panic!("{what}: {differences:#?} of {progress:?}; the agent says {:#?}", snapshot.map(|all| all["agent"].clone()));
}

/// Points that Prometheus never had, and those that an agent gave up: what it heard last of them was a refusal.
///
/// The second are more. A request that was delivered just before its agent was killed is sent again by the next one, which
/// cannot know; refused then, its points count as dropped although they are there.
fn never(proxy: &Proxy) -> (usize, usize) {
    let (mut taken, mut newest) = (BTreeSet::new(), BTreeMap::new());
    for (fate, points) in proxy.points() {
        for point in points {
            let point = (point.series, point.time_ns);
            if matches!(fate, Fate::Backend(200..=299) | Fate::Unheard(200..=299)) {
                taken.insert(point.clone());
            }
            newest.insert(point, fate);
        }
    }
    let lost = newest.keys().filter(|point| !taken.contains(*point)).count();
    let refused = |fate: &Fate| match fate {
        Fate::Backend(status) | Fate::Proxy(status) => !matches!(status, 200..=299 | 429 | 502..=504),
        Fate::Unheard(_) | Fate::Lost => false,
    };
    (lost, newest.values().filter(|fate| refused(fate)).count())
}

/// What the agent counts as dropped on the way out.
fn dropped(prometheus: &Peer) -> usize {
    let name = metric_name(&metrics::export::DROPPED);
    prometheus.number(&format!("sum(last_over_time({name}[6h]))")).unwrap_or(0.0) as usize
}

/// Lets the last counts arrive: points that never arrived, those that an agent gave up, and those that it counts as dropped.
fn drops(prometheus: &Peer, proxy: &Proxy) -> (usize, usize, usize) {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let ((lost, given_up), counted) = (never(proxy), dropped(prometheus));
        if given_up == counted || Instant::now() > end {
            return (lost, given_up, counted);
        }
        sleep(Duration::from_millis(500));
    }
}

fn agent_before(proxy: &Proxy) -> Mortal {
    agent_to(&format!("http://{}{PROMETHEUS_OTLP}/v1/metrics", proxy.address))
}

fn agent_to(endpoint: &str) -> Mortal {
    let mut agent = Mortal::new();
    agent.env = vec![
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", endpoint.to_owned()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1000".to_owned()),
        // The server's own distributions leave at this level only.
        ("PERFWATCH_OTLP_LEVEL", "full".to_owned()),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", PATIENCE_MS.to_string()),
    ];
    agent
}

#[test]
fn outages_with_the_agent_killed_at_every_step_lose_nothing_and_count_nothing_twice() {
    let Some(prometheus) = peers::prometheus() else { return };
    let rounds = std::env::var("PERFWATCH_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SAMPLE);
    let proxy = Proxy::before(prometheus.address);
    let mut agent = agent_before(&proxy);
    let load = Load::on(agent.server(NAME));
    agent.start();
    agent.ready();
    let (begin, mut slowest, mut measured) = (Instant::now(), 0.0_f64, 0);
    for (number, round) in plan(rounds).into_iter().enumerate() {
        if number % 4 == 1 {
            agent.ask_to_stop();
            let status = agent.end("the agent to stop when asked");
            assert!(status.success(), "{status}");
        } else {
            agent.kill();
        }
        let minutes = number == WHOLE / 2;
        let round = if minutes { (Fault::Down, round.1) } else { round };
        suffer(&mut agent, &proxy, round, Duration::from_secs(if minutes { 180 } else { 0 }));
        let (took, progress) = assert_made_good(&prometheus, &agent, &load, &format!("round {number}, {round:?}"));
        slowest = slowest.max(took);
        measured = progress.1;
        println!("round {number}: {round:?}, exact after {took:.1} s, {} requests so far", progress.1);
    }
    let expected = sequence::expected(&[load.pause()]);
    let differences = sequence::differences(&expected, &agent.totals(NAME));
    assert!(differences.is_empty(), "the agent itself: {differences:#?}");
    for key in expected.keys() {
        let name = stored_as(key.split(' ').next().unwrap_or_default());
        let resets = prometheus.number(&format!("sum(resets({name}{{perfwatch_server_name=\"{NAME}\"}}[6h]))"));
        assert_eq!(resets, Some(0.0), "{name}: a stream that goes on never goes back");
    }
    let (lost, given_up, counted) = drops(&prometheus, &proxy);
    assert_eq!(counted, given_up, "dropped, as the agent counts and as the proxy saw; {lost} never arrived");
    assert!(lost <= given_up, "{lost} never arrived, {given_up} were given up");
    println!(
        "{rounds} rounds in {:.0} s: {measured} requests recorded, mismatch 0 in Prometheus, made good within {slowest:.0} s; \
         {counted} points refused for good, each counted as dropped; {lost} of them never arrived",
        begin.elapsed().as_secs_f64()
    );
}

#[test]
fn an_outage_with_refusals_drops_points_that_are_counted_to_the_last_one() {
    let Some(prometheus) = peers::prometheus() else { return };
    let proxy = Proxy::before(prometheus.address);
    let mut agent = agent_before(&proxy);
    let load = Load::on(agent.server(NAME));
    agent.start();
    agent.ready();
    for status in [400, 500, 413] {
        let before = proxy.arrived();
        proxy.set(Fault::Status(status, ""));
        perfwatch_tests::wait_for("some requests to be refused", || (proxy.arrived() > before + 30).then_some(()));
        proxy.set(Fault::None);
        assert_made_good(&prometheus, &agent, &load, &format!("after {status}"));
    }
    load.pause();
    let (lost, given_up, counted) = drops(&prometheus, &proxy);
    assert!(lost > 0 && lost == given_up, "{lost} {given_up}");
    assert_eq!(counted, lost, "dropped, as the agent counts and as the proxy saw");
    println!("{lost} points refused for good, as many counted as dropped; what they told of arrived with later ones");
}

#[test]
fn an_outage_behind_the_collector_loses_nothing_either() {
    let Some(prometheus) = peers::prometheus() else { return };
    let proxy = Proxy::before(prometheus.address);
    let Some(collector) = peers::collector(proxy.address) else { return };
    let mut agent = agent_to(&format!("http://{}/v1/metrics", collector.address));
    let load = Load::on(agent.server(NAME));
    agent.start();
    agent.ready();
    for fault in [Fault::Down, Fault::Status(503, ""), Fault::CutAnswer] {
        proxy.set(fault);
        sleep(Duration::from_secs(3));
        agent.kill();
        agent.start();
        agent.ready();
        sleep(Duration::from_secs(2));
        proxy.set(Fault::None);
        let (took, progress) = assert_made_good(&prometheus, &agent, &load, &format!("{fault:?} behind the Collector"));
        println!("{fault:?} behind the Collector: exact after {took:.1} s, {} requests so far", progress.1);
    }
}

#[test]
fn one_request_more_or_less_is_noticed() {
    let [less, right, more] = [99, 100, 101].map(|steps| recorded((11, steps)));
    assert!(apart(&right, &right).is_empty());
    assert!(apart(&right, &less).len() > 4 && apart(&right, &more).len() > 4);
    assert!(apart(&right, &Counts::new()).len() > 8);
}
