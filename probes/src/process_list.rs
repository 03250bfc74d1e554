//! The processes of the machine as one typed list, for screens and for finding model servers.

/// One process. By default one of which nothing is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessRow {
    /// Pid in the agent's namespace.
    pub pid: u32,
    /// Its parent.
    pub parent: u32,
    /// Start time in clock ticks since boot: with the pid it names a process for good.
    pub start: u64,
    /// Kernel's name of it, printable.
    pub name: String,
    /// Command line, printable and with secrets redacted; empty for kernel threads, and for processes that nobody watches.
    pub command: String,
    /// State letter of `/proc/pid/stat`: `R`, `S`, `D`, `Z` …
    pub state: char,
    /// User and system CPU time since it started, in nanoseconds (in steps of 10 ms).
    pub user_ns: u64,
    /// System part, likewise.
    pub system_ns: u64,
    /// CPUs it used between the last two scans; `None` when it is new.
    pub cpus: Option<f64>,
    /// Resident memory in bytes.
    pub resident: u64,
    /// Threads.
    pub threads: u32,
}

/// All processes at the last scan, by pid.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessList {
    /// The processes, sorted by pid.
    pub rows: Vec<ProcessRow>,
}

impl ProcessList {
    /// The process with this pid.
    pub fn get(&self, pid: u32) -> Option<&ProcessRow> {
        self.rows.binary_search_by_key(&pid, |row| row.pid).ok().map(|at| &self.rows[at])
    }
}
