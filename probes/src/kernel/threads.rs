//! The threads of one process: what they ran, how long they waited for a CPU, and where they may run.

use std::io;
use std::path::{Path, PathBuf};

use super::counter::Step;
use super::cpu_mask::CpuMask;
use super::folder::{Entries, Folder, NumberedPath};
use super::held::HeldFile;
use super::parse;

/// Scratch space and the allowance of open files that all trees of a probe share.
pub(crate) struct Scratch {
    pub(crate) text: Vec<u8>,
    pub(crate) entries: Entries,
    pub(crate) pids: Vec<u32>,
    /// Files that may still be kept open. Beyond it files are opened for each read: slower, but the agent never takes
    /// the descriptors it needs for its sockets (the usual soft limit is 1,024).
    pub(crate) files_left: usize,
}

/// Files kept open for threads: 128 threads with two files each stay fast.
const FILES: usize = 256;

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { text: Vec::new(), entries: super::folder::entries(), pids: Vec::new(), files_left: FILES }
    }
}

/// Threads of a process whose `status` is read, some 10 µs each.
const MOST_STATUS: usize = 256;

/// What the threads of a process, or of several, did since the last look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThreadSums {
    /// Time waited for a CPU, summed over threads; `None` when a thread's could not be read.
    pub(crate) delay_ns: Option<u64>,
    /// CPU time of the busiest thread.
    pub(crate) hottest_ns: u64,
    /// CPUs that any of them may run on.
    pub(crate) allowed: CpuMask,
    /// True when any of them was ever put on a CPU, as the scheduler counts it.
    pub(crate) ever_ran: bool,
}

impl ThreadSums {
    pub(crate) const NOTHING: Self =
        Self { delay_ns: Some(0), hottest_ns: 0, allowed: CpuMask::EMPTY, ever_ran: false };
}

struct Thread {
    tid: u32,
    ran: Step,
    waited: Step,
    /// Voluntary and involuntary context switches.
    switches: [Step; 2],
    schedstat: Option<HeldFile>,
    children: Option<HeldFile>,
    listed: bool,
}

impl Thread {
    fn files(&self) -> usize {
        usize::from(self.schedstat.is_some()) + usize::from(self.children.is_some())
    }

    /// Adds what the thread did since the last look; false when it has exited.
    fn measure(&mut self, folder: &Folder, sums: &mut ThreadSums) -> bool {
        let mut buffer = [0; 96];
        let mut text = match read(self.schedstat.as_ref(), folder, self.tid, "schedstat", &mut buffer) {
            Ok(text) => text,
            Err(error) if is_gone(&error) => return false,
            Err(_) => &[],
        };
        let mut next = || parse::next_number(&mut text);
        if let (Some(ran), Some(waited), Some(slices)) = (next(), next(), next()) {
            sums.hottest_ns = sums.hottest_ns.max(self.ran.take(ran));
            let delay = self.waited.take(waited);
            sums.delay_ns = sums.delay_ns.map(|sum| sum + delay);
            sums.ever_ran |= slices > 0;
        } else {
            sums.delay_ns = None;
        }
        true
    }
}

/// The threads of one process.
pub(crate) struct Threads {
    folder: Folder,
    list: Vec<Thread>,
    /// Set after the first look: threads that appear later began at 0 since.
    known: bool,
}

impl Threads {
    /// `born` says that the process began since the last look, so that all of its past belongs to this one.
    pub(crate) fn open(proc: &Path, pid: u32, born: bool) -> io::Result<Self> {
        let folder = Folder::open(&proc.join(pid.to_string()).join("task"))?;
        Ok(Self { folder, list: Vec::new(), known: born })
    }

    /// Looks which threads there are. An error means that the process is gone.
    pub(crate) fn list(&mut self, scratch: &mut Scratch) -> io::Result<()> {
        let Self { folder, list: threads, known } = self;
        let files_left = &mut scratch.files_left;
        for thread in threads.iter_mut() {
            thread.listed = false;
        }
        folder.numbers(&mut scratch.entries, |tid| match threads.binary_search_by_key(&tid, |thread| thread.tid) {
            Ok(at) => threads[at].listed = true,
            Err(at) => {
                let mut hold = |file| {
                    let held = if *files_left == 0 { None } else { open(folder, tid, file).ok() };
                    *files_left -= usize::from(held.is_some());
                    held
                };
                let step = if *known { Step::from_zero() } else { Step::default() };
                let (schedstat, children) = (hold("schedstat"), hold("children"));
                threads.insert(
                    at,
                    Thread { tid, ran: step, waited: step, switches: [step; 2], schedstat, children, listed: true },
                );
            }
        })?;
        threads.retain(|thread| {
            *files_left += if thread.listed { 0 } else { thread.files() };
            thread.listed
        });
        Ok(())
    }

