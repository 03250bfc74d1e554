//! NUMA nodes: which CPUs and how much memory each has, and whether memory came from the wanted one.

use std::path::{Path, PathBuf};

use perfwatch_model::metrics::host::{NUMA_ALLOCATIONS, NUMA_CPUS, NUMA_MEMORY, NUMA_MISSES};
use perfwatch_model::{Attr, EntityId, MetricDef, Reason, Sample, SeriesId, SeriesTable, Stamp};

use crate::kernel::counter::Rising;
use crate::kernel::cpu_mask::{CPUS, CpuMask};
use crate::kernel::held::HeldFile;
use crate::kernel::parse;
use crate::{Cadence, Probe, ProbeContext, ProbeKind};

/// `/sys/devices/system/node`.
pub(super) struct Numa;

/// Layout hardly changes, and where memory lies moves in minutes.
const EVERY: u32 = 10;

/// Lines of `numastat` and what the series call them. `miss` is what was wanted elsewhere and came from here.
const ALLOCATIONS: [(&[u8], &str); 6] = [
    (b"numa_hit", "hit"),
    (b"numa_miss", "miss"),
    (b"numa_foreign", "foreign"),
    (b"interleave_hit", "interleave_hit"),
    (b"local_node", "local"),
    (b"other_node", "other"),
];
const MISS: usize = 1;

const ALL: &[&MetricDef] = &[&NUMA_MEMORY, &NUMA_CPUS, &NUMA_ALLOCATIONS, &NUMA_MISSES];

const SWITCHED_OFF: Reason =
    Reason::fixed("the kernel does not count where memory comes from", "set the sysctl vm.numa_stat to 1");

impl ProbeKind for Numa {
    fn name(&self) -> &'static str {
        "numa"
    }

    fn metrics(&self) -> &'static [&'static MetricDef] {
        ALL
    }

    fn cadence(&self) -> Cadence {
        Cadence::EverySeconds(EVERY)
    }

    fn open(&self, context: &ProbeContext, table: &mut SeriesTable) -> Result<Box<dyn Probe>, Reason> {
        let folder = context.sys.join("devices/system/node");
        let online = HeldFile::open(&folder.join("online"))
            .map_err(|_| Reason::fixed("the kernel tells no NUMA nodes", "mount sysfs of a kernel with CONFIG_NUMA"))?;
        let host = context.host;
        Ok(Box::new(NumaProbe {
            folder,
            online,
            switched: HeldFile::open(&context.proc.join("sys/vm/numa_stat")).ok(),
            host,
            seen: Vec::new(),
            nodes: Vec::new(),
            misses: table.series(&NUMA_MISSES, host, &[]),
            scratch: Vec::new(),
        }))
    }
}

struct NumaProbe {
    folder: PathBuf,
    online: HeldFile,
    /// The switch of the counters; kernels before 4.15 have none and count always.
    switched: Option<HeldFile>,
    host: EntityId,
    /// The list of nodes that `nodes` is of.
    seen: Vec<u8>,
    /// Nodes that were ever online, by number.
    nodes: Vec<Node>,
    misses: SeriesId,
    scratch: Vec<u8>,
}

struct Node {
    number: usize,
    meminfo: Option<HeldFile>,
    numastat: Option<HeldFile>,
    cpulist: Option<HeldFile>,
    /// The text of the list of its CPUs, with their number and the series that carries both.
    cpus: Option<(Vec<u8>, u64, SeriesId)>,
    memory: [SeriesId; 2],
    allocations: [(SeriesId, Rising); 6],
}

impl Node {
    fn new(table: &mut SeriesTable, host: EntityId, number: usize) -> Self {
        let node = Attr::int("perfwatch.numa.node", number as i64);
        let memory = ["used", "free"]
            .map(|state| table.series(&NUMA_MEMORY, host, &[node.clone(), Attr::fixed("system.memory.state", state)]));
        let allocations = ALLOCATIONS.map(|(_, name)| {
            let attrs = [node.clone(), Attr::fixed("perfwatch.numa.allocation", name)];
            (table.series(&NUMA_ALLOCATIONS, host, &attrs), Rising::default())
        });
        Self { number, meminfo: None, numastat: None, cpulist: None, cpus: None, memory, allocations }
    }

    fn open(&mut self, folder: &Path) {
        let place = folder.join(format!("node{}", self.number));
        let open = |name| HeldFile::open(&place.join(name)).ok();
        (self.meminfo, self.numastat, self.cpulist) = (open("meminfo"), open("numastat"), open("cpulist"));
    }

