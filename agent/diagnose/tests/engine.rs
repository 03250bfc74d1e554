//! The engine from tick to tick: when it answers, what it does without a reading, and when it forgets.

mod synthetic;

use perfwatch_diagnose::{Config, Engine, Judgement, RULES};
use perfwatch_model::metrics::server;
use perfwatch_model::{Attr, Histogram, MetricDef, Quality, Sample, Severity, SparseHdr, Stage, Tick};
use synthetic::{SECOND, Signals, World};

fn run(world: &mut World, engine: &mut Engine, seconds: u64, signals: &Signals) -> Judgement {
    let mut last = None;
    for _ in 0..seconds {
        let tick = world.tick(signals);
        last = Some(engine.push(&tick, &world.table));
    }
    last.expect("at least one second")
}

fn overloaded() -> Signals {
    Signals {
        used: 1.0,
        hottest_thread: 0.9,
        growth: 0.3,
        batch: 8.0,
        ready2: 1.0,
        stages: vec![(Stage::BatchWait, 0.98), (Stage::Compute, 0.02)],
        ..Signals::default()
    }
}

fn neighbour() -> Signals {
    Signals { run_delay: 0.6, others: 0.5, ..Signals::default() }
}

fn ids(judgement: &Judgement) -> Vec<&str> {
    judgement.findings.iter().map(|finding| finding.id.as_ref()).collect()
}

#[test]
fn rules_answer_once_ten_seconds_are_known_and_a_finding_takes_two_more() {
    let (mut world, mut engine) = (World::new(1), Engine::new(Config::default()));
    for second in 1..=12 {
        let judgement = run(&mut world, &mut engine, 1, &overloaded());
        let open: Vec<_> = judgement.undecided.iter().map(|open| open.rule).collect();
        match second {
            ..10 => assert_eq!(open.len(), RULES.len(), "second {second}"),
            10 | 11 => {
                assert_eq!(open, ["overload"], "second {second}: it fires, and nobody says that nothing is wrong");
            }
            _ => assert!(open.is_empty(), "second {second}: {open:?}"),
        }
        assert_eq!(ids(&judgement).is_empty(), second < 12, "second {second}");
    }
    let cured = Signals { backlog: 0.0, ..Signals::default() };
    let falls = (1..=20).find(|_| ids(&run(&mut world, &mut engine, 1, &cured)).is_empty());
    assert!(falls.is_some_and(|second| second >= 5), "{falls:?}");
}

#[test]
fn a_longer_window_waits_longer_and_a_shorter_one_is_not_allowed() {
    for (asked, answers_after) in [(15 * SECOND, 15), (2 * SECOND, 10)] {
        let (mut world, mut engine) = (World::new(1), Engine::new(Config { window_ns: asked, ..Config::default() }));
        let judgement = run(&mut world, &mut engine, answers_after - 1, &Signals::default());
        assert_eq!(judgement.undecided.len(), RULES.len());
        let judgement = run(&mut world, &mut engine, 10, &Signals::default());
        assert!(judgement.undecided.is_empty());
        assert!((judgement.window_s() - answers_after as f64).abs() < 0.01);
    }
}

#[test]
fn without_others_cpu_time_contention_is_undecided_and_says_why() {
    let (mut world, mut engine) = (World::new(1), Engine::new(Config::default()));
    let signals = Signals { missing: vec![server::CPU_OTHERS.name], ..neighbour() };
    let judgement = run(&mut world, &mut engine, 15, &signals);
    assert!(judgement.findings.is_empty());
    let undecided = judgement.undecided.iter().find(|undecided| undecided.rule == "cpu-contention").expect("no answer");
    assert_eq!(
        (undecided.reason.text.as_ref(), undecided.reason.cure.as_ref()),
        ("/proc hides it", "run as the same user")
    );
    assert_eq!(undecided.entity, "server:model/0");
    // Nothing grows, so these need no reading of the CPU to be clear.
    assert_eq!(judgement.undecided_rules(), ["cpu-contention"]);
    let ledger = judgement.servers[0].window.cpu_ledger.as_ref().expect("the capacity is known");
    assert!(ledger.ns("idle_unknown") > 0 && ledger.ns("no_demand") == 0);
}

