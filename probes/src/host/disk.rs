//! Disks: what they read and wrote, how long that took, how busy they were.

use std::path::PathBuf;

use perfwatch_model::metrics::io::{
    DISK_IO, DISK_IO_TIME, DISK_MERGED, DISK_OPERATION_TIME, DISK_OPERATIONS, DISKS_BUSIEST, DISKS_IO,
    DISKS_OPERATION_TIME, DISKS_OPERATIONS,
};
use perfwatch_model::{Attr, EntityId, MetricDef, Reason, Sample, SeriesId, SeriesTable, Stamp};

use crate::kernel::counter::Rising;
use crate::kernel::held::HeldFile;
use crate::kernel::parse;
use crate::kernel::roster::Roster;
use crate::{Cadence, Probe, ProbeContext, ProbeKind};

/// `/proc/diskstats`.
pub(super) struct Disk;

/// Whatever a disk's own sectors are, the kernel counts in these.
const SECTOR_BYTES: u64 = 512;
const MS: u64 = 1_000_000;

const ALL: &[&MetricDef] = &[
    &DISKS_IO,
    &DISKS_OPERATIONS,
    &DISKS_OPERATION_TIME,
    &DISKS_BUSIEST,
    &DISK_IO,
    &DISK_OPERATIONS,
    &DISK_IO_TIME,
    &DISK_OPERATION_TIME,
    &DISK_MERGED,
];

const NO_DISK: Reason = Reason::fixed(
    "no disk is in sight here",
    "run the agent on the machine, not in a sandbox; network file systems are no disks",
);
const FULL: Reason = Reason::fixed("there are more block devices than the agent follows", "");

impl ProbeKind for Disk {
    fn name(&self) -> &'static str {
        "disk"
    }

    fn metrics(&self) -> &'static [&'static MetricDef] {
        ALL
    }

    fn cadence(&self) -> Cadence {
        Cadence::EveryTick
    }

    fn open(&self, context: &ProbeContext, table: &mut SeriesTable) -> Result<Box<dyn Probe>, Reason> {
        let path = context.proc.join("diskstats");
        let file = HeldFile::open(&path).map_err(|error| {
            Reason::new(
                format!("cannot read {}: {error}", path.display()),
                "mount procfs of a kernel with block devices",
            )
        })?;
        let host = context.host;
        let block = Some(context.sys.join("block")).filter(|folder| folder.is_dir());
        Ok(Box::new(DiskProbe {
            file,
            host,
            block,
            disks: Roster::new(),
            whole: None,
            sums: [&DISKS_IO, &DISKS_OPERATIONS, &DISKS_OPERATION_TIME].map(|metric| both(table, metric, host, None)),
            busiest: table.series(&DISKS_BUSIEST, host, &[]),
            last_ns: None,
            scratch: Vec::new(),
        }))
    }
}

/// The two series of a metric, of reads and of writes.
fn both(table: &mut SeriesTable, metric: &'static MetricDef, host: EntityId, disk: Option<&Attr>) -> [SeriesId; 2] {
    ["read", "write"].map(|way| {
        let way = Attr::fixed("disk.io.direction", way);
        match disk {
            Some(disk) => table.series(metric, host, &[disk.clone(), way]),
            None => table.series(metric, host, &[way]),
        }
    })
}

struct DiskProbe {
    file: HeldFile,
    host: EntityId,
    /// `/sys/block`, where it is to be seen: it knows a disk from a partition, and a real one from one made of others.
    block: Option<PathBuf>,
    disks: Roster<Device>,
    /// Of the physical ones; `None` as long as there was none.
    whole: Option<[[u64; 2]; 3]>,
    sums: [[SeriesId; 2]; 3],
    busiest: SeriesId,
    last_ns: Option<u64>,
    scratch: Vec<u8>,
}

/// A whole disk, or one made of others (`dm-0`, `md127`).
struct Device {
    /// One of the machine's own: counted in the sums. What is made of others would be counted twice.
    physical: bool,
    listed: bool,
    totals: [Rising; FIELDS],
    io: [SeriesId; 2],
    operations: [SeriesId; 2],
    time: [SeriesId; 2],
    merged: [SeriesId; 2],
    io_time: SeriesId,
}

impl Device {
    fn new(table: &mut SeriesTable, host: EntityId, name: &str, physical: bool) -> Self {
        let disk = Attr::text("system.device", name.to_owned());
        let mut of = |metric| both(table, metric, host, Some(&disk));
        let (io, operations) = (of(&DISK_IO), of(&DISK_OPERATIONS));
        let (time, merged) = (of(&DISK_OPERATION_TIME), of(&DISK_MERGED));
        let io_time = table.series(&DISK_IO_TIME, host, &[disk]);
        Self { physical, listed: false, totals: [Rising::from_now(); FIELDS], io, operations, time, merged, io_time }
    }

