//! Snapshots as a real agent makes them, for tests and benchmarks. The numbers of the overload are of the kind that the
//! demo server shows; those with GPUs have the form that NVML gives.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "tests and benchmarks of this crate include it by path and need parts of it"
)]

use perfwatch_model::snapshot::{
    AgentView, BatchView, CacheView, CauseEntry, CpuView, DeviceView, ErrorKindView, ExportView, GpuProcessView,
    GpuView, HostView, LatencyView, LedgerView, ProbeView, SCHEMA_VERSION, ServerView, SlowRequestView, SlowStageView,
    StageEntry, StageView, TokensView, Unavailable,
};
use perfwatch_model::{Cost, Evidence, Finding, Quality, Remedy, Severity, Snapshot};

const GIB: u64 = 1 << 30;

fn device_ledger(interval_ns: u64, entries: &[(&str, u64, Quality)]) -> LedgerView<CauseEntry> {
    let entries: Vec<CauseEntry> = entries
        .iter()
        .map(|(cause, ns, quality)| CauseEntry { cause: (*cause).to_owned(), ns: *ns, quality: *quality })
        .collect();
    assert_eq!(entries.iter().map(|entry| entry.ns).sum::<u64>(), interval_ns, "a ledger sums to its interval");
    LedgerView { interval_ns, entries }
}

fn request_ledger(interval_ns: u64, entries: &[(&str, u64)]) -> LedgerView<StageEntry> {
    let entries: Vec<StageEntry> = entries
        .iter()
        .map(|(stage, ns)| StageEntry { stage: (*stage).to_owned(), ns: *ns, quality: Quality::Sdk })
        .collect();
    assert_eq!(entries.iter().map(|entry| entry.ns).sum::<u64>(), interval_ns, "a ledger sums to its interval");
    LedgerView { interval_ns, entries }
}

fn latency(count: u64, p50_s: f64, p90_s: f64, p99_s: f64, max_s: f64) -> LatencyView {
    LatencyView {
        count,
        sum_s: count as f64 * p50_s * 1.1,
        p50_s,
        p90_s,
        p99_s,
        p999_s: Some(p99_s.midpoint(max_s)),
        max_s,
    }
}

/// So many requests, their durations log-normal around a median; half octaves, as the agent sends them.
fn around(median_s: f64, octaves: f64, requests: f64) -> Vec<(f64, u64)> {
    let middle = median_s.log2();
    let density = |step: i32| (-0.5 * ((f64::from(step) / 2.0 - 0.25 - middle) / octaves).powi(2)).exp();
    let all: f64 = (-34..=24).map(density).sum();
    let counts = (-34..=24).map(|step| (f64::from(step), (requests * density(step) / all).round() as u64));
    counts.filter(|(_, count)| *count > 0).map(|(step, count)| ((step / 2.0).exp2(), count)).collect()
}

/// Two distributions together.
fn both(one: Vec<(f64, u64)>, other: Vec<(f64, u64)>) -> Vec<(f64, u64)> {
    let mut sum: Vec<(f64, u64)> = Vec::new();
    let mut all = [one, other].concat();
    all.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    for (bound, count) in all {
        match sum.last_mut() {
            Some((last, known)) if (*last - bound).abs() < f64::EPSILON * bound => *known += count,
            _ => sum.push((bound, count)),
        }
    }
    sum
}

fn slow(stages: &[(&str, f64)], trace: Option<&str>) -> SlowRequestView {
    SlowRequestView {
        duration_s: stages.iter().map(|(_, s)| s).sum(),
        stages: stages.iter().map(|(stage, s)| SlowStageView { stage: (*stage).to_owned(), s: *s }).collect(),
        trace_id: trace.map(str::to_owned),
        error: None,
    }
}

fn stage(name: &str, p50_s: f64, p99_s: f64) -> StageView {
    StageView { stage: name.to_owned(), latency: latency(3060, p50_s, (p50_s * 1.8).min(p99_s), p99_s, p99_s * 1.4) }
}

fn no_gpu() -> Unavailable {
    Unavailable {
        metric: "hw.gpu.utilization".to_owned(),
        entity: "host:gpu-host-3".to_owned(),
        reason: "NVML: libnvidia-ml.so.1 was not found".to_owned(),
        cure: "install the NVIDIA driver, or run where it is visible".to_owned(),
    }
}

