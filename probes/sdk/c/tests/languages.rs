//! C, C++, Go and Python's ctypes against the real library, counted by an agent of this test.

mod agent;

use std::path::{Path, PathBuf};
use std::process::Command;

use agent::Agent;

/// The shared library that cargo built for this test.
fn library() -> PathBuf {
    built("libperfwatch.so")
}

fn built(name: &str) -> PathBuf {
    let deps = std::env::current_exe().expect("a running test").parent().expect("in a folder").to_owned();
    let found = [deps.clone(), deps.parent().expect("deps lies in the profile's folder").to_owned()]
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|path| path.exists());
    found.unwrap_or_else(|| panic!("cargo did not build {name}"))
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs it to its end and returns what it printed; anything but success, compiler warnings included, fails the test.
fn run(program: &str, arguments: &[&Path], environment: &[(&str, &Path)]) -> String {
    #[allow(clippy::disallowed_methods, reason = "the compiler and its output are what is tested")]
    let mut command = Command::new(program);
    command.args(arguments).envs(environment.iter().copied());
    finish(command)
}

fn finish(mut command: Command) -> String {
    let output = command.output().expect("the program starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out.into_owned()
}

/// Compiles a source of this crate and runs it against an agent; returns what the agent counted.
fn compiled(compiler: &str, flags: &[&str], library: &Path) -> agent::Seen {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let binary = folder.path().join("program");
    let search = format!("-Wl,-rpath,{}", library.parent().expect("in a folder").display());
    let (include, source) = (PathBuf::from(format!("-I{}", here("include").display())), here("examples/serve.c"));
    let mut arguments: Vec<&Path> = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"].map(Path::new).to_vec();
    arguments.extend(flags.iter().map(Path::new));
    // `-x c++` must not reach as far as the library.
    arguments.extend([&*include, &*source, Path::new("-x"), Path::new("none"), library, Path::new(&search)]);
    arguments.extend([Path::new("-lpthread"), Path::new("-lm"), Path::new("-o"), &*binary]);
    run(compiler, &arguments, &[]);

    let agent = Agent::listen(folder.path());
    let out = run(binary.to_str().expect("UTF-8"), &[&agent.socket], &[]);
    assert_eq!(out, "1000 requests, 100 of them failed, all with the agent\n");
    agent.seen()
}

fn assert_the_example_is_counted(seen: &agent::Seen) {
    assert_eq!(seen.service, "c-example");
    assert_eq!((seen.started, seen.completed, seen.failed, seen.abandoned), (1000, 900, 100, 0), "{seen:?}");
    assert_eq!(seen.dispatches, 1000);
    assert_eq!(seen.stages, ["rerank"]);
    assert_eq!(seen.errors, [("timeout".to_owned(), 100)].into());
    assert_eq!((seen.tokens, seen.cache), ((10_000, 3000), (500, 500)));
    assert_eq!(seen.histograms["time_to_first_token"].count, 1000);
    assert_eq!(seen.histograms["inter_token"].count, 1000);
    // Four workers record 0 to 249.
    let lengths = &seen.histograms["example.length"];
    assert_eq!((lengths.count, lengths.sum, lengths.unit.as_str()), (1000, 4 * 249 * 250 / 2, "{token}"));
}

#[test]
fn the_example_runs_in_c() {
    assert_the_example_is_counted(&compiled("cc", &["-std=c11", "-D_POSIX_C_SOURCE=200809L"], &library()));
}

#[test]
fn the_example_runs_in_cpp() {
    assert_the_example_is_counted(&compiled("c++", &["-std=c++17", "-x", "c++"], &library()));
}

#[test]
fn the_example_runs_with_the_static_library() {
    let flags = ["-std=c11", "-D_POSIX_C_SOURCE=200809L"];
    assert_the_example_is_counted(&compiled("cc", &flags, &built("libperfwatch.a")));
}

#[test]
fn the_command_in_the_example_builds_and_runs_it() {
    let source = std::fs::read_to_string(here("examples/serve.c")).expect("the example");
    let lines: Vec<&str> = source.lines().filter_map(|line| line.strip_prefix(" *   ")).collect();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let agent = Agent::listen(folder.path());
    let library = library();
    // Cargo has built the library, and somewhere else than a user's.
    let command = lines
        .join("\n")
        .replace("cargo build --release -p perfwatch-c", "true")
        .replace("$PWD/target/release", "target/release")
        .replace("target/release", &library.parent().expect("in a folder").display().to_string())
        .replace("target/serve", &folder.path().join("serve").display().to_string());
    #[allow(clippy::disallowed_methods, reason = "the command is what is tested")]
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]).current_dir(here("../../..")).env("PERFWATCH_SOCKET", &agent.socket);
    assert_eq!(finish(shell), "1000 requests, 100 of them failed, all with the agent\n");
    assert_the_example_is_counted(&agent.seen());
}

