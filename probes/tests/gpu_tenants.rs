//! Who uses a GPU, and what each has of it.

mod rig;

use perfwatch_model::Reading;
use perfwatch_probes::gpu::{GpuProcess, Sharing};

use rig::{Bench, install, temp};

fn rows(bench: &Bench) -> &[GpuProcess] {
    bench.probe.devices()[0].processes.as_value().expect("the processes are known")
}

fn shares(bench: &Bench) -> Vec<Option<f64>> {
    rows(bench).iter().map(|row| row.sm.as_value().copied()).collect()
}

#[test]
fn a_process_has_its_share_of_the_sms_time_since_the_last_look() {
    let dir = temp();
    // Times are the driver's; a constant one is old at the second look, when its process did nothing.
    let scenario = r#"{"devices": [{"uuid": "GPU-a",
        "processes": {"compute": [{"pid": 1}, {"pid": 2}, {"pid": 3}, {"pid": 4}]},
        "process_utilization": [
            {"pid": 1, "timestamp_us": {"start": 5000000, "per_second": 1000000}, "sm": [90, 20, 60]},
            {"pid": 1, "timestamp_us": {"start": 5000001, "per_second": 1000000}, "sm": [90, 40]},
            {"pid": 2, "timestamp_us": 5000000, "sm": 80},
            {"pid": 3, "timestamp_us": {"start": 5000000, "per_second": 1000000}, "sm": [7, 2619, 100]},
            {"pid": 99, "timestamp_us": {"start": 5000000, "per_second": 1000000}, "sm": 50}]}]}"#;
    let mut bench = Bench::open(install(dir.path(), scenario), |_| ());
    bench.sample();
    let Reading::Unavailable(reason) = &rows(&bench)[0].sm else { panic!("nobody knows since when") };
    assert!(reason.text.contains("from one look at the processes to the next"), "{reason:?}");
    bench.sample_after(2);
    assert_eq!(shares(&bench), [Some(0.3), Some(0.0), None, Some(0.0)]);
    let Reading::Unavailable(reason) = &rows(&bench)[2].sm else { panic!("2619 % cannot be") };
    assert!(reason.text.contains("2619 %"), "{reason:?}");
    bench.sample();
    assert_eq!(shares(&bench), [Some(0.3), Some(0.0), None, Some(0.0)], "looked at every other second");
    bench.sample();
    assert_eq!(shares(&bench), [Some(0.5), Some(0.0), Some(0.5), Some(0.0)], "there were two periods");
}

#[test]
fn nothing_new_is_an_idle_process_and_no_support_is_none() {
    let dir = temp();
    let scenario =
        r#"{"devices": [{"uuid": "GPU-a", "processes": {"compute": [{"pid": 1}]}, "process_utilization": []}]}"#;
    let mut bench = Bench::open(install(dir.path(), scenario), |_| ());
    bench.sample();
    bench.sample_after(2);
    assert_eq!(shares(&bench), [Some(0.0)]);

    let other = temp();
    let scenario = r#"{"devices": [{"uuid": "GPU-a", "processes": {"compute": [{"pid": 1}]}}]}"#;
    let mut bench = Bench::open(install(other.path(), scenario), |_| ());
    bench.sample();
    bench.sample_after(2);
    let Reading::Unavailable(reason) = &rows(&bench)[0].sm else { panic!("it is not told") };
    assert!(reason.cure.contains("WSL"), "{reason:?}");
}

#[test]
fn how_a_device_is_shared_is_told_though_the_pids_are_of_another_namespace() {
    let scenario = r#"{"devices": [
        {"uuid": "GPU-a", "processes": {"compute": [{"pid": 1}], "graphics": [{"pid": 2}]}},
        {"uuid": "GPU-b", "processes": {"compute": [{"pid": 1}, {"pid": 2}]}},
        {"uuid": "GPU-c", "processes": {"compute": [{"pid": 1}, {"pid": 2}], "mps": [{"pid": 2}]}},
        {"uuid": "GPU-d"}]}"#;
    for host_pids in [true, false] {
        let dir = temp();
        let mut bench = Bench::open(install(dir.path(), scenario), |context| context.host_pids = host_pids);
        bench.sample();
        let shared: Vec<_> = bench.probe.devices().iter().map(|device| device.sharing).collect();
        assert_eq!(shared, [Sharing::Alone, Sharing::TimeSliced, Sharing::Mps, Sharing::Unknown]);
        assert_eq!(bench.probe.devices()[0].processes.as_value().is_some(), host_pids);
    }
}

#[test]
fn a_thousand_processes_are_each_listed() {
    let dir = temp();
    let listed: Vec<_> = (1..=1000).rev().map(|pid| format!(r#"{{"pid": {pid}, "used": {pid}}}"#)).collect();
    let used: Vec<_> = (1..=1000)
        .map(|pid| {
            format!(r#"{{"pid": {pid}, "timestamp_us": {{"start": 5, "per_second": 1000000}}, "sm": {}}}"#, pid % 101)
        })
        .collect();
    let scenario = format!(
        r#"{{"devices": [{{"uuid": "GPU-a", "processes": {{"compute": [{}]}}, "process_utilization": [{}]}}]}}"#,
        listed.join(","),
        used.join(",")
    );
    let mut bench = Bench::open(install(dir.path(), &scenario), |_| ());
    bench.sample();
    bench.sample_after(2);
    assert_eq!(rows(&bench).len(), 1000);
    for (row, pid) in rows(&bench).iter().zip(1..) {
        assert_eq!((row.pid, &row.used), (pid, &Reading::Value(u64::from(pid))));
        assert_eq!(row.sm, Reading::Value(f64::from(pid % 101) / 100.0));
    }
}
