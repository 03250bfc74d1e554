//! A control group with a CPU limit, made for one process and removed after it. Versions 1 and 2.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::DemoError;

/// The scheduler's usual period, in microseconds.
const PERIOD_US: u64 = 100_000;
/// What our groups are called, before the process id of the demo that made them.
const PREFIX: &str = "perfwatch-demo-";
const NEEDS: &str = "the right to create a control group with a CPU limit (run as root, or in a delegated group)";

/// A control group of this demo's own; removed when dropped, its processes moved to the group above it.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    fault: &'static str,
}

/// Where a group could be made.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    V1(PathBuf),
    V2(PathBuf),
}

impl Place {
    /// Version 2 has one tree for all controllers, and the CPU's may be bound to a version 1 tree beside it.
    fn controls_cpu(&self) -> bool {
        match self {
            Self::V1(_) => true,
            Self::V2(parent) => fs::read_to_string(parent.join("cgroup.controllers"))
                .is_ok_and(|controllers| controllers.split_ascii_whitespace().any(|name| name == "cpu")),
        }
    }
}

impl Group {
    /// Makes a group that may use `cores` on average.
    pub(super) fn create(fault: &'static str, cores: f64) -> Result<Self, DemoError> {
        let refuse = |why: String| DemoError::CannotInject { fault, why, needs: NEEDS };
        let read =
            |path: &str| fs::read_to_string(path).map_err(|error| refuse(format!("cannot read {path}: {error}")));
        let places = places(&read("/proc/self/mounts")?, &read("/proc/self/cgroup")?);
        let mut why = None;
        for place in places.iter().filter(|place| place.controls_cpu()) {
            match Self::create_in(place, fault, cores) {
                Ok(group) => return Ok(group),
                // The first place is the likeliest, so its refusal is the one to tell.
                Err(error) => why = why.or(Some(error)),
            }
        }
        Err(refuse(why.unwrap_or_else(|| "no CPU controller is mounted".to_owned())))
    }

    fn create_in(place: &Place, fault: &'static str, cores: f64) -> Result<Self, String> {
        let (Place::V1(parent) | Place::V2(parent)) = place;
        sweep(parent);
        if let Place::V2(_) = place {
            // Fails where the group above holds processes; it is no matter where the controller is on already.
            let _ = fs::write(parent.join("cgroup.subtree_control"), "+cpu");
        }
        let path = parent.join(format!("{PREFIX}{}-{}", std::process::id(), serial()));
        let failed = |path: &Path| {
            let path = path.display().to_string();
            move |error: io::Error| format!("cannot write {path}: {error}")
        };
        fs::create_dir(&path).map_err(|error| format!("cannot create {}: {error}", path.display()))?;
        // From here on a failure removes it again.
        let group = Self { path, fault };
        let quota = (cores * PERIOD_US as f64).round() as u64;
        match place {
            Place::V1(_) => {
                let (period, limit) = (group.path.join("cpu.cfs_period_us"), group.path.join("cpu.cfs_quota_us"));
                fs::write(&period, PERIOD_US.to_string()).map_err(failed(&period))?;
                fs::write(&limit, quota.to_string()).map_err(failed(&limit))?;
            }
            Place::V2(_) => {
                let limit = group.path.join("cpu.max");
                fs::write(&limit, format!("{quota} {PERIOD_US}")).map_err(failed(&limit))?;
            }
        }
        Ok(group)
    }

    /// Moves a process into the group.
    pub(super) fn hold(&self, pid: u32) -> Result<(), DemoError> {
        let path = self.path.join("cgroup.procs");
        fs::write(&path, pid.to_string()).map_err(|error| DemoError::CannotInject {
            fault: self.fault,
            why: format!("cannot move a process into {}: {error}", path.display()),
            needs: NEEDS,
        })
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(parent) = self.path.parent() else { return };
        for process in fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default().lines() {
            // A process that has ended meanwhile is out as well.
            let _ = fs::write(parent.join("cgroup.procs"), process);
        }
        // The server may have removed it itself.
        let _ = fs::remove_dir(&self.path);
    }
}

/// One demo may make several groups, one after the other.
fn serial() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Relaxed)
}