/// A machine and an agent that works on it, nothing else.
pub fn no_server() -> Snapshot {
    Snapshot {
        schema_version: SCHEMA_VERSION,
        time: "2026-03-04T14:02:31Z".to_owned(),
        window_s: 10.0,
        host: HostView {
            name: "gpu-host-3".to_owned(),
            cpus: 8,
            cpu_utilization: Some(0.42),
            per_cpu_utilization: [0.98, 0.61, 0.30, 0.22, 0.41, 0.05, 0.55, 0.24].map(Some).to_vec(),
            cpu_steal: Some(0.0),
            memory_used_bytes: Some(98 * GIB / 10),
            memory_total_bytes: Some(16 * GIB),
            cpu_pressure: Some(0.12),
            memory_pressure: Some(0.0),
            io_pressure: Some(0.013),
        },
        devices: Vec::new(),
        servers: Vec::new(),
        findings: Vec::new(),
        undecided: Vec::new(),
        unavailable: vec![no_gpu()],
        agent: AgentView {
            version: "0.1.0".to_owned(),
            pid: 4000,
            uptime_s: 3725.0,
            interval_s: 1.0,
            cpu_cores: Some(0.004),
            rss_bytes: Some(9 << 20),
            late_s: 0.0,
            ticks_missed: 0,
            dropped: 0,
            store: "memory".to_owned(),
            probes: vec![
                ProbeView { name: "cpu".to_owned(), mean_s: 61e-6, max_s: 140e-6, every_s: 1.0, stretched: false },
                ProbeView { name: "process".to_owned(), mean_s: 2.1e-3, max_s: 3e-3, every_s: 5.0, stretched: true },
            ],
            exports: Vec::new(),
        },
    }
}

/// One CPU-only server at about 60 % of what it can do.
pub fn healthy() -> Snapshot {
    let mut snapshot = no_server();
    snapshot.devices.push(DeviceView {
        id: "cpu:server:toy-mlp/4121".to_owned(),
        kind: "cpu".to_owned(),
        name: "CPUs of toy-mlp".to_owned(),
        ledger: Some(device_ledger(
            10_000_000_000,
            &[
                ("used", 7_010_000_000, Quality::Counter),
                ("run_queue_wait", 20_000_000, Quality::Inferred),
                ("no_demand", 2_470_000_000, Quality::Sdk),
                ("starved.batch_wait", 410_000_000, Quality::Sdk),
                ("starved.preprocess", 90_000_000, Quality::Sdk),
            ],
        )),
        cpu: Some(CpuView {
            capacity_cpus: Some(1.0),
            used_cpus: Some(0.70),
            hottest_thread: Some(0.64),
            throttled_periods: Some(0.0),
        }),
        gpu: None,
    });
    snapshot.servers.push(ServerView {
        id: "server:toy-mlp/4121".to_owned(),
        kind: "sdk".to_owned(),
        name: "toy-mlp".to_owned(),
        pids: vec![4121],
        pid: Some(4121),
        live: true,
        ledger: Some(request_ledger(
            27_300_000_000,
            &[
                ("queue", 410_000_000),
                ("preprocess", 1_020_000_000),
                ("batch_wait", 9_240_000_000),
                ("compute", 15_900_000_000),
                ("send", 610_000_000),
                ("other", 120_000_000),
            ],
        )),
        latency: Some(latency(3060, 0.0083, 0.0124, 0.0218, 0.0341)),
        latency_buckets: Some(around(0.0083, 0.5, 306.0)),
        slowest: vec![
            slow(
                &[("preprocess", 0.0009), ("batch_wait", 0.0252), ("compute", 0.0076), ("send", 0.0004)],
                Some("4bf92f3577b34da6a3ce929d0e0e4736"),
            ),
            slow(&[("queue", 0.0121), ("preprocess", 0.0004), ("batch_wait", 0.0098), ("compute", 0.0079)], None),
            slow(&[("preprocess", 0.0171), ("batch_wait", 0.0011), ("compute", 0.0072), ("send", 0.0003)], None),
        ],
        stages: vec![
            stage("preprocess", 0.000_31, 0.000_92),
            stage("batch_wait", 0.0028, 0.0121),
            stage("compute", 0.0049, 0.0078),
            stage("send", 0.000_18, 0.000_64),
        ],
        requests_per_s: Some(306.0),
        errors_per_s: Some(0.0),
        errors_by_kind: Vec::new(),
        cancelled_per_s: Some(0.0),
        arrivals_per_s: Some(306.4),
        in_flight: Some(3),
        batch: Some(BatchView {
            per_s: 91.0,
            mean_size: 3.4,
            max_size: Some(8),
            ready2: 0.81,
            sizes: Some(SIZES.to_vec()),
        }),
        tokens: None,
        time_to_first_token: None,
        inter_token: None,
        cache: None,
        place: None,
        group: None,
    });
    snapshot
}

