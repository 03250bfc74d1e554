//! Whose pids a driver tells, where the agent is in a pid namespace of its own.
//!
//! Older kernel modules tell the host's pids, whoever asks. Newer ones (the first of them around 2024) tell each as the namespace
//! counts that asks, leave out what is not in sight of it, and name the thread that opened the device rather than its process.
//! Neither says which it does, so the pids themselves have to: those of a list are this namespace's where each is something in our
//! `/proc` that has the driver open. One that only looks so would have to be the host's pid of one process and ours of another, both
//! of them with the driver open, for all that are in the list.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// What each file of the driver begins with.
pub(super) const DRIVER: &[u8] = b"/dev/nvidia";

/// The pids of a device's lists that were found to be ours.
#[derive(Default)]
pub(super) struct Namespace {
    /// Pids as the driver tells them, sorted, each with its process.
    ours: Vec<(u32, u32)>,
    /// Those of the look before, which need no other.
    before: Vec<(u32, u32)>,
    /// One that was not, and for how many looks that is believed: there may be much to read in finding it out.
    foreign: Option<(u32, u32)>,
    path: String,
}

/// Looks for which a pid is believed not to be ours, as long as it is listed: half a minute.
const BELIEVED: u32 = 15;

impl Namespace {
    /// Whether all of these pids, which are sorted, are of our namespace; of none nothing can be told, which is false. Open files
    /// are read without special rights for processes of our own user; those of others count as not ours, unless the agent may
    /// look at them (`CAP_SYS_PTRACE`).
    pub(super) fn has_all(&mut self, proc: &Path, pids: impl Iterator<Item = u32> + Clone) -> bool {
        if let Some((foreign, looks @ 1..)) = &mut self.foreign
            && pids.clone().any(|pid| pid == *foreign)
        {
            *looks -= 1;
            return false;
        }
        self.foreign = None;
        std::mem::swap(&mut self.ours, &mut self.before);
        self.ours.clear();
        for pid in pids {
            if self.ours.last().is_some_and(|(last, _)| *last == pid) {
                continue;
            }
            let known = self.before.binary_search_by_key(&pid, |(told, _)| *told).map(|at| self.before[at].1);
            let Some(process) = known.ok().or_else(|| self.find(proc, pid)) else {
                self.foreign = Some((pid, BELIEVED));
                return false;
            };
            self.ours.push((pid, process));
        }
        !self.ours.is_empty()
    }

    /// The process that the driver means by a pid.
    pub(super) fn process(&self, pid: u32) -> u32 {
        self.ours.binary_search_by_key(&pid, |(told, _)| *told).map_or(pid, |at| self.ours[at].1)
    }

    /// The process of a thread that has the driver open.
    fn find(&mut self, proc: &Path, pid: u32) -> Option<u32> {
        self.path.clear();
        write!(self.path, "{}/{pid}/fd", proc.display()).ok()?;
        let is_driver = |file: &Path| file.as_os_str().as_bytes().starts_with(DRIVER);
        let mut files = std::fs::read_dir(&self.path).ok()?.flatten();
        if !files.any(|file| std::fs::read_link(file.path()).is_ok_and(|file| is_driver(&file))) {
            return None;
        }
        let status = std::fs::read_to_string(Path::new(&self.path).with_file_name("status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process in a `/proc` of our own, that has this file open.
    fn process(proc: &Path, pid: u32, group: u32, file: &str) {
        let folder = proc.join(pid.to_string());
        std::fs::create_dir_all(folder.join("fd")).expect("created");
        std::fs::write(folder.join("status"), format!("Name:\tserver\nTgid:\t{group}\n")).expect("written");
        std::os::unix::fs::symlink(file, folder.join("fd/7")).expect("linked");
    }

    #[test]
    fn pids_are_ours_where_each_has_the_driver_open_and_none_tell_nothing() {
        let proc = tempfile::tempdir().expect("a folder");
        process(proc.path(), 7, 7, "/dev/nvidiactl");
        process(proc.path(), 8, 8, "/dev/null");
        let ours = |pids: &[u32]| Namespace::default().has_all(proc.path(), pids.iter().copied());
        assert!(ours(&[7]) && ours(&[7, 7]));
        assert!(!ours(&[7, 8]) && !ours(&[7, 9]) && !ours(&[]));
    }

    #[test]
    fn a_thread_is_its_process() {
        let proc = tempfile::tempdir().expect("a folder");
        process(proc.path(), 7, 7, "/dev/nvidia0");
        process(proc.path(), 12, 7, "/dev/nvidia0");
        let mut namespace = Namespace::default();
        assert!(namespace.has_all(proc.path(), [7, 12].into_iter()));
        assert_eq!([7, 12].map(|pid| namespace.process(pid)), [7, 7]);
    }

    #[test]
    fn what_was_not_found_is_looked_for_again_after_half_a_minute_or_when_the_list_is_another() {
        let proc = tempfile::tempdir().expect("a folder");
        process(proc.path(), 7, 7, "/dev/nvidia0");
        let mut namespace = Namespace::default();
        let mut ours = |pids: &[u32]| namespace.has_all(proc.path(), pids.iter().copied());
        assert!(!ours(&[7, 8]));
        process(proc.path(), 8, 8, "/dev/nvidia0");
        assert!((0..BELIEVED).all(|_| !ours(&[7, 8])));
        assert!(ours(&[7, 8]));
        assert!(!ours(&[7, 9]) && ours(&[7]));
    }

    #[test]
    fn what_was_found_once_is_not_looked_for_again_as_long_as_it_is_listed() {
        let proc = tempfile::tempdir().expect("a folder");
        process(proc.path(), 7, 7, "/dev/nvidia0");
        process(proc.path(), 8, 8, "/dev/nvidia0");
        let mut namespace = Namespace::default();
        assert!(namespace.has_all(proc.path(), [7, 8].into_iter()));
        std::fs::remove_dir_all(proc.path().join("7")).expect("removed");
        assert!(namespace.has_all(proc.path(), [7, 8].into_iter()));
        assert!(namespace.has_all(proc.path(), [8].into_iter()));
        assert!(!namespace.has_all(proc.path(), [7, 8].into_iter()), "it is gone, and another may have its pid");
    }
}