/// Removes what demos left behind that were killed together with their server.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split_once('-')).map(|(pid, _)| pid);
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Only an empty group can be removed, so a wrong guess does no harm.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Where a group for a child of this process could be made, best first.
fn places(mounts: &str, own: &str) -> Vec<Place> {
    let mut places = Vec::new();
    for mount in mounts.lines() {
        let fields: Vec<&str> = mount.split_ascii_whitespace().collect();
        let [_, point, kind, options, ..] = fields[..] else { continue };
        // `id:controllers:path`, the controllers empty for version 2.
        let path_of = |wanted: &str| {
            own.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (controllers, path) = (parts.next()?, parts.next()?);
                controllers
                    .split(',')
                    .any(|name| name == wanted)
                    .then(|| Path::new(point).join(path.trim_start_matches('/')))
            })
        };
        if kind == "cgroup" && options.split(',').any(|option| option == "cpu") {
            places.extend(path_of("cpu").map(Place::V1));
        } else if kind == "cgroup2" {
            let Some(path) = path_of("") else { continue };
            // Beside us: version 2 wants processes only in groups without groups below them.
            let above = path.parent().filter(|above| above.starts_with(point)).map(Path::to_owned);
            places.extend(above.into_iter().chain([path]).map(Place::V2));
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_found_where_they_are_mounted() {
        let v1 = "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\ntmpfs /tmp tmpfs rw 0 0\n";
        assert_eq!(
            places(v1, "4:memory:/m\n1:cpu,cpuacct:/jobs/7\n0::/\n"),
            [Place::V1("/sys/fs/cgroup/cpu,cpuacct/jobs/7".into())]
        );
        let v2 = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n";
        assert_eq!(
            places(v2, "0::/user.slice/me\n"),
            [Place::V2("/sys/fs/cgroup/user.slice".into()), Place::V2("/sys/fs/cgroup/user.slice/me".into())]
        );
        assert_eq!(places(v2, "0::/\n"), [Place::V2("/sys/fs/cgroup/".into())]);
        assert_eq!(places("proc /proc proc rw 0 0\n", "0::/\n"), []);
    }

    #[test]
    fn a_refused_group_says_what_it_needs_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("not-a-folder");
        fs::write(&file, "").unwrap();
        let error = Group::create_in(&Place::V1(file), "cpu-quota", 0.3).unwrap_err();
        assert!(error.starts_with("cannot create "), "{error}");
    }

    #[test]
    fn a_second_tree_without_the_controller_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::V2(folder.path().to_owned());
        assert!(!place.controls_cpu(), "not a control group at all");
        fs::write(folder.path().join("cgroup.controllers"), "cpuset memory\n").unwrap();
        assert!(!place.controls_cpu());
        fs::write(folder.path().join("cgroup.controllers"), "cpuset cpu memory\n").unwrap();
        assert!(place.controls_cpu());
    }

    #[test]
    fn a_version_2_group_gets_its_quota_and_an_old_one_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        // No process has number 0.
        let old = folder.path().join(format!("{PREFIX}0-0"));
        fs::create_dir(&old).unwrap();
        let group = Group::create_in(&Place::V2(folder.path().to_owned()), "cpu-quota", 0.3).unwrap();
        assert_eq!(fs::read_to_string(group.path().join("cpu.max")).unwrap(), "30000 100000");
        assert_eq!(fs::read_to_string(folder.path().join("cgroup.subtree_control")).unwrap(), "+cpu");
        assert!(!old.exists());
    }

    #[test]
    fn a_group_is_removed_when_dropped_with_a_process_in_it() {
        match Group::create("cpu-quota", 0.3) {
            Ok(group) => {
                let path = group.path().to_owned();
                #[allow(clippy::disallowed_methods, reason = "a group needs a real process to hold")]
                let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
                group.hold(child.id()).unwrap();
                let held = fs::read_to_string(path.join("cgroup.procs")).unwrap();
                drop(group);
                child.kill().unwrap();
                child.wait().unwrap();
                assert_eq!(held.trim(), child.id().to_string());
                assert!(!path.exists());
            }
            // Without the right to, the refusal is what there is to test.
            Err(error) => {
                assert_eq!(error.exit_code(), 2);
                assert!(error.to_string().contains("it needs the right to create a control group"), "{error}");
            }
        }
    }
}