    /// Adds what the threads did since the last look to `sums`. `ours` says that tids mean the same to system calls;
    /// `idle` that the process used no CPU time at all. Then no thread's counters have moved: the kernel books a wait when
    /// it ends on a CPU.
    pub(crate) fn measure(&mut self, ours: bool, idle: bool, scratch: &mut Scratch, sums: &mut ThreadSums) {
        for thread in &mut self.list {
            // An exited thread's share up to the last look is in the total already.
            if !idle && !thread.measure(&self.folder, sums) {
                continue;
            }
            let allowed = if ours {
                CpuMask::of_thread(thread.tid)
            } else {
                open(&self.folder, thread.tid, "status")
                    .and_then(|file| file.read(&mut scratch.text).map(CpuMask::from_status))
                    .ok()
                    .flatten()
            };
            if let Some(allowed) = allowed {
                sums.allowed.add(&allowed);
            }
        }
        self.known = true;
    }

    /// Voluntary and involuntary context switches of the threads since the last look, in what [`Self::list`] saw last.
    /// `None` when a thread's cannot be read, or when there are so many that reading them would cost too much.
    pub(crate) fn switches(&mut self, scratch: &mut Scratch) -> Option<[u64; 2]> {
        if self.list.len() > MOST_STATUS {
            return None;
        }
        let mut sums = [0; 2];
        for thread in &mut self.list {
            let status = match open(&self.folder, thread.tid, "status").and_then(|file| file.read(&mut scratch.text)) {
                Ok(text) => text,
                Err(error) if is_gone(&error) => continue,
                Err(_) => return None,
            };
            let counts = super::activity::switches(status)?;
            for ((sum, step), count) in sums.iter_mut().zip(&mut thread.switches).zip(counts) {
                *sum += step.take(count);
            }
        }
        Some(sums)
    }

    /// Adds the pids of all child processes to `scratch.pids`.
    pub(crate) fn children(&self, scratch: &mut Scratch) {
        for thread in &self.list {
            let text = match &thread.children {
                Some(file) => file.read_records(&mut scratch.text),
                None => match open(&self.folder, thread.tid, "children") {
                    Ok(file) => file.read_records(&mut scratch.text),
                    Err(_) => continue,
                },
            };
            let Ok(mut text) = text else { continue };
            while let Some(pid) = parse::next_number(&mut text) {
                scratch.pids.extend(u32::try_from(pid));
            }
        }
    }

    /// True when this kernel tells a process's children (`CONFIG_PROC_CHILDREN`).
    pub(crate) fn tells_children(&self) -> bool {
        self.list
            .first()
            .is_some_and(|thread| thread.children.is_some() || open(&self.folder, thread.tid, "children").is_ok())
    }

    /// Gives the files back to the allowance; called when the process is dropped.
    pub(crate) fn release(&mut self, scratch: &mut Scratch) {
        scratch.files_left += self.list.drain(..).map(|thread| thread.files()).sum::<usize>();
    }
}

fn open(folder: &Folder, tid: u32, file: &str) -> io::Result<HeldFile> {
    HeldFile::open_at(folder, NumberedPath::new(tid, file).as_c_str())
}

fn read<'b>(
    held: Option<&HeldFile>,
    folder: &Folder,
    tid: u32,
    file: &str,
    buffer: &'b mut [u8],
) -> io::Result<&'b [u8]> {
    match held {
        Some(held) => held.read_start(buffer),
        None => open(folder, tid, file)?.read_start(buffer),
    }
}

/// True for the errors of a process or thread that has exited, as opposed to one that may not be read.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

/// `/proc/pid`, for the things that are read once.
pub(crate) fn process_folder(proc: &Path, pid: u32) -> PathBuf {
    proc.join(pid.to_string())
}
