//! Control groups of version 1 and 2 behind one reader: where a process's group is, its quota, and what it was denied.

use std::path::{Path, PathBuf};

use perfwatch_model::Reason;

use super::counter::Step;
use super::held::HeldFile;
use super::parse;
use super::threads::process_folder;
use crate::ProbeContext;

/// The hierarchy's version, which decides what its files are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

/// Where the hierarchies are mounted, from `mountinfo`.
#[derive(Clone, Debug)]
pub(crate) struct Mounts {
    mounts: Vec<Mount>,
}

#[derive(Clone, Debug)]
struct Mount {
    version: Version,
    /// Controllers of a version 1 hierarchy, separated by commas; ends of the options.
    controllers: String,
    /// The group that the mount point shows: `/` unless a container sees only its own.
    root: PathBuf,
    point: PathBuf,
}

/// A process's group for one controller: its folder first, then its ancestors up to the mount point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) version: Version,
    /// The group as `/proc/pid/cgroup` calls it.
    pub(crate) name: String,
    pub(crate) levels: Vec<PathBuf>,
}

impl Mounts {
    /// Reads `mountinfo`; says what is missing when there is no control group file system in sight.
    pub(crate) fn read(context: &ProbeContext) -> Result<Self, Reason> {
        let path = context.proc.join("self/mountinfo");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Reason::new(format!("cannot read {}: {error}", path.display()), "mount procfs"))?;
        let mounts: Vec<Mount> = text.lines().filter_map(|line| Mount::parse(line, &context.cgroup)).collect();
        if mounts.is_empty() {
            return Err(Reason::fixed(
                "no control group file system is mounted",
                "mount it (in a container: start it with /sys/fs/cgroup)",
            ));
        }
        Ok(Self { mounts })
    }

    /// The group of the process whose `/proc/pid/cgroup` is `membership`. `None` when the controller is not mounted, or
    /// the group lies outside of what this mount namespace shows.
    pub(crate) fn locate(&self, membership: &str, controller: &str) -> Option<Location> {
        let group = |wanted: Version| {
            membership.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':');
                let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
                let found = match wanted {
                    Version::V1 => controllers.split(',').any(|name| name == controller),
                    Version::V2 => number == "0" && controllers.is_empty(),
                };
                found.then_some(path)
            })
        };
        // A controller belongs to one hierarchy at a time. One that version 1 has claimed is not in the unified one.
        [Version::V1, Version::V2].into_iter().find_map(|version| {
            let path = group(version)?;
            self.mounts
                .iter()
                .filter(|mount| mount.version == version)
                .filter(|mount| version == Version::V2 || mount.controllers.split(',').any(|name| name == controller))
                .find_map(|mount| mount.locate(path))
        })
    }
}

impl Mount {
    /// One line of `mountinfo`; fields as in proc(5).
    fn parse(line: &str, cgroup: &Path) -> Option<Self> {
        let (mount, source) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        let mut source = source.split(' ');
        let version = match source.next()? {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        let controllers = source.nth(1).unwrap_or_default().to_owned();
        let point = match Path::new(point).strip_prefix("/sys/fs/cgroup") {
            Ok(below) => cgroup.join(below),
            Err(_) => PathBuf::from(point),
        };
        Some(Self { version, controllers, root: PathBuf::from(root), point })
    }

    fn locate(&self, group: &str) -> Option<Location> {
        if group.split('/').any(|part| part == "..") {
            return None;
        }
        let below = Path::new(group).strip_prefix(&self.root).ok()?;
        let folder = self.point.join(below);
        // Joining an empty path leaves a slash at the end, which ancestors() would count as a level.
        let folder: PathBuf = folder.components().collect();
        let point: PathBuf = self.point.components().collect();
        let levels: Vec<PathBuf> =
            folder.ancestors().take_while(|level| level.starts_with(&point)).map(Path::to_owned).collect();
        folder.is_dir().then(|| Location { version: self.version, name: group.to_owned(), levels })
    }
}

/// Reads which groups a process is in.
pub(crate) fn membership(proc: &Path, pid: Option<u32>) -> Result<String, Reason> {
    let folder = pid.map_or_else(|| proc.join("self"), |pid| process_folder(proc, pid));
    std::fs::read_to_string(folder.join("cgroup")).map_err(|error| {
        Reason::new(format!("cannot read {}: {error}", folder.join("cgroup").display()), "run the agent beside it")
    })
}

/// The CPU side of a group: its quota and how often that ran out.
pub(crate) struct CpuGroup {
    levels: Vec<CpuLevel>,
    /// A level has a quota that may not be looked at.
    closed: bool,
    total: CpuDenied,
    usage: Option<HeldFile>,
    version: Version,
}

struct CpuLevel {
    version: Version,
    stat: HeldFile,
    /// `cpu.cfs_quota_us` or `cpu.max`.
    quota: HeldFile,
    /// `cpu.cfs_period_us`; version 2 has it in `cpu.max`.
    period: Option<HeldFile>,
    periods: Step,
    throttled_periods: Step,
    throttled_ns: Step,
}

/// What a quota denied since the group was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuDenied {
    pub(crate) periods: u64,
    pub(crate) throttled_periods: u64,
    pub(crate) throttled_ns: u64,
}

