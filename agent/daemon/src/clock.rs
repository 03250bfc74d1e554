//! The one real clock. Everything else takes a [`Clock`].

use perfwatch_model::{Clock, Stamp};

/// The clocks of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock that everything else is given")]
    fn now(&self) -> Stamp {
        let mono = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let mono_ns = mono.tv_sec as u64 * 1_000_000_000 + mono.tv_nsec as u64;
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        // Before 1970 there is nothing to export; 0 says "unknown" as well as any number.
        Stamp { mono_ns, wall_ns: wall.map_or(0, |since| since.as_nanos() as u64) }
    }
}

fn cpu_ns(clock: rustix::time::ClockId) -> u64 {
    let time = rustix::time::clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// CPU time of the calling thread: what something costs, whoever else is running.
pub(crate) fn thread_cpu_ns() -> u64 {
    cpu_ns(rustix::time::ClockId::ThreadCPUTime)
}

/// CPU time of this process.
pub(crate) fn process_cpu_ns() -> u64 {
    cpu_ns(rustix::time::ClockId::ProcessCPUTime)
}
