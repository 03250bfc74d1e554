//! The machine's eight files read so many times a second and nothing else, for `agent_cost.py`: `host_set HERTZ`. Ends when
//! its standard input does.

#![allow(clippy::print_stderr, reason = "a program of its own, which speaks through it")]

use std::process::ExitCode;
use std::time::Duration;

use perfwatch_model::{Entity, EntityKind, Sample, SeriesTable, Stamp, Tick};
use perfwatch_probes::{ProbeContext, host};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

/// Seven files of `/proc` that these probes hold open, and an eighth where the kernel has pressure of all three kinds.
const PROBES: [&str; 6] = ["cpu", "memory", "pressure", "disk", "network", "load"];

fn main() -> ExitCode {
    let Some(hertz) = std::env::args().nth(1).and_then(|text| text.parse().ok()).filter(|hertz: &u64| *hertz > 0)
    else {
        eprintln!("usage: host_set HERTZ");
        return ExitCode::FAILURE;
    };
    let mut table = SeriesTable::new();
    let here = table.entity(Entity::new(EntityKind::Host, "here"));
    let context = ProbeContext::live(here);
    let kinds = host::PROBES.iter().filter(|kind| PROBES.contains(&kind.name()));
    let mut probes: Vec<_> = kinds.filter_map(|kind| kind.open(&context, &mut table).ok()).collect();
    let mut tick = Tick::default();
    while input_stays_open_for(Duration::from_secs(1) / u32::try_from(hertz).unwrap_or(1)) {
        tick.clear();
        let now = clock_gettime(ClockId::Monotonic);
        let now = Stamp { mono_ns: now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64, wall_ns: 0 };
        for probe in &mut probes {
            probe.sample(now, &mut Sample::new(&mut table, &mut tick));
        }
        tick.seal();
    }
    ExitCode::SUCCESS
}

/// Waits; false once standard input has ended.
fn input_stays_open_for(wait: Duration) -> bool {
    let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
    let stdin = std::io::stdin();
    poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&timeout)).is_ok_and(|ready| ready == 0)
}
