//! A set of logical CPUs.

use super::parse;

/// CPUs that fit. The kernel's largest configuration on the supported architectures is 8,192 possible CPUs; machines
/// beyond 1,024 are counted up to here.
pub(crate) const CPUS: usize = 1024;
const WORDS: usize = CPUS / 64;

/// A set of logical CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CpuMask {
    words: [u64; WORDS],
}

impl CpuMask {
    pub(crate) const EMPTY: Self = Self { words: [0; WORDS] };

    pub(crate) fn insert(&mut self, cpu: usize) {
        if cpu < CPUS {
            self.words[cpu / 64] |= 1 << (cpu % 64);
        }
    }

    pub(crate) fn contains(&self, cpu: usize) -> bool {
        cpu < CPUS && self.words[cpu / 64] & (1 << (cpu % 64)) != 0
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            *mine |= theirs;
        }
    }

    pub(crate) fn intersect(&mut self, other: &Self) {
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            *mine &= theirs;
        }
    }

    pub(crate) fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// The CPUs that the calling thread's kernel lets thread `tid` run on: its affinity within its cpuset and what is
    /// active. `None` when there is no such thread or the machine has more CPUs than fit.
    pub(crate) fn of_thread(tid: u32) -> Option<Self> {
        let pid = rustix::process::Pid::from_raw(i32::try_from(tid).ok()?)?;
        let set = rustix::thread::sched_getaffinity(Some(pid)).ok()?;
        let mut mask = Self::EMPTY;
        let mut left = set.count();
        let mut cpu = 0;
        while left > 0 && cpu < CPUS {
            if set.is_set(cpu) {
                mask.insert(cpu);
                left -= 1;
            }
            cpu += 1;
        }
        Some(mask)
    }

    /// A list as the kernel writes it: `0-3,8,10-11`. `None` when it is not one.
    pub(crate) fn from_list(text: &[u8]) -> Option<Self> {
        let mut mask = Self::EMPTY;
        let text = text.trim_ascii();
        if text.is_empty() {
            return Some(mask);
        }
        for part in text.split(|byte| *byte == b',') {
            let (first, rest) = parse::number(part)?;
            let last = match rest.strip_prefix(b"-") {
                Some(rest) => parse::only_number(rest)?,
                None if rest.is_empty() => first,
                None => return None,
            };
            for cpu in first..=last.min(CPUS as u64 - 1) {
                mask.insert(cpu as usize);
            }
        }
        Some(mask)
    }

    /// `Cpus_allowed_list` of a `status` file.
    pub(crate) fn from_status(text: &[u8]) -> Option<Self> {
        let list = parse::lines(text).find_map(|line| line.strip_prefix(b"Cpus_allowed_list:"))?;
        Self::from_list(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_ranges_is_a_set() {
        let mask = CpuMask::from_list(b"0-3,8,10-11\n").expect("a list");
        assert_eq!(mask.count(), 7);
        assert!(mask.contains(10) && !mask.contains(9));
        assert_eq!(CpuMask::from_list(b"\n"), Some(CpuMask::EMPTY));
        for wrong in [&b"a"[..], b"1-", b"1-x", b"1 2", b",", b"1-2-3"] {
            assert_eq!(CpuMask::from_list(wrong), None, "{}", String::from_utf8_lossy(wrong));
        }
    }

    #[test]
    fn cpus_that_do_not_fit_are_left_out_quickly() {
        assert_eq!(CpuMask::from_list(b"1022-18446744073709551615").expect("a list").count(), 2);
    }

    #[test]
    fn the_kernels_two_answers_agree() {
        let status = std::fs::read("/proc/thread-self/status").expect("procfs");
        let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        let asked = CpuMask::of_thread(tid).expect("this thread exists");
        let mut listed = CpuMask::from_status(&status).expect("a list");
        assert!(asked.count() > 0);
        listed.intersect(&asked);
        assert_eq!(listed, asked);
    }
}
