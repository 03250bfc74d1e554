//! How fast the CPUs run, and how fast policy lets them.
//!
//! Only cpufreq is believed. The `cpu MHz` of `/proc/cpuinfo` is a constant on virtual machines.

use std::io;
use std::path::PathBuf;

use perfwatch_model::metrics::host::{CPU_FREQUENCY, CPU_FREQUENCY_LIMIT, CPU_FREQUENCY_MEAN};
use perfwatch_model::{Attr, EntityId, MetricDef, Reason, Sample, SeriesId, SeriesTable, Stamp};

use crate::kernel::cpu_mask::{CPUS, CpuMask};
use crate::kernel::held::HeldFile;
use crate::kernel::parse;
use crate::{Cadence, Probe, ProbeContext, ProbeKind};

/// `/sys/devices/system/cpu/cpu*/cpufreq`.
pub(super) struct Frequency;

/// Two files for each CPU, and some drivers ask the hardware for each.
const EVERY: u32 = 5;
/// Files kept open; of CPUs beyond it they are opened for each look.
const HELD: usize = 64;
const KHZ: u64 = 1000;

const NO_CPUFREQ: Reason = Reason::fixed(
    "the kernel does not tell how fast the CPUs run (no cpufreq driver)",
    "on a virtual machine or in a sandbox watch it on the host; elsewhere load a cpufreq driver",
);

impl ProbeKind for Frequency {
    fn name(&self) -> &'static str {
        "frequency"
    }

    fn metrics(&self) -> &'static [&'static MetricDef] {
        &[&CPU_FREQUENCY, &CPU_FREQUENCY_MEAN, &CPU_FREQUENCY_LIMIT]
    }

    fn cadence(&self) -> Cadence {
        Cadence::EverySeconds(EVERY)
    }

    fn open(&self, context: &ProbeContext, table: &mut SeriesTable) -> Result<Box<dyn Probe>, Reason> {
        let folder = context.sys.join("devices/system/cpu");
        let online = HeldFile::open(&folder.join("online"))
            .map_err(|error| Reason::new(format!("cannot read {}/online: {error}", folder.display()), "mount sysfs"))?;
        let host = context.host;
        let mut probe = FrequencyProbe {
            folder,
            online,
            host,
            seen: Vec::new(),
            cpus: Vec::new(),
            mean: table.series(&CPU_FREQUENCY_MEAN, host, &[]),
            limit: table.series(&CPU_FREQUENCY_LIMIT, host, &[]),
            scratch: Vec::new(),
        };
        probe.look_around();
        // A file that is there and says `<unknown>` may say more once the CPU has run.
        if probe.cpus.is_empty() {
            return Err(NO_CPUFREQ);
        }
        Ok(Box::new(probe))
    }
}

struct FrequencyProbe {
    folder: PathBuf,
    online: HeldFile,
    host: EntityId,
    /// The list of online CPUs that `cpus` is of.
    seen: Vec<u8>,
    cpus: Vec<Cpu>,
    mean: SeriesId,
    limit: SeriesId,
    scratch: Vec<u8>,
}

struct Cpu {
    number: usize,
    /// Its folder below `folder`.
    place: PathBuf,
    current: Option<HeldFile>,
    series: Option<SeriesId>,
}

impl FrequencyProbe {
    /// Follows CPUs that are plugged and unplugged.
    fn look_around(&mut self) {
        let Self { folder, online, seen, cpus, scratch, .. } = self;
        let Ok(text) = online.read(scratch) else { return };
        if text == seen.as_slice() {
            return;
        }
        seen.clear();
        seen.extend_from_slice(text);
        let Some(mask) = CpuMask::from_list(text) else { return };
        cpus.clear();
        for number in (0..CPUS).filter(|cpu| mask.contains(*cpu)) {
            let place = folder.join(format!("cpu{number}/cpufreq"));
            let Ok(current) = HeldFile::open(&place.join("scaling_cur_freq")) else { continue };
            let current = Some(current).filter(|_| cpus.len() < HELD);
            cpus.push(Cpu { number, place, current, series: None });
        }
    }
}

impl Cpu {
    fn hertz(&self, file: &str, held: Option<&HeldFile>) -> io::Result<Option<u64>> {
        let mut buffer = [0; 32];
        let text = match held {
            Some(held) => held.read_start(&mut buffer)?,
            None => HeldFile::open(&self.place.join(file))?.read_start(&mut buffer)?,
        };
        // Some drivers write `<unknown>` for a CPU that sleeps.
        Ok(parse::only_number(text).filter(|khz| *khz > 0).map(|khz| khz.saturating_mul(KHZ)))
    }
}

impl Probe for FrequencyProbe {
    fn sample(&mut self, _now: Stamp, out: &mut Sample<'_>) {
        self.look_around();
        let (mut sum, mut count, mut limit) = (0u64, 0u64, None);
        for cpu in &mut self.cpus {
            if let Ok(Some(hertz)) = cpu.hertz("scaling_cur_freq", cpu.current.as_ref()) {
                let number = Attr::int("cpu.logical_number", cpu.number as i64);
                let series = *cpu.series.get_or_insert_with(|| out.series(&CPU_FREQUENCY, self.host, &[number]));
                out.gauge_int(series, hertz);
                sum = sum.saturating_add(hertz);
                count += 1;
            }
            if let Ok(Some(hertz)) = cpu.hertz("scaling_max_freq", None) {
                limit = Some(limit.map_or(hertz, |least: u64| least.min(hertz)));
            }
        }
        if count > 0 {
            out.gauge(self.mean, sum as f64 / count as f64);
        } else {
            let reason = Reason::fixed("no CPU tells how fast it runs at present", "");
            out.unavailable(&CPU_FREQUENCY_MEAN, self.host, reason.clone());
            out.unavailable(&CPU_FREQUENCY, self.host, reason);
        }
        match limit {
            Some(hertz) => out.gauge_int(self.limit, hertz),
            None => out.unavailable(&CPU_FREQUENCY_LIMIT, self.host, Reason::fixed("the driver knows no limit", "")),
        }
    }
}
