//! All processes of the machine as a typed list, and series of those that belong to model servers.
//!
//! Names are made printable where they are read, once per process and again when one changes (`exec`); command lines are
//! redacted where they are read, once per watched process. Only watched processes become series; the list is for screens.

use std::path::{Path, PathBuf};

use perfwatch_model::metrics::process::{
    CONTEXT_SWITCHES, CPU_TIME, DISK_IO, MEMORY_USAGE, PAGING_FAULTS, RUN_DELAY, THREAD_COUNT,
};
use perfwatch_model::{Attr, Entity, EntityId, EntityKind, MetricDef, Reason, Sample, SeriesId, SeriesTable, Stamp};

use crate::kernel::activity::{self, ProcessIo};
use crate::kernel::counter::Rising;
use crate::kernel::cpu_times::tick_ns;
use crate::kernel::folder::{Folder, NumberedPath};
use crate::kernel::held::HeldFile;
use crate::kernel::parse;
use crate::kernel::threads::{Scratch, ThreadSums, Threads, process_folder};
use crate::process_list::{ProcessList, ProcessRow};
use crate::redact::command_line;
use crate::{Cadence, Probe, ProbeContext, ProbeKind};

/// `/proc/pid`.
pub(super) struct Processes;

/// A scan of 300 processes costs 1 to 2 ms: every fifth second that is less than half a thousandth of a core. What the
/// ledgers need is read each tick elsewhere; this list only tells who is there.
const EVERY: u32 = 5;
/// `stat` files kept open. Beyond it each is opened for each scan, at 1.6 times the cost.
const HELD: usize = 384;
/// A longer command line is cut; the kernel allows megabytes.
const COMMAND_BYTES: usize = 4096;

const NO_SCHEDSTAT: Reason = Reason::fixed(
    "the kernel does not tell how long threads wait for a CPU",
    "run a kernel with CONFIG_SCHED_INFO, and the agent as the process's user or root",
);

const NO_IO: Reason = Reason::fixed(
    "the kernel does not tell this agent what the process reads and writes",
    "run the agent as root or with CAP_SYS_PTRACE, on a kernel with CONFIG_TASK_IO_ACCOUNTING",
);
const NO_SWITCHES: Reason = Reason::fixed(
    "the context switches of the process's threads cannot be read, or it has more than 256 threads",
    "run a kernel that writes them to /proc/pid/task/tid/status",
);
const NO_FAULTS: Reason = Reason::fixed("the page faults of the process cannot be read", "mount procfs");

impl ProbeKind for Processes {
    fn name(&self) -> &'static str {
        "process"
    }

    fn metrics(&self) -> &'static [&'static MetricDef] {
        &[&CPU_TIME, &MEMORY_USAGE, &THREAD_COUNT, &RUN_DELAY, &DISK_IO, &CONTEXT_SWITCHES, &PAGING_FAULTS]
    }

    fn cadence(&self) -> Cadence {
        Cadence::EverySeconds(EVERY)
    }

    fn open(&self, context: &ProbeContext, _table: &mut SeriesTable) -> Result<Box<dyn Probe>, Reason> {
        let folder = Folder::open(&context.proc)
            .map_err(|error| Reason::new(format!("cannot list {}: {error}", context.proc.display()), "mount procfs"))?;
        Ok(Box::new(ProcessProbe {
            proc: context.proc.clone(),
            folder,
            ours: context.pids_are_ours(),
            known: Vec::new(),
            list: ProcessList::default(),
            watched_pids: Vec::new(),
            watched: Vec::new(),
            held_left: HELD,
            scratch: Scratch::new(),
            last_ns: None,
        }))
    }
}

struct ProcessProbe {
    proc: PathBuf,
    folder: Folder,
    ours: bool,
    /// Side by side with the rows of `list`.
    known: Vec<Known>,
    list: ProcessList,
    watched_pids: Vec<u32>,
    watched: Vec<Watched>,
    held_left: usize,
    scratch: Scratch,
    last_ns: Option<u64>,
}

struct Known {
    stat: Option<HeldFile>,
    /// The name as the kernel gave it.
    name: Vec<u8>,
    listed: bool,
    /// The row has been filled once.
    filled: bool,
}

struct Watched {
    pid: u32,
    start: u64,
    entity: EntityId,
    threads: Threads,
    delay_ns: u64,
    user: SeriesId,
    system: SeriesId,
    resident: SeriesId,
    count: SeriesId,
    delay: SeriesId,
    stat: Option<HeldFile>,
    io: ProcessIo,
    faults: [Rising; 2],
    switches: [u64; 2],
    disk_series: [SeriesId; 2],
    fault_series: [SeriesId; 2],
    switch_series: [SeriesId; 2],
}

impl Probe for ProcessProbe {
    fn watch(&mut self, servers: &[(EntityId, Vec<u32>)]) {
        self.watched_pids.clear();
        self.watched_pids.extend(servers.iter().flat_map(|(_, pids)| pids));
    }

    fn processes(&self) -> Option<&ProcessList> {
        Some(&self.list)
    }

