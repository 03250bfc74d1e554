//! Makes the recordings of GPUs that `perfwatch demo --replay` shows: each from a script, as this project has no GPU of its own.
//!
//! ```text
//! cargo build --release && cargo run -p perfwatch-tests --example replays [NAME …]
//! ```
//!
//! A script is what the driver answers, second by second (`NAME.json`, in the format of `tests/fake-nvml`), and what the model
//! server on the GPU does meanwhile (`load.rs`). The real agent reads the one through the real NVML wrapper and gets the other
//! from the real SDK; what it keeps is the recording. Its host is called `scripted`, so that nobody takes it for a real one. Needs
//! root, for the name and a folder of its own, and the two minutes that the scripts take.

#![allow(clippy::disallowed_methods, reason = "a program of its own, in real time")]
#![allow(clippy::print_stdout, reason = "it says what it wrote")]

mod load;

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use perfwatch_model::Snapshot;
use perfwatch_sdk::Server;
use perfwatch_tests::{get, perfwatch, run, wait_for};

use load::Load;

/// Each script, and what the server does in it.
const SCRIPTS: [(&str, &str, Load); 5] = [
    ("h100-decode", include_str!("h100-decode.json"), Load::Decode),
    ("h100-prefill", include_str!("h100-prefill.json"), Load::Prefill { slower: 1.0 }),
    ("h100-throttled", include_str!("h100-throttled.json"), Load::Prefill { slower: 1.5 }),
    ("h100-starved", include_str!("h100-starved.json"), Load::Tokenise),
    ("h100-shared", include_str!("h100-shared.json"), Load::Prefill { slower: 1.4 }),
];
/// Seconds until rules have decided and findings stand.
const WARM_UP: u64 = 30;
/// Seconds that are shown.
const SHOWN: u64 = 40;
/// Seconds that the load goes on while they are taken.
const AFTER: u64 = 5;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    // The SDK's server of a script is this process, and a process has one agent: each script has a process of its own.
    if let [one, two] = wanted.as_slice()
        && one == "--one"
    {
        let script = SCRIPTS.iter().find(|(name, ..)| name == two).expect("a script of this name");
        return record(script.0, script.1, script.2);
    }
    let itself = std::env::current_exe().expect("this program");
    let scripts = SCRIPTS.iter().filter(|(name, ..)| wanted.is_empty() || wanted.iter().any(|one| one == name));
    let children: Vec<Child> = scripts
        .map(|(name, ..)| {
            // As its command line is in the recording, and no matter of this machine.
            let mut command = Command::new(&itself);
            command.arg0("llm-server").arg("--one").arg(name).spawn().expect("this program starts again")
        })
        .collect();
    for mut child in children {
        assert!(child.wait().expect("our child").success(), "a script failed");
    }
}