    /// False when one of its files cannot be read.
    fn push_memory_and_cpus(&mut self, host: EntityId, scratch: &mut Vec<u8>, out: &mut Sample<'_>) -> Option<()> {
        let text = self.meminfo.as_ref()?.read(scratch).ok()?;
        let (total, free) = (node_line(text, b"MemTotal:")?, node_line(text, b"MemFree:")?);
        out.gauge_int(self.memory[0], total.saturating_sub(free).saturating_mul(1024));
        out.gauge_int(self.memory[1], free.saturating_mul(1024));
        let text = self.cpulist.as_ref()?.read(scratch).ok()?;
        if self.cpus.as_ref().is_none_or(|(seen, ..)| seen != text) {
            let count = u64::from(CpuMask::from_list(text)?.count());
            let list = String::from_utf8_lossy(text.trim_ascii()).into_owned();
            let attrs = [Attr::int("perfwatch.numa.node", self.number as i64), Attr::text("perfwatch.numa.cpus", list)];
            self.cpus = Some((text.to_vec(), count, out.series(&NUMA_CPUS, host, &attrs)));
        }
        let (_, count, series) = self.cpus.as_ref()?;
        out.gauge_int(*series, *count);
        Some(())
    }

    fn push_allocations(&mut self, scratch: &mut Vec<u8>, out: &mut Sample<'_>) -> Option<()> {
        let text = self.numastat.as_ref()?.read(scratch).ok()?;
        parse::keyed(text, ALLOCATIONS[0].0)?;
        for ((series, total), (key, _)) in self.allocations.iter_mut().zip(ALLOCATIONS) {
            if let Some(pages) = parse::keyed(text, key) {
                out.counter(*series, total.follow(pages));
            }
        }
        Some(())
    }
}

/// The number of a line of a node's `meminfo`: `Node 0 MemTotal:  1024 kB`.
fn node_line(text: &[u8], key: &[u8]) -> Option<u64> {
    parse::lines(text).find_map(|line| {
        let mut node = line.strip_prefix(b"Node ")?;
        parse::next_number(&mut node)?;
        let mut rest = node.strip_prefix(b" ")?.strip_prefix(key)?;
        parse::next_number(&mut rest)
    })
}

impl Probe for NumaProbe {
    fn sample(&mut self, _now: Stamp, out: &mut Sample<'_>) {
        let Self { folder, online, switched, host, seen, nodes, misses, scratch } = self;
        let text = online.read(scratch).unwrap_or_default();
        if text != seen.as_slice() {
            seen.clear();
            seen.extend_from_slice(text);
            let mask = CpuMask::from_list(text).unwrap_or(CpuMask::EMPTY);
            for number in (0..CPUS).filter(|node| mask.contains(*node)) {
                if nodes.iter().all(|node| node.number != number) {
                    nodes.push(Node::new(out.table(), *host, number));
                }
            }
            // Nodes that went offline have no files any more; what they had counted stays in the sum.
            for node in nodes.iter_mut() {
                node.open(folder);
            }
        }
        let mut told = false;
        for node in nodes.iter_mut() {
            told |= node.push_memory_and_cpus(*host, scratch, out).is_some();
        }
        if !told {
            let reason = Reason::fixed("the files of the NUMA nodes cannot be read", "mount sysfs");
            out.unavailable(&NUMA_MEMORY, *host, reason.clone());
            out.unavailable(&NUMA_CPUS, *host, reason);
        }
        let off = switched.as_ref().and_then(|file| file.read(scratch).ok()).is_some_and(|text| text.starts_with(b"0"));
        let mut counted = false;
        for node in nodes.iter_mut().filter(|_| !off) {
            counted |= node.push_allocations(scratch, out).is_some();
        }
        if counted {
            out.counter(*misses, nodes.iter().map(|node| node.allocations[MISS].1.total()).sum());
        } else {
            out.unavailable(&NUMA_ALLOCATIONS, *host, SWITCHED_OFF);
            out.unavailable(&NUMA_MISSES, *host, SWITCHED_OFF);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_line_is_found_behind_its_number() {
        let text = b"\nNode 10 MemTotal:       2048 kB\nNode 10 MemFree:        1024 kB\n";
        assert_eq!((node_line(text, b"MemTotal:"), node_line(text, b"MemUsed:")), (Some(2048), None));
    }
}
