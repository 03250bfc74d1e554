//! Who uses a GPU, and what each has of it.

mod rig;

use std::path::Path;

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
fn how_a_device_is_shared_is_told_and_that_it_is_not_only_where_all_processes_are_in_sight() {
    let scenario = r#"{"devices": [
        {"uuid": "GPU-a", "processes": {"compute": [{"pid": 1}], "graphics": [{"pid": 2}]}},
        {"uuid": "GPU-b", "processes": {"compute": [{"pid": 1}, {"pid": 2}]}},
        {"uuid": "GPU-c", "processes": {"compute": [{"pid": 1}, {"pid": 2}], "mps": [{"pid": 2}]}},
        {"uuid": "GPU-d"}]}"#;
    for (host_pids, with_one) in [(true, Sharing::Alone), (false, Sharing::Unknown)] {
        let dir = temp();
        let mut bench = Bench::open(install(dir.path(), scenario), |context| {
            (context.host_pids, context.proc) = (host_pids, dir.path().to_owned());
        });
        bench.sample();
        let shared: Vec<_> = bench.probe.devices().iter().map(|device| device.sharing).collect();
        assert_eq!(shared, [with_one, Sharing::TimeSliced, Sharing::Mps, Sharing::Unknown]);
        assert_eq!(bench.probe.devices()[0].processes.as_value().is_some(), host_pids);
        assert_eq!(bench.probe.devices()[0].may_have_others, !host_pids);
    }
}

/// A probe in a pid namespace of its own, where these threads are, each with the process that it is of and a file that it has open.
fn in_a_namespace(dir: &Path, scenario: &str, threads: &[(u32, u32, &str)]) -> Bench {
    let proc = dir.join("proc");
    for (pid, group, file) in threads {
        let folder = proc.join(pid.to_string());
        std::fs::create_dir_all(folder.join("fd")).expect("created");
        std::fs::write(folder.join("status"), format!("Name:\tserver\nTgid:\t{group}\n")).expect("written");
        std::os::unix::fs::symlink(file, folder.join("fd/7")).expect("linked");
    }
    Bench::open(install(dir, scenario), |context| (context.host_pids, context.proc) = (false, proc))
}

const TWO: &str = r#"{"devices": [{"uuid": "GPU-a", "processes": {"compute": [{"pid": 40, "used": 700}, {"pid": 12, "used": 0}]},
    "process_utilization": [
        {"pid": 40, "timestamp_us": {"start": 5000000, "per_second": 1000000}, "sm": 30},
        {"pid": 12, "timestamp_us": {"start": 5000000, "per_second": 1000000}, "sm": 60}]}]}"#;

#[test]
fn processes_are_told_in_a_pid_namespace_of_our_own_where_all_of_them_are_seen_to_be_of_it() {
    let dir = temp();
    let mut bench = in_a_namespace(dir.path(), TWO, &[(40, 40, "/dev/nvidiactl"), (12, 7, "/dev/nvidia0")]);
    bench.sample();
    bench.sample_after(2);
    let told: Vec<_> = rows(&bench).iter().map(|row| (row.pid, row.used.as_value().copied())).collect();
    assert_eq!(
        told,
        [(7, None), (40, Some(700))],
        "a thread is its process, and 0 is what drivers say that did not look"
    );
    assert_eq!(shares(&bench), [Some(0.6), Some(0.3)]);
    let device = &bench.probe.devices()[0];
    assert!(device.may_have_others && device.sharing == Sharing::TimeSliced);
}

#[test]
fn threads_of_one_process_do_not_share_a_device_with_each_other() {
    let dir = temp();
    let mut bench = in_a_namespace(dir.path(), TWO, &[(40, 40, "/dev/nvidiactl"), (12, 40, "/dev/nvidia0")]);
    bench.sample();
    let told: Vec<_> = rows(&bench).iter().map(|row| row.pid).collect();
    assert_eq!((told, bench.probe.devices()[0].sharing), (vec![40], Sharing::Unknown));
}

#[test]
fn one_pid_that_is_not_seen_to_be_of_our_namespace_makes_all_of_them_anothers() {
    for other in [&[][..], &[(12, 12, "/dev/null")]] {
        let dir = temp();
        let threads = [&[(40, 40, "/dev/nvidiactl")], other].concat();
        let mut bench = in_a_namespace(dir.path(), TWO, &threads);
        bench.sample();
        let Reading::Unavailable(reason) = &bench.probe.devices()[0].processes else { panic!("passed off as ours") };
        assert!(reason.cure.contains("hostPID: true"), "{reason:?}");
    }
}

#[test]
fn shares_by_pids_of_the_host_say_nothing_of_processes_by_ours() {
    let of_the_host = |pid: u32, to: u32| {
        TWO.replace(&format!(r#"{{"pid": {pid}, "timestamp_us""#), &format!(r#"{{"pid": {to}, "timestamp_us""#))
    };
    // One of them may happen to be that of another process here.
    for scenario in
        [of_the_host(40, 645_399).replace(r#"{"pid": 12, "t"#, r#"{"pid": 645400, "t"#), of_the_host(12, 645_400)]
    {
        let dir = temp();
        let mut bench = in_a_namespace(dir.path(), &scenario, &[(40, 40, "/dev/nvidiactl"), (12, 12, "/dev/nvidia0")]);
        bench.sample();
        bench.sample_after(2);
        let Reading::Unavailable(reason) = &rows(&bench)[1].sm else { panic!("it was not idle") };
        assert!(reason.text.contains("pids of another namespace"), "{reason:?}");
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
