//! The processes of one model server: those that its clients named, and everything these started.

use std::path::Path;

use super::counter::Step;
use super::cpu_clock::process_cpu_ns;
use super::cpu_times::tick_ns;
use super::held::HeldFile;
use super::parse;
use super::threads::{Scratch, ThreadSums, Threads, is_gone, process_folder};

struct Process {
    pid: u32,
    /// The process of this tree whose child it was when it was found; `None` for a root.
    parent: Option<u32>,
    threads: Threads,
    cpu: Step,
    /// `/proc/pid/stat`, where the pid means nothing to system calls.
    stat: Option<HeldFile>,
    measured: bool,
    /// Began since the last look, as far as the list of children tells.
    newborn: bool,
    alive: bool,
}

impl Process {
    fn open(proc: &Path, pid: u32, parent: Option<u32>, born: bool, ours: bool) -> std::io::Result<Self> {
        let stat = if ours { None } else { Some(HeldFile::open(&process_folder(proc, pid).join("stat"))?) };
        let cpu = if born { Step::from_zero() } else { Step::default() };
        Ok(Self {
            pid,
            parent,
            threads: Threads::open(proc, pid, born)?,
            cpu,
            stat,
            measured: born,
            newborn: born,
            alive: true,
        })
    }

    fn cpu_ns(&self, scratch: &mut Scratch) -> Option<u64> {
        let Some(stat) = &self.stat else { return process_cpu_ns(self.pid).ok() };
        let (_, mut fields) = parse::stat_fields(stat.read(&mut scratch.text).ok()?)?;
        // utime and stime are fields 14 and 15; counting starts at field 3.
        let user = parse::only_number(fields.nth(11)?)?;
        let system = parse::only_number(fields.next()?)?;
        Some((user + system) * tick_ns())
    }
}

/// What a tree did since the last look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TreeSample {
    /// CPU time of all its processes.
    pub(crate) cpu_ns: u64,
    /// Its threads.
    pub(crate) threads: ThreadSums,
    /// Processes that were seen alive.
    pub(crate) processes: usize,
    /// False when a process was met for the first time although it is older than the last look: what it did since then
    /// is not in `cpu_ns`.
    pub(crate) complete: bool,
}

/// The processes of one model server.
pub(crate) struct ProcessTree {
    roots: Vec<u32>,
    processes: Vec<Process>,
    /// Roots that were seen to end. Their pids may be given to strangers.
    ended: Vec<u32>,
    stale: bool,
}

impl ProcessTree {
    pub(crate) fn new() -> Self {
        Self { roots: Vec::new(), processes: Vec::new(), ended: Vec::new(), stale: true }
    }

    /// Takes over the present set of roots. What a root that is not in it had started leaves with it.
    pub(crate) fn set_roots(&mut self, pids: &[u32], scratch: &mut Scratch) {
        self.ended.retain(|pid| pids.contains(pid));
        self.roots.clear();
        self.roots.extend(pids.iter().filter(|pid| **pid != 0));
        self.disown(scratch, |process| process.parent.is_none());
        for process in &mut self.processes {
            if self.roots.contains(&process.pid) {
                process.parent = None;
            }
        }
        self.stale = true;
    }

    /// Drops the processes that are no roots and `leaves` names, with everything below them. Orphans of processes that
    /// have ended stay.
    fn disown(&mut self, scratch: &mut Scratch, leaves: impl Fn(&Process) -> bool) {
        let Self { processes, roots, .. } = self;
        let mut gone = Vec::new();
        // A child stands behind the parent that it was found by.
        processes.retain_mut(|process| {
            let stays = roots.contains(&process.pid)
                || !(leaves(process) || process.parent.is_some_and(|parent| gone.contains(&parent)));
            if !stays {
                gone.push(process.pid);
                process.threads.release(scratch);
            }
            stays
        });
    }

    /// The first root that is alive, whose control group stands for the server's.
    pub(crate) fn leader(&self) -> Option<u32> {
        self.processes.iter().map(|process| process.pid).find(|pid| self.roots.contains(pid))
    }

    /// False when this kernel does not tell the children of a process.
    pub(crate) fn tells_children(&self) -> bool {
        self.processes.first().is_none_or(|process| process.threads.tells_children())
    }

    /// True when no root was ever seen.
    pub(crate) fn never_seen(&self) -> bool {
        self.ended.is_empty() && self.processes.is_empty()
    }

    /// Takes one look. `look_around` says that tasks may have been created since the last one; `others` are the roots of
    /// all servers: a server inside another's tree is its own. `ceiling_ns` is the CPU time that the machine had since.
    pub(crate) fn sample(
        &mut self,
        proc: &Path,
        ours: bool,
        look_around: bool,
        others: &[u32],
        ceiling_ns: u64,
        scratch: &mut Scratch,
    ) -> TreeSample {
        if look_around || self.stale {
            self.discover(proc, ours, others, scratch);
            self.stale = false;
        }
        let mut sample = TreeSample { cpu_ns: 0, threads: ThreadSums::NOTHING, processes: 0, complete: true };
        for process in &mut self.processes {
            match process.cpu_ns(scratch) {
                Some(total) => {
                    // An orphan that was handed to the server has a past that is not the server's.
                    let newborn = std::mem::take(&mut process.newborn);
                    if newborn && total > ceiling_ns {
                        process.cpu = Step::default();
                        process.measured = false;
                    }
                    sample.complete &= process.measured;
                    let used = process.cpu.take(total);
                    sample.cpu_ns += used;
                    sample.processes += 1;
                    let idle = ours && used == 0 && process.measured && !newborn;
                    process.threads.measure(ours, idle, scratch, &mut sample.threads);
                    process.measured = true;
                }
                None => process.alive = false,
            }
        }
        self.bury(scratch);
        sample
    }

    fn discover(&mut self, proc: &Path, ours: bool, others: &[u32], scratch: &mut Scratch) {
        self.disown(scratch, |process| others.binary_search(&process.pid).is_ok());
        for at in 0..self.roots.len() {
            let pid = self.roots[at];
            if !self.has(pid) && !self.ended.contains(&pid) {
                self.processes.extend(Process::open(proc, pid, None, false, ours));
            }
        }
        let mut at = 0;
        while let Some(process) = self.processes.get_mut(at) {
            at += 1;
            if let Err(error) = process.threads.list(scratch) {
                process.alive = !is_gone(&error);
                continue;
            }
            // A child that was not there when its parent was last looked at began since.
            let (parent, born) = (Some(process.pid), process.measured);
            scratch.pids.clear();
            process.threads.children(scratch);
            for child in 0..scratch.pids.len() {
                let pid = scratch.pids[child];
                if !self.has(pid) && others.binary_search(&pid).is_err() {
                    self.processes.extend(Process::open(proc, pid, parent, born, ours));
                }
            }
        }
        self.bury(scratch);
    }

    fn has(&self, pid: u32) -> bool {
        self.processes.iter().any(|process| process.pid == pid)
    }

    fn bury(&mut self, scratch: &mut Scratch) {
        let Self { processes, roots, ended, .. } = self;
        processes.retain_mut(|process| {
            if !process.alive {
                process.threads.release(scratch);
                if roots.contains(&process.pid) {
                    ended.push(process.pid);
                }
            }
            process.alive
        });
    }

    /// Forgets everything and gives the files back.
    pub(crate) fn close(&mut self, scratch: &mut Scratch) {
        for process in &mut self.processes {
            process.threads.release(scratch);
        }
        self.processes.clear();
    }
}
