//! `perfwatch gpus`: makes the running agent let go of the GPUs for a while.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use perfwatch_model::Snapshot;
use perfwatch_model::snapshot::DeviceView;
use perfwatch_tui::api::{self, Answer};
use serde::Deserialize;

use crate::failure::{Failure, print};
use crate::instant::at_most_a_day;
use crate::settings::SettingFlags;
use crate::source;

/// Let go of the GPUs for a while, or take them back.
///
/// The agent has the driver open, as every monitor does, and so keeps a GPU from being reset, MIG from being set up, the
/// driver's modules from being unloaded and a laptop's GPU from sleeping. This makes the running agent let go; all else that
/// it does goes on. `perfwatch gpus release && nvidia-smi --gpu-reset && perfwatch gpus take`
///
/// Only root and the user that the agent runs as may.
///
/// Exit code: 0 done; 1 not: no agent, one that has the driver open still, or one that refuses; 2 wrong usage, or an agent that
/// is closed to this user.
#[derive(Debug, clap::Args)]
pub(crate) struct Gpus {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Let go of the GPUs: comes back when the agent has shut NVML down, or says why it has not.
    ///
    /// Nothing is asked of the driver until the time is over; every reading of a GPU is unavailable for that reason. Asked
    /// again, the new time counts, from now on. An agent that is started anew begins with the GPUs. Other programs that have
    /// them open have to let go as well: model servers, DCGM, other monitors.
    Release {
        /// For how long: 90s, 15m, 2h, or a number of seconds; at most 24h.
        #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = at_most_a_day, allow_hyphen_values = true)]
        time: Duration,
    },
    /// Take the GPUs back before the time is over.
    ///
    /// Comes back when each GPU that there was before is read again; exit code 1 says which is not, after a minute at most.
    Take,
}

/// A driver that stopped its GPUs takes as long to start them again, at most.
const BACK_WITHIN: Duration = Duration::from_mins(1);
/// Seconds for which a GPU is waited for that is not there beside others.
const MISSED_S: u32 = 3;
/// Longer than the agent waits for a driver that shuts down.
const PATIENCE: Duration = Duration::from_secs(40);

#[derive(Deserialize)]
struct Released {
    until: Option<String>,
    was_open: bool,
}

#[derive(Deserialize)]
struct Taken {
    was_released: bool,
}

/// What the agent says where it cannot.
#[derive(Deserialize)]
struct Refusal {
    error: Told,
}

#[derive(Deserialize)]
struct Told {
    message: String,
    hint: Option<String>,
}

impl Gpus {
    pub(crate) fn run(self, settings: &SettingFlags) -> Result<ExitCode, Failure> {
        let config = settings.config()?;
        let agent = source::running(&config)?.ok_or_else(|| {
            Failure::from(anyhow!("no perfwatch agent runs here"))
                .hint(Some("name the folder of one that does with --runtime-dir, or start it with `perfwatch agent`"))
        })?;
        let text = match self.what {
            What::Release { time } => release(&agent, time)?,
            What::Take => take(&agent)?,
        };
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn release(agent: &Path, time: Duration) -> Result<String, Failure> {
    let path = format!("/v1/gpus/release?for={}", time.as_secs());
    let Released { until, was_open } = ask(agent, &path)?;
    Ok(match until {
        None => "the agent has no probe of GPUs (`probes_off`): there is nothing to let go of\n".to_owned(),
        Some(until) if was_open => format!("the agent has let go of the GPUs until {until}\n"),
        Some(until) => format!("the agent has no GPU open, and opens none until {until}\n"),
    })
}

fn take(agent: &Path) -> Result<String, Failure> {
    // An agent that is older is told by what it answers to the question.
    let before = api::snapshot(agent);
    let Taken { was_released } = ask(agent, "/v1/gpus/take")?;
    if !was_released {
        return Ok("the agent had not let go of the GPUs\n".to_owned());
    }
    let (before, mut now) = (before?, api::snapshot(agent)?);
    // One second of the agent's after the other.
    let mut missed = 0;
    for _ in 0..BACK_WITHIN.as_secs() {
        let are_read = now.time != before.time && gpus(&now).all(is_read);
        if are_read && gone(&before, &now).is_empty() {
            break;
        }
        // NVML lists all at once: one that is not there beside others that are read does not come.
        missed = if are_read && gpus(&now).next().is_some() { missed + 1 } else { 0 };
        if missed > MISSED_S {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
        now = api::snapshot(agent)?;
    }
    let gone = gone(&before, &now);
    if let Some(first) = gone.first() {
        let error = anyhow!("{} of {} GPUs did not come back: {first}", gone.len(), gpus(&before).count());
        return Err(Failure::from(error).hint(Some("`nvidia-smi -L` and `dmesg | grep -i -e nvrm -e xid` say more")));
    }
    let unread = gpus(&now).find(|device| !is_read(device)).map(|device| why_not(&now, &device.id));
    if let Some(why) = unread {
        let error = anyhow!("the agent takes the GPUs back, and does not read all of them yet: {why}");
        return Err(Failure::from(error).hint(Some("`perfwatch doctor` says what is read by now")));
    }
    Ok(match gpus(&now).count() {
        0 => "the agent takes the GPUs back, and sees none so far\n".to_owned(),
        1 => "the agent reads the GPU again\n".to_owned(),
        count => format!("the agent reads {count} GPUs again\n"),
    })
}

/// The GPUs that are no part of another: which parts there are may be what was changed.
fn gpus(snapshot: &Snapshot) -> impl Iterator<Item = &DeviceView> {
    snapshot.devices.iter().filter(|device| device.gpu.as_ref().is_some_and(|gpu| gpu.parent.is_none()))
}

/// Those of `before` that are not there `now`.
fn gone<'a>(before: &'a Snapshot, now: &Snapshot) -> Vec<&'a str> {
    let is_there = |id: &str| gpus(now).any(|device| device.id == id);
    gpus(before).map(|device| device.id.as_str()).filter(|id| !is_there(id)).collect()
}

/// A GPU in MIG mode tells less than others, and its memory still.
fn is_read(device: &DeviceView) -> bool {
    let view = device.gpu.as_ref();
    view.is_some_and(|gpu| gpu.utilization.is_some() || gpu.power_watts.is_some() || gpu.memory_used_bytes.is_some())
}

fn why_not(snapshot: &Snapshot, id: &str) -> String {
    let missing = snapshot.unavailable.iter().find(|missing| missing.entity == id);
    missing.map_or_else(|| id.to_owned(), |missing| format!("{id}: {}", missing.reason))
}

/// What the agent answers, where it did what it was asked for.
fn ask<T: for<'de> Deserialize<'de>>(agent: &Path, path: &str) -> Result<T, Failure> {
    let Answer { status, body } = api::post(agent, path, PATIENCE)?;
    if status == 200 {
        return Ok(serde_json::from_slice(&body).with_context(|| not_understood(agent))?);
    }
    if status == 404 {
        let error = anyhow!("the agent at {} is older than this perfwatch, and cannot let go of GPUs", agent.display());
        return Err(Failure::from(error).hint(Some(
            "update it, and start it anew; or stop it for as long (`probes_off = [\"nvidia\"]` keeps it away from GPUs)",
        )));
    }
    match serde_json::from_slice(&body) {
        Ok(Refusal { error: Told { message, hint } }) => Err(Failure::from(anyhow!(message)).hint(hint)),
        Err(_) => Err(anyhow!("{}: status {status}", not_understood(agent)).into()),
    }
}

fn not_understood(agent: &Path) -> String {
    format!("what the agent at {} answers is not understood", agent.display())
}
