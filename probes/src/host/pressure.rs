//! Pressure stall information of the machine: how long tasks waited for a resource.

use std::path::Path;

use perfwatch_model::metrics::host::PRESSURE_TIME;
use perfwatch_model::{Attr, EntityId, MetricDef, Reason, Sample, SeriesId, SeriesTable, Stamp};

use crate::kernel::counter::Rising;
use crate::kernel::held::HeldFile;
use crate::kernel::parse;
use crate::{Cadence, Probe, ProbeContext, ProbeKind};

/// `/proc/pressure`.
pub(super) struct Pressure;

/// `full` of the CPU means nothing for a whole machine: something always runs. The kernel writes 0 there.
const WANTED: [(&str, &[&str]); 3] = [("cpu", &["some"]), ("memory", &["some", "full"]), ("io", &["some", "full"])];

impl ProbeKind for Pressure {
    fn name(&self) -> &'static str {
        "pressure"
    }

    fn metrics(&self) -> &'static [&'static MetricDef] {
        &[&PRESSURE_TIME]
    }

    fn cadence(&self) -> Cadence {
        Cadence::EveryTick
    }

    fn open(&self, context: &ProbeContext, table: &mut SeriesTable) -> Result<Box<dyn Probe>, Reason> {
        let mut resources = Vec::new();
        for (resource, kinds) in WANTED {
            let path = context.proc.join("pressure").join(resource);
            let mut stalls = Stalls::open(&path, table, context.host, resource, kinds).ok_or(Reason::fixed(
                "the kernel has no pressure stall information",
                "run a kernel built with CONFIG_PSI (Linux 4.20 or newer)",
            ))?;
            // A kernel that has it switched off shows the files and refuses to read them.
            if !stalls.is_readable() {
                return Err(Reason::fixed(
                    "pressure stall information is switched off",
                    "add psi=1 to the kernel command line",
                ));
            }
            resources.push(stalls);
        }
        Ok(Box::new(PressureProbe { host: context.host, resources, scratch: Vec::new() }))
    }
}

struct PressureProbe {
    host: EntityId,
    resources: Vec<Stalls>,
    scratch: Vec<u8>,
}

impl Probe for PressureProbe {
    fn sample(&mut self, _now: Stamp, out: &mut Sample<'_>) {
        for stalls in &mut self.resources {
            if !stalls.push(&mut self.scratch, out) {
                let reason = Reason::fixed("pressure stall information cannot be read any more", "").by_failure();
                out.unavailable(&PRESSURE_TIME, self.host, reason);
            }
        }
    }
}

/// The stalls of one resource, of the machine or of a control group.
pub(super) struct Stalls {
    file: HeldFile,
    kinds: Vec<Kind>,
}

struct Kind {
    name: &'static str,
    series: SeriesId,
    total: Rising,
}

impl Stalls {
    /// `None` when there is no such file.
    pub(super) fn open(
        path: &Path,
        table: &mut SeriesTable,
        entity: EntityId,
        resource: &'static str,
        kinds: &[&'static str],
    ) -> Option<Self> {
        let file = HeldFile::open(path).ok()?;
        let kinds = kinds
            .iter()
            .map(|name| {
                let attrs = [
                    Attr::fixed("perfwatch.pressure.resource", resource),
                    Attr::fixed("perfwatch.pressure.kind", name),
                ];
                Kind { name, series: table.series(&PRESSURE_TIME, entity, &attrs), total: Rising::default() }
            })
            .collect();
        Some(Self { file, kinds })
    }

    fn is_readable(&mut self) -> bool {
        self.file.read(&mut Vec::new()).is_ok()
    }

    /// Pushes the totals; false when the file cannot be read. A kind that this kernel does not tell is left out.
    pub(super) fn push(&mut self, scratch: &mut Vec<u8>, out: &mut Sample<'_>) -> bool {
        let Ok(text) = self.file.read(scratch) else { return false };
        for kind in &mut self.kinds {
            if let Some(us) = total_us(text, kind.name) {
                out.counter(kind.series, kind.total.follow(us).saturating_mul(1000));
            }
        }
        true
    }
}

/// The `total=` of the line that begins with `kind`, in microseconds.
fn total_us(text: &[u8], kind: &str) -> Option<u64> {
    let line = parse::lines(text).find_map(|line| line.strip_prefix(kind.as_bytes()))?;
    let field = line.split(|byte| *byte == b' ').find_map(|field| field.strip_prefix(b"total="))?;
    parse::only_number(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_of_each_line_is_found() {
        let text =
            b"some avg10=0.00 avg60=0.02 avg300=3.13 total=69769212\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(total_us(text, "some"), Some(69_769_212));
        assert_eq!(total_us(text, "full"), Some(7));
        // Before Linux 5.13 the CPU has no such line.
        assert_eq!(total_us(b"some avg10=0.00 total=1\n", "full"), None);
    }
}
