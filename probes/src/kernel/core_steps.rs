//! What each CPU did between two looks at `/proc/stat`.

use super::counter::Step;
use super::cpu_mask::CpuMask;
use super::cpu_times::{self, tick_ns};

#[derive(Clone, Copy, Default)]
struct Core {
    busy: Step,
    steal: Step,
    busy_added: u64,
    steal_added: u64,
}

/// Busy and stolen time of each CPU since the last look.
pub(crate) struct CoreSteps {
    cores: Vec<Core>,
    online: CpuMask,
}

impl Default for CoreSteps {
    fn default() -> Self {
        Self { cores: Vec::new(), online: CpuMask::EMPTY }
    }
}

impl CoreSteps {
    /// Takes the text of `/proc/stat`; false when there is no CPU in it. A CPU that was unplugged adds nothing, and
    /// nothing for the time of its absence when it is back.
    pub(crate) fn take(&mut self, text: &[u8]) -> bool {
        let Self { cores, online } = self;
        for core in cores.iter_mut() {
            (core.busy_added, core.steal_added) = (0, 0);
        }
        *online = CpuMask::EMPTY;
        cpu_times::scan(text, |cpu, times| {
            let Some(cpu) = cpu else { return };
            if cpu >= cores.len() {
                cores.resize_with(cpu + 1, Core::default);
            }
            let core = &mut cores[cpu];
            core.busy_added = core.busy.take(times.busy());
            core.steal_added = core.steal.take(times.steal());
            online.insert(cpu);
        });
        for (cpu, core) in cores.iter_mut().enumerate() {
            if !online.contains(cpu) {
                (core.busy, core.steal) = (Step::default(), Step::default());
            }
        }
        online.count() > 0
    }

    /// CPUs that are online.
    pub(crate) fn online(&self) -> &CpuMask {
        &self.online
    }

    /// Busy and stolen nanoseconds of these CPUs since the last look.
    pub(crate) fn busy_and_steal_ns(&self, cpus: &CpuMask) -> (u64, u64) {
        let mut sums = (0, 0);
        for (_, core) in self.cores.iter().enumerate().filter(|(cpu, _)| cpus.contains(*cpu)) {
            sums.0 += core.busy_added;
            sums.1 += core.steal_added;
        }
        (sums.0 * tick_ns(), sums.1 * tick_ns())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_cpus_count_and_a_returning_one_starts_afresh() {
        let mut cores = CoreSteps::default();
        let both = CpuMask::from_list(b"0-1").expect("a list");
        let first = CpuMask::from_list(b"0").expect("a list");
        assert!(cores.take(b"cpu  0 0 0 0\ncpu0 10 0 0 0 0 0 0 1\ncpu1 50 0 0 0 0 0 0 1\n"));
        assert_eq!(cores.busy_and_steal_ns(&both), (0, 0));
        assert!(cores.take(b"cpu  0 0 0 0\ncpu0 20 0 0 0 0 0 0 3\ncpu1 90 0 0 0 0 0 0 1\n"));
        assert_eq!(cores.busy_and_steal_ns(&first), (10 * tick_ns(), 2 * tick_ns()));
        assert_eq!(cores.busy_and_steal_ns(&both), (50 * tick_ns(), 2 * tick_ns()));
        // Unplugged, then back with a counter that went on.
        assert!(cores.take(b"cpu  0 0 0 0\ncpu0 20 0 0 0\n"));
        assert!(cores.take(b"cpu  0 0 0 0\ncpu0 21 0 0 0\ncpu1 500 0 0 0\n"));
        assert_eq!(cores.busy_and_steal_ns(&both), (tick_ns(), 0));
        assert!(!cores.take(b"intr 0\n"));
    }
}