impl CpuDenied {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            periods: self.periods + other.periods,
            throttled_periods: self.throttled_periods + other.throttled_periods,
            throttled_ns: self.throttled_ns + other.throttled_ns,
        }
    }
}

/// The tightest limit of a group and its ancestors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Limit<T> {
    At(T),
    /// No level has one.
    #[default]
    Unlimited,
    /// A level has one that cannot be read, and it might be the tightest.
    Unreadable,
}

impl<T: PartialOrd> Limit<T> {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unreadable, _) | (_, Self::Unreadable) => Self::Unreadable,
            (Self::Unlimited, limit) | (limit, Self::Unlimited) => limit,
            (Self::At(one), Self::At(other)) => Self::At(if other < one { other } else { one }),
        }
    }
}

/// One look at a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CpuGroupSample {
    /// CPUs that the tightest quota allows.
    pub(crate) limit: Limit<f64>,
    pub(crate) denied: CpuDenied,
    /// CPU time of the group since it exists.
    pub(crate) usage_ns: Option<u64>,
}

impl CpuGroup {
    /// Opens the group's files. `usage` is where version 1 keeps its CPU time (another controller).
    pub(crate) fn open(cpu: &Location, usage: Option<&Location>) -> Self {
        let levels = cpu.levels.iter().filter_map(|folder| CpuLevel::open(folder, cpu.version)).collect();
        let quota = if cpu.version == Version::V1 { "cpu.cfs_quota_us" } else { "cpu.max" };
        let closed = cpu.levels.iter().any(|folder| is_closed(&folder.join(quota)));
        let usage = match cpu.version {
            Version::V1 => usage.map(|location| location.levels[0].join("cpuacct.usage")),
            Version::V2 => Some(cpu.levels[0].join("cpu.stat")),
        };
        let usage = usage.and_then(|path| HeldFile::open(&path).ok());
        let mut group = Self { levels, closed, total: CpuDenied::default(), usage, version: cpu.version };
        // What was denied before this look is not this agent's to report.
        group.sample(&mut Vec::new());
        group
    }

    /// Takes one look. A child and its parent may both have a quota, and time throttled by both is one time: the level
    /// that denied most since the last look counts.
    pub(crate) fn sample(&mut self, scratch: &mut Vec<u8>) -> CpuGroupSample {
        let mut limit = if self.closed { Limit::Unreadable } else { Limit::Unlimited };
        let mut worst = CpuDenied::default();
        for level in &mut self.levels {
            limit = limit.and(level.limit(scratch));
            if let Some(denied) = level.denied(scratch)
                && (denied.throttled_ns, denied.throttled_periods, denied.periods)
                    > (worst.throttled_ns, worst.throttled_periods, worst.periods)
            {
                worst = denied;
            }
        }
        self.total.periods += worst.periods;
        self.total.throttled_periods += worst.throttled_periods;
        self.total.throttled_ns += worst.throttled_ns;
        CpuGroupSample { limit, denied: self.total, usage_ns: self.usage_ns(scratch) }
    }

    fn usage_ns(&self, scratch: &mut Vec<u8>) -> Option<u64> {
        let text = self.usage.as_ref()?.read(scratch).ok()?;
        match self.version {
            Version::V1 => parse::only_number(text),
            Version::V2 => parse::keyed(text, b"usage_usec").map(|us| us * 1000),
        }
    }
}

