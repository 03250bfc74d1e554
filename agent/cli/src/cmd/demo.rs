//! `perfwatch demo`: a real model server, a load, an agent, and what the agent says.

mod recorded;

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use perfwatch_agent::{Role, SystemClock};
use perfwatch_demo::{Demo as Run, DemoError, DemoOptions, DemoReport, Fault, Program, faults, replays};
use perfwatch_model::{Clock, Severity, Snapshot};
use perfwatch_tui::{CardOptions, ChannelFeed, Exit};

use super::top::{Look, exit_code, screen_failure, size};
use crate::failure::{self, Failure, print};
use crate::hosted::Hosted;
use crate::settings::SettingFlags;
use crate::{logging, source};

/// Exit code of a fault whose effect on p99 or throughput was not seen.
const DID_NOT_BITE: u8 = 3;
/// Without a terminal: a window of 10 s, the rules' hysteresis, and room.
const DEFAULT_DURATION: Duration = Duration::from_secs(20);

/// See perfwatch at work: a small real model server under load, and what perfwatch says about it.
///
/// Starts a neural network behind HTTP, finds out how many requests per second it can do, loads it with a share of that,
/// and watches it with an agent of its own. With a terminal the live screen opens (q quits); without one it prints a
/// report. `--fault` breaks something; the diagnosis is never told what.
///
/// The agent and the server are the demo's own: no other agent sees them, nor does `top` in another terminal. Nothing is kept,
/// unless `--journal-path FILE` says where; `perfwatch replay FILE` shows it again.
///
/// Findings need 10 s of load and some more to be sure: a --duration below 20 s may show none.
///
/// No GPU here? `--replay` starts no server: it plays one of the recordings of GPUs that perfwatch carries, in real time, and
/// without a terminal prints at once what perfwatch said in its last second, or with --view what the screen showed. They are
/// scripted: what the driver of the GPU answered is made up, everything above it is perfwatch at work; the screen calls the machine
/// `scripted`. Experimental rules judge in them too, and their findings say so; settings are refused with it, as they would have
/// no effect.
///
/// Exit code: 0 done, 2 the fault cannot be injected here (it says what it needs), 3 the fault had no visible effect.
#[derive(Debug, clap::Args)]
pub(crate) struct Demo {
    /// How long to load the server, after warm-up and calibration: seconds, or 90s, 2m [default: 20 s without a terminal].
    /// With --replay, how much of the recording [default: all]
    #[arg(long, value_name = "TIME", value_parser = crate::instant::duration, allow_hyphen_values = true)]
    duration: Option<Duration>,
    /// Load, as a share of what the server can do: 0.3, 0.6, 0.8 are healthy, 1.3 is too much [default: the fault's own, else 0.6]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    load: Option<f64>,
    /// What to break.
    #[arg(long, value_name = "NAME", value_parser = fault_names())]
    fault: Option<String>,
    /// Play a recording of a GPU instead.
    #[arg(long, value_name = "NAME", value_parser = replay_names(), conflicts_with_all = ["fault", "load", "seed", "report"])]
    replay: Option<String>,
    /// Seed of weights, texts and arrival times.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print the last snapshot as JSON, and nothing else on stdout.
    #[arg(long, conflicts_with_all = ["ascii", "theme", "view"])]
    json: bool,
    /// Also write a JSON report of the run itself: load, latency seen by the client, whether the fault was felt.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    look: Look,
}

fn fault_names() -> clap::builder::PossibleValuesParser {
    let values = faults::FAULTS.iter().map(|fault| clap::builder::PossibleValue::new(fault.name()).help(fault.brief()));
    clap::builder::PossibleValuesParser::new(values)
}

fn replay_names() -> clap::builder::PossibleValuesParser {
    let values = replays::REPLAYS.iter().map(|one| clap::builder::PossibleValue::new(one.name).help(one.brief));
    clap::builder::PossibleValuesParser::new(values)
}