    fn sample(&mut self, now: Stamp, out: &mut Sample<'_>) {
        let elapsed_ns = self.last_ns.map(|last| now.mono_ns.saturating_sub(last)).filter(|ns| *ns > 0);
        self.last_ns = Some(now.mono_ns);
        self.scan(elapsed_ns);
        self.follow_watched(out);
        for watched in &mut self.watched {
            if let Some(row) = self.list.get(watched.pid) {
                watched.push(row, self.ours, &mut self.scratch, out);
            }
        }
    }
}

impl ProcessProbe {
    fn scan(&mut self, elapsed_ns: Option<u64>) {
        let Self { folder, known, list, held_left, scratch, .. } = self;
        for process in known.iter_mut() {
            process.listed = false;
        }
        // A listing that fails half way shows fewer processes, and all again at the next scan.
        let _ = folder.numbers(&mut scratch.entries, |pid| match list.rows.binary_search_by_key(&pid, |row| row.pid) {
            Ok(at) => known[at].listed = true,
            Err(at) => {
                let stat = if *held_left == 0 { None } else { open_stat(folder, pid) };
                *held_left -= usize::from(stat.is_some());
                known.insert(at, Known { stat, name: Vec::new(), listed: true, filled: false });
                list.rows.insert(at, ProcessRow { pid, state: '?', ..ProcessRow::default() });
            }
        });
        for (process, row) in known.iter_mut().zip(&mut list.rows) {
            process.listed &= process.update(row, folder, &mut scratch.text, elapsed_ns).is_some();
        }
        let mut at = 0;
        list.rows.retain(|_| {
            at += 1;
            known[at - 1].listed
        });
        known.retain(|process| {
            *held_left += usize::from(!process.listed && process.stat.is_some());
            process.listed
        });
    }

    /// Opens what was named and is in sight, and retires what has ended or is not watched any more.
    fn follow_watched(&mut self, out: &mut Sample<'_>) {
        let Self { proc, list, watched_pids, watched, scratch, .. } = self;
        watched.retain_mut(|process| {
            let stays = watched_pids.contains(&process.pid)
                && list.get(process.pid).is_some_and(|row| row.start == process.start);
            if !stays {
                process.threads.release(scratch);
                out.table().retire(process.entity);
            }
            stays
        });
        for pid in watched_pids.iter() {
            if !watched.iter().any(|process| process.pid == *pid)
                && let Ok(at) = list.rows.binary_search_by_key(pid, |row| row.pid)
                && let Ok(threads) = Threads::open(proc, *pid, false)
            {
                list.rows[at].command = read_command(proc, *pid);
                watched.push(Watched::new(&list.rows[at], threads, proc, out));
            }
        }
    }
}

impl Known {
    /// Fills the row from `/proc/pid/stat`; `None` when the process is gone.
    fn update(
        &mut self,
        row: &mut ProcessRow,
        folder: &Folder,
        scratch: &mut Vec<u8>,
        elapsed_ns: Option<u64>,
    ) -> Option<()> {
        let opened;
        let file = if let Some(file) = &self.stat {
            file
        } else {
            opened = open_stat(folder, row.pid)?;
            &opened
        };
        let (name, fields) = parse::stat_fields(file.read(scratch).ok()?)?;
        let stat = Stat::parse(fields)?;
        // A file that was not held may be another process's by now.
        let same = self.filled && row.start == stat.start;
        let used = (stat.user_ns + stat.system_ns).saturating_sub(row.user_ns + row.system_ns);
        row.cpus = elapsed_ns.filter(|_| same).map(|elapsed| used as f64 / elapsed as f64);
        row.parent = stat.parent;
        row.start = stat.start;
        row.state = stat.state;
        row.user_ns = stat.user_ns;
        row.system_ns = stat.system_ns;
        row.resident = stat.resident;
        row.threads = stat.threads;
        if !same || name != self.name {
            self.name.clear();
            self.name.extend_from_slice(name);
            row.name = perfwatch_model::printable(name);
            row.command.clear();
        }
        self.filled = true;
        Some(())
    }
}

fn open_stat(folder: &Folder, pid: u32) -> Option<HeldFile> {
    HeldFile::open_at(folder, NumberedPath::new(pid, "stat").as_c_str()).ok()
}

/// Only what is redacted leaves this function. Empty for kernel threads and for what may not be read.
///
/// Read for watched processes alone: the kernel takes the process's memory lock for it, so a process that is preempted
/// while it holds that (a build at low priority on a busy machine) can make the reader wait for as long.
fn read_command(proc: &Path, pid: u32) -> String {
    let mut bytes = [0; COMMAND_BYTES];
    let text = HeldFile::open(&process_folder(proc, pid).join("cmdline")).and_then(|file| {
        let length = file.read_start(&mut bytes)?.len();
        Ok(command_line(&bytes[..length]))
    });
    text.unwrap_or_default()
}

struct Stat {
    state: char,
    parent: u32,
    user_ns: u64,
    system_ns: u64,
    threads: u32,
    start: u64,
    resident: u64,
}