const SIZES: [(u64, u64); 8] = [(1, 121), (2, 214), (3, 238), (4, 147), (5, 94), (6, 52), (7, 27), (8, 17)];

fn evidence(metric: &'static str, value: f64, threshold: Option<f64>, unit: &'static str) -> Evidence {
    let (window_s, quality) = (10.0, Quality::Sdk);
    Evidence { metric: metric.into(), value, threshold, unit: unit.into(), window_s, quality }
}

/// What an overloaded server's finding looks like.
pub fn overload_finding() -> Finding {
    Finding {
        id: "overload".into(),
        severity: Severity::Critical,
        entity: "server:toy-mlp/4121".to_owned(),
        summary: "Demand exceeds what the server can do".into(),
        detail:
            "Requests arrive at 663/s and leave at 511/s; the CPU is 100 % used, batches are full (8.0 of 8), and 94 % \
                 of request time is spent waiting for a batch."
                .to_owned(),
        evidence: vec![
            evidence("backlog growth / arrivals", 0.23, Some(0.05), "1"),
            Evidence { quality: Quality::Counter, ..evidence("used share of capacity", 0.998, Some(0.95), "1") },
            evidence("perfwatch.server.batch.size", 8.0, Some(7.6), "{request}"),
            evidence("perfwatch.server.requests.in_flight", 1412.0, None, "{request}"),
        ],
        cost: Some(Cost { capacity_per_s: 152.0, unit: "{request}".into(), p99_s: Some(2.43) }),
        remedies: vec![
            Remedy {
                action: "Add a second replica, or CPUs to this one.".into(),
                why: "Work is the scarce thing here: batches are full and every CPU it may use is busy.".into(),
            },
            Remedy {
                action: "Refuse early: bound the queue and answer 429 beyond it.".into(),
                why: "Requests that wait longer than their caller does are computed for nobody.".into(),
            },
        ],
    }
}

/// The same server with more demand than it can serve.
pub fn overload() -> Snapshot {
    let mut snapshot = healthy();
    snapshot.devices[0].ledger = Some(device_ledger(
        10_000_000_000,
        &[("used", 9_980_000_000, Quality::Counter), ("starved.batch_wait", 20_000_000, Quality::Sdk)],
    ));
    snapshot.devices[0].cpu = Some(CpuView {
        capacity_cpus: Some(1.0),
        used_cpus: Some(0.998),
        hottest_thread: Some(0.97),
        throttled_periods: Some(0.0),
    });
    let server = &mut snapshot.servers[0];
    server.ledger = Some(request_ledger(
        7_211_000_000_000,
        &[
            ("queue", 201_000_000_000),
            ("preprocess", 11_000_000_000),
            ("batch_wait", 6_781_000_000_000),
            ("compute", 214_000_000_000),
            ("send", 4_000_000_000),
        ],
    ));
    server.latency = Some(latency(5110, 1.31, 2.12, 2.45, 2.47));
    server.stages =
        vec![stage("batch_wait", 1.24, 2.41), stage("compute", 0.0151, 0.0173), stage("queue", 0.021, 0.09)];
    (server.requests_per_s, server.arrivals_per_s) = (Some(511.0), Some(663.0));
    server.in_flight = Some(1412);
    server.batch =
        Some(BatchView { per_s: 63.9, mean_size: 8.0, max_size: Some(8), ready2: 1.0, sizes: Some(vec![(8, 639)]) });
    server.latency_buckets = Some(around(1.31, 0.28, 511.0));
    server.slowest = vec![
        slow(&[("queue", 0.094), ("preprocess", 0.002), ("batch_wait", 2.358), ("compute", 0.016)], None),
        slow(&[("queue", 0.031), ("preprocess", 0.002), ("batch_wait", 2.419), ("compute", 0.015)], None),
        slow(&[("batch_wait", 2.44), ("compute", 0.017)], None),
    ];
    snapshot.findings.push(overload_finding());
    snapshot.undecided.push("data-loading-bound".to_owned());
    snapshot
}

