//! Pids across pid namespaces: one process has a pid in its own namespace and one in each above it.

use std::path::Path;

use crate::kernel::folder::{Folder, entries};
use crate::kernel::threads::process_folder;

/// Why a process cannot be found by its pids.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// procfs cannot be listed.
    #[error("cannot list {path}: {source}")]
    Unreadable {
        /// Where procfs should be.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// No process in sight has these pids. The agent may be in another pid namespace.
    #[error("no process with the pids {0:?} is visible; run the agent in the host's pid namespace")]
    NotVisible(Vec<u32>),
    /// Several have: processes of different containers with the same pid inside.
    #[error("pids {0:?} are those of several processes ({1:?}); give the server's control group, too")]
    Ambiguous(Vec<u32>, Vec<u32>),
}

/// The pids of a process from the namespace of `proc` inwards, its own namespace's last (`NSpid`). A kernel before 4.1
/// tells only the first. `None` when there is no such process.
pub fn pid_chain(proc: &Path, pid: u32) -> Option<Vec<u32>> {
    let status = std::fs::read_to_string(process_folder(proc, pid).join("status")).ok()?;
    let Some(line) = status.lines().find_map(|line| line.strip_prefix("NSpid:")) else { return Some(vec![pid]) };
    line.split_ascii_whitespace().map(|pid| pid.parse().ok()).collect()
}

/// The pid, as `proc` counts, of the process that calls itself `chain` (which ends with the pid in its own namespace, and
/// may know fewer namespaces than `proc` does) and that started at `start_ticks`, in clock ticks since boot; 0 when it does
/// not know. The first process of every container calls itself 1, that of the agent's own too: only the time of its start
/// tells whether the one in sight is meant. Where several are left, `control_group`, the text of the process's own
/// `/proc/self/cgroup`, decides if it is given and tells them apart.
pub fn find_pid(
    proc: &Path,
    chain: &[u32],
    start_ticks: u64,
    control_group: Option<&str>,
) -> Result<u32, ResolveError> {
    let unreadable = |source| ResolveError::Unreadable { path: proc.display().to_string(), source };
    let mut found = Vec::new();
    Folder::open(proc)
        .and_then(|folder| {
            folder.numbers(&mut entries(), |pid| {
                if pid_chain(proc, pid).is_some_and(|known| !chain.is_empty() && known.ends_with(chain)) {
                    found.push(pid);
                }
            })
        })
        .map_err(unreadable)?;
    if start_ticks != 0 {
        found.retain(|pid| start_of(proc, *pid) == Some(start_ticks));
    }
    if found.len() > 1
        && let Some(wanted) = control_group
    {
        let same = |pid: &u32| {
            std::fs::read_to_string(process_folder(proc, *pid).join("cgroup"))
                .is_ok_and(|text| same_group(&text, wanted))
        };
        let narrowed: Vec<u32> = found.iter().copied().filter(same).collect();
        if !narrowed.is_empty() {
            found = narrowed;
        }
    }
    match found[..] {
        [pid] => Ok(pid),
        [] => Err(ResolveError::NotVisible(chain.to_vec())),
        _ => Err(ResolveError::Ambiguous(chain.to_vec(), found)),
    }
}

/// When a process started, in clock ticks since boot: field 22 of its `stat`, the name in field 2 may hold anything.
fn start_of(proc: &Path, pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(process_folder(proc, pid).join("stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// A process in a cgroup namespace sees the end of the path that the host sees.
fn same_group(seen_from_here: &str, seen_by_itself: &str) -> bool {
    let paths = |text: &str| -> Vec<(String, String)> {
        text.lines()
            .filter_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                Some((parts.next()?.to_owned(), parts.next()?.trim_end_matches('/').to_owned()))
            })
            .collect()
    };
    let own = paths(seen_by_itself);
    let here = paths(seen_from_here);
    !own.is_empty()
        && own.iter().all(|(controllers, path)| {
            here.iter().any(|(other, known)| other == controllers && known.ends_with(path.as_str()))
        })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn tree(processes: &[(u32, &str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (pid, chain, group) in processes {
            let process = folder.path().join(pid.to_string());
            fs::create_dir(&process).expect("new");
            fs::write(process.join("status"), format!("Name:\tx\nNSpid:\t{chain}\nThreads:\t1\n")).expect("new");
            fs::write(process.join("cgroup"), format!("0::{group}\n")).expect("new");
        }
        folder
    }

    #[test]
    fn own_chain_ends_with_own_pid() {
        let chain = pid_chain(Path::new("/proc"), std::process::id()).expect("alive");
        assert_eq!(chain.first(), Some(&std::process::id()));
        assert_eq!(find_pid(Path::new("/proc"), &chain, 0, None).expect("visible"), std::process::id());
    }

    #[test]
    fn the_first_process_of_another_container_is_not_taken_for_the_one_in_sight() {
        let proc = Path::new("/proc");
        let own = std::process::id();
        let start = start_of(proc, own).expect("alive");
        assert_eq!(find_pid(proc, &[own], start, None).expect("it is me"), own);
        let error = find_pid(proc, &[own], start + 1, None).expect_err("somebody else with my pid");
        assert!(matches!(error, ResolveError::NotVisible(_)), "{error}");
    }

    #[test]
    fn containers_with_the_same_pid_inside_are_told_apart_by_their_group() {
        let proc = tree(&[(900, "900\t7", "/kubepods/a"), (901, "901\t7", "/kubepods/b"), (7, "7", "/")]);
        assert!(
            matches!(find_pid(proc.path(), &[7], 0, None), Err(ResolveError::Ambiguous(_, found)) if found.len() == 3)
        );
        assert_eq!(find_pid(proc.path(), &[7], 0, Some("0::/kubepods/b\n")).expect("unique"), 901);
        assert_eq!(find_pid(proc.path(), &[900, 7], 0, None).expect("unique"), 900);
    }

    #[test]
    fn a_process_out_of_sight_is_said_to_be() {
        let proc = tree(&[(900, "900\t7", "/")]);
        assert!(matches!(find_pid(proc.path(), &[8], 0, None), Err(ResolveError::NotVisible(_))));
        assert!(matches!(find_pid(proc.path(), &[], 0, None), Err(ResolveError::NotVisible(_))));
        assert!(matches!(find_pid(Path::new("/no/proc"), &[8], 0, None), Err(ResolveError::Unreadable { .. })));
    }
}