#[test]
fn a_full_cpu_proves_overload_whatever_else_cannot_be_read() {
    for missing in [
        vec![server::CPU_OTHERS.name, server::CPU_THROTTLED.name, server::HOTTEST_THREAD.name],
        vec![server::CPU_STEAL.name, server::HOTTEST_THREAD.name],
    ] {
        let (mut world, mut engine) = (World::new(1), Engine::new(Config::default()));
        let judgement = run(&mut world, &mut engine, 15, &Signals { missing, ..overloaded() });
        assert_eq!(ids(&judgement), ["overload"]);
    }
}

#[test]
fn a_process_that_restarts_makes_one_tick_unknown_and_not_a_spike() {
    let (mut world, mut engine) = (World::new(1), Engine::new(Config::default()));
    run(&mut world, &mut engine, 12, &Signals::default());
    world.restart();
    // From 12 s of counting down to half a second.
    let judgement = run(&mut world, &mut engine, 1, &Signals::default());
    let server = &judgement.servers[0];
    assert_eq!(server.tick.facts.cpu.used_ns.get(), None);
    let ledger = server.tick.cpu.as_ref().expect("the capacity is known");
    assert_eq!((ledger.ns("unknown"), ledger.entries().len()), (SECOND, 1));
    assert!((server.window.cpu.used.get().expect("nine of ten ticks are known") - 0.5).abs() < 1e-6);
}

#[test]
fn totals_that_lie_further_apart_than_the_tick_is_long_are_not_charged_to_it() {
    let (mut world, mut engine) = (World::new(1), Engine::new(Config::default()));
    run(&mut world, &mut engine, 3, &Signals::default());
    world.tick(&Signals::default());
    let judgement = run(&mut world, &mut engine, 1, &Signals::default());
    assert_eq!(judgement.servers[0].tick.facts.cpu.used_ns.get(), None);
    let judgement = run(&mut world, &mut engine, 1, &Signals::default());
    assert_eq!(judgement.servers[0].tick.facts.cpu.used_ns.get(), Some(SECOND / 2));
}

#[test]
fn a_server_that_falls_silent_is_no_longer_live_and_its_findings_go_when_nothing_proves_them() {
    let (mut world, mut engine) = (World::new(1), Engine::new(Config::default()));
    run(&mut world, &mut engine, 15, &overloaded());
    let mut push = |tick: &Tick, world: &World| engine.push(tick, &world.table);
    for second in 1..=20 {
        let tick = world.silence();
        let judgement = push(&tick, &world);
        assert_eq!(judgement.servers[0].live, second <= 3, "second {second}");
        assert_eq!(judgement.servers[0].tick.requests, None);
        if second == 20 {
            assert!(judgement.findings.is_empty());
            assert_eq!(judgement.undecided.len(), RULES.len());
        }
    }
}

#[test]
fn a_server_that_retires_is_forgotten_with_its_findings() {
    let (mut world, mut engine) = (World::new(2), Engine::new(Config::default()));
    assert_eq!(run(&mut world, &mut engine, 15, &overloaded()).findings.len(), 2);
    let entity = world.entity(0);
    world.table.retire(entity);
    let judgement = engine.push(&world.silence(), &world.table);
    assert_eq!(judgement.servers.len(), 1);
    assert!(judgement.findings.iter().all(|finding| finding.entity == "server:model/1"));
}