/// A failure of the demo with the exit code that it promises.
pub(super) fn failure(error: DemoError) -> Failure {
    let code = error.exit_code();
    Failure::from(error).code(code)
}

impl Demo {
    pub(crate) fn run(self, settings: &SettingFlags) -> Result<ExitCode, Failure> {
        let interactive = !self.json && std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
        if let Some(name) = &self.replay {
            settings.refuse_for_recording()?;
            let recorded = replays::find(name).map_err(failure)?;
            return recorded::play(&self, recorded, interactive);
        }
        let config = settings.config()?;
        let fault: Option<&'static dyn Fault> = self.fault.as_deref().map(faults::find).transpose().map_err(failure)?;
        let duration = self.duration.or((!interactive).then_some(DEFAULT_DURATION));
        let options = DemoOptions {
            program: Program::this().map_err(failure)?,
            duration,
            load: self.load,
            fault,
            seed: self.seed,
        };
        // Before half a minute is spent on something that cannot be written down.
        let report_file = self.report.as_deref().map(create).transpose()?;
        let mut run = Run::prepare(options, tell).map_err(failure)?;
        if interactive {
            logging::to_file(&config, "demo.log");
        } else {
            logging::to_stderr(&config);
        }
        let (agent, snapshots) = Hosted::start(config, Role::Guest(run.runtime_dir()), !interactive)?;
        tell(&format!(
            "loading it with {:.0} requests/s, {:.2} of what it can do with full batches (smaller ones cost more per request)",
            run.offered_per_s(),
            run.load(),
        ));
        run.start_load().map_err(failure)?;
        let (seen, exit) =
            if interactive { self.watch(&mut run, snapshots)? } else { (collect(&mut run, &snapshots), Exit::Ended) };
        let report = run.finish().map_err(failure)?;
        let exit = agent.stop().map_or(exit, Exit::Signal);
        self.tell_result(&report, &seen, report_file, interactive)?;
        if let Exit::Signal(_) = exit {
            return Ok(exit_code(exit));
        }
        if report.did_not_bite() {
            tell("the fault did not bite: neither p99 nor throughput suffered, so there was nothing to diagnose");
            return Ok(ExitCode::from(DID_NOT_BITE));
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The live screen, until the user quits or the load has run its time.
    fn watch(&self, run: &mut Run, snapshots: Receiver<Arc<Snapshot>>) -> Result<(Seen, Exit), Failure> {
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let collector = scope.spawn(move || {
                let mut seen = Seen::new();
                while !run.is_done() {
                    match snapshots.recv_timeout(Duration::from_millis(100)) {
                        Ok(snapshot) => {
                            seen.look_at(&snapshot);
                            if send.send(snapshot).is_err() {
                                break;
                            }
                        }
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => break,
                    }
                }
                seen
            });
            let ended = perfwatch_tui::run(ChannelFeed::new(receive), &self.look.options(true));
            let seen = collector.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok((seen, ended.map_err(screen_failure)?))
        })
    }

    fn tell_result(
        &self,
        report: &DemoReport,
        seen: &Seen,
        file: Option<File>,
        interactive: bool,
    ) -> Result<(), Failure> {
        let Some(snapshot) = &seen.last else {
            return Err(anyhow::anyhow!("the demo ended before anything was measured").into());
        };
        if let Some(mut file) = file {
            file.write_all(serde_json::to_string_pretty(&json_report(report, seen))?.as_bytes())?;
        }
        let missed = seen.missed();
        if missed > 0 {
            tell(&format!("perfwatch itself was kept from running for {missed} s: this run proves nothing"));
        }
        if self.json {
            if report.contaminated {
                tell("other processes took CPU time from the server: this run proves nothing");
            }
            return print(&format!("{}\n", serde_json::to_string(&**snapshot)?));
        }
        // Not the report with perfwatch's own cost: this process is the load generator as well.
        let snapshots = [(**snapshot).clone()];
        let card = if interactive { self.card(snapshot) } else { self.text(&snapshots, snapshot) };
        print(&format!("{card}\nWhat the load generator saw\n\n{report}\n"))
    }
}