/// Two findings, the worse first, and an agent that has trouble of its own.
pub fn two_findings() -> Snapshot {
    let mut snapshot = healthy();
    snapshot.devices[0].ledger = Some(device_ledger(
        5_000_000_000,
        &[
            ("used", 1_490_000_000, Quality::Counter),
            ("quota", 2_510_000_000, Quality::Counter),
            ("run_queue_wait", 700_000_000, Quality::Inferred),
            ("starved.batch_wait", 250_000_000, Quality::Sdk),
            ("unknown", 50_000_000, Quality::Unknown),
        ],
    ));
    snapshot.findings = vec![
        Finding {
            id: "cpu-quota-throttled".into(),
            severity: Severity::Critical,
            entity: "server:toy-mlp/4121".to_owned(),
            summary: "The container's CPU limit is stopping the server".into(),
            detail: "Its limit is 0.5 CPUs; it was stopped in 81 of 83 periods, for 50 % of its time, while the machine was \
                     58 % idle."
                .to_owned(),
            evidence: vec![
                Evidence {
                    quality: Quality::Counter,
                    ..evidence("perfwatch.server.cpu.throttled.periods", 0.976, Some(0.25), "1")
                },
                Evidence {
                    quality: Quality::Counter,
                    ..evidence("perfwatch.server.cpu.throttled.time", 0.502, Some(0.05), "1")
                },
            ],
            cost: None,
            remedies: vec![Remedy {
                action: "Raise the limit from 0.5 to 2 CPUs (Kubernetes: resources.limits.cpu), or remove it.".into(),
                why: "The machine has the CPUs; only the limit withholds them.".into(),
            }],
        },
        Finding {
            id: "cpu-contention".into(),
            severity: Severity::Warning,
            entity: "server:toy-mlp/4121".to_owned(),
            summary: "Other processes take the CPUs the server may use".into(),
            detail: "For 14 % of its capacity the server was ready to run while others ran on its CPUs.".to_owned(),
            evidence: vec![evidence("run-queue wait share", 0.14, Some(0.10), "1")],
            cost: None,
            remedies: vec![Remedy {
                action: "Give the server CPUs of its own (cpuset, nice, another node).".into(),
                why: "It loses time to neighbours, not to its own work.".into(),
            }],
        },
    ];
    snapshot.agent.late_s = 0.42;
    snapshot.agent.dropped = 12;
    snapshot
}

fn gpu(index: u32, utilization: Option<f64>, ledger: LedgerView<CauseEntry>) -> DeviceView {
    DeviceView {
        id: format!("gpu:GPU-{index}0c0ffee"),
        kind: "gpu".to_owned(),
        name: "NVIDIA H100 80GB HBM3".to_owned(),
        ledger: Some(ledger),
        cpu: None,
        gpu: Some(GpuView {
            utilization,
            memory_used_bytes: Some(62 * GIB),
            memory_limit_bytes: Some(80 * GIB),
            power_watts: Some(412.0 - f64::from(index) * 101.0),
            power_limit_watts: Some(700.0),
            temperature_celsius: Some(64.0),
            sm_clock_hertz: Some(1.755e9),
            throttle_reasons: if index == 1 { vec!["sw power cap".to_owned()] } else { Vec::new() },
            processes: vec![GpuProcessView {
                pid: 4121,
                name: Some("python3".to_owned()),
                memory_bytes: Some(61 * GIB),
            }],
        }),
    }
}

