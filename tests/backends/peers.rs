//! The real backends, started on loopback at ports of their own and stopped with the test.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use perfwatch_tests::{peer, wait_for};
use serde_json::Value;
use tempfile::TempDir;

use crate::ROOT;
use crate::http::{escaped, get};

/// An address that nobody listens at.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
    listener.local_addr().expect("it is bound")
}

/// A backend that runs until it is dropped.
pub(crate) struct Peer {
    child: Child,
    pub(crate) address: SocketAddr,
    dir: TempDir,
}

impl Peer {
    /// Starts it in a folder of its own and waits until it answers 200 at `ready`, where it listens for that.
    fn start(mut command: Command, dir: TempDir, address: SocketAddr, ready: &str) -> Self {
        let log = File::create(dir.path().join("log")).expect("our folder");
        let command = command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        let mut peer = Self { child: command.spawn().expect("the peer starts"), address, dir };
        wait_for("the peer to be ready", || {
            if let Some(status) = peer.child.try_wait().expect("our child") {
                panic!("the peer ended with {status}: {}", peer.log());
            }
            match ready {
                "" => std::net::TcpStream::connect(address).ok().map(drop),
                path => get(address, path).ok().filter(|answer| answer.status == 200).map(drop),
            }
        });
        peer
    }

    /// What it wrote about itself.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).expect("our file")
    }

    /// JSON of a GET.
    pub(crate) fn json(&self, path: &str) -> Value {
        let answer = get(self.address, path).unwrap_or_else(|error| panic!("{path}: {error}; {}", self.log()));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        serde_json::from_slice(&answer.body).expect("JSON")
    }

    /// Result of an instant query.
    pub(crate) fn query(&self, promql: &str) -> Vec<Value> {
        let answer = self.json(&format!("/api/v1/query?query={}", escaped(promql)));
        answer["data"]["result"].as_array().expect("a list").clone()
    }

    /// The number that a query has as its only result.
    pub(crate) fn number(&self, promql: &str) -> Option<f64> {
        let result = self.query(promql);
        result.first()?["value"][1].as_str()?.parse().ok()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("perfwatch-peer-").tempdir().expect("a temporary folder")
}

fn command(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command
}

/// Where Prometheus takes OTLP.
pub(crate) const PROMETHEUS_OTLP: &str = "/api/v1/otlp";
/// Where `VictoriaMetrics` does.
pub(crate) const VICTORIA_OTLP: &str = "/opentelemetry";

/// Prometheus with the configuration that we tell users to have; `None` where it is not installed.
pub(crate) fn prometheus() -> Option<Peer> {
    prometheus_and("")
}

/// The same with more features: each with a comma before it.
pub(crate) fn prometheus_and(features: &str) -> Option<Peer> {
    let config = Path::new(ROOT).join("agent/deploy/prometheus/prometheus.yml");
    prometheus_with(&std::fs::read_to_string(config).expect("our file"), &format!("exemplar-storage{features}"))
}

/// Prometheus with this configuration and these features.
pub(crate) fn prometheus_with(config: &str, features: &str) -> Option<Peer> {
    let (binary, dir, address) = (peer("prometheus")?, folder(), free_address());
    let file = dir.path().join("prometheus.yml");
    std::fs::write(&file, config).expect("our folder");
    let mut command = command(&binary);
    command.arg("--config.file").arg(file).arg("--storage.tsdb.path").arg(dir.path().join("data"));
    command.args([&format!("--web.listen-address={address}"), "--web.enable-otlp-receiver"]);
    if !features.is_empty() {
        command.arg(format!("--enable-feature={features}"));
    }
    Some(Peer::start(command, dir, address, "/-/ready"))
}

/// The Collector with the configuration that we tell users to have, in front of this Prometheus; its address takes HTTP.
pub(crate) fn collector(prometheus: SocketAddr) -> Option<Peer> {
    let (binary, dir, address) = (peer("otelcol")?, folder(), free_address());
    let mut command = command(&binary);
    command.arg("--config").arg(Path::new(ROOT).join("agent/deploy/collector/collector.yaml"));
    command.env("PERFWATCH_COLLECTOR_HTTP", address.to_string());
    command.env("PERFWATCH_COLLECTOR_GRPC", free_address().to_string());
    command.env("PERFWATCH_PROMETHEUS", format!("http://{prometheus}"));
    Some(Peer::start(command, dir, address, ""))
}

/// `VictoriaMetrics` with names as Prometheus has them.
pub(crate) fn victoria_metrics() -> Option<Peer> {
    let (binary, dir, address) = (peer("victoria-metrics")?, folder(), free_address());
    let mut command = command(&binary);
    command.arg(format!("-storageDataPath={}", dir.path().join("data").display()));
    command.args([&format!("-httpListenAddr={address}"), "-opentelemetry.usePrometheusNaming"]);
    // What was written a second ago can be asked for.
    command.args(["-search.latencyOffset=0s", "-inmemoryDataFlushInterval=1s", "-retentionPeriod=1d"]);
    Some(Peer::start(command, dir, address, "/health"))
}