/// What is printed where there is no screen.
impl Demo {
    /// The view that was asked for, of the last of these snapshots and with the past before it, else [`Demo::card`].
    fn text(&self, snapshots: &[Snapshot], last: &Snapshot) -> String {
        if self.look.view.is_none() {
            return self.card(last);
        }
        let (width, height) = size();
        perfwatch_tui::render_once(snapshots, width, height, &self.look.options(false))
    }

    fn card(&self, last: &Snapshot) -> String {
        let options = source::card_options();
        perfwatch_tui::card(last, CardOptions { ascii: options.ascii || self.look.ascii })
    }
}

fn create(path: &Path) -> Result<File, Failure> {
    File::create(path).map_err(|error| {
        Failure::usage(anyhow::Error::new(error).context(format!("cannot write the report to {}", path.display())))
    })
}

fn tell(what: &str) {
    failure::tell(&format!("demo: {what}"));
}

/// What the agent said in the course of a run.
struct Seen {
    began_ns: u64,
    last: Option<Arc<Snapshot>>,
    /// Every finding above a note that ever stood, in the order in which they rose.
    risen: Vec<Risen>,
}

/// A finding above a note, and when it first stood.
#[derive(serde::Serialize)]
struct Risen {
    id: String,
    entity: String,
    after_s: f64,
}

impl Seen {
    fn new() -> Self {
        Self { began_ns: SystemClock.now().mono_ns, last: None, risen: Vec::new() }
    }

    /// Ticks that the agent could not take.
    fn missed(&self) -> u64 {
        self.last.as_ref().map_or(0, |snapshot| snapshot.agent.ticks_missed)
    }

    fn look_at(&mut self, snapshot: &Arc<Snapshot>) {
        // Worst first, so that of those which rise together the worst counts as the first.
        for finding in snapshot.findings.iter().filter(|finding| finding.severity > Severity::Note) {
            if !self.risen.iter().any(|known| known.id == finding.id && known.entity == finding.entity) {
                let after_s = (SystemClock.now().mono_ns - self.began_ns) as f64 / 1e9;
                self.risen.push(Risen { id: finding.id.to_string(), entity: finding.entity.clone(), after_s });
            }
        }
        self.last = Some(Arc::clone(snapshot));
    }
}

/// Without a screen: until the load has run its time.
fn collect(run: &mut Run, snapshots: &Receiver<Arc<Snapshot>>) -> Seen {
    let mut seen = Seen::new();
    while !run.is_done() {
        match snapshots.recv_timeout(Duration::from_millis(100)) {
            Ok(snapshot) => seen.look_at(&snapshot),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    seen
}

fn json_report(report: &DemoReport, seen: &Seen) -> serde_json::Value {
    let load = &report.load;
    let quantile = |q| load.latency.quantile(q).as_secs_f64();
    serde_json::json!({
        "fault": report.fault,
        "capacity_per_s": report.capacity.per_second,
        "load": report.load_share,
        "offered_per_s": load.offered_per_s,
        "achieved_per_s": load.achieved_per_s(),
        "sent": load.sent,
        "rejected": load.rejected,
        "failed": load.errors,
        "unanswered": load.unanswered,
        "p50_s": quantile(0.50),
        "p99_s": quantile(0.99),
        "felt": report.bite.map(|bite| bite.felt),
        "contaminated": report.contaminated || seen.missed() > 0,
        "ticks_missed": seen.missed(),
        "server_core_used": report.usage.used,
        "server_core_others": report.usage.outside,
        "findings": seen.risen,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instant::duration;

    #[test]
    fn a_duration_is_seconds_unless_it_says_otherwise() {
        assert_eq!(duration("20"), Ok(Duration::from_secs(20)));
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        for wrong in ["", "0", "-3", "nan", "inf", "2d", "700000"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
