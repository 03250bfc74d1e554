//! What the process itself gets: CPU time, waiting for a CPU, and the CPUs it may use.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity};
use rustix::time::{ClockId, clock_gettime};

/// A reading; counters are running totals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) cpu_ns: Option<u64>,
    pub(crate) run_delay_ns: Option<u64>,
    pub(crate) threads: u32,
    pub(crate) cpus_allowed: String,
}

/// Reads the process's own usage. A thread that ends takes its last run delay along, at most one reading's worth.
#[derive(Default)]
pub(crate) struct Reader {
    /// Run delay of each living thread when it was last read.
    delays: HashMap<i32, u64>,
    total_delay: u64,
}

impl Reader {
    pub(crate) fn read(&mut self) -> Usage {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let cpu_ns = Some(time.tv_sec as u64 * crate::clock::SECOND + time.tv_nsec as u64);
        let Ok(tasks) = fs::read_dir("/proc/self/task") else { return Usage { cpu_ns, ..Usage::default() } };
        let mut seen = HashMap::with_capacity(self.delays.len());
        let mut cpus = CpuSet::new();
        let (mut threads, mut readable) = (0, false);
        for task in tasks.flatten() {
            let Some(tid) = task.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            threads += 1;
            if let Some(pid) = Pid::from_raw(tid)
                && let Ok(allowed) = sched_getaffinity(Some(pid))
            {
                (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).for_each(|cpu| cpus.set(cpu));
            }
            let Some(delay) = fs::read_to_string(task.path().join("schedstat")).ok().and_then(|text| run_delay(&text))
            else {
                continue;
            };
            readable = true;
            self.total_delay += delay.saturating_sub(self.delays.get(&tid).copied().unwrap_or(0));
            seen.insert(tid, delay);
        }
        self.delays = seen;
        Usage {
            cpu_ns,
            run_delay_ns: readable.then_some(self.total_delay),
            threads,
            cpus_allowed: list((0..CpuSet::MAX_CPU).filter(|cpu| cpus.is_set(*cpu))),
        }
    }
}

/// The second number of a `schedstat` line: nanoseconds spent ready to run, waiting.
fn run_delay(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// CPU numbers as the kernel lists them: `0-3,8`.
fn list(cpus: impl Iterator<Item = usize>) -> String {
    let mut text = String::new();
    let mut run: Option<(usize, usize)> = None;
    let mut write = |(first, last): (usize, usize)| {
        if !text.is_empty() {
            text.push(',');
        }
        let _ = if first == last { write!(text, "{first}") } else { write!(text, "{first}-{last}") };
    };
    for cpu in cpus {
        run = match run {
            Some((first, last)) if last + 1 == cpu => Some((first, cpu)),
            Some(done) => {
                write(done);
                Some((cpu, cpu))
            }
            None => Some((cpu, cpu)),
        };
    }
    if let Some(done) = run {
        write(done);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_listed_as_the_kernel_does() {
        assert_eq!(list([0, 1, 2, 5, 7, 8].into_iter()), "0-2,5,7-8");
        assert_eq!(list([].into_iter()), "");
    }

    #[test]
    fn usage_of_this_very_process_grows() {
        let mut reader = Reader::default();
        let first = reader.read();
        let mut busy = 0u64;
        let second = loop {
            busy = std::hint::black_box(busy.wrapping_add(1));
            let usage = reader.read();
            if usage.cpu_ns > first.cpu_ns {
                break usage;
            }
        };
        assert!(second.threads >= 1 && !second.cpus_allowed.is_empty());
        assert!(second.run_delay_ns >= first.run_delay_ns);
    }

    #[test]
    fn a_schedstat_line_is_understood() {
        assert_eq!(run_delay("123 456 7\n"), Some(456));
        assert_eq!(run_delay(""), None);
    }
}
