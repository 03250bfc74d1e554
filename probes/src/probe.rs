//! What a probe is: a kind that describes itself and an instance that was opened and measures.

use std::path::{Path, PathBuf};

use perfwatch_model::{EntityId, MetricDef, Reason, Sample, SeriesTable, Stamp};

use crate::process_list::ProcessList;

/// A source of metrics that may or may not be present on this host.
pub trait ProbeKind: Sync {
    /// Stable lowercase name used in configuration, logs and `perfwatch doctor`; also the name of the probe's file.
    fn name(&self) -> &'static str;

    /// Every metric this probe can emit or call unavailable.
    fn metrics(&self) -> &'static [&'static MetricDef];

    /// How often it wants to be sampled. The scheduler may stretch this to stay inside the budget.
    fn cadence(&self) -> Cadence;

    /// Opens the source, or says why this host cannot supply it and what would.
    fn open(&self, context: &ProbeContext, table: &mut SeriesTable) -> Result<Box<dyn Probe>, Reason>;
}

/// An opened source.
pub trait Probe: Send {
    /// Takes one sample. Never blocks on anything but the kernel, and allocates only when it meets something new.
    fn sample(&mut self, now: Stamp, out: &mut Sample<'_>);

    /// Says which model servers there are and the pids (as this agent sees them) that their clients reported. To be
    /// called with the whole set whenever it changes; most probes do not care.
    fn watch(&mut self, servers: &[(EntityId, Vec<u32>)]) {
        let _ = servers;
    }

    /// CPU time, in nanoseconds, that threads of the probe's own have used so far: its caller sees only the thread it calls
    /// on, and a cost that nobody counts is a cost that nobody bounds.
    fn own_threads_cpu_ns(&self) -> u64 {
        0
    }

    /// All processes of the machine, from the one probe that lists them.
    fn processes(&self) -> Option<&ProcessList> {
        None
    }
}

/// How often a probe wants to be sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cadence {
    /// At the end of every tick.
    EveryTick,
    /// At the end of every n-th tick.
    EverySeconds(u32),
}

impl Cadence {
    /// The interval in seconds: a tick is one second long.
    pub const fn seconds(self) -> u32 {
        match self {
            Self::EveryTick => 1,
            Self::EverySeconds(seconds) => seconds,
        }
    }
}

/// Where probes look, and what their numbers are about.
#[derive(Clone, Debug)]
pub struct ProbeContext {
    /// Where procfs is mounted; a recorded tree in tests, the host's procfs (`/host/proc`) in some containers.
    pub proc: PathBuf,
    /// What `/sys/fs/cgroup` is here. Mount points below `/sys/fs/cgroup` in `mountinfo` are looked for here.
    pub cgroup: PathBuf,
    /// Where sysfs is mounted.
    pub sys: PathBuf,
    /// The machine.
    pub host: EntityId,
}

impl ProbeContext {
    /// The running machine.
    pub fn live(host: EntityId) -> Self {
        Self { proc: "/proc".into(), cgroup: "/sys/fs/cgroup".into(), sys: "/sys".into(), host }
    }

    /// True when pids in [`Self::proc`] are those that system calls of this process understand. Elsewhere (recorded
    /// trees, another namespace's procfs) everything has to come from files.
    pub fn pids_are_ours(&self) -> bool {
        self.proc == Path::new("/proc")
    }
}
