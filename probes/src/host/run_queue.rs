//! What stands in the way of threads that want to run: switches, block devices, other threads.

use std::path::Path;

use perfwatch_model::metrics::host::{CONTEXT_SWITCHES, PROCESS_CREATED, RUN_DELAY, THREADS_BLOCKED};
use perfwatch_model::{EntityId, MetricDef, Reason, Sample, SeriesId, SeriesTable, Stamp};

use crate::kernel::counter::Rising;
use crate::kernel::held::HeldFile;
use crate::kernel::parse;
use crate::{Cadence, Probe, ProbeContext, ProbeKind};

/// `/proc/stat` below its CPUs, and `/proc/schedstat`.
pub(super) struct RunQueue;

/// Both files grow with the number of CPUs, and no ledger is made of them.
const EVERY: u32 = 2;

const NO_SCHEDSTAT: Reason = Reason::fixed(
    "the kernel does not tell how long threads of the machine wait for a CPU",
    "run a kernel with CONFIG_SCHEDSTATS; servers' own threads are measured without it",
);
const NO_LINE: Reason = Reason::fixed("/proc/stat does not tell it here", "mount the machine's procfs");

impl ProbeKind for RunQueue {
    fn name(&self) -> &'static str {
        "run_queue"
    }

    fn metrics(&self) -> &'static [&'static MetricDef] {
        &[&THREADS_BLOCKED, &CONTEXT_SWITCHES, &PROCESS_CREATED, &RUN_DELAY]
    }

    fn cadence(&self) -> Cadence {
        Cadence::EverySeconds(EVERY)
    }

    fn open(&self, context: &ProbeContext, table: &mut SeriesTable) -> Result<Box<dyn Probe>, Reason> {
        let path = context.proc.join("stat");
        let stat = HeldFile::open(&path)
            .map_err(|error| Reason::new(format!("cannot read {}: {error}", path.display()), "mount procfs"))?;
        let host = context.host;
        let mut counted = |metric| (table.series(metric, host, &[]), Rising::default());
        Ok(Box::new(RunQueueProbe {
            stat,
            host,
            switches: counted(&CONTEXT_SWITCHES),
            created: counted(&PROCESS_CREATED),
            delay: counted(&RUN_DELAY),
            blocked: table.series(&THREADS_BLOCKED, host, &[]),
            waits: Waits::open(&context.proc),
            scratch: Vec::new(),
        }))
    }
}

struct RunQueueProbe {
    stat: HeldFile,
    host: EntityId,
    switches: (SeriesId, Rising),
    created: (SeriesId, Rising),
    delay: (SeriesId, Rising),
    blocked: SeriesId,
    waits: Option<Waits>,
    scratch: Vec<u8>,
}

impl Probe for RunQueueProbe {
    fn sample(&mut self, _now: Stamp, out: &mut Sample<'_>) {
        let text = self.stat.read(&mut self.scratch).unwrap_or_default();
        let [switches, created, blocked] =
            [&b"ctxt"[..], b"processes", b"procs_blocked"].map(|key| parse::keyed(text, key));
        match blocked {
            Some(threads) => out.gauge_int(self.blocked, threads),
            None => out.unavailable(&THREADS_BLOCKED, self.host, NO_LINE),
        }
        let delay = self.waits.as_mut().and_then(|waits| waits.total_ns(&mut self.scratch));
        for (metric, (series, total), value, reason) in [
            (&CONTEXT_SWITCHES, &mut self.switches, switches, NO_LINE),
            (&PROCESS_CREATED, &mut self.created, created, NO_LINE),
            (&RUN_DELAY, &mut self.delay, delay, NO_SCHEDSTAT),
        ] {
            match value {
                Some(value) => out.counter(*series, total.follow(value)),
                None => out.unavailable(metric, self.host, reason),
            }
        }
    }
}

/// `/proc/schedstat`: a counter for each CPU, whose sum falls when one is unplugged.
struct Waits {
    file: HeldFile,
    cpus: Vec<Rising>,
}

impl Waits {
    fn open(proc: &Path) -> Option<Self> {
        Some(Self { file: HeldFile::open(&proc.join("schedstat")).ok()?, cpus: Vec::new() })
    }

    /// Nanoseconds that threads waited; `None` when the file cannot be read or nothing was ever put on a CPU, which is how
    /// a sandbox shows that it does not count.
    fn total_ns(&mut self, scratch: &mut Vec<u8>) -> Option<u64> {
        let text = self.file.read_records(scratch).ok()?;
        let mut ran = 0;
        scan_schedstat(text, |cpu, waited_ns, slices| {
            if cpu >= self.cpus.len() {
                self.cpus.resize_with(cpu + 1, Rising::default);
            }
            self.cpus[cpu].follow(waited_ns);
            ran |= slices;
        });
        (ran > 0).then(|| self.cpus.iter().map(Rising::total).sum())
    }
}

/// Calls `each` with a CPU's number, the time that threads waited for it and how many times one was put on it: the last
/// two of the nine numbers that a CPU has in all versions of the file (10 to 17).
fn scan_schedstat(text: &[u8], mut each: impl FnMut(usize, u64, u64)) {
    for line in parse::lines(text) {
        let Some((cpu, mut rest)) = line.strip_prefix(b"cpu").and_then(parse::number) else { continue };
        let numbers: [Option<u64>; 9] = std::array::from_fn(|_| parse::next_number(&mut rest));
        if let (cpu @ 0..8192, [.., Some(waited_ns), Some(slices)]) = (cpu as usize, numbers) {
            each(cpu, waited_ns, slices);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_the_last_number_but_one_and_domains_are_no_cpus() {
        let text = b"version 15\ntimestamp 4295\ncpu0 1 0 20 3 40 5 600 70 8\ndomain0 03 1 2 3\ncpu2 0 0 0 0 0 0 9 11 2\ncpu3 1 2\n";
        let mut seen = Vec::new();
        scan_schedstat(text, |cpu, waited, slices| seen.push((cpu, waited, slices)));
        assert_eq!(seen, [(0, 70, 8), (2, 11, 2)]);
    }
}
