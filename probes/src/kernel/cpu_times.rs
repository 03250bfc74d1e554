//! `/proc/stat`: the time of the machine and of each CPU by mode.

use super::parse;

/// Modes in the order of the file, under their semantic-convention names. Guest time is part of `user` and `nice`.
pub(crate) const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "interrupt", "softirq", "steal"];
const IDLE: usize = 3;
const IOWAIT: usize = 4;
const STEAL: usize = 7;

/// Time by mode in the kernel's clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuTimes(pub(crate) [u64; 8]);

impl CpuTimes {
    /// The numbers of a line after its name. Old kernels write fewer columns; those are 0. `None` without the first four.
    fn parse(mut line: &[u8]) -> Option<Self> {
        let mut times = [0; 8];
        for (at, time) in times.iter_mut().enumerate() {
            match parse::next_number(&mut line) {
                Some(value) => *time = value,
                None if at > IDLE => break,
                None => return None,
            }
        }
        Some(Self(times))
    }

    /// Time in which the CPU did nothing.
    pub(crate) fn idle(&self) -> u64 {
        self.0[IDLE] + self.0[IOWAIT]
    }

    /// Time in which something ran on it.
    pub(crate) fn busy(&self) -> u64 {
        self.0.iter().sum::<u64>() - self.idle() - self.0[STEAL]
    }

    /// Time that a hypervisor gave to others.
    pub(crate) fn steal(&self) -> u64 {
        self.0[STEAL]
    }
}

/// Calls `each` with `None` for the machine and with its number for each CPU that is online. Offline CPUs have no line.
pub(crate) fn scan(text: &[u8], mut each: impl FnMut(Option<usize>, CpuTimes)) {
    for line in parse::lines(text) {
        let Some(rest) = line.strip_prefix(b"cpu") else { break };
        if rest.first() == Some(&b' ') {
            if let Some(times) = CpuTimes::parse(rest) {
                each(None, times);
            }
        } else if let Some((cpu, rest)) = parse::number(rest)
            && let Some(times) = CpuTimes::parse(rest)
        {
            each(Some(cpu as usize), times);
        }
    }
}

/// Nanoseconds in one of the kernel's clock ticks, the unit of `/proc/stat` and `/proc/pid/stat`.
pub(crate) fn tick_ns() -> u64 {
    1_000_000_000 / rustix::param::clock_ticks_per_second().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(text: &str) -> Vec<(Option<usize>, CpuTimes)> {
        let mut seen = Vec::new();
        scan(text.as_bytes(), |cpu, times| seen.push((cpu, times)));
        seen
    }

    #[test]
    fn guest_time_is_not_counted_twice() {
        let seen = cpus("cpu  10 2 3 100 5 1 1 4 8 1\ncpu0 10 2 3 100 5 1 1 4 8 1\nintr 5\n");
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[1].0, Some(0));
        assert_eq!((seen[0].1.busy(), seen[0].1.idle(), seen[0].1.steal()), (17, 105, 4));
    }

    #[test]
    fn an_unplugged_cpu_is_a_gap_and_not_a_shift() {
        let seen = cpus("cpu  4 0 0 4 0 0 0 0 0 0\ncpu0 1 0 0 1 0 0 0 0 0 0\ncpu3 3 0 0 3 0 0 0 0 0 0\n");
        assert_eq!(seen.iter().map(|(cpu, _)| *cpu).collect::<Vec<_>>(), [None, Some(0), Some(3)]);
    }

    #[test]
    fn old_and_broken_lines_are_read_as_far_as_they_go() {
        assert_eq!(cpus("cpu 1 2 3 4\n")[0].1, CpuTimes([1, 2, 3, 4, 0, 0, 0, 0]));
        assert!(cpus("cpu 1 2 3\ncpux 1 2 3 4\n").is_empty());
        assert!(cpus("").is_empty());
    }
}
