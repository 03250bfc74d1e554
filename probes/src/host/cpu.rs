//! CPU time of the machine and of each logical CPU, by mode.

use perfwatch_model::metrics::host::{CPU_CORE_TIME, CPU_COUNT, CPU_TIME, CPU_UTILIZATION};
use perfwatch_model::{Attr, EntityId, MetricDef, Reason, Sample, SeriesId, SeriesTable, Stamp};

use crate::kernel::counter::Rising;
use crate::kernel::cpu_times::{self, CpuTimes, MODES};
use crate::kernel::held::HeldFile;
use crate::{Cadence, Probe, ProbeContext, ProbeKind};

/// `/proc/stat`.
pub(super) struct Cpu;

impl ProbeKind for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn metrics(&self) -> &'static [&'static MetricDef] {
        &[&CPU_TIME, &CPU_CORE_TIME, &CPU_UTILIZATION, &CPU_COUNT]
    }

    fn cadence(&self) -> Cadence {
        Cadence::EveryTick
    }

    fn open(&self, context: &ProbeContext, table: &mut SeriesTable) -> Result<Box<dyn Probe>, Reason> {
        let path = context.proc.join("stat");
        let file = HeldFile::open(&path)
            .map_err(|error| Reason::new(format!("cannot read {}: {error}", path.display()), "mount procfs"))?;
        let host = context.host;
        let mut probe = CpuProbe {
            file,
            host,
            scratch: Vec::new(),
            total: Core::new(table, &CPU_TIME, host, None),
            cores: Vec::new(),
            utilization: table.series(&CPU_UTILIZATION, host, &[]),
            count: table.series(&CPU_COUNT, host, &[]),
            last: None,
        };
        // The first sample then has an interval to speak of.
        probe.last = probe.read();
        Ok(Box::new(probe))
    }
}

struct CpuProbe {
    file: HeldFile,
    host: EntityId,
    scratch: Vec<u8>,
    total: Core,
    cores: Vec<Option<Core>>,
    utilization: SeriesId,
    count: SeriesId,
    last: Option<CpuTimes>,
}

/// The series of the machine or of one CPU.
struct Core {
    series: [SeriesId; 8],
    totals: [Rising; 8],
}

impl Core {
    fn new(table: &mut SeriesTable, metric: &'static MetricDef, host: EntityId, cpu: Option<usize>) -> Self {
        let series = MODES.map(|mode| {
            let mode = Attr::fixed("cpu.mode", mode);
            match cpu {
                Some(cpu) => table.series(metric, host, &[Attr::int("cpu.logical_number", cpu as i64), mode]),
                None => table.series(metric, host, &[mode]),
            }
        });
        Self { series, totals: [Rising::default(); 8] }
    }

    fn push(&mut self, times: CpuTimes, tick_ns: u64, out: &mut Sample<'_>) {
        for ((series, total), time) in self.series.iter().zip(&mut self.totals).zip(times.0) {
            out.counter(*series, total.follow(time) * tick_ns);
        }
    }
}

impl CpuProbe {
    fn read(&mut self) -> Option<CpuTimes> {
        let mut machine = None;
        cpu_times::scan(self.file.read(&mut self.scratch).ok()?, |cpu, times| {
            if cpu.is_none() {
                machine = Some(times);
            }
        });
        machine
    }
}

impl Probe for CpuProbe {
    fn sample(&mut self, _now: Stamp, out: &mut Sample<'_>) {
        let Self { file, host, scratch, total, cores, utilization, count, last } = self;
        let Ok(text) = file.read(scratch) else {
            for metric in Cpu.metrics() {
                out.unavailable(
                    metric,
                    *host,
                    Reason::fixed("/proc/stat cannot be read any more", "mount procfs").by_failure(),
                );
            }
            return;
        };
        let tick_ns = cpu_times::tick_ns();
        let mut online = 0u32;
        cpu_times::scan(text, |cpu, times| {
            let Some(cpu) = cpu else {
                total.push(times, tick_ns, out);
                if let Some(last) = last.replace(times)
                    && let Some(share) = busy_share(last, times)
                {
                    out.gauge(*utilization, share);
                }
                return;
            };
            online += 1;
            if cpu >= cores.len() {
                cores.resize_with(cpu + 1, || None);
            }
            cores[cpu]
                .get_or_insert_with(|| Core::new(out.table(), &CPU_CORE_TIME, *host, Some(cpu)))
                .push(times, tick_ns, out);
        });
        out.gauge_int(*count, u64::from(online));
    }
}

/// Share of the time between two looks that was not idle; `None` when no time passed. Idle time may step back a little
/// (proc(5) warns of `iowait`), which counts as none.
fn busy_share(before: CpuTimes, after: CpuTimes) -> Option<f64> {
    let mut passed = 0;
    for (before, after) in before.0.iter().zip(after.0) {
        passed += after.saturating_sub(*before);
    }
    let idle = after.idle().saturating_sub(before.idle()).min(passed);
    (passed > 0).then(|| (passed - idle) as f64 / passed as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_of_time_that_passed() {
        let before = CpuTimes([10, 0, 0, 100, 0, 0, 0, 0]);
        assert_eq!(busy_share(before, CpuTimes([20, 0, 5, 180, 5, 0, 0, 0])), Some(0.15));
        assert_eq!(busy_share(before, before), None);
        // Idle went back: nothing was idle.
        assert_eq!(busy_share(before, CpuTimes([20, 0, 0, 90, 0, 0, 0, 0])), Some(1.0));
    }
}
