//! GPUs, through the real NVML wrapper and the library that stands in for the driver.

use perfwatch_sdk::{Server, Stage};
use perfwatch_tests::{Agent, perfwatch, run, sums_exactly, wait_for};
use serde_json::Value;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::{PERFWATCH, assert_is_allowed};

/// The reason why there is no GPU utilisation.
fn reason(agent: &Agent) -> Option<Value> {
    let snapshot = agent.json("/v1/snapshot");
    let unavailable = snapshot["unavailable"].as_array()?.clone();
    unavailable.into_iter().find(|missing| missing["metric"] == "hw.gpu.utilization")
}

/// An agent whose driver plays a scenario.
fn agent_with(scenario: &str) -> (Agent, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a folder");
    let library = fake_nvml::install(dir.path(), scenario).expect("a scenario");
    let agent = Agent::spawn(PERFWATCH, &["--nvml-lib", library.to_str().expect("UTF-8")], &[]);
    (agent, dir)
}

#[test]
fn without_a_driver_the_reason_and_the_cure_are_told() {
    let agent = Agent::spawn(PERFWATCH, &["--nvml-lib", "/nowhere/libnvidia-ml.so.1"], &[]);
    let missing = wait_for("the reason", || reason(&agent));
    assert!(missing["reason"].as_str().expect("text").contains("/nowhere/libnvidia-ml.so.1"), "{missing:#}");
    assert!(!missing["cure"].as_str().expect("text").is_empty(), "{missing:#}");
    let mut command = perfwatch(PERFWATCH, agent.dir());
    command.arg("doctor");
    let text = String::from_utf8(run(command, Duration::from_secs(30)).stdout).expect("UTF-8");
    assert!(text.contains("hw.gpu.utilization") && text.contains("to get it:"), "{text}");
}