#[test]
fn the_worst_comes_first_and_the_same_ticks_lead_to_the_same_findings() {
    let judge = || {
        let (mut world, mut engine) = (World::new(3), Engine::new(Config::default()));
        let both = Signals { growth: 0.65, used: 0.5, run_delay: 0.6, others: 0.5, ..overloaded() };
        run(&mut world, &mut engine, 15, &both).findings
    };
    let findings = judge();
    assert_eq!(findings, judge());
    let order: Vec<(&str, &str)> =
        findings.iter().map(|finding| (finding.id.as_ref(), finding.entity.as_str())).collect();
    assert_eq!(
        order,
        [
            ("cpu-contention", "server:model/0"),
            ("cpu-contention", "server:model/1"),
            ("cpu-contention", "server:model/2"),
            ("overload", "server:model/0"),
            ("overload", "server:model/1"),
            ("overload", "server:model/2"),
        ]
    );
    assert!(findings.windows(2).all(|pair| pair[0].severity >= pair[1].severity));
}

#[test]
fn a_neighbour_is_a_warning_until_requests_fail() {
    let (mut world, mut engine) = (World::new(1), Engine::new(Config::default()));
    let judgement = run(&mut world, &mut engine, 15, &neighbour());
    assert_eq!((ids(&judgement), judgement.findings[0].severity), (vec!["cpu-contention"], Severity::Warning));
    let judgement = run(&mut world, &mut engine, 5, &Signals { rejected: 0.1, ..neighbour() });
    assert_eq!(judgement.findings[0].severity, Severity::Critical);
}

#[test]
fn evidence_carries_value_threshold_window_and_source() {
    let (mut world, mut engine) = (World::new(1), Engine::new(Config::default()));
    let finding = run(&mut world, &mut engine, 15, &neighbour()).findings.remove(0);
    let wait = &finding.evidence[0];
    assert_eq!((wait.metric.as_ref(), wait.threshold, wait.unit.as_ref()), ("cpu.wait_share", Some(0.1), "1"));
    assert!((wait.value - 0.5).abs() < 1e-6 && (wait.window_s - 10.0).abs() < 1e-6);
    assert_eq!(wait.quality, Quality::Inferred, "run delay was capped by what others used");
    assert!(finding.detail.contains("50 %"), "{}", finding.detail);
    assert_eq!(finding.cost, None);
}

#[test]
fn views_show_the_window_in_si_units() {
    let (mut world, mut engine) = (World::new(1), Engine::new(Config::default()));
    let judgement = run(&mut world, &mut engine, 12, &Signals { capacity: 2.0, ..Signals::default() });
    let device = judgement.devices().remove(0);
    assert_eq!(
        (device.id.as_str(), device.kind.as_str(), device.name.as_str()),
        ("cpu:model/0", "cpu", "CPUs of model")
    );
    let ledger = device.ledger.expect("all is known");
    assert_eq!(ledger.interval_ns, 20 * SECOND);
    assert_eq!(ledger.entries.iter().map(|entry| entry.ns).sum::<u64>(), ledger.interval_ns);
    let cpu = device.cpu.expect("a CPU device");
    assert!((cpu.used_cpus.expect("known") - 1.0).abs() < 1e-6);

    let server = judgement.servers(|_| vec![7, 8]).remove(0);
    assert_eq!((server.id.as_str(), server.pid, server.live), ("server:model/0", Some(7), true));
    let latency = server.latency.expect("requests ended");
    assert_eq!(latency.count, 2_000);
    assert!((latency.p50_s - 0.02).abs() < 0.001 && latency.p99_s > latency.p90_s && latency.max_s < 0.0405);
    assert!(latency.p999_s.is_some_and(|p999| p999 >= latency.p99_s && p999 <= latency.max_s));
    let newest = server.latency_buckets.expect("the newest tick was reported");
    assert_eq!(newest.iter().map(|(_, count)| count).sum::<u64>(), 200, "one tick, not the window");
    assert_eq!(server.stages.len(), 1);
    assert_eq!(server.arrivals_per_s, Some(200.0));
    assert_eq!(server.in_flight, Some(40));
    let batch = server.batch.expect("batches were executed");
    assert!((batch.mean_size - 1.7).abs() < 0.01 && batch.max_size == Some(8));
    let sizes = batch.sizes.expect("sizes were counted");
    assert_eq!(sizes.iter().map(|(size, _)| *size).collect::<Vec<_>>(), [1, 2]);
    let ledger = server.ledger.expect("requests were inside");
    assert_eq!(ledger.entries.iter().map(|entry| entry.ns).sum::<u64>(), ledger.interval_ns);
}

