//! What the process's own control group gets, seen from inside: an agent in another container may not see it.

use std::fs;
use std::path::{Path, PathBuf};

use perfwatch_wire::limits::MAX_TEXT;
use perfwatch_wire::message::ControlGroup;

use crate::identity::cut;
use crate::kernel_file;

/// Version 1 has no unlimited memory; it reports a number near 2^63 instead.
const V1_UNLIMITED: u64 = 1 << 62;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// Where a controller keeps the process's group: its folder first, then its ancestors as far as they are mounted.
#[derive(Debug)]
struct Place {
    version: Version,
    levels: Vec<PathBuf>,
}

/// Gauges, and counters as running totals; as the protocol names them.
pub(crate) type Reading = ControlGroup;

/// Reads the group of the calling process; follows it when it is moved.
pub(crate) struct Reader {
    /// `/`, but in tests.
    root: PathBuf,
    membership: String,
    cpu: Option<Place>,
    account: Option<Place>,
    cpuset: Option<Place>,
    memory: Option<Place>,
    pressure: Option<Place>,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self::under("/")
    }

    fn under(root: impl Into<PathBuf>) -> Self {
        let (membership, root) = (String::new(), root.into());
        Self { root, membership, cpu: None, account: None, cpuset: None, memory: None, pressure: None }
    }

    /// The present reading; `None` when no group is in sight.
    pub(crate) fn read(&mut self) -> Option<Reading> {
        let membership = kernel_file::text(&self.root.join("proc/self/cgroup"))?;
        if membership != self.membership {
            let mounts = fs::read_to_string(self.root.join("proc/self/mountinfo")).ok()?;
            let find = |controller: &str| locate(&self.root, &mounts, &membership, controller);
            (self.cpu, self.cpuset, self.memory) = (find("cpu"), find("cpuset"), find("memory"));
            self.account = find("cpuacct").or_else(|| find("cpu"));
            self.pressure = find("").filter(|place| place.version == Version::V2);
            self.membership = membership;
        }
        if self.cpu.is_none() && self.cpuset.is_none() && self.memory.is_none() {
            return None;
        }
        let mut reading = Reading::default();
        if let Some(place) = &self.cpuset {
            let names: &[&str] = match place.version {
                Version::V1 => &["cpuset.effective_cpus", "cpuset.cpus"],
                Version::V2 => &["cpuset.cpus.effective"],
            };
            let list = names.iter().find_map(|name| place.own(name)).unwrap_or_default();
            cut(list.trim(), MAX_TEXT).clone_into(&mut reading.cpus);
        }
        if let Some(place) = &self.cpu {
            read_cpu(place, &mut reading);
        }
        reading.cpu_ns = self.account.as_ref().and_then(read_used);
        if let Some(place) = &self.memory {
            read_memory(place, &mut reading);
        }
        if let Some(place) = &self.pressure {
            let file = |name: &str| place.own(name).unwrap_or_default();
            let (memory, io) = (file("memory.pressure"), file("io.pressure"));
            reading.cpu_some_ns = pressure(&file("cpu.pressure"), "some");
            (reading.memory_some_ns, reading.memory_full_ns) = (pressure(&memory, "some"), pressure(&memory, "full"));
            (reading.io_some_ns, reading.io_full_ns) = (pressure(&io, "some"), pressure(&io, "full"));
        }
        Some(reading)
    }
}

impl Place {
    fn own(&self, file: &str) -> Option<String> {
        kernel_file::text(&self.levels.first()?.join(file))
    }
}

/// The quota of the level that allows the least, and how often that level ran out.
fn read_cpu(place: &Place, reading: &mut Reading) {
    let quotas = place.levels.iter().filter_map(|level| Some((quota(place.version, level)?, level)));
    let tightest = quotas.min_by_key(|(quota, _)| *quota);
    reading.quota_ns_per_s = tightest.as_ref().map(|(quota, _)| *quota);
    let Some(level) = tightest.map(|(_, level)| level).or(place.levels.first()) else { return };
    let Some(stat) = kernel_file::text(&level.join("cpu.stat")) else { return };
    reading.periods = field(&stat, "nr_periods");
    reading.throttled_periods = field(&stat, "nr_throttled");
    reading.throttled_ns = match place.version {
        Version::V1 => field(&stat, "throttled_time"),
        Version::V2 => field(&stat, "throttled_usec").map(|us| us.saturating_mul(1_000)),
    };
}

/// CPU time of all processes in the group. Of the machine's root group nothing: it has everybody's, and whoever compares it
/// with the machine's would find the server alone there.
fn read_used(place: &Place) -> Option<u64> {
    let level = place.levels.first()?;
    match place.version {
        Version::V1 if !level.join("release_agent").exists() => place.own("cpuacct.usage")?.trim().parse().ok(),
        Version::V2 if level.join("cgroup.events").exists() => {
            field(&place.own("cpu.stat")?, "usage_usec").map(|us| us.saturating_mul(1_000))
        }
        Version::V1 | Version::V2 => None,
    }
}