#[test]
fn a_driver_that_was_upgraded_under_the_library_is_told_as_that() {
    let (agent, _dir) = agent_with(r#"{ "init": 18 }"#);
    let missing = wait_for("the reason", || reason(&agent));
    assert!(missing["reason"].as_str().expect("text").contains("version"), "{missing:#}");
}

#[test]
fn a_gpu_shows_what_its_driver_says() {
    let (agent, _dir) = agent_with(include_str!("../fixtures/one-gpu.json"));
    let gpu = wait_for("the GPU", || {
        let snapshot = agent.json("/v1/snapshot");
        let devices = snapshot["devices"].as_array()?.clone();
        devices.into_iter().find(|device| device["kind"] == "gpu" && device["gpu"]["utilization"].is_number())
    });
    assert_eq!(gpu["id"], "gpu:GPU-11111111-2222-3333-4444-555555555555");
    assert_eq!(gpu["gpu"]["utilization"], 0.42, "{gpu:#}");
    // Of the energy since the last tick, which is counted in whole millijoules.
    assert!(gpu["gpu"]["power_watts"].as_f64().is_some_and(|watts| (watts - 350.0).abs() < 10.0), "{gpu:#}");
    assert_eq!(gpu["gpu"]["memory_limit_bytes"], 85_899_345_920_u64, "{gpu:#}");
}

#[test]
fn the_gpus_view_comes_as_text_too_and_says_what_each_unit_did() {
    let (agent, _dir) = agent_with(include_str!("../fixtures/one-gpu.json"));
    let mut command = perfwatch(PERFWATCH, agent.dir());
    command.args(["top", "--once", "--view", "gpus"]);
    let text = String::from_utf8(run(command, Duration::from_mins(1)).stdout).expect("UTF-8");
    for part in ["0 H100", "tensor", "PCIe", "held down", "40/80"] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
}

#[test]
fn a_server_is_joined_to_its_process_its_group_and_its_gpus() {
    const GPU: &str = "gpu:GPU-11111111-2222-3333-4444-555555555555";
    // What the server started holds memory on the GPU, as the engine of a server of many processes does.
    let mut engine = Command::new("sleep").arg("600").spawn().expect("sleep starts");
    let scenario =
        include_str!("../fixtures/one-gpu.json").replace("\"pid\": 1,", &format!("\"pid\": {},", engine.id()));
    let (agent, _dir) = agent_with(&scenario);
    let socket = agent.dir().join("probe.sock");
    let _server = Server::builder("engine").socket(&socket).start();
    // Another one says which GPU it was given.
    let data = tempfile::tempdir().expect("a folder");
    let mut command = perfwatch(PERFWATCH, agent.dir());
    command.arg("model-server").arg("--data").arg(data.path()).env("PERFWATCH_SOCKET", &socket);
    command.env("CUDA_VISIBLE_DEVICES", "GPU-11111111").stdin(Stdio::piped()).stdout(Stdio::null());
    let mut given = command.spawn().expect("the binary starts");
    writeln!(given.stdin.as_mut().expect("piped"), "start").expect("the server reads");
    let server = |name: &str| {
        let snapshot = agent.json("/v1/snapshot");
        snapshot["servers"].as_array()?.iter().find(|server| server["name"] == name).cloned()
    };
    let joined = |name: &str| {
        wait_for("the server on its GPU", || server(name).filter(|server| server["place"]["gpus"][0] == GPU))
    };
    let seen = joined("engine");
    assert_eq!(seen["pids"], serde_json::json!([std::process::id()]), "{seen:#}");
    let own = std::fs::read_to_string("/proc/self/cgroup").expect("procfs");
    let group = seen["place"]["cgroup"].as_str().expect("a path");
    assert!(own.lines().any(|line| line.ends_with(&format!(":{group}"))), "{group} in {own}");
    let snapshot = agent.json("/v1/snapshot");
    assert_is_allowed(&snapshot);
    assert_eq!(snapshot["devices"][0]["gpu"]["processes"][0]["server"], seen["id"], "{snapshot:#}");
    assert_eq!(joined("demo-mlp")["pids"], serde_json::json!([given.id()]));
    for child in [&mut engine, &mut given] {
        child.kill().expect("our child");
        child.wait().expect("our child");
    }
    wait_for("the one that was killed to be silent", || server("demo-mlp").filter(|server| server["live"] == false));
}

#[test]
fn idle_time_of_a_gpu_is_what_its_server_was_doing_in_that_tenth_of_a_second() {
    let scenario =
        include_str!("../fixtures/one-gpu.json").replace("\"pid\": 1,", &format!("\"pid\": {},", std::process::id()));
    let (agent, _dir) = agent_with(&scenario);
    let server = Server::builder("tokeniser").socket(agent.dir().join("probe.sock")).start();
    let ended = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Three tenths of each second in the model, three before it, and four without a request. The GPU is busy for 42 % of all
        // of them, so over a second as a whole it would seem never to wait inside the model.
        scope.spawn(|| {
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                let mut request = server.request();
                request.enter(Stage::Preprocess);
                std::thread::sleep(Duration::from_millis(300));
                request.enter(Stage::Compute);
                std::thread::sleep(Duration::from_millis(300));
                request.finish();
                std::thread::sleep(Duration::from_millis(400));
            }
        });
        let shares = || {
            let snapshot = agent.json("/v1/snapshot");
            let gpu = snapshot["devices"].as_array()?.iter().find(|device| device["kind"] == "gpu")?.clone();
            let whole = gpu["ledger"]["interval_ns"].as_f64().filter(|ns| *ns > 8e9)?;
            let entries = gpu["ledger"]["entries"].as_array()?.clone();
            let of = |cause: &str| {
                let entry = entries.iter().find(|entry| entry["cause"] == cause);
                entry.map_or(0.0, |entry| entry["ns"].as_f64().expect("a number")) / whole
            };
            assert!(sums_exactly(&gpu["ledger"]), "{gpu:#}");
            Some(["host_compute", "starved.preprocess", "no_demand", "idle_unknown"].map(of))
        };
        // The first seconds are those of a GPU whose server is not known yet.
        let close = |shares: &[f64; 4]| {
            shares.iter().zip([0.174, 0.174, 0.232, 0.0]).all(|(share, expected)| (share - expected).abs() < 0.05)
        };
        let settled = wait_for("the split of idle time", || shares().filter(close));
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(close(&settled), "{settled:?}");
    });
}

/// The findings about GPUs, once there are any, as id, severity and entity.
fn findings(agent: &Agent) -> Option<Vec<(String, String, String)>> {
    let body = agent.json("/v1/findings");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let found = body.as_array()?.iter().map(|one| (text(&one["id"]), text(&one["severity"]), text(&one["entity"])));
    let gpus: Vec<_> = found.filter(|(id, ..)| id.starts_with("gpu-")).collect();
    (!gpus.is_empty()).then_some(gpus)
}