/// A tick to which a server adds totals of tokens, look-ups and errors, and the times of two tokens.
fn told(world: &mut World, totals: &[(&'static MetricDef, Attr, u64)]) -> Tick {
    let mut tick = world.tick(&Signals::default());
    let entity = world.entity(0);
    let mut out = Sample::new(&mut world.table, &mut tick);
    for (metric, attr, total) in totals {
        let series = out.series(metric, entity, std::slice::from_ref(attr));
        out.counter(series, *total);
    }
    for (metric, ns) in [(&server::TIME_TO_FIRST_TOKEN, 80_000_000), (&server::INTER_TOKEN, 20_000_000)] {
        let series = world.table.series(metric, entity, &[]);
        let mut gained = SparseHdr::new();
        gained.record(ns);
        tick.histograms.push((series, Histogram::Hdr(gained)));
    }
    tick.seal();
    tick
}

#[test]
fn what_a_server_tells_besides_is_shown_as_rates_of_the_window_and_the_worst_errors_first() {
    let (mut world, mut engine) = (World::new(1), Engine::new(Config::default()));
    let view = |judgement: &Judgement| judgement.servers(|_| Vec::new()).remove(0);
    let before = view(&run(&mut world, &mut engine, 2, &Signals::default()));
    assert_eq!((before.tokens, before.cache, &before.inter_token), (None, None, &None), "it told of none");
    assert!(before.errors_by_kind.is_empty() && before.time_to_first_token.is_none());
    let tokens = |kind| Attr::fixed("gen_ai.token.type", kind);
    let outcome = |kind| Attr::fixed("perfwatch.outcome", kind);
    let error = |kind: &str| Attr::text("error.type", kind.to_owned());
    let mut last = before;
    for second in 1..=8 {
        let mut totals = vec![
            (&server::TOKENS, tokens("input"), 1_000 * second),
            (&server::TOKENS, tokens("output"), 300 * second),
            (&server::CACHE_LOOKUPS, outcome("hit"), 9 * second),
            (&server::CACHE_LOOKUPS, outcome("miss"), 3 * second),
            // Its only ones come with the first tick that has the series, and are counted all the same.
            (&server::ERRORS, error("timeout"), 20),
        ];
        totals.extend((1..=6).map(|kind| (&server::ERRORS, error(&format!("http_{kind}")), kind * second)));
        let tick = told(&mut world, &totals);
        last = view(&engine.push(&tick, &world.table));
    }
    // Eight of ten seconds.
    let near = |value: f64, wanted: f64| (value - wanted).abs() < 1e-9;
    let tokens = last.tokens.expect("tokens were told");
    assert!(near(tokens.input_per_s, 800.0) && near(tokens.output_per_s, 240.0), "{tokens:?}");
    let cache = last.cache.expect("look-ups were told");
    assert!(near(cache.lookups_per_s, 9.6) && cache.hit_ratio.is_some_and(|ratio| near(ratio, 0.75)), "{cache:?}");
    let kinds: Vec<(&str, f64)> = last.errors_by_kind.iter().map(|one| (one.kind.as_str(), one.per_s)).collect();
    assert_eq!(kinds, [("http_6", 4.8), ("http_5", 4.0), ("http_4", 3.2), ("http_3", 2.4), ("timeout", 2.0)]);
    for (latency, seconds) in [(last.time_to_first_token, 0.08), (last.inter_token, 0.02)] {
        let latency = latency.expect("tokens came");
        assert!(latency.count == 8 && (latency.p50_s / seconds - 1.0).abs() < 0.01, "{latency:?}");
    }
}

#[test]
fn that_a_table_knows_what_comes_later_changes_nothing() {
    let mut world = World::new(1);
    let error = |kind| Attr::fixed("error.type", kind);
    let ticks: Vec<_> = (1..=12)
        .map(|second| {
            let mut totals = Vec::new();
            if second > 4 {
                totals.push((&server::ERRORS, error("timeout"), second));
            }
            if second > 8 {
                totals.push((&server::ERRORS, error("refused"), 2 * second));
                totals.push((&server::CACHE_LOOKUPS, Attr::fixed("perfwatch.outcome", "hit"), 1));
                totals.push((&server::CACHE_LOOKUPS, Attr::fixed("perfwatch.outcome", "miss"), 0));
            }
            let tick = told(&mut world, &totals);
            (tick, world.table.clone())
        })
        .collect();
    let (mut then, mut later) = (Engine::new(Config::default()), Engine::new(Config::default()));
    for (second, (tick, table)) in (1..).zip(&ticks) {
        let view = |judgement: &Judgement| judgement.servers(|_| Vec::new()).remove(0);
        let (then, later) = (view(&then.push(tick, table)), view(&later.push(tick, &world.table)));
        assert_eq!(then, later, "second {second}");
        assert_eq!(then.errors_by_kind.len(), usize::from(second > 4) + usize::from(second > 8), "second {second}");
    }
}

#[test]
fn what_an_absence_left_in_the_totals_is_no_burst_of_errors() {
    let (mut world, mut engine) = (World::new(1), Engine::new(Config::default()));
    let timeout = Attr::fixed("error.type", "timeout");
    let (mut started, mut last) = (0, None);
    for second in 1..=9 {
        // In the fifth second the totals gain what the agent did not hear of before.
        let absence = if second >= 5 { 1_000 } else { 0 };
        let mut tick = told(&mut world, &[(&server::ERRORS, timeout.clone(), 2 * second + absence)]);
        started += tick.servers[0].started;
        let series = world.table.series(&server::REQUESTS_STARTED, tick.servers[0].entity, &[]);
        tick.values.push((series, perfwatch_model::Number::Int(started + absence)));
        tick.seal();
        last = engine.push(&tick, &world.table).servers(|_| Vec::new()).pop();
    }
    let errors = last.expect("a server").errors_by_kind;
    assert_eq!(errors.iter().map(|error| error.per_s).collect::<Vec<_>>(), [2.0]);
}

#[test]
fn a_silent_second_is_no_second_without_requests() {
    let (mut world, mut engine) = (World::new(1), Engine::new(Config::default()));
    run(&mut world, &mut engine, 3, &Signals::default());
    let idle = Signals { arrivals: 0.0, batch: 1.0, ..Signals::default() };
    let judgement = run(&mut world, &mut engine, 1, &idle);
    assert_eq!(judgement.servers(|_| Vec::new())[0].latency_buckets, Some(Vec::new()), "it reported, nothing ended");
    let silent = world.silence();
    let judgement = engine.push(&silent, &world.table);
    assert_eq!(judgement.servers(|_| Vec::new())[0].latency_buckets, None, "nobody knows");
}

#[test]
fn the_machine_is_shown_as_it_was_sampled() {
    let (mut world, mut engine) = (World::new(0), Engine::new(Config::default()));
    for second in 1..=2 {
        let mut tick = world.silence();
        world.sample_host(&mut tick, [0.25, 1.0]);
        let judgement = engine.push(&tick, &world.table);
        let host = judgement.host("here");
        assert_eq!((host.name.as_str(), host.cpus), ("here", 2));
        if second == 1 {
            assert_eq!(host.per_cpu_utilization, [None, None], "a counter needs two readings");
        } else {
            let cpus: Vec<f64> = host.per_cpu_utilization.into_iter().flatten().collect();
            assert!((cpus[0] - 0.25).abs() < 1e-6 && (cpus[1] - 1.0).abs() < 1e-6, "{cpus:?}");
        }
        assert_eq!(host.memory_total_bytes, None, "nobody measured it");
    }
}
