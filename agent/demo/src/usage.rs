//! The demo's own account of CPU time: how much of its core the server used, and how much went to others.

use std::fs;
use std::io;
use std::time::Instant;

use crate::clock::now;
use crate::error::DemoError;

/// Shares of one CPU over an interval; 1 is all of it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// What the watched process used.
    pub used: f64,
    /// What processes of neither the server nor the demo used, time stolen by the hypervisor included.
    pub outside: f64,
}

/// A running account.
#[derive(Debug)]
pub(crate) struct Meter {
    cpu: usize,
    server: u32,
    /// Processes whose use is neither the server's nor an outsider's.
    known: Vec<u32>,
    began: Instant,
    first: Reading,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    busy: u64,
    server: u64,
    known: u64,
}

impl Meter {
    /// Starts the account of `server` on `cpu`.
    pub(crate) fn start(cpu: usize, server: u32, known: Vec<u32>) -> Result<Self, DemoError> {
        let mut meter = Self { cpu, server, known, began: now(), first: Reading { busy: 0, server: 0, known: 0 } };
        meter.first = meter.read().map_err(DemoError::system("read CPU times from /proc"))?;
        Ok(meter)
    }

    fn read(&self) -> io::Result<Reading> {
        let busy = busy_ticks(&fs::read_to_string("/proc/stat")?, self.cpu)?;
        let known = self.known.iter().map(|pid| process_ticks(*pid)).sum::<io::Result<u64>>()?;
        Ok(Reading { busy, server: process_ticks(self.server)?, known })
    }

    /// The shares since the start.
    pub(crate) fn usage(&self) -> Result<Usage, DemoError> {
        let last = self.read().map_err(DemoError::system("read CPU times from /proc"))?;
        let per_second = rustix::param::clock_ticks_per_second();
        let capacity = (self.began.elapsed().as_secs_f64() * per_second as f64).max(1.0);
        let share = |ticks: u64| ticks as f64 / capacity;
        // A process that ended takes its ticks along.
        let server = last.server.saturating_sub(self.first.server);
        let known = last.known.saturating_sub(self.first.known);
        let busy = last.busy.saturating_sub(self.first.busy);
        Ok(Usage { used: share(server), outside: share(busy.saturating_sub(server + known)) })
    }
}

/// Ticks that `cpu` spent on anything but idling, waiting for a disk or running a guest counted elsewhere.
fn busy_ticks(stat: &str, cpu: usize) -> io::Result<u64> {
    let name = format!("cpu{cpu}");
    for line in stat.lines() {
        let mut fields = line.split_ascii_whitespace();
        if fields.next() != Some(&name) {
            continue;
        }
        // user nice system idle iowait irq softirq steal; what follows is part of user and nice.
        let ticks: Vec<u64> = fields.take(8).filter_map(|field| field.parse().ok()).collect();
        if let [user, nice, system, _idle, _iowait, irq, softirq, steal] = ticks[..] {
            return Ok(user + nice + system + irq + softirq + steal);
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("/proc/stat has no usable line for {name}")))
}

fn process_ticks(pid: u32) -> io::Result<u64> {
    parse_process_ticks(&fs::read_to_string(format!("/proc/{pid}/stat"))?)
}

/// User and system time from `/proc/<pid>/stat`, read from the last bracket on: a name may contain anything.
fn parse_process_ticks(stat: &str) -> io::Result<u64> {
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace());
    let mut times = fields.into_iter().flatten().skip(11).take(2).map(str::parse::<u64>);
    match (times.next(), times.next()) {
        (Some(Ok(user)), Some(Ok(system))) => Ok(user + system),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a process's stat line is cut short")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_time_leaves_out_idling_and_counts_steal() {
        let stat = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu1 1 2 4 1000 1000 8 16 32 64 64\ncpu11 0 0 0 0 0 0 0 0 0 0\n";
        assert_eq!(busy_ticks(stat, 1).unwrap(), 63);
        assert!(busy_ticks(stat, 2).unwrap_err().to_string().contains("cpu2"));
    }

    #[test]
    fn a_process_name_cannot_shift_the_fields() {
        let line = "7 (a) 9 (b) S 1 7 7 0 -1 4194560 100 0 0 0 25 17 0 0 20 0 1 0";
        assert_eq!(parse_process_ticks(line).unwrap(), 42);
        assert!(parse_process_ticks("7 (a) S 1").is_err());
    }

    #[test]
    fn this_process_is_accounted_for() {
        let meter = Meter::start(0, std::process::id(), Vec::new()).unwrap();
        let began = process_ticks(std::process::id()).unwrap();
        while process_ticks(std::process::id()).unwrap() < began + 3 {}
        assert!(meter.usage().unwrap().used > 0.0);
    }
}
