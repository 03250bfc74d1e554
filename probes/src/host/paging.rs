//! Swap space, what moves to and from it, page faults, and processes that were killed for want of memory.

use perfwatch_model::metrics::host::{OOM_KILLS, PAGING_FAULTS, PAGING_OPERATIONS, PAGING_USAGE};
use perfwatch_model::{Attr, EntityId, MetricDef, Reason, Sample, SeriesId, SeriesTable, Stamp};

use crate::kernel::counter::Rising;
use crate::kernel::held::HeldFile;
use crate::kernel::parse;
use crate::{Cadence, Probe, ProbeContext, ProbeKind};

/// `/proc/vmstat`, and the swap lines of `/proc/meminfo`.
pub(super) struct Paging;

/// `vmstat` adds up every CPU's counters for each of its 200 lines: the dearest single file of the machine.
const EVERY: u32 = 2;

const NO_SWAP: Reason = Reason::fixed("the kernel was built without swap", "");
const NO_FAULTS: Reason =
    Reason::fixed("/proc/vmstat counts no page faults", "run a kernel with CONFIG_VM_EVENT_COUNTERS");
const NO_KILLS: Reason = Reason::fixed("the kernel does not count its kills", "run Linux 4.13 or newer");

impl ProbeKind for Paging {
    fn name(&self) -> &'static str {
        "paging"
    }

    fn metrics(&self) -> &'static [&'static MetricDef] {
        &[&PAGING_USAGE, &PAGING_FAULTS, &PAGING_OPERATIONS, &OOM_KILLS]
    }

    fn cadence(&self) -> Cadence {
        Cadence::EverySeconds(EVERY)
    }

    fn open(&self, context: &ProbeContext, table: &mut SeriesTable) -> Result<Box<dyn Probe>, Reason> {
        let open = |name| {
            let path = context.proc.join(name);
            HeldFile::open(&path)
                .map_err(|error| Reason::new(format!("cannot read {}: {error}", path.display()), "mount procfs"))
        };
        let host = context.host;
        let (vmstat, meminfo) = (open("vmstat")?, open("meminfo")?);
        let mut counted = |metric, key, value: &'static str| {
            let attrs: &[Attr] = if value.is_empty() { &[] } else { &[Attr::fixed(key, value)] };
            (table.series(metric, host, attrs), Rising::default())
        };
        Ok(Box::new(PagingProbe {
            vmstat,
            meminfo,
            host,
            faults: ["minor", "major"].map(|kind| counted(&PAGING_FAULTS, "system.paging.fault.type", kind)),
            swapped: ["in", "out"].map(|way| counted(&PAGING_OPERATIONS, "system.paging.direction", way)),
            kills: counted(&OOM_KILLS, "", ""),
            usage: ["used", "free"]
                .map(|state| table.series(&PAGING_USAGE, host, &[Attr::fixed("system.paging.state", state)])),
            scratch: Vec::new(),
        }))
    }
}

struct PagingProbe {
    vmstat: HeldFile,
    meminfo: HeldFile,
    host: EntityId,
    faults: [(SeriesId, Rising); 2],
    swapped: [(SeriesId, Rising); 2],
    kills: (SeriesId, Rising),
    usage: [SeriesId; 2],
    scratch: Vec<u8>,
}

impl Probe for PagingProbe {
    fn sample(&mut self, _now: Stamp, out: &mut Sample<'_>) {
        let events = Events::parse(self.vmstat.read_records(&mut self.scratch).unwrap_or_default());
        let follow = |pair: &mut [(SeriesId, Rising)], values: &[u64], out: &mut Sample<'_>| {
            for ((series, total), value) in pair.iter_mut().zip(values) {
                out.counter(*series, total.follow(*value));
            }
        };
        match (events.faults, events.major) {
            // Every fault is in the first, the major ones once more in the second.
            (Some(all), Some(major)) => follow(&mut self.faults, &[all.saturating_sub(major), major], out),
            _ => out.unavailable(&PAGING_FAULTS, self.host, NO_FAULTS),
        }
        match (events.swapped_in, events.swapped_out) {
            (Some(inward), Some(outward)) => follow(&mut self.swapped, &[inward, outward], out),
            _ => out.unavailable(&PAGING_OPERATIONS, self.host, NO_SWAP),
        }
        match events.kills {
            Some(kills) => follow(std::slice::from_mut(&mut self.kills), &[kills], out),
            None => out.unavailable(&OOM_KILLS, self.host, NO_KILLS),
        }
        let text = self.meminfo.read(&mut self.scratch).unwrap_or_default();
        match (parse::keyed(text, b"SwapTotal:"), parse::keyed(text, b"SwapFree:")) {
            (Some(total), Some(free)) => {
                for (series, kib) in self.usage.iter().zip([total.saturating_sub(free), free]) {
                    out.gauge_int(*series, kib.saturating_mul(1024));
                }
            }
            _ => out.unavailable(&PAGING_USAGE, self.host, NO_SWAP),
        }
    }
}

/// The lines of `/proc/vmstat` that matter.
#[derive(Debug, Default, PartialEq, Eq)]
struct Events {
    faults: Option<u64>,
    major: Option<u64>,
    swapped_in: Option<u64>,
    swapped_out: Option<u64>,
    kills: Option<u64>,
}

impl Events {
    /// In one pass: the file has some 200 lines.
    fn parse(text: &[u8]) -> Self {
        let mut events = Self::default();
        for line in parse::lines(text) {
            let Some(blank) = line.iter().position(|byte| *byte == b' ') else { continue };
            let value = match &line[..blank] {
                b"pgfault" => &mut events.faults,
                b"pgmajfault" => &mut events.major,
                b"pswpin" => &mut events.swapped_in,
                b"pswpout" => &mut events.swapped_out,
                b"oom_kill" => &mut events.kills,
                _ => continue,
            };
            *value = parse::only_number(&line[blank..]);
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_not_there_is_no_zero() {
        let events =
            Events::parse(b"nr_free_pages 7\npswpin 3\npswpout 4\npgfault 90\npgmajfault 5\npgmajfault_x 1\nbroken\n");
        assert_eq!(
            (events.faults, events.major, events.swapped_in, events.swapped_out),
            (Some(90), Some(5), Some(3), Some(4))
        );
        assert_eq!(events.kills, None);
    }
}