/// A server on two GPUs, seen through a driver without GPM.
pub fn two_gpus() -> Snapshot {
    let mut snapshot = healthy();
    snapshot.unavailable.clear();
    snapshot.devices = vec![
        gpu(
            0,
            Some(0.42),
            device_ledger(
                10_000_000_000,
                &[
                    ("busy_unknown", 4_210_000_000, Quality::Unknown),
                    ("starved.preprocess", 3_100_000_000, Quality::Sdk),
                    ("no_demand", 2_690_000_000, Quality::Sdk),
                ],
            ),
        ),
        gpu(
            1,
            Some(0.91),
            device_ledger(
                10_000_000_000,
                &[
                    ("compute", 6_000_000_000, Quality::Counter),
                    ("memory_bandwidth", 1_500_000_000, Quality::Modelled),
                    ("sm_stalled", 1_100_000_000, Quality::Inferred),
                    ("throttled", 500_000_000, Quality::Counter),
                    ("starved.preprocess", 900_000_000, Quality::Sdk),
                ],
            ),
        ),
    ];
    "vllm".clone_into(&mut snapshot.servers[0].kind);
    "chat-70b".clone_into(&mut snapshot.servers[0].name);
    snapshot.servers[0].batch = None;
    snapshot
}

/// A GPU whose driver refuses most answers.
pub fn gpu_refuses() -> Snapshot {
    let mut snapshot = healthy();
    let mut device = gpu(0, None, device_ledger(0, &[]));
    device.ledger = None;
    device.gpu =
        Some(GpuView { memory_limit_bytes: Some(80 * GIB), temperature_celsius: Some(61.0), ..GpuView::default() });
    snapshot.unavailable = vec![
        Unavailable {
            metric: "hw.gpu.utilization".to_owned(),
            entity: device.id.clone(),
            reason: "NVML: no permission".to_owned(),
            cure: "run the agent as a user who may open /dev/nvidia0".to_owned(),
        },
        Unavailable {
            metric: "perfwatch.pressure.time".to_owned(),
            entity: "host:gpu-host-3".to_owned(),
            reason: "/proc/pressure does not exist: the kernel was built without PSI, or booted with psi=0".to_owned(),
            cure: "boot with psi=1".to_owned(),
        },
        Unavailable {
            metric: "perfwatch.cgroup.memory.events".to_owned(),
            entity: "cgroup:/kubepods/burstable/pod3f6c".to_owned(),
            reason: "control groups v1 keep no such file".to_owned(),
            cure: String::new(),
        },
    ];
    (snapshot.host.cpu_pressure, snapshot.host.memory_pressure, snapshot.host.io_pressure) = (None, None, None);
    snapshot.devices.push(device);
    snapshot
}

/// A server with a cache: hits take milliseconds, misses are computed on a GPU. Its agent was away for a moment.
pub fn bimodal() -> Snapshot {
    let mut snapshot = two_gpus();
    let server = &mut snapshot.servers[0];
    CACHED.clone_into(&mut server.name);
    "sdk".clone_into(&mut server.kind);
    server.id = format!("server:{CACHED}/4121");
    server.latency = Some(latency(4120, 0.0034, 0.171, 0.312, 0.690));
    server.latency_buckets = Some(both(around(0.0031, 0.35, 310.0), around(0.162, 0.4, 102.0)));
    (server.requests_per_s, server.arrivals_per_s, server.errors_per_s) = (Some(411.6), Some(412.0), Some(0.4));
    server.errors_by_kind = [("timeout", 0.3), ("http_500", 0.1)]
        .map(|(kind, per_s)| ErrorKindView { kind: kind.to_owned(), per_s })
        .to_vec();
    server.tokens = Some(TokensView { input_per_s: 6_310.0, output_per_s: 1_240.0 });
    server.time_to_first_token = Some(latency(412, 0.041, 0.118, 0.188, 0.310));
    server.inter_token = Some(latency(11_900, 0.0093, 0.015, 0.024, 0.081));
    server.cache = Some(CacheView { lookups_per_s: 412.0, hit_ratio: Some(0.753) });
    server.in_flight = Some(19);
    server.ledger = Some(request_ledger(
        182_000_000_000,
        &[
            ("queue", 9_100_000_000),
            ("preprocess", 31_400_000_000),
            ("cache_lookup", 6_200_000_000),
            ("batch_wait", 41_300_000_000),
            ("transfer", 2_900_000_000),
            ("compute", 86_700_000_000),
            ("postprocess", 4_100_000_000),
            ("send", 240_000_000),
            ("other", 60_000_000),
        ],
    ));
    server.stages = vec![
        stage("queue", 0.0006, 0.021),
        stage("preprocess", 0.0021, 0.131),
        stage("batch_wait", 0.031, 0.12),
        stage("transfer", 0.0026, 0.0031),
        stage("compute", 0.082, 0.091),
        stage("postprocess", 0.0009, 0.0041),
        stage("send", 0.000_05, 0.0007),
        stage("cache_lookup", 0.0014, 0.0038),
    ];
    server.batch = Some(BatchView {
        per_s: 9.1,
        mean_size: 11.2,
        max_size: Some(32),
        ready2: 0.97,
        sizes: Some(vec![(4, 3), (7, 9), (8, 14), (9, 16), (11, 21), (14, 12), (16, 9), (32, 7)]),
    });
    server.slowest = vec![
        SlowRequestView {
            error: Some("timeout".to_owned()),
            ..slow(
                &[("queue", 0.54), ("preprocess", 0.131), ("compute", 0.019)],
                Some("a41f2f3577b34da6a3ce929d0e0e4736"),
            )
        },
        slow(
            &[("preprocess", 0.219), ("batch_wait", 0.118), ("transfer", 0.003), ("compute", 0.086), ("send", 0.001)],
            Some("0c1d92f3577b34da6a3ce929d0e0e473"),
        ),
        slow(&[("cache_lookup", 0.004), ("batch_wait", 0.247), ("compute", 0.088), ("postprocess", 0.004)], None),
    ];
    snapshot
}

