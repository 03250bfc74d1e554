//! The demo's processes: this test starts itself as server and neighbour, so it has a `main` of its own.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that cannot go on says where")]

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use perfwatch_demo::load::{Offer, OpenLoop, Prompts};
use perfwatch_demo::server::{self, ServerOptions};
use perfwatch_demo::{Demo, DemoError, DemoOptions, Program, faults, work};

/// The tests, by name.
const TESTS: &[(&str, fn())] = &[
    ("a_demo_runs_from_start_to_end_and_leaves_nothing", a_demo_runs_from_start_to_end_and_leaves_nothing),
    ("a_neighbour_is_there_under_load_and_gone_after_it", a_neighbour_is_there_under_load_and_gone_after_it),
    ("a_server_ends_with_its_parent", a_server_ends_with_its_parent),
    ("a_load_out_of_range_is_refused_before_anything_starts", a_load_out_of_range_is_refused_before_anything_starts),
];

fn main() {
    let mut args = std::env::args_os().skip(1);
    let first = args.next().unwrap_or_default();
    match first.to_str() {
        Some("model-server") => ServerOptions::from_args(args).and_then(|options| server::run(&options)).unwrap(),
        Some("other-work") => work::run(args).unwrap(),
        // What `cargo test -- --list` and test runners ask for.
        Some("--list") => TESTS.iter().for_each(|(name, _)| println!("{name}: test")),
        filter => {
            let filter = filter.filter(|filter| !filter.starts_with('-')).unwrap_or_default();
            for (name, test) in TESTS.iter().filter(|(name, _)| name.contains(filter)) {
                println!("test {name} ...");
                test();
                println!("test {name} ... ok");
            }
        }
    }
}

fn options(fault: Option<&str>) -> DemoOptions {
    DemoOptions {
        program: Program::this().unwrap(),
        duration: Some(Duration::from_secs(2)),
        load: Some(0.3),
        fault: fault.map(|name| faults::find(name).unwrap()),
        seed: 1,
    }
}

fn exists(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// Command lines of the children of this process.
fn children() -> Vec<String> {
    let own = format!("PPid:\t{}", std::process::id());
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        if status.lines().any(|line| line == own) {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push(String::from_utf8_lossy(&line).replace('\0', " "));
        }
    }
    found
}

fn a_demo_runs_from_start_to_end_and_leaves_nothing() {
    let said = std::cell::RefCell::new(Vec::new());
    let mut demo = Demo::prepare(options(None), |line| said.borrow_mut().push(line.to_owned())).unwrap();
    assert!(said.borrow().iter().any(|line| line.contains("requests/s with full batches")), "{said:?}");
    assert!(matches!(demo.finish(), Err(DemoError::Usage(_))), "nothing to report before the load");
    let (pid, folder) = (demo.server_pid(), demo.runtime_dir());
    assert!(exists(pid) && folder.is_dir());
    demo.start_load().unwrap();
    demo.wait();
    let report = demo.finish().unwrap();
    assert!(report.load.completed > 0 && report.load.errors == 0, "{report}");
    assert_eq!(report.load.latency.count(), report.load.sent, "{report}");
    assert!(report.stats.completed >= report.load.completed, "{report}");
    assert!(report.usage.used > 0.05, "{report}");
    assert_eq!((report.fault, report.did_not_bite()), (None, false));
    drop(demo);
    assert!(!exists(pid) && !folder.exists());
}

fn a_neighbour_is_there_under_load_and_gone_after_it() {
    let mut demo = Demo::prepare(options(Some("cpu-neighbour")), |_| {}).unwrap();
    assert_eq!(children().len(), 1, "the server only");
    demo.start_load().unwrap();
    let lines = children();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for line in &lines {
        assert!(!["neighbour", "fault", "quota"].iter().any(|word| line.contains(word)), "{line}");
    }
    demo.wait();
    let report = demo.finish().unwrap();
    assert!(report.bite.is_some());
    assert_eq!(children().len(), 1);
    drop(demo);
    assert_eq!(children(), Vec::<String>::new());
}

fn a_server_ends_with_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    let mut args: Vec<OsString> = vec!["model-server".into()];
    args.extend(ServerOptions::new(folder.path().to_owned(), 1).to_args());
    #[allow(clippy::disallowed_methods, reason = "it is a process that is tested")]
    let mut command = Command::new(std::env::current_exe().unwrap());
    let mut child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "start").unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("listening 127.0.0.1:"), "{line}");
    // A backlog of minutes must not keep it.
    let address = line.trim().strip_prefix("listening ").unwrap().parse().unwrap();
    let offer = Offer { per_second: 5_000.0, duration: None, seed: 1 };
    let load = OpenLoop::start(address, Arc::new(Prompts::new(1)), offer).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    // What the system does when a parent dies, however it dies.
    drop(input);
    assert!(child.wait().unwrap().success());
    let report = load.finish();
    assert!(report.errors > report.completed, "it went with most of its work undone: {report:?}");
}

fn a_load_out_of_range_is_refused_before_anything_starts() {
    for load in [0.0, -1.0, f64::NAN, 1e9] {
        let error = Demo::prepare(DemoOptions { load: Some(load), ..options(None) }, |_| {}).err().unwrap();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("between 0.01 and 10"), "{error}");
    }
}