/// Whether a file is there, and not for us.
fn is_closed(path: &Path) -> bool {
    HeldFile::open(path).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

impl CpuLevel {
    /// `None` where the level has no quota files: the root of version 2, or a controller that is not switched on here.
    fn open(folder: &Path, version: Version) -> Option<Self> {
        let open = |name: &str| HeldFile::open(&folder.join(name)).ok();
        let (quota, period) = match version {
            Version::V1 => (open("cpu.cfs_quota_us")?, Some(open("cpu.cfs_period_us")?)),
            Version::V2 => (open("cpu.max")?, None),
        };
        let step = Step::default();
        let stat = open("cpu.stat")?;
        Some(Self { version, stat, quota, period, periods: step, throttled_periods: step, throttled_ns: step })
    }

    fn limit(&self, scratch: &mut Vec<u8>) -> Limit<f64> {
        let Ok(mut text) = self.quota.read(scratch) else { return Limit::Unreadable };
        if matches!(text.trim_ascii_start(), [b'm', b'a', b'x', ..] | [b'-', ..]) {
            return Limit::Unlimited;
        }
        let Some(quota) = parse::next_number(&mut text) else { return Limit::Unreadable };
        let period = match &self.period {
            Some(period) => period.read(scratch).ok().and_then(parse::only_number),
            None => parse::next_number(&mut text),
        };
        match period {
            Some(period) if period > 0 => Limit::At(quota as f64 / period as f64),
            _ => Limit::Unreadable,
        }
    }

    fn denied(&mut self, scratch: &mut Vec<u8>) -> Option<CpuDenied> {
        let text = self.stat.read(scratch).ok()?;
        let throttled_ns = match self.version {
            Version::V1 => parse::keyed(text, b"throttled_time")?,
            Version::V2 => parse::keyed(text, b"throttled_usec")? * 1000,
        };
        let (periods, throttled) = (parse::keyed(text, b"nr_periods")?, parse::keyed(text, b"nr_throttled")?);
        Some(CpuDenied {
            periods: self.periods.take(periods),
            throttled_periods: self.throttled_periods.take(throttled),
            throttled_ns: self.throttled_ns.take(throttled_ns),
        })
    }
}

/// Events that a group's memory controller counts, under one name for both versions.
pub(crate) const MEMORY_EVENTS: [&str; 5] = ["low", "high", "max", "oom", "oom_kill"];
/// Version 1 has no limit of its own above this: it writes the largest page-aligned number instead of a word.
const V1_UNLIMITED: u64 = 1 << 62;

/// The memory side of a group.
pub(crate) struct MemoryGroup {
    version: Version,
    current: HeldFile,
    limits: Vec<HeldFile>,
    /// A level has a limit that may not be looked at.
    closed: bool,
    /// `memory.events`, or `memory.oom_control`.
    events: Option<HeldFile>,
    /// `memory.failcnt`: how often version 1 refused a page.
    refused: Option<HeldFile>,
}

/// One look at a group's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemoryGroupSample {
    pub(crate) current: Option<u64>,
    pub(crate) limit: Limit<u64>,
    /// In the order of [`MEMORY_EVENTS`]; `None` for what this version does not count.
    pub(crate) events: [Option<u64>; 5],
}

impl MemoryGroup {
    /// `None` where the group has no memory files: the root of version 2, or a controller that is not switched on.
    pub(crate) fn open(memory: &Location) -> Option<Self> {
        let v1 = memory.version == Version::V1;
        let own = |name: &str| HeldFile::open(&memory.levels[0].join(name)).ok();
        let limit = if v1 { "memory.limit_in_bytes" } else { "memory.max" };
        Some(Self {
            version: memory.version,
            current: own(if v1 { "memory.usage_in_bytes" } else { "memory.current" })?,
            limits: memory.levels.iter().filter_map(|level| HeldFile::open(&level.join(limit)).ok()).collect(),
            closed: memory.levels.iter().any(|level| is_closed(&level.join(limit))),
            events: own(if v1 { "memory.oom_control" } else { "memory.events" }),
            refused: if v1 { own("memory.failcnt") } else { None },
        })
    }

    pub(crate) fn sample(&self, scratch: &mut Vec<u8>) -> MemoryGroupSample {
        let current = self.current.read(scratch).ok().and_then(parse::only_number);
        let limits = self.limits.iter().map(|file| match file.read(scratch) {
            Ok(text) if text.trim_ascii() == b"max" => Limit::Unlimited,
            Ok(text) => match parse::only_number(text) {
                Some(V1_UNLIMITED..) => Limit::Unlimited,
                Some(bytes) => Limit::At(bytes),
                None => Limit::Unreadable,
            },
            Err(_) => Limit::Unreadable,
        });
        let known = if self.closed { Limit::Unreadable } else { Limit::Unlimited };
        let limit = limits.fold(known, Limit::and);
        let mut events = [None; 5];
        if let Some(text) = self.events.as_ref().and_then(|file| file.read(scratch).ok()) {
            for (event, name) in events.iter_mut().zip(MEMORY_EVENTS) {
                *event = parse::keyed(text, name.as_bytes());
            }
        }
        if self.version == Version::V1 {
            events[2] = self.refused.as_ref().and_then(|file| parse::only_number(file.read(scratch).ok()?));
        }
        MemoryGroupSample { current, limit, events }
    }
}
