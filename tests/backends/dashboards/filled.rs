//! A Prometheus that real programs have filled: the demo with a fault, and an agent with a language-model-like server that
//! streams tokens, fails now and then, and looks things up in a cache.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use perfwatch_sdk::{Server, Stage};
use perfwatch_tests::{Agent, perfwatch, run};
use tempfile::TempDir;

use crate::peers::{PROMETHEUS_OTLP, Peer, prometheus_with};
use crate::{PERFWATCH, ROOT};

/// The demo calibrates, takes a reference and is loaded; on a busy machine that needs a while longer.
const LIMIT: Duration = Duration::from_mins(3);
/// Room for a window of 10 s, the hysteresis of a rule, and some exports.
const LOADED_S: &str = "22";

/// The name of the server that is not the demo's.
pub(super) const STREAMER: &str = "streamer";

/// What we tell users to have, and the rules, looked at every two seconds.
fn configuration() -> String {
    let read = |path: &str| std::fs::read_to_string(format!("{ROOT}/{path}")).expect("it is committed");
    let rules = std::fs::canonicalize(format!("{ROOT}/dashboards/prometheus/rules.yml")).expect("it is committed");
    let ours = read("agent/deploy/prometheus/prometheus.yml");
    let often = ours.replacen("global:\n", "global:\n  evaluation_interval: 2s\n", 1);
    assert_ne!(ours, often, "the configuration has a global section");
    format!("{often}\nrule_files: [{}]\n", rules.display())
}

/// Fills a Prometheus and hands it over with the agent that still runs, and the folder of its driver; `None` when there is
/// none.
pub(super) fn fill() -> Option<(Peer, Agent, TempDir)> {
    let prometheus = prometheus_with(&configuration(), "exemplar-storage")?;
    let endpoint = format!("http://{}{PROMETHEUS_OTLP}", prometheus.address);
    let exporting = |instance: &'static str| {
        [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.clone()),
            ("OTEL_METRIC_EXPORT_INTERVAL", "2000".to_owned()),
            // Prometheus takes metrics alone.
            ("OTEL_LOGS_EXPORTER", "none".to_owned()),
            ("OTEL_TRACES_EXPORTER", "none".to_owned()),
            ("OTEL_RESOURCE_ATTRIBUTES", format!("service.instance.id={instance}")),
        ]
    };
    let driver = tempfile::tempdir().expect("a folder");
    let nvml = fake_nvml::install(driver.path(), include_str!("../../fixtures/one-gpu.json")).expect("a scenario");
    let own = exporting("streaming-host");
    let own = own.iter().map(|(name, value)| (*name, value.as_str()));
    let own: Vec<_> = own.chain([("PERFWATCH_NVML_LIB", nvml.to_str().expect("a plain path"))]).collect();
    let agent = Agent::spawn(PERFWATCH, &[], &own);
    let stop = AtomicBool::new(false);
    let output = std::thread::scope(|scope| {
        scope.spawn(|| stream(&agent, &stop));
        let dir = tempfile::tempdir().expect("a folder");
        let mut demo = perfwatch(PERFWATCH, dir.path());
        demo.args(["demo", "--fault", "no-batching", "--duration", LOADED_S, "--json"]).envs(exporting("demo-host"));
        let output = run(demo, LIMIT);
        stop.store(true, Ordering::Relaxed);
        output
    });
    // 3: the fault was not felt, because the machine is busy otherwise; what was measured arrived all the same.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&output.stderr));
    Some((prometheus, agent, driver))
}

/// Serves requests one by one although two are ready, so that there is something to find.
fn stream(agent: &Agent, stop: &AtomicBool) {
    let server =
        Server::builder(STREAMER).instance("1").max_batch_size(8).socket(agent.dir().join("probe.sock")).start();
    let pause = || std::thread::sleep(Duration::from_millis(3));
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut waiting = [server.request(), server.request()];
        for request in &mut waiting {
            request.enter(Stage::Queue);
        }
        pause();
        for request in &mut waiting {
            request.enter(Stage::Preprocess);
            request.prompt_tokens(12);
            request.enter(Stage::BatchWait);
        }
        match number % 3 {
            0 => server.cache_miss(),
            _ => server.cache_hit(),
        }
        for mut request in waiting {
            server.dispatch(1, 2);
            request.enter(Stage::Decode);
            for _ in 0..3 {
                pause();
                request.token();
            }
            match number % 10 {
                7 => request.fail_with("timeout"),
                8 => request.cancel(),
                _ => request.finish(),
            }
        }
    }
    server.flush_now();
}
