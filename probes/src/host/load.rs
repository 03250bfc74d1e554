//! Load averages, and how many threads want a CPU at this moment.

use perfwatch_model::metrics::host::{LOAD_1M, LOAD_5M, LOAD_15M, THREADS, THREADS_RUNNABLE};
use perfwatch_model::{EntityId, MetricDef, Reason, Sample, SeriesId, SeriesTable, Stamp};

use crate::kernel::held::HeldFile;
use crate::kernel::parse;
use crate::{Cadence, Probe, ProbeContext, ProbeKind};

/// `/proc/loadavg`.
pub(super) struct Load;

impl ProbeKind for Load {
    fn name(&self) -> &'static str {
        "load"
    }

    fn metrics(&self) -> &'static [&'static MetricDef] {
        &[&LOAD_1M, &LOAD_5M, &LOAD_15M, &THREADS_RUNNABLE, &THREADS]
    }

    fn cadence(&self) -> Cadence {
        Cadence::EveryTick
    }

    fn open(&self, context: &ProbeContext, table: &mut SeriesTable) -> Result<Box<dyn Probe>, Reason> {
        let path = context.proc.join("loadavg");
        let file = HeldFile::open(&path)
            .map_err(|error| Reason::new(format!("cannot read {}: {error}", path.display()), "mount procfs"))?;
        let host = context.host;
        Ok(Box::new(LoadProbe {
            file,
            host,
            averages: [&LOAD_1M, &LOAD_5M, &LOAD_15M].map(|metric| table.series(metric, host, &[])),
            runnable: table.series(&THREADS_RUNNABLE, host, &[]),
            threads: table.series(&THREADS, host, &[]),
        }))
    }
}

struct LoadProbe {
    file: HeldFile,
    host: EntityId,
    averages: [SeriesId; 3],
    runnable: SeriesId,
    threads: SeriesId,
}

impl Probe for LoadProbe {
    fn sample(&mut self, _now: Stamp, out: &mut Sample<'_>) {
        let mut buffer = [0; 128];
        let Some(load) = self.file.read_start(&mut buffer).ok().and_then(LoadAverage::parse) else {
            for metric in Load.metrics() {
                out.unavailable(metric, self.host, Reason::fixed("/proc/loadavg is not as expected", "mount procfs"));
            }
            return;
        };
        for (series, average) in self.averages.iter().zip(load.averages) {
            out.gauge(*series, average);
        }
        // Whoever reads the file runs.
        out.gauge_int(self.runnable, load.runnable.saturating_sub(1));
        out.gauge_int(self.threads, load.threads);
    }
}

#[derive(Debug, PartialEq)]
struct LoadAverage {
    averages: [f64; 3],
    runnable: u64,
    threads: u64,
}

impl LoadAverage {
    fn parse(text: &[u8]) -> Option<Self> {
        let mut fields = text.split(|byte| *byte == b' ');
        let mut average =
            || std::str::from_utf8(fields.next()?).ok()?.parse().ok().filter(|load: &f64| load.is_finite());
        let averages = [average()?, average()?, average()?];
        let (runnable, rest) = parse::number(fields.next()?)?;
        let threads = parse::only_number(rest.strip_prefix(b"/")?)?;
        // Whoever reads it is a thread: a sandbox that does not count writes zeros.
        (threads > 0).then_some(Self { averages, runnable, threads })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_five_numbers_or_none() {
        let load = LoadAverage::parse(b"0.01 12.71 3.95 2/92 15327\n").expect("well formed");
        assert_eq!(load, LoadAverage { averages: [0.01, 12.71, 3.95], runnable: 2, threads: 92 });
        for wrong in [
            "",
            "0.00 0.00 0.00 0/0 0\n",
            "0.01 0.71 0.95\n",
            "0.01 0.71 nan 2/92 1\n",
            "a b c 2/92 1\n",
            "0 0 0 2 1\n",
        ] {
            assert_eq!(LoadAverage::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