/// Its name.
const CACHED: &str = "clip-cached";

/// Nine servers, the third of them selected by nobody, the last silent, one of them only watched from outside.
pub fn nine_servers() -> Snapshot {
    let mut snapshot = two_findings();
    let own = snapshot.servers.remove(0);
    for (index, (name, requests, p99, inside, errors)) in [
        ("toy-mlp", 306.0, 0.0218, 3, 0.0),
        ("chat-8b", 9.4, 3.61, 41, 0.0),
        ("chat-70b-instruct-awq-int4", 2.1, 24.4, 63, 0.1),
        ("embed-bge", 1290.0, 0.0112, 12, 0.0),
        ("rerank", 96.0, 0.094, 7, 2.5),
        ("whisper", 0.8, 6.2, 2, 0.0),
        ("clip-api", 52.0, 0.69, 21, 0.0),
        ("tagger", 0.0, 0.0, 0, 0.0),
        ("vision", 0.0, 0.0, 0, 0.0),
    ]
    .into_iter()
    .enumerate()
    {
        let mut server = own.clone();
        name.clone_into(&mut server.name);
        server.id = format!("server:{name}/{}", 4121 + index);
        server.pids = vec![4121 + index as u32];
        server.pid = server.pids.first().copied();
        (server.requests_per_s, server.errors_per_s, server.in_flight) = (Some(requests), Some(errors), Some(inside));
        server.latency = Some(latency((requests * 10.0) as u64, p99 / 3.0, p99 / 2.0, p99, p99 * 1.3));
        server.latency_buckets = Some(around(p99 / 3.0, 0.5, requests));
        if p99 == 0.0 {
            (server.latency, server.ledger, server.latency_buckets) = (None, None, None);
            (server.requests_per_s, server.errors_per_s, server.in_flight, server.arrivals_per_s) =
                (None, None, None, None);
            (server.batch, server.stages, server.slowest) = (None, Vec::new(), Vec::new());
        }
        match name {
            "tagger" => "process".clone_into(&mut server.kind),
            "vision" => server.live = false,
            _ => {}
        }
        snapshot.servers.push(server);
    }
    snapshot.findings.push(Finding { entity: snapshot.servers[6].id.clone(), ..overload_finding() });
    snapshot.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    snapshot
}

/// Three servers, one of them silent; the overloaded one comes first.
pub fn three_servers() -> Snapshot {
    let mut snapshot = overload();
    for (name, live, requests) in [("embed-bge", true, 96.0), ("vision", false, 0.0)] {
        let mut server = healthy().servers.remove(0);
        server.id = format!("server:{name}/1");
        name.clone_into(&mut server.name);
        server.live = live;
        server.requests_per_s = live.then_some(requests);
        if !live {
            (server.latency, server.ledger, server.in_flight) = (None, None, None);
            (server.latency_buckets, server.batch, server.errors_per_s, server.arrivals_per_s) =
                (None, None, None, None);
            (server.stages, server.slowest) = (Vec::new(), Vec::new());
        }
        snapshot.servers.push(server);
    }
    snapshot
}

