//! One run of the demo.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

/// Seconds of load after warm-up and calibration: the window of 10 s, the engine's hysteresis, and room.
const DURATION: &str = "20";
/// A run takes well under a minute; a debug build on a busy machine may need more.
const LIMIT: Duration = Duration::from_mins(5);

/// What is run.
pub(crate) struct Trial {
    pub(crate) fault: Option<&'static str>,
    /// Share of the capacity; the fault's own when `None`.
    pub(crate) load: Option<f64>,
    pub(crate) seed: u64,
}

/// What came of it.
pub(crate) enum Outcome {
    /// What was named: the first finding above a note that ever stood, and when. One that did not stay first is named
    /// with its successor, as `a, then b`.
    Clean { named: Option<String>, after_s: Option<f64> },
    /// Others took the server's CPU.
    Contaminated,
    /// The fault had no visible effect.
    DidNotBite,
    /// The fault cannot be injected on this machine.
    NotPossible(String),
    /// The demo failed.
    Broken(String),
}

impl Trial {
    /// The finding that a right diagnosis names first.
    pub(crate) fn expected(&self) -> Option<&'static str> {
        Some(match self.fault? {
            "slow-data-loading" => "data-loading-bound",
            "no-batching" => "no-batching",
            "cpu-quota" => "cpu-quota-throttled",
            "overload" => "overload",
            "cpu-neighbour" => "cpu-contention",
            other => unreachable!("no expectation for {other}"),
        })
    }

    #[allow(clippy::disallowed_methods, reason = "starts the real binary")]
    pub(crate) fn run(&self) -> Outcome {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let report: PathBuf = dir.path().join("report.json");
        let mut command = Command::new(env!("CARGO_BIN_EXE_perfwatch"));
        command.args(["demo", "--json", "--duration", DURATION, "--seed", &self.seed.to_string()]);
        command.arg("--report").arg(&report);
        if let Some(load) = self.load {
            command.args(["--load", &load.to_string()]);
        }
        if let Some(fault) = self.fault {
            command.args(["--fault", fault]);
        }
        let output = perfwatch_tests::run(command, LIMIT);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(0 | 3) => {}
            // A wrong flag exits 2 as well, and must not pass for a machine that does not allow the fault.
            Some(2) if stderr.contains("cannot inject") => return Outcome::NotPossible(last_line(&stderr)),
            _ => return Outcome::Broken(format!("{}: {}", output.status, last_line(&stderr))),
        }
        match judge(&report, &output.stdout) {
            Ok(outcome) => outcome,
            Err(why) => Outcome::Broken(why),
        }
    }
}

fn judge(report: &Path, stdout: &[u8]) -> Result<Outcome, String> {
    let report = std::fs::read(report).map_err(|error| format!("no report: {error}"))?;
    let report: Value = serde_json::from_slice(&report).map_err(|error| format!("the report is not JSON: {error}"))?;
    let snapshot: Value =
        serde_json::from_slice(stdout).map_err(|error| format!("stdout is not one JSON document: {error}"))?;
    match (report["contaminated"].as_bool(), report["felt"].as_bool()) {
        (Some(true), _) => return Ok(Outcome::Contaminated),
        (Some(false), Some(false)) => return Ok(Outcome::DidNotBite),
        (Some(false), _) => {}
        (None, _) => return Err("the report does not say whether the run was contaminated".to_owned()),
    }
    let risen = report["findings"].as_array().ok_or("the report lists no findings")?;
    let standing = snapshot["findings"].as_array().ok_or("the snapshot lists no findings")?;
    let last = standing.iter().find(|finding| finding["severity"] != "note").and_then(|finding| finding["id"].as_str());
    let Some(first) = risen.first() else { return Ok(Outcome::Clean { named: None, after_s: None }) };
    let id = first["id"].as_str().ok_or("a finding without id")?;
    let named = match last {
        Some(last) if last != id => format!("{id}, then {last}"),
        _ => id.to_owned(),
    };
    Ok(Outcome::Clean { named: Some(named), after_s: first["after_s"].as_f64() })
}

fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or("nothing on stderr").to_owned()
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.fault.unwrap_or("healthy"))?;
        if let Some(load) = self.load {
            write!(f, " at load {load}")?;
        }
        write!(f, ", seed {}", self.seed)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean { named: Some(named), after_s: Some(after) } => write!(f, "{named} after {after:.0} s"),
            Self::Clean { named: Some(named), after_s: None } => f.write_str(named),
            Self::Clean { named: None, .. } => f.write_str("nothing above a note"),
            Self::Contaminated => f.write_str("contaminated by other load on this machine"),
            Self::DidNotBite => f.write_str("the fault did not bite"),
            Self::NotPossible(why) => write!(f, "not possible here: {why}"),
            Self::Broken(why) => write!(f, "BROKEN: {why}"),
        }
    }
}