/// CPU nanoseconds per second that a level allows; `None` without a quota.
fn quota(version: Version, level: &Path) -> Option<u64> {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let file = |name: &str| kernel_file::text(&level.join(name));
    let (quota, period) = match version {
        Version::V1 => (number(&file("cpu.cfs_quota_us")?)?, number(&file("cpu.cfs_period_us")?)?),
        Version::V2 => {
            let text = file("cpu.max")?;
            let (quota, period) = text.trim().split_once(' ')?;
            (number(quota)?, number(period)?)
        }
    };
    u64::try_from(u128::from(quota) * 1_000_000_000 / u128::from(period.max(1))).ok()
}

fn read_memory(place: &Place, reading: &mut Reading) {
    let number = |file: &str| place.own(file)?.trim().parse::<u64>().ok();
    match place.version {
        Version::V1 => {
            reading.memory_bytes = number("memory.usage_in_bytes");
            reading.memory_limit_bytes = number("memory.limit_in_bytes").filter(|limit| *limit < V1_UNLIMITED);
            reading.memory_limit_hits = number("memory.failcnt");
            reading.oom_kills = place.own("memory.oom_control").and_then(|text| field(&text, "oom_kill"));
        }
        Version::V2 => {
            let events = place.own("memory.events").unwrap_or_default();
            reading.memory_bytes = number("memory.current");
            reading.memory_limit_bytes = number("memory.max");
            reading.memory_limit_hits = field(&events, "max");
            reading.oom_kills = field(&events, "oom_kill");
        }
    }
}

/// What came in between two readings. A counter that ran backward (the process was moved to another group) starts anew.
pub(crate) fn since(now: &Reading, before: Option<&Reading>) -> ControlGroup {
    let gained = |counter: fn(&Reading) -> Option<u64>| {
        let (now, before) = (counter(now)?, before.and_then(counter)?);
        Some(now.saturating_sub(before))
    };
    ControlGroup {
        cpus: now.cpus.clone(),
        quota_ns_per_s: now.quota_ns_per_s,
        periods: gained(|r| r.periods),
        throttled_periods: gained(|r| r.throttled_periods),
        throttled_ns: gained(|r| r.throttled_ns),
        memory_bytes: now.memory_bytes,
        memory_limit_bytes: now.memory_limit_bytes,
        memory_limit_hits: gained(|r| r.memory_limit_hits),
        oom_kills: gained(|r| r.oom_kills),
        cpu_some_ns: gained(|r| r.cpu_some_ns),
        memory_some_ns: gained(|r| r.memory_some_ns),
        memory_full_ns: gained(|r| r.memory_full_ns),
        io_some_ns: gained(|r| r.io_some_ns),
        io_full_ns: gained(|r| r.io_full_ns),
        cpu_ns: gained(|r| r.cpu_ns),
    }
}

/// The value of `key` in lines of `key value`.
fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The `total` of a pressure file's line, in nanoseconds.
fn pressure(text: &str, line: &str) -> Option<u64> {
    let line = text.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(' '))?;
    let total: u64 = line.split(' ').find_map(|part| part.strip_prefix("total="))?.parse().ok()?;
    Some(total.saturating_mul(1_000))
}

