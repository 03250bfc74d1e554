//! Which processor does what: the server one core, everything else the others.

use std::fmt;
use std::fs;
use std::io;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The division of this process's CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The server's CPU.
    pub server: usize,
    /// The CPUs of load generator, agent and screen; the server's own where there is no other.
    pub rest: Vec<usize>,
}

impl Placement {
    /// Divides the CPUs that this process may use.
    pub fn choose() -> io::Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
        Ok(Self::divide(&allowed, siblings))
    }

    fn divide(allowed: &[usize], siblings: impl Fn(usize) -> Vec<usize>) -> Self {
        // The last: interrupts tend to be served by the first.
        let server = allowed.last().copied().unwrap_or(0);
        let shared = siblings(server);
        let others = || allowed.iter().copied().filter(|cpu| *cpu != server);
        let mut rest: Vec<usize> = others().filter(|cpu| !shared.contains(cpu)).collect();
        if rest.is_empty() {
            rest = others().collect();
        }
        if rest.is_empty() {
            rest.push(server);
        }
        Self { server, rest }
    }

    /// True if load and agent must share the server's CPU.
    pub fn shared(&self) -> bool {
        self.rest.contains(&self.server)
    }

    /// Keeps this whole process, threads to come included, off the server's CPU, until the answer is dropped.
    pub fn keep_off(&self) -> io::Result<KeptOff> {
        let before = sched_getaffinity(None)?;
        for thread in threads()? {
            // A thread may end at any moment.
            let _ = sched_setaffinity(Some(thread), &set_of(&self.rest));
        }
        Ok(KeptOff { before })
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shared() {
            return write!(f, "one CPU only: server, load and agent share CPU {}", self.server);
        }
        let rest: Vec<String> = self.rest.iter().map(usize::to_string).collect();
        let plural = if rest.len() == 1 { "" } else { "s" };
        write!(f, "server on CPU {}, load and agent on CPU{plural} {}", self.server, rest.join(","))
    }
}

/// Lets this process back onto all its CPUs when dropped.
#[derive(Debug)]
pub struct KeptOff {
    before: CpuSet,
}

impl Drop for KeptOff {
    fn drop(&mut self) {
        for thread in threads().unwrap_or_default() {
            // A thread may end at any moment.
            let _ = sched_setaffinity(Some(thread), &self.before);
        }
    }
}

/// Keeps the calling thread, and those it starts from now on, on these CPUs.
pub(crate) fn pin_this_thread(cpus: &[usize]) -> io::Result<()> {
    Ok(sched_setaffinity(None, &set_of(cpus))?)
}

fn set_of(cpus: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for cpu in cpus.iter().filter(|cpu| **cpu < CpuSet::MAX_CPU) {
        set.set(*cpu);
    }
    set
}

fn threads() -> io::Result<Vec<Pid>> {
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw);
    Ok(fs::read_dir("/proc/self/task")?.flatten().filter_map(number).collect())
}

/// The hardware threads of the same core, itself included; none where the system does not say.
fn siblings(cpu: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    fs::read_to_string(path).map(|list| parse_list(list.trim())).unwrap_or_default()
}

/// Reads a list such as `0-2,7`.
fn parse_list(list: &str) -> Vec<usize> {
    let mut cpus = Vec::new();
    for part in list.split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(low), Ok(high)) = (low.parse(), high.parse::<usize>()) {
            cpus.extend(low..=high);
        }
    }
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_gets_a_core_of_its_own_where_there_is_one() {
        let two_threads_a_core = |cpu: usize| vec![cpu % 4, cpu % 4 + 4];
        let placement = Placement::divide(&[0, 1, 2, 3, 4, 5, 6, 7], two_threads_a_core);
        assert_eq!(placement, Placement { server: 7, rest: vec![0, 1, 2, 4, 5, 6] });
        assert_eq!(placement.to_string(), "server on CPU 7, load and agent on CPUs 0,1,2,4,5,6");
    }

    #[test]
    fn two_threads_of_one_core_are_better_than_one() {
        let placement = Placement::divide(&[2, 6], |_| vec![2, 6]);
        assert_eq!(placement, Placement { server: 6, rest: vec![2] });
        assert_eq!(placement.to_string(), "server on CPU 6, load and agent on CPU 2");
    }

    #[test]
    fn a_single_cpu_is_shared_and_said_to_be() {
        let placement = Placement::divide(&[3], |_| Vec::new());
        assert!(placement.shared());
        assert_eq!(placement.to_string(), "one CPU only: server, load and agent share CPU 3");
    }

    #[test]
    fn cpu_lists_are_read() {
        assert_eq!(parse_list("0-2,7"), [0, 1, 2, 7]);
        assert!(parse_list("").is_empty());
    }
}
