//! Memory of the machine.

use perfwatch_model::metrics::host::{MEMORY_AVAILABLE, MEMORY_LIMIT, MEMORY_USAGE};
use perfwatch_model::{Attr, EntityId, MetricDef, Reason, Sample, SeriesId, SeriesTable, Stamp};

use crate::kernel::held::HeldFile;
use crate::kernel::parse;
use crate::{Cadence, Probe, ProbeContext, ProbeKind};

/// `/proc/meminfo`.
pub(super) struct Memory;

const STATES: [&str; 4] = ["used", "free", "buffers", "cached"];

impl ProbeKind for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn metrics(&self) -> &'static [&'static MetricDef] {
        &[&MEMORY_USAGE, &MEMORY_LIMIT, &MEMORY_AVAILABLE]
    }

    fn cadence(&self) -> Cadence {
        Cadence::EveryTick
    }

    fn open(&self, context: &ProbeContext, table: &mut SeriesTable) -> Result<Box<dyn Probe>, Reason> {
        let path = context.proc.join("meminfo");
        let file = HeldFile::open(&path)
            .map_err(|error| Reason::new(format!("cannot read {}: {error}", path.display()), "mount procfs"))?;
        let host = context.host;
        Ok(Box::new(MemoryProbe {
            file,
            host,
            scratch: Vec::new(),
            states: STATES.map(|state| table.series(&MEMORY_USAGE, host, &[Attr::fixed("system.memory.state", state)])),
            limit: table.series(&MEMORY_LIMIT, host, &[]),
            available: table.series(&MEMORY_AVAILABLE, host, &[]),
        }))
    }
}

struct MemoryProbe {
    file: HeldFile,
    host: EntityId,
    scratch: Vec<u8>,
    states: [SeriesId; 4],
    limit: SeriesId,
    available: SeriesId,
}

impl Probe for MemoryProbe {
    fn sample(&mut self, _now: Stamp, out: &mut Sample<'_>) {
        let memory = self.file.read(&mut self.scratch).ok().and_then(MemInfo::parse);
        let Some(memory) = memory else {
            for metric in Memory.metrics() {
                out.unavailable(metric, self.host, Reason::fixed("/proc/meminfo is not as expected", "mount procfs"));
            }
            return;
        };
        for (series, bytes) in self.states.iter().zip(memory.states()) {
            out.gauge_int(*series, bytes);
        }
        out.gauge_int(self.limit, memory.total);
        match memory.available {
            Some(bytes) => out.gauge_int(self.available, bytes),
            None => out.unavailable(
                &MEMORY_AVAILABLE,
                self.host,
                Reason::fixed("the kernel does not estimate available memory", "run Linux 3.14 or newer"),
            ),
        }
    }
}

/// The lines of `/proc/meminfo` that matter, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MemInfo {
    total: u64,
    free: u64,
    buffers: u64,
    cached: u64,
    available: Option<u64>,
}

impl MemInfo {
    fn parse(text: &[u8]) -> Option<Self> {
        let bytes = |key: &[u8]| parse::keyed(text, key).map(|kib| kib.saturating_mul(1024));
        Some(Self {
            total: bytes(b"MemTotal:")?,
            free: bytes(b"MemFree:")?,
            buffers: bytes(b"Buffers:").unwrap_or(0),
            // Reclaimable slab is a cache too, and as free(1) does, is counted as one.
            cached: bytes(b"Cached:").unwrap_or(0) + bytes(b"SReclaimable:").unwrap_or(0),
            available: bytes(b"MemAvailable:"),
        })
    }

    /// In the order of [`STATES`]; sums to the total.
    fn states(&self) -> [u64; 4] {
        let used = self.total.saturating_sub(self.free + self.buffers + self.cached);
        [used, self.free, self.buffers, self.cached]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] =
        b"MemTotal:       1000 kB\nMemFree:         300 kB\nMemAvailable:    600 kB\nBuffers:          50 kB\n\
        Cached:          200 kB\nSwapCached:       99 kB\nSReclaimable:     40 kB\n";

    #[test]
    fn the_states_sum_to_the_total() {
        let memory = MemInfo::parse(TEXT).expect("well formed");
        assert_eq!(memory.states(), [410 * 1024, 300 * 1024, 50 * 1024, 240 * 1024]);
        assert_eq!(memory.states().iter().sum::<u64>(), memory.total);
    }

    #[test]
    fn a_text_without_a_total_is_no_memory_of_zero() {
        assert_eq!(MemInfo::parse(b"MemFree: 300 kB\n"), None);
        assert_eq!(MemInfo::parse(b"MemTotal: 3 kB\nMemFree: 1 kB\n").expect("an old kernel").available, None);
    }
}