#[test]
fn goroutines_are_counted_exactly_through_cgo() {
    #[allow(clippy::disallowed_methods, reason = "the compiler and its output are what is tested")]
    let (mut go, mut version) = (Command::new("go"), Command::new("go"));
    #[allow(clippy::print_stdout, reason = "a test that did not run says so")]
    if version.arg("version").output().is_err() {
        println!("skipped: no go");
        return;
    }
    let (folder, library) = (tempfile::tempdir().expect("a temporary folder"), library());
    let agent = Agent::listen(folder.path());
    let libraries = library.parent().expect("in a folder").display();
    go.args(["run", "."]).arg(&agent.socket).current_dir(here("tests/cgo"));
    go.env("CGO_ENABLED", "1").env("CGO_CFLAGS", format!("-I{}", here("include").display()));
    go.env("CGO_LDFLAGS", format!("-L{libraries} -lperfwatch -Wl,-rpath,{libraries}"));
    // Nothing is fetched, and what is compiled stays among cargo's own.
    go.env("GOTOOLCHAIN", "local").env("GOPROXY", "off").env("GOFLAGS", "-mod=mod");
    go.env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go"));
    assert_eq!(finish(go), "ok\n");
    let seen = agent.seen();
    assert_eq!(seen.service, "cgo");
    assert_eq!((seen.started, seen.completed, seen.failed, seen.abandoned), (2000, 1800, 200, 0), "{seen:?}");
    assert_eq!((seen.dispatches, seen.errors), (2000, [("timeout".to_owned(), 200)].into()));
    // Eight workers record 0 to 249.
    let lengths = &seen.histograms["go.length"];
    assert_eq!((lengths.count, lengths.sum, lengths.unit.as_str()), (2000, 8 * 249 * 250 / 2, "{token}"));
}

#[test]
fn every_function_accepts_null_and_nonsense() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let agent = Agent::listen(folder.path());
    let out = run("python3", &[&here("tests/odd.py"), &library(), &agent.socket], &[]);
    assert_eq!(out, "ok\n");
    let seen = agent.seen();
    assert_eq!((seen.service.as_str(), seen.started, seen.completed), ("odd \u{fffd}", 3, 1), "{seen:?}");
    assert_eq!((seen.cancelled, seen.errors), (1, [("other".to_owned(), 1)].into()));
    assert_eq!((seen.tokens, seen.cache), ((0, 5), (0, 0)));
    assert_eq!(seen.trace_ids, [b"\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef"]);
}

#[test]
fn ctypes_threads_are_counted_exactly() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let agent = Agent::listen(folder.path());
    let out = run("python3", &[&here("tests/threads.py"), &library(), &agent.socket], &[]);
    assert_eq!(out, "ok\n");
    let seen = agent.seen();
    assert_eq!((seen.started, seen.completed, seen.abandoned), (4000, 3992, 8), "{seen:?}");
    let sizes = &seen.histograms["sizes"];
    assert_eq!((sizes.count, sizes.sum), (4000, 8 * 499 * 500 / 2));
}

#[test]
fn without_an_agent_and_when_disabled_it_only_says_so() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = folder.path().join("none.sock");
    let alone = run("python3", &[&here("tests/status.py"), &library(), &socket], &[]);
    assert_eq!(alone, "3 False\n", "PERFWATCH_HAS_NO_AGENT");
    let off =
        run("python3", &[&here("tests/status.py"), &library(), &socket], &[("PERFWATCH_DISABLED", Path::new("1"))]);
    assert_eq!(off, "0 False\n", "PERFWATCH_IS_DISABLED");
}
