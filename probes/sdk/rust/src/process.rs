//! What the process itself gets: CPU time, waiting for a CPU, and the CPUs it may use.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, RawDir, openat};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity};
use rustix::time::{ClockId, clock_gettime};

/// At each so manieth reading every thread is asked which CPUs it may use, at the others only new ones: that hardly changes,
/// and a server may have hundreds of threads.
const ASK_ALL: u32 = 10;
/// A `schedstat` line is three numbers.
const LINE: usize = 64;

/// A reading; counters are running totals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) cpu_ns: Option<u64>,
    pub(crate) run_delay_ns: Option<u64>,
    pub(crate) threads: u32,
    pub(crate) cpus_allowed: String,
}

/// Reads the process's own usage. A thread that ends takes its last run delay along, at most one reading's worth.
pub(crate) struct Reader {
    /// Run delay of each living thread when it was last read.
    delays: HashMap<i32, u64>,
    total_delay: u64,
    /// CPUs that any of them may use.
    cpus: CpuSet,
    readings: u32,
}

impl Default for Reader {
    fn default() -> Self {
        Self { delays: HashMap::new(), total_delay: 0, cpus: CpuSet::new(), readings: 0 }
    }
}

impl Reader {
    pub(crate) fn read(&mut self) -> Usage {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let cpu_ns = Some(time.tv_sec as u64 * crate::clock::SECOND + time.tv_nsec as u64);
        let Some(tasks) = open(CWD, "/proc/self/task", OFlags::DIRECTORY) else {
            return Usage { cpu_ns, ..Usage::default() };
        };
        let ask_all = self.readings.is_multiple_of(ASK_ALL);
        self.readings = self.readings.wrapping_add(1);
        if ask_all {
            self.cpus = CpuSet::new();
        }
        let mut seen = HashMap::with_capacity(self.delays.len());
        let (mut threads, mut readable) = (0, false);
        let mut space = [const { MaybeUninit::uninit() }; 4_096];
        let mut entries = RawDir::new(&tasks, &mut space);
        while let Some(Ok(entry)) = entries.next() {
            let Some(tid) = entry.file_name().to_str().ok().and_then(|name| name.parse::<i32>().ok()) else { continue };
            threads += 1;
            let known = self.delays.get(&tid).copied();
            if ask_all || known.is_none() {
                self.ask(tid);
            }
            let Some(delay) = read_delay(&tasks, tid) else { continue };
            readable = true;
            self.total_delay += delay.saturating_sub(known.unwrap_or(0));
            seen.insert(tid, delay);
        }
        self.delays = seen;
        let cpus_allowed = list((0..CpuSet::MAX_CPU).filter(|cpu| self.cpus.is_set(*cpu)));
        Usage { cpu_ns, run_delay_ns: readable.then_some(self.total_delay), threads, cpus_allowed }
    }

    /// Takes in the CPUs that a thread may use.
    fn ask(&mut self, tid: i32) {
        if let Some(pid) = Pid::from_raw(tid)
            && let Ok(allowed) = sched_getaffinity(Some(pid))
        {
            (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).for_each(|cpu| self.cpus.set(cpu));
        }
    }
}

fn open(folder: impl AsFd, path: &str, flags: OFlags) -> Option<OwnedFd> {
    openat(folder, path, OFlags::RDONLY | OFlags::CLOEXEC | flags, Mode::empty()).ok()
}

/// A thread's run delay until now: three system calls, where reading a file of unknown size takes five.
fn read_delay(tasks: &OwnedFd, tid: i32) -> Option<u64> {
    let file = open(tasks, &format!("{tid}/schedstat"), OFlags::empty())?;
    let mut line = [0; LINE];
    let length = rustix::io::read(&file, &mut line).ok()?;
    run_delay(std::str::from_utf8(&line[..length]).ok()?)
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
    fn threads_are_counted_and_their_cpus_known_from_the_first_reading_on() {
        let mut reader = Reader::default();
        let few = reader.read();
        let (begin, end) = (std::sync::Barrier::new(101), std::sync::Barrier::new(101));
        std::thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| {
                    begin.wait();
                    end.wait();
                });
            }
            begin.wait();
            let many = reader.read();
            assert!(many.threads >= 101, "more than one page of names: {}", many.threads);
            assert_eq!(many.cpus_allowed, few.cpus_allowed);
            assert!(many.run_delay_ns >= few.run_delay_ns && few.run_delay_ns.is_some());
            end.wait();
        });
    }

    #[test]
    fn a_schedstat_line_is_understood() {
        assert_eq!(run_delay("123 456 7\n"), Some(456));
        assert_eq!(run_delay(""), None);
    }
}