impl Stat {
    /// From the fields after the name. Numbers of fields as in proc(5), where the first of these is 3.
    fn parse<'t>(mut fields: impl Iterator<Item = &'t [u8]>) -> Option<Self> {
        let state = char::from(*fields.next()?.first()?);
        let parent = parse::only_number(fields.next()?)? as u32;
        let user_ns = parse::only_number(fields.nth(14 - 5)?)? * tick_ns();
        let system_ns = parse::only_number(fields.next()?)? * tick_ns();
        let threads = parse::only_number(fields.nth(20 - 16)?)? as u32;
        let start = parse::only_number(fields.nth(22 - 21)?)?;
        let resident = parse::only_number(fields.nth(24 - 23)?)?.saturating_mul(rustix::param::page_size() as u64);
        Some(Self { state, parent, user_ns, system_ns, threads, start, resident })
    }
}

impl Watched {
    fn new(row: &ProcessRow, threads: Threads, proc: &Path, out: &mut Sample<'_>) -> Self {
        let entity = out.entity(
            Entity::new(EntityKind::Process, format!("{}:{}", row.pid, row.start))
                .with("process.pid", row.pid)
                .with("process.executable.name", row.name.clone())
                .with("process.command_line", row.command.clone()),
        );
        let folder = process_folder(proc, row.pid);
        let mut pair = |metric, key, values: [&'static str; 2]| {
            values.map(|value| out.series(metric, entity, &[Attr::fixed(key, value)]))
        };
        Self {
            pid: row.pid,
            start: row.start,
            stat: HeldFile::open(&folder.join("stat")).ok(),
            io: ProcessIo::open(&folder),
            faults: [Rising::default(); 2],
            switches: [0; 2],
            disk_series: pair(&DISK_IO, "disk.io.direction", ["read", "write"]),
            fault_series: pair(&PAGING_FAULTS, "system.paging.fault.type", ["minor", "major"]),
            switch_series: pair(&CONTEXT_SWITCHES, "process.context_switch.type", ["voluntary", "involuntary"]),
            entity,
            threads,
            delay_ns: 0,
            user: out.series(&CPU_TIME, entity, &[Attr::fixed("cpu.mode", "user")]),
            system: out.series(&CPU_TIME, entity, &[Attr::fixed("cpu.mode", "system")]),
            resident: out.series(&MEMORY_USAGE, entity, &[]),
            count: out.series(&THREAD_COUNT, entity, &[]),
            delay: out.series(&RUN_DELAY, entity, &[]),
        }
    }

    fn push_io_and_faults(&mut self, scratch: &mut Scratch, out: &mut Sample<'_>) {
        match self.io.bytes() {
            Some(bytes) => {
                for (series, total) in self.disk_series.into_iter().zip(bytes) {
                    out.counter(series, total);
                }
            }
            None => out.unavailable(&DISK_IO, self.entity, NO_IO),
        }
        let text = self.stat.as_ref().and_then(|file| file.read(&mut scratch.text).ok()).unwrap_or_default();
        match parse::stat_fields(text).and_then(|(_, fields)| activity::faults(fields)) {
            Some(faults) => {
                for ((series, total), count) in self.fault_series.into_iter().zip(&mut self.faults).zip(faults) {
                    out.counter(series, total.follow(count));
                }
            }
            None => out.unavailable(&PAGING_FAULTS, self.entity, NO_FAULTS),
        }
    }

    fn push(&mut self, row: &ProcessRow, ours: bool, scratch: &mut Scratch, out: &mut Sample<'_>) {
        out.counter(self.user, row.user_ns);
        out.counter(self.system, row.system_ns);
        out.gauge_int(self.resident, row.resident);
        out.gauge_int(self.count, u64::from(row.threads));
        self.push_io_and_faults(scratch, out);
        if self.threads.list(scratch).is_err() {
            return;
        }
        match self.threads.switches(scratch) {
            Some(added) => {
                for ((total, added), series) in self.switches.iter_mut().zip(added).zip(self.switch_series) {
                    *total += added;
                    out.counter(series, *total);
                }
            }
            None => out.unavailable(&CONTEXT_SWITCHES, self.entity, NO_SWITCHES),
        }
        let mut sums = ThreadSums::NOTHING;
        self.threads.measure(ours, false, scratch, &mut sums);
        match sums.delay_ns.filter(|_| sums.ever_ran) {
            Some(ns) => {
                self.delay_ns += ns;
                out.counter(self.delay, self.delay_ns);
            }
            None => out.unavailable(&RUN_DELAY, self.entity, NO_SCHEDSTAT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_stat_line_are_where_the_manual_says() {
        let line = b"4021 (py) thon) S 17 4021 4021 0 -1 4194304 900 0 3 0 250 40 7 8 20 0 9 0 123456 1000000 2048 \
            18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
        let (name, fields) = parse::stat_fields(line).expect("well formed");
        let stat = Stat::parse(fields).expect("well formed");
        assert_eq!(name, b"py) thon");
        assert_eq!((stat.state, stat.parent, stat.threads, stat.start), ('S', 17, 9, 123_456));
        assert_eq!((stat.user_ns, stat.system_ns), (250 * tick_ns(), 40 * tick_ns()));
        assert_eq!(stat.resident, 2048 * rustix::param::page_size() as u64);
    }
}