    /// Returns what that added.
    fn take(&mut self, stats: &[u64; FIELDS]) -> Stats {
        self.listed = true;
        Rising::back(&mut self.totals, stats);
        let mut added = Stats::default();
        for (at, (total, value)) in self.totals.iter_mut().zip(stats).enumerate() {
            // The kernel writes its milliseconds in 32 bits: they begin anew after 50 days of work.
            let in_32_bits = [Field::ReadMs as usize, Field::WriteMs as usize, Field::BusyMs as usize].contains(&at);
            added.0[at] = if in_32_bits { total.grow_u32(*value) } else { total.grow(*value) };
        }
        added
    }

    fn push(&self, out: &mut Sample<'_>) {
        let stats = Stats(self.totals.map(|total| total.total()));
        let [io, operations, time] = stats.sums();
        let merged = [stats.of(Field::ReadsMerged), stats.of(Field::WritesMerged)];
        for (series, values) in [(self.io, io), (self.operations, operations), (self.time, time), (self.merged, merged)]
        {
            out.counter(series[0], values[0]);
            out.counter(series[1], values[1]);
        }
        out.counter(self.io_time, stats.of(Field::BusyMs) * MS);
    }
}

impl Probe for DiskProbe {
    fn sample(&mut self, now: Stamp, out: &mut Sample<'_>) {
        let Self { file, host, block, disks, whole, sums, busiest, last_ns, scratch } = self;
        let elapsed_ns = last_ns.replace(now.mono_ns).map(|last| now.mono_ns.saturating_sub(last)).filter(|ns| *ns > 0);
        let Ok(text) = file.read_records(scratch) else {
            for metric in ALL {
                out.unavailable(
                    metric,
                    *host,
                    Reason::fixed("/proc/diskstats cannot be read any more", "mount procfs").by_failure(),
                );
            }
            return;
        };
        disks.begin();
        let mut full = false;
        let mut most_ns = None;
        for (name, stats) in parse::lines(text).filter_map(parse_line) {
            let judge = || {
                let name = std::str::from_utf8(name).ok()?;
                match kind(block.as_deref(), name) {
                    Kind::Physical => Some((name, true)),
                    Kind::Composed => Some((name, false)),
                    Kind::Unwanted => None,
                }
            };
            match disks.meet(name, judge, |(name, physical)| Device::new(out.table(), *host, name, physical)) {
                Ok(Some(device)) => {
                    let added = device.take(&stats);
                    if device.physical {
                        let sums = whole.get_or_insert_default().as_flattened_mut().iter_mut();
                        sums.zip(added.sums().as_flattened()).for_each(|(sum, added)| *sum += added);
                        most_ns = most_ns.max(Some(added.of(Field::BusyMs) * MS));
                    }
                }
                Ok(None) => {}
                Err(_) => full = true,
            }
        }
        disks.end(|device| {
            device.listed = false;
            device.totals.iter_mut().for_each(Rising::gone);
        });
        if full {
            out.unavailable(&DISK_IO, *host, FULL);
        }
        disks.items_mut().filter(|(_, device)| device.listed).for_each(|(_, device)| device.push(out));
        match whole {
            Some(whole) => {
                for (series, total) in sums.as_flattened().iter().zip(whole.as_flattened()) {
                    out.counter(*series, *total);
                }
            }
            None => ALL.iter().for_each(|metric| out.unavailable(metric, *host, NO_DISK)),
        }
        if let (Some(most_ns), Some(elapsed_ns)) = (most_ns, elapsed_ns) {
            // The kernel counts in its own ticks and rounds up.
            out.gauge(*busiest, (most_ns as f64 / elapsed_ns as f64).min(1.0));
        }
    }
}

/// The numbers after a device's name, in the file's order.
#[derive(Clone, Copy)]
enum Field {
    Reads,
    ReadsMerged,
    SectorsRead,
    ReadMs,
    Writes,
    WritesMerged,
    SectorsWritten,
    WriteMs,
    /// After the number of operations in flight, which is left out here.
    BusyMs,
}
const FIELDS: usize = 9;

/// What the kernel counts of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stats([u64; FIELDS]);

impl Stats {
    const fn of(&self, field: Field) -> u64 {
        self.0[field as usize]
    }

    /// Bytes, operations and nanoseconds, of reads and of writes.
    const fn sums(&self) -> [[u64; 2]; 3] {
        [
            [self.of(Field::SectorsRead) * SECTOR_BYTES, self.of(Field::SectorsWritten) * SECTOR_BYTES],
            [self.of(Field::Reads), self.of(Field::Writes)],
            [self.of(Field::ReadMs) * MS, self.of(Field::WriteMs) * MS],
        ]
    }
}