/// Every field of the schema filled.
pub fn everything() -> Snapshot {
    let mut snapshot = two_findings();
    snapshot.findings.push(overload_finding());
    snapshot.undecided.push("no-batching".to_owned());
    snapshot.devices.extend(two_gpus().devices);
    snapshot.unavailable = gpu_refuses().unavailable;
    let telling = bimodal().servers.remove(0);
    let server = &mut snapshot.servers[0];
    (server.slowest, server.errors_by_kind) = (telling.slowest, telling.errors_by_kind);
    (server.tokens, server.cache) = (telling.tokens, telling.cache);
    (server.time_to_first_token, server.inter_token) = (telling.time_to_first_token, telling.inter_token);
    snapshot.agent.exports.push(ExportView {
        endpoint: "http://collector:4318".to_owned(),
        state: "ok".to_owned(),
        sent: 12_000,
        dropped: 0,
    });
    snapshot
}

/// What the latency of a server was in a second before.
fn live(server: &mut ServerView, second: u32, wave: f64) {
    if server.name == "vision" && second < 105 {
        // It fell silent a quarter of a minute ago.
        server.live = true;
        server.latency = Some(latency(520, 0.046, 0.071, 0.118, 0.144));
        server.latency_buckets = Some(around(0.046, 0.5, 52.0 * wave));
        server.requests_per_s = Some(52.0 * wave);
        return;
    }
    let Some(buckets) = &mut server.latency_buckets else { return };
    let Some(latency) = &mut server.latency else { return };
    let requests = server.requests_per_s.unwrap_or(0.0);
    if server.in_flight.is_some_and(|inside| inside > 500) || latency.p50_s > 1.0 && requests > 400.0 {
        // Demand rose above what it can do: from then on each second waits longer than the one before.
        let since = f64::from(second.saturating_sub(52)) / 67.0;
        let median = 0.0085 * (1.31_f64 / 0.0085).powf(since.min(1.0).sqrt());
        *buckets = around(median, if since > 0.0 { 0.28 } else { 0.5 }, requests);
        (latency.p50_s, latency.p90_s, latency.p99_s) = (median, median * 1.5, median * 1.87);
        latency.p999_s = Some(median * 1.88);
        server.in_flight = server.in_flight.map(|inside| ((inside as f64 * since) as u64).max(4));
        return;
    }
    *buckets = match server.name.as_str() {
        // Now and then the cache is emptied: for some seconds there are misses only, and they queue.
        CACHED if (84..90).contains(&second) => around(0.17 * 1.35_f64.powi(second as i32 - 83), 0.45, 220.0),
        CACHED => both(around(0.0031, 0.35, 310.0 * wave), around(0.15 + wave / 60.0, 0.4, 102.0 * wave)),
        _ => around(latency.p50_s * (0.7 + wave * 0.3), 0.5, requests),
    };
    if server.name == CACHED && (100..103).contains(&second) {
        server.latency_buckets = None;
    }
}

/// Two minutes that lead to this snapshot, one a second, with some life in the numbers.
pub fn minutes_before(last: &Snapshot) -> Vec<Snapshot> {
    let mut out = Vec::with_capacity(120);
    for second in 0..120_u32 {
        let mut snapshot = last.clone();
        let at = 13 * 3600 + 60 * 60 + 2 * 60 + 31 - 119 + i64::from(second);
        snapshot.time = format!("2026-03-04T{:02}:{:02}:{:02}Z", at / 3600, at / 60 % 60, at % 60);
        let wave = 0.75 + 0.25 * (f64::from(second) / 7.0).sin() * (f64::from(second) / 3.0).cos();
        if second < 119 {
            snapshot.host.cpu_utilization = last.host.cpu_utilization.map(|value| value * wave);
            for server in &mut snapshot.servers {
                server.requests_per_s = server.requests_per_s.map(|value| value * wave);
                server.in_flight = server.in_flight.map(|value| (value as f64 * wave) as u64);
                if let Some(latency) = &mut server.latency {
                    latency.p99_s *= wave;
                    latency.p50_s *= 0.9 + wave / 10.0;
                }
                live(server, second, wave);
            }
            for device in &mut snapshot.devices {
                if let Some(gpu) = &mut device.gpu {
                    gpu.utilization = gpu.utilization.map(|value| value * wave);
                }
            }
        }
        out.push(snapshot);
    }
    out
}
