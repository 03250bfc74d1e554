//! Opens every probe that this machine and the configuration allow.

use std::sync::Arc;

use perfwatch_model::{EntityId, MetricDef, Reason, SeriesTable};
use perfwatch_probes::gpu::{GpuContext, GpuProbe, Grip, VENDORS};
use perfwatch_probes::host::PROBES;
use perfwatch_probes::{OpenProbe, ProbeContext};

use crate::config::Settings;

/// What gives a metric whose probe somebody switched off.
const SWITCHED_ON_BY: &str = "take it out of probes_off";

/// The probes that run, and the metrics that others would have measured.
pub(crate) struct Probes {
    pub(crate) host: Vec<OpenProbe>,
    pub(crate) gpus: Vec<(&'static str, Box<dyn GpuProbe>)>,
    pub(crate) closed: Vec<(&'static MetricDef, Reason)>,
}

impl Probes {
    /// The names of all probes there are.
    pub(crate) fn known() -> impl Iterator<Item = &'static str> {
        PROBES.iter().map(|kind| kind.name()).chain(VENDORS.iter().map(|vendor| vendor.name()))
    }

    /// Opens them; a name in `probes_off` that no probe has switches nothing off.
    pub(crate) fn open(settings: &Settings, host: EntityId, table: &mut SeriesTable) -> Self {
        let is_off = |name: &str| settings.probes_off.iter().any(|off| off == name);
        let off = |name: &str| Reason::new(format!("probe {name} is switched off"), SWITCHED_ON_BY).by_choice();
        let context = ProbeContext::live(host);
        let mut probes = Self { host: Vec::new(), gpus: Vec::new(), closed: Vec::new() };
        for kind in PROBES {
            let name = kind.name();
            let opened = if is_off(name) { Err(off(name)) } else { kind.open(&context, table) };
            match opened {
                Ok(probe) => probes.host.push(OpenProbe { name, cadence: kind.cadence(), probe }),
                Err(reason) => {
                    tracing::info!(probe = name, reason = %reason.text, "probe not available");
                    probes.close(kind.metrics(), &reason);
                }
            }
        }
        let context = GpuContext::live(host, settings.nvml_lib.clone());
        for vendor in VENDORS {
            let name = vendor.name();
            if is_off(name) {
                probes.close(vendor.metrics(), &off(name));
            } else {
                probes.gpus.push((name, vendor.open(&context)));
            }
        }
        probes
    }

    /// By what each of the GPUs' drivers can be let go of.
    pub(crate) fn grips(&self) -> Arc<[Arc<dyn Grip>]> {
        self.gpus.iter().map(|(_, probe)| probe.grip()).collect()
    }

    fn close(&mut self, metrics: &[&'static MetricDef], reason: &Reason) {
        self.closed.extend(metrics.iter().map(|metric| (*metric, reason.clone())));
    }
}