/// Name and numbers of a line. Newer kernels append discards (4.18) and flushes (5.5); before 2.6.25 partitions had four
/// numbers, and such a line is no disk.
fn parse_line(mut line: &[u8]) -> Option<(&[u8], [u64; FIELDS])> {
    parse::next_number(&mut line)?;
    parse::next_number(&mut line)?;
    let line = line.trim_ascii_start();
    let (name, mut line) = line.split_at(line.iter().position(|byte| *byte == b' ')?);
    let mut stats = [0; FIELDS];
    for (at, value) in stats.iter_mut().enumerate() {
        if at == Field::BusyMs as usize {
            parse::next_number(&mut line)?;
        }
        *value = parse::next_number(&mut line)?;
    }
    Some((name, stats))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Physical,
    Composed,
    Unwanted,
}

/// Files and memory that look like disks.
const NO_DISKS: [&str; 6] = ["loop", "ram", "zram", "fd", "sr", "nbd"];
/// Made of other disks.
const COMPOSED: [&str; 4] = ["dm-", "md", "drbd", "bcache"];

/// `block` is `/sys/block` where there is one: partitions are not in it, and real disks have a `device` there.
fn kind(block: Option<&std::path::Path>, name: &str) -> Kind {
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if begins(&NO_DISKS) {
        return Kind::Unwanted;
    }
    match block {
        // The kernel writes a slash in a name as an exclamation mark there.
        Some(block) => {
            let folder = block.join(name.replace('/', "!"));
            match (folder.exists(), folder.join("device").exists()) {
                (false, _) => Kind::Unwanted,
                (true, true) if has_paths(block, name) => Kind::Composed,
                (true, true) => Kind::Physical,
                (true, false) => Kind::Composed,
            }
        }
        None if is_partition(name) => Kind::Unwanted,
        None if begins(&COMPOSED) => Kind::Composed,
        None => Kind::Physical,
    }
}

/// The paths to a namespace of `NVMe` with native multipath (`nvme0c1n1` for `nvme0n1`) are listed beside it: since Linux 6.4
/// both count what passes, before only the paths.
fn has_paths(block: &std::path::Path, name: &str) -> bool {
    let Some(("", head)) = name.split_once("nvme") else { return false };
    let Some((subsystem, namespace)) = head.split_once('n') else { return false };
    let is_path = |other: &str| {
        let controller = other.strip_prefix("nvme").and_then(|rest| rest.strip_prefix(subsystem)?.strip_prefix('c'));
        controller.and_then(|rest| rest.split_once('n')).is_some_and(|(_, of)| of == namespace)
    };
    let Ok(entries) = block.read_dir() else { return false };
    entries.flatten().any(|entry| entry.file_name().to_str().is_some_and(is_path))
}

/// By its name alone: `sda1`, `nvme0n1p2`, `mmcblk0p1`.
fn is_partition(name: &str) -> bool {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if stem.len() == name.len() {
        return false;
    }
    let digit_before_p = stem.strip_suffix('p').is_some_and(|disk| disk.ends_with(|c: char| c.is_ascii_digit()));
    digit_before_p || ["sd", "vd", "xvd", "hd"].iter().any(|prefix| stem.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_all_kernels_are_read_and_broken_ones_are_none() {
        let old = b"   8       0 sda 1 2 3 4 5 6 7 8 0 10 11";
        let new = b" 259       0 nvme0n1 1 2 3 4 5 6 7 8 0 10 11 12 13 14 15 16 17";
        assert_eq!(parse_line(old), Some((&b"sda"[..], [1, 2, 3, 4, 5, 6, 7, 8, 10])));
        assert_eq!(parse_line(new).map(|(_, stats)| stats), Some([1, 2, 3, 4, 5, 6, 7, 8, 10]));
        for broken in [&b"   8       1 sda1 1 2 3 4"[..], b"8 0", b"", b"8 0 sda", b"8 0 sda x"] {
            assert_eq!(parse_line(broken), None);
        }
    }

    #[test]
    fn without_sysfs_names_tell_partitions() {
        for partition in ["sda1", "vda15", "xvda1", "nvme0n1p2", "mmcblk0p1"] {
            assert_eq!(kind(None, partition), Kind::Unwanted, "{partition}");
        }
        for disk in ["sda", "vda", "nvme0n1", "mmcblk0", "sdaa"] {
            assert_eq!(kind(None, disk), Kind::Physical, "{disk}");
        }
        assert_eq!(kind(None, "dm-0"), Kind::Composed);
        assert_eq!(kind(None, "loop0"), Kind::Unwanted);
    }
}