/// Finds the process's group for a controller, in version 1's hierarchy if that has claimed it, else in the unified one.
/// Without a controller: in the unified one.
fn locate(root: &Path, mounts: &str, membership: &str, controller: &str) -> Option<Place> {
    let has = |list: &str| !controller.is_empty() && list.split(',').any(|name| name == controller);
    [Version::V1, Version::V2].into_iter().find_map(|version| {
        let group = membership.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            let found = match version {
                Version::V1 => has(controllers),
                Version::V2 => number == "0" && controllers.is_empty(),
            };
            found.then_some(path)
        })?;
        mounts.lines().find_map(|line| {
            let (mount, source) = line.split_once(" - ")?;
            let mut source = source.split(' ');
            let kind = source.next()?;
            let mounted = match version {
                Version::V1 => kind == "cgroup" && has(source.nth(1)?),
                Version::V2 => kind == "cgroup2",
            };
            let mut mount = mount.split(' ').skip(3).take(2);
            let (from, point) = (mount.next()?, mount.next()?);
            // A container's own group reads `/` in its own namespace, and as the host calls it in the host's.
            let below = Path::new(group).strip_prefix(from).ok().filter(|below| !below.starts_with(".."))?;
            let point = root.join(point.trim_start_matches('/'));
            let folder: PathBuf = point.join(below).components().collect();
            let levels: Vec<PathBuf> =
                folder.ancestors().take_while(|level| level.starts_with(&point)).map(Path::to_owned).collect();
            (mounted && folder.is_dir()).then_some(Place { version, levels })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a tree of files and reads it as if it were `/`.
    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Reader) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("writable");
            fs::write(path, text).expect("writable");
        }
        let reader = Reader::under(folder.path());
        (folder, reader)
    }

    #[test]
    fn version_2_is_read_with_the_tightest_ancestor() {
        let (folder, mut reader) = tree(&[
            ("proc/self/cgroup", "0::/pod/app\n"),
            ("proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"),
            ("sys/fs/cgroup/pod/cpu.max", "50000 100000\n"),
            ("sys/fs/cgroup/pod/cpu.stat", "usage_usec 9\nnr_periods 40\nnr_throttled 10\nthrottled_usec 7\n"),
            ("sys/fs/cgroup/pod/app/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/pod/app/cgroup.events", "populated 1\nfrozen 0\n"),
            ("sys/fs/cgroup/pod/app/cpu.stat", "usage_usec 8\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n"),
            ("sys/fs/cgroup/pod/app/cpuset.cpus.effective", "0-3,8\n"),
            ("sys/fs/cgroup/pod/app/memory.current", "4096\n"),
            ("sys/fs/cgroup/pod/app/memory.max", "max\n"),
            ("sys/fs/cgroup/pod/app/memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n"),
            ("sys/fs/cgroup/pod/app/cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=12\n"),
            ("sys/fs/cgroup/pod/app/memory.pressure", "some avg10=0.00 total=5\nfull avg10=0.00 total=2\n"),
        ]);
        let first = reader.read().expect("it is there");
        assert_eq!((first.cpus.as_str(), first.quota_ns_per_s), ("0-3,8", Some(500_000_000)));
        assert_eq!((first.periods, first.throttled_periods, first.throttled_ns), (Some(40), Some(10), Some(7_000)));
        assert_eq!(first.cpu_ns, Some(8_000), "its own, not its ancestor's");
        assert_eq!((first.memory_bytes, first.memory_limit_bytes), (Some(4096), None));
        assert_eq!((first.memory_limit_hits, first.oom_kills), (Some(3), Some(1)));
        assert_eq!((first.cpu_some_ns, first.memory_full_ns, first.io_some_ns), (Some(12_000), Some(2_000), None));

        let stat = "usage_usec 9\nnr_periods 50\nnr_throttled 12\nthrottled_usec 9\n";
        fs::write(folder.path().join("sys/fs/cgroup/pod/cpu.stat"), stat).expect("writable");
        let gained = since(&reader.read().expect("still there"), Some(&first));
        assert_eq!((gained.periods, gained.throttled_periods, gained.throttled_ns), (Some(10), Some(2), Some(2_000)));
        assert_eq!(
            (gained.memory_bytes, gained.oom_kills),
            (Some(4096), Some(0)),
            "gauges stay, counters are differences"
        );
    }

    #[test]
    fn version_1_is_read_through_a_containers_mounts() {
        let (_folder, mut reader) = tree(&[
            ("proc/self/cgroup", "4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n2:cpuset:/docker/abc\n0::/\n"),
            (
                "proc/self/mountinfo",
                "1 0 0:1 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n\
                 2 0 0:2 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
                 3 0 0:3 /docker/abc /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n",
            ),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "30000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpuacct.usage", "4321\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.stat", "nr_periods 5\nnr_throttled 4\nthrottled_time 123456\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "77\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.failcnt", "2\n"),
            ("sys/fs/cgroup/memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 6\n"),
            ("sys/fs/cgroup/cpuset/cpuset.effective_cpus", "1\n"),
        ]);
        let reading = reader.read().expect("it is there");
        assert_eq!((reading.quota_ns_per_s, reading.throttled_ns), (Some(300_000_000), Some(123_456)));
        assert_eq!(reading.cpu_ns, Some(4_321));
        assert_eq!((reading.memory_bytes, reading.memory_limit_bytes), (Some(77), None));
        assert_eq!((reading.memory_limit_hits, reading.oom_kills), (Some(2), Some(6)));
        assert_eq!((reading.cpus.as_str(), reading.cpu_some_ns), ("1", None));
    }

    #[test]
    fn the_machines_root_group_does_not_tell_the_machines_cpu_time_as_its_own() {
        let (_folder, mut reader) = tree(&[
            ("proc/self/cgroup", "0::/\n"),
            ("proc/self/mountinfo", "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"),
            ("sys/fs/cgroup/cpu.stat", "usage_usec 9\n"),
        ]);
        assert_eq!(reader.read().expect("it is there").cpu_ns, None);
        let (_folder, mut reader) = tree(&[
            ("proc/self/cgroup", "4:cpu,cpuacct:/\n"),
            ("proc/self/mountinfo", "1 0 0:1 / /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n"),
            ("sys/fs/cgroup/cpu/cpuacct.usage", "9\n"),
            ("sys/fs/cgroup/cpu/release_agent", "\n"),
        ]);
        assert_eq!(reader.read().expect("it is there").cpu_ns, None);
    }

    #[test]
    fn no_group_in_sight_is_no_reading() {
        let (_folder, mut reader) = tree(&[("proc/self/cgroup", "0::/x\n"), ("proc/self/mountinfo", "")]);
        assert_eq!(reader.read(), None);
        let (_folder, mut reader) = tree(&[]);
        assert_eq!(reader.read(), None);
    }
}