/// A device that works at its ease, with what a test changes about it.
fn device(uuid: &str, more: &str) -> String {
    format!(
        r#"{{"uuid": "{uuid}", "name": "NVIDIA H100 80GB HBM3", "utilization": {{"gpu": 90, "memory": 30}},
            "memory": {{"total": 85899345920, "used": 42949672960}}, "power_limit_mw": 700000,
            "clocks_mhz": {{"sm": 1980, "memory": 2619}}, "max_clocks_mhz": {{"sm": 1980, "memory": 2619}},
            "gpm": {{"1": 90, "2": 80, "3": 30, "4": 0, "5": 10, "10": 60, "11": 0, "12": 5, "13": 5}}{more}}}"#
    )
}

/// A field of a device whose value grows by so much a second.
fn growing(id: u32, per_second: u64) -> String {
    format!(r#"{{"id": {id}, "type": "unsigned_long_long", "value": {{"start": 0, "per_second": {per_second}}}}}"#)
}

#[test]
fn each_fault_of_a_gpu_is_found_on_the_gpu_that_has_it_and_none_on_one_that_is_well() {
    let fields = |fields: &[String]| format!(r#", "fields": [{}]"#, fields.join(", "));
    let well = [growing(74, 0), growing(269, 0), growing(270, 0), growing(271, 0), growing(4, 0)];
    let hot = [growing(74, 0), growing(269, 0), growing(270, 400_000_000), growing(271, 0)];
    let braked = [growing(74, 0), growing(269, 0), growing(270, 0), growing(271, 100_000_000)];
    let capped = [growing(74, 900_000_000), growing(269, 0), growing(270, 0), growing(271, 0)];
    let also =
        |id: u32| [well.to_vec(), vec![format!(r#"{{"id": {id}, "type": "unsigned_int", "value": 1}}"#)]].concat();
    let filling = r#", "fields": []"#.to_owned();
    let lost = r#", "errors": {"nvmlDeviceGetUtilizationRates": 15, "nvmlDeviceGetPowerUsage": 15, "nvmlDeviceGetFieldValues": 15,
        "nvmlGpmSampleGet": 15}"#;
    let devices = [
        device("GPU-well", &fields(&well)),
        device("GPU-hot", &fields(&hot))
            .replace(r#""sm": 1980, "memory": 2619}, "max"#, r#""sm": 900, "memory": 2619}, "max"#),
        device("GPU-braked", &fields(&braked)),
        device("GPU-capped", &fields(&capped)),
        device("GPU-row", &fields(&also(144))),
        device("GPU-page", &fields(&also(31))),
        device("GPU-filling", &filling)
            .replace(r#""used": 42949672960"#, r#""used": {"ramp": [82033875354, 85899345920], "seconds": 400}"#),
        device("GPU-full", "").replace(r#""used": 42949672960"#, r#""used": 85000000000"#),
        device("GPU-lost", lost),
        device("GPU-xid", r#", "xids": [[0, 13], [8, 119]]"#),
        device("GPU-program", r#", "xids": [[8, 31], [9, 45]]"#),
        // As of a driver that counts no time for heat, and tells at each moment alone that it holds the clocks down.
        device("GPU-warm", r#", "throttle_reasons": 72, "fields": []"#),
        // It takes its memory while the agent looks on, and stands still.
        device("GPU-preallocated", "")
            .replace(r#""used": 42949672960"#, r#""used": {"ramp": [10000000000, 85000000000], "seconds": 8}"#),
    ];
    let (agent, _dir) = agent_with(&format!(r#"{{"devices": [{}]}}"#, devices.join(", ")));
    let found = wait_for("all findings", || findings(&agent).filter(|found| found.len() >= 9));
    let mut found: Vec<_> = found.iter().map(|(id, severity, entity)| format!("{entity} {id} {severity}")).collect();
    found.sort();
    assert_eq!(
        found,
        [
            "gpu:GPU-braked gpu-throttled warning",
            "gpu:GPU-capped gpu-throttled note",
            "gpu:GPU-filling gpu-memory-nearly-full warning",
            "gpu:GPU-hot gpu-throttled critical",
            "gpu:GPU-lost gpu-unhealthy critical",
            "gpu:GPU-page gpu-unhealthy warning",
            "gpu:GPU-row gpu-unhealthy warning",
            "gpu:GPU-warm gpu-throttled critical",
            "gpu:GPU-xid gpu-unhealthy critical",
        ]
    );
    let snapshot = agent.json("/v1/snapshot");
    let ledger = |uuid: &str| {
        let devices = snapshot["devices"].as_array().expect("devices");
        devices.iter().find(|device| device["id"] == format!("gpu:{uuid}")).expect("shown")["ledger"].clone()
    };
    for uuid in ["GPU-well", "GPU-hot", "GPU-lost"] {
        assert!(sums_exactly(&ledger(uuid)), "{}", ledger(uuid));
    }
    let ns = |uuid: &str, cause: &str| {
        let ledger = ledger(uuid);
        let entries = ledger["entries"].as_array().expect("entries").clone();
        let entry = entries.iter().find(|entry| entry["cause"] == cause).map(|entry| entry["ns"].as_f64().expect("ns"));
        entry.unwrap_or(0.0) / ledger["interval_ns"].as_f64().expect("ns")
    };
    // 0.60 of the bandwidth on paper is 0.75 of what can be had.
    assert!((ns("GPU-well", "memory_bandwidth") - 0.75).abs() < 0.1, "{}", ledger("GPU-well"));
    // What moves data as fast as the memory can loses nothing to the clocks of the SMs.
    assert!(ns("GPU-well", "throttled") == 0.0 && ns("GPU-hot", "throttled") > 0.02, "{}", ledger("GPU-hot"));
    assert!(ns("GPU-lost", "unknown") > 0.99, "{}", ledger("GPU-lost"));
}

#[test]
fn a_gpu_whose_readings_fail_is_in_doubt_and_one_that_never_has_them_is_not() {
    let mig = r#", "mig": {"instances": [{"uuid": "MIG-c", "name": "NVIDIA H100 80GB HBM3 MIG 3g.40gb",
        "memory": {"total": 42949672960, "used": 1073741824}, "attributes": {"slices": 3, "compute_slices": 3, "memory_mb": 40960}}]}"#;
    // Of neither power nor temperature are told.
    let well = [device("GPU-a", ""), device("GPU-b", mig)];
    let fails = device("GPU-d", r#", "errors": {"nvmlDeviceGetPowerUsage": "TIMEOUT"}"#);
    for (devices, doubt) in [(well.to_vec(), None), ([&well[..], &[fails]].concat(), Some("GPU 2: readings fail:"))] {
        let (agent, _dir) = agent_with(&format!(r#"{{"devices": [{}]}}"#, devices.join(", ")));
        wait_for("readings of all", || {
            let snapshot = agent.json("/v1/snapshot");
            let gpus: Vec<_> =
                snapshot["devices"].as_array()?.iter().filter(|device| device["kind"] == "gpu").collect();
            // An instance is a device too.
            let are_read = gpus.iter().all(|gpu| gpu["gpu"]["memory_used_bytes"].is_number());
            (are_read && gpus.len() == devices.len() + 1).then_some(())
        });
        let mut command = perfwatch(PERFWATCH, agent.dir());
        command.args(["top", "--once"]);
        let text = String::from_utf8(run(command, Duration::from_mins(1)).stdout).expect("UTF-8");
        assert_eq!(text.contains("Nothing is wrong"), doubt.is_none(), "{text}");
        assert!(
            text.contains(doubt.unwrap_or("Nothing")) && text.contains("readings fail") == doubt.is_some(),
            "{text}"
        );
        if doubt.is_some() {
            let mut command = perfwatch(PERFWATCH, agent.dir());
            command.arg("why");
            let why = run(command, Duration::from_mins(1));
            let card = String::from_utf8(why.stdout).expect("UTF-8");
            assert!(why.status.code() == Some(3) && card.contains("readings fail"), "{card}");
        }
    }
}

#[test]
fn an_uncorrected_error_is_found_when_its_total_is_read_and_those_from_before_the_start_are_not_told() {
    let total = r#"{"id": 4, "type": "unsigned_long_long", "value": {"at": [[0, 2], [8, 3]]}}"#;
    let (agent, _dir) = agent_with(&format!(
        r#"{{"devices": [{}, {}]}}"#,
        device("GPU-ecc", &format!(r#", "fields": [{total}]"#)),
        device("GPU-before", r#", "fields": [{"id": 4, "type": "unsigned_long_long", "value": 2}]"#),
    ));
    // The driver is asked for it every half minute.
    let found = wait_for("the error", || findings(&agent));
    let expected = ["gpu-unhealthy", "critical", "gpu:GPU-ecc"].map(str::to_owned);
    assert_eq!(found, [expected.into()]);
    let finding = agent.json("/v1/findings")[0].clone();
    let evidence = &finding["evidence"][0];
    assert_eq!(evidence["metric"], "gpu.uncorrected_errors", "{finding:#}");
    assert_eq!((&evidence["value"], &evidence["window_s"]), (&1.0.into(), &900.0.into()), "{finding:#}");
}