fn record(name: &str, scenario: &str, load: Load) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let binary = folder.join("../target/release/perfwatch");
    let dir = tempfile::tempdir().expect("a folder");
    // By which it is known on the screen.
    std::fs::write("/proc/self/comm", "llm-server").expect("procfs");
    let other = Other::start(dir.path());
    let scenario = scenario
        .replace("\"SERVER\"", &std::process::id().to_string())
        .replace("\"OTHER\"", &other.0.to_string())
        .replace("\"NOW_US\"", &now_us().to_string());
    let library = fake_nvml::install(dir.path(), &scenario).expect("a scenario");
    let mut agent = Killed(agent(&binary, dir.path(), &library));
    wait_for("the agent", || {
        let ended = agent.0.try_wait().expect("our child");
        assert!(ended.is_none(), "the agent ended: {ended:?}");
        get(&dir.path().join("api.sock"), "/readyz").ok().filter(|(status, _)| *status == 200)
    });
    let server = Server::builder("llm").instance("0").socket(dir.path().join("probe.sock")).start();
    let file = dir.path().join("recording");
    std::thread::scope(|scope| {
        // It goes on for longer than is shown: a server that is about to end is no part of it.
        scope.spawn(|| load.run(&server, Duration::from_secs(WARM_UP + SHOWN + AFTER)));
        std::thread::sleep(Duration::from_secs(WARM_UP));
        for _ in 0..SHOWN {
            std::thread::sleep(Duration::from_secs(1));
            let (_, findings) = get(&dir.path().join("api.sock"), "/v1/findings").expect("findings");
            assert!(!findings.contains("\"cpu-"), "this machine is too busy, and that would be recorded: {findings}");
        }
        assert_complete(&get(&dir.path().join("api.sock"), "/v1/snapshot").expect("a snapshot").1);
        let mut command = perfwatch(binary.to_str().expect("UTF-8"), dir.path());
        command.arg("record").arg("--last").arg(format!("{SHOWN}s")).arg("-o").arg(&file);
        let output = run(command, Duration::from_mins(1));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    });
    let recording = std::fs::read(&file).expect("a recording");
    let packed = zstd::bulk::compress(&recording, 19).expect("memory");
    let file = folder.join("../agent/demo/replays").join(format!("{name}.pwrec.zst"));
    std::fs::write(&file, &packed).expect("writable");
    println!("{}: {} bytes", file.display(), packed.len());
}

/// A demo shows what perfwatch shows: nothing may be missing but what is left out on purpose.
fn assert_complete(snapshot: &str) {
    let snapshot: Snapshot = serde_json::from_str(snapshot).expect("a snapshot");
    let missing: Vec<_> = snapshot.unavailable.iter().filter(|missing| !missing.is_by_choice()).collect();
    assert!(missing.is_empty(), "the script, or this machine, does not tell: {missing:#?}");
    assert_eq!(snapshot.agent.dropped, 0, "a message came too late on this machine, and that would be shown");
}

/// A process that is not the server's, though it computes on the same GPU: nobody's child that is still there.
struct Other(u32);

impl Other {
    fn start(dir: &Path) -> Self {
        let program = dir.join("train");
        std::fs::copy("/bin/sleep", &program).expect("a copy");
        let script = format!("'{}' 600 > /dev/null 2>&1 & echo $!", program.display());
        let output = run(
            {
                let mut command = Command::new("sh");
                command.arg("-c").arg(script);
                command
            },
            Duration::from_secs(10),
        );
        Self(String::from_utf8_lossy(&output.stdout).trim().parse().expect("a process id"))
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.to_string()).status();
    }
}

/// A process that does not outlive us.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// By which the driver says when a process had the SMs.
fn now_us() -> u128 {
    std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_micros()
}

/// The agent, in a machine of the name `scripted`, with as few other probes as a ledger needs: what they would tell is this
/// machine's (its control groups too), and no matter of the recording. Its journal is where an installed agent has it, as its path is on the screen; nobody
/// else sees that folder.
fn agent(binary: &Path, dir: &Path, library: &Path) -> Child {
    let arguments = [
        ("--nvml-lib", library.to_str().expect("UTF-8")),
        ("--rules", "all"),
        ("--journal-path", "/var/lib/perfwatch/journal.db"),
        ("--probes-off", "cgroup,disk,network,run_queue,paging,frequency,numa"),
    ]
    .map(|(flag, value)| format!("{flag} '{value}'"));
    let arguments = arguments.join(" ");
    let script = format!(
        "hostname scripted && mount -t tmpfs journal /var/lib && mkdir /var/lib/perfwatch && exec '{}' agent {arguments}",
        binary.display()
    );
    let environment = perfwatch("unshare", dir);
    let mut command = Command::new("unshare");
    command.args(["--uts", "--cgroup", "--mount", "sh", "-c", &script]).env_clear();
    for (name, value) in environment.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command.env("PATH", std::env::var("PATH").unwrap_or_default());
    command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("unshare starts")
}
