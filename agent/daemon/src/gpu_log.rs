//! What the agent's log says of GPUs, once each: that they are there, what fails, that it works again.

use perfwatch_diagnose::SETTINGS;
use perfwatch_model::metrics::gpu;
use perfwatch_model::snapshot::{GpuView, Unavailable};
use perfwatch_model::{MetricDef, Snapshot};

use crate::scheduler::ProbeSet;

/// Ticks for which faults must be the same before they are told: a driver that is late now and then is no news each time.
const SETTLED: u32 = 3;

/// A GPU of which the log has told.
struct Told {
    /// `gpu:<UUID>`.
    id: String,
    faults: Vec<String>,
    /// What they are now, if that is other, and for how many ticks.
    now: (Vec<String>, u32),
}

/// Remembers what the log has told.
#[derive(Default)]
pub(crate) struct GpuLog {
    told: Vec<Told>,
    /// Why there was no GPU, or one less than there are.
    missing: Option<String>,
    /// What it is now, if that is other, and for how many ticks.
    missing_now: (Option<String>, u32),
}

impl GpuLog {
    /// Tells what has changed since the last time. What `shown` shows comes from `probes`.
    pub(crate) fn tell(&mut self, shown: &Snapshot, probes: &ProbeSet) {
        self.told.retain(|told| {
            let stays = shown.devices.iter().any(|device| device.id == told.id);
            if !stays {
                tracing::info!(gpu = told.id, "GPU gone");
            }
            stays
        });
        for (device, view) in shown.devices.iter().filter_map(|device| Some((device, device.gpu.as_ref()?))) {
            let at = self.told.iter().position(|told| told.id == device.id).unwrap_or_else(|| {
                let known = probes.gpus().find(|known| device.id.ends_with(&known.uuid));
                let driver = known.and_then(|known| known.driver_version.as_value()).map_or("unknown", String::as_str);
                let pci = view.pci_bus_id.as_deref().unwrap_or("unknown");
                tracing::info!(gpu = device.id, name = device.name, pci, driver, "GPU found");
                self.told.push(Told { id: device.id.clone(), faults: Vec::new(), now: (Vec::new(), 0) });
                self.told.len() - 1
            });
            if !self.told[at].has_changed(view) {
                continue;
            }
            let faults = self.told[at].faults.join(", ");
            if faults.is_empty() {
                tracing::info!(gpu = device.id, name = device.name, "GPU has no fault any more");
            } else {
                let reason = why(shown, &gpu::UTILIZATION, &device.id);
                tracing::warn!(gpu = device.id, name = device.name, faults, reason, "GPU has a fault");
            }
        }
        let missing = why(shown, &gpu::UTILIZATION, "host:");
        if missing == self.missing.as_deref() {
            self.missing_now.1 = 0;
            return;
        }
        if self.missing_now.1 == 0 || missing != self.missing_now.0.as_deref() {
            self.missing_now = (missing.map(str::to_owned), 0);
        }
        self.missing_now.1 += 1;
        if self.missing_now.1 >= SETTLED {
            // What is missing of a driver in order is its faults too.
            match (missing, why(shown, &gpu::FAULT, "host:"), self.told.is_empty()) {
                (Some(reason), None, false) => tracing::warn!(reason, "not every GPU is seen"),
                (Some(reason), None, true) => tracing::warn!(reason, "no GPU: its driver fails"),
                (Some(reason), Some(_), _) => tracing::info!(reason, "no GPU"),
                (None, ..) => {}
            }
            self.missing = self.missing_now.0.take();
            self.missing_now.1 = 0;
        }
    }
}

impl Told {
    /// Takes in the faults of the newest tick; true when they are other than was told, and for long enough. What somebody has set
    /// is none.
    fn has_changed(&mut self, view: &GpuView) -> bool {
        // Of a device that nothing is read of, that it has no fault is not known either.
        let is_read = [view.utilization, view.power_watts, view.temperature_celsius].iter().any(Option::is_some)
            || view.memory_used_bytes.is_some();
        let faults = || view.faults.iter().filter(|fault| !SETTINGS.contains(&fault.as_str()));
        if faults().eq(&self.faults) || (faults().next().is_none() && !is_read) {
            self.now.1 = 0;
            return false;
        }
        if self.now.1 == 0 || !faults().eq(&self.now.0) {
            self.now = (faults().cloned().collect(), 0);
        }
        self.now.1 += 1;
        let has_settled = self.now.1 >= SETTLED;
        if has_settled {
            self.faults = std::mem::take(&mut self.now.0);
            self.now.1 = 0;
        }
        has_settled
    }
}

/// Why a GPU has no value of a metric; any GPU, where `entity` is how machines begin.
fn why<'a>(shown: &'a Snapshot, metric: &MetricDef, entity: &str) -> Option<&'a str> {
    let is_it = |missing: &&Unavailable| missing.metric == metric.name && missing.entity.starts_with(entity);
    shown.unavailable.iter().find(is_it).map(|missing| missing.reason.as_str())
}

#[cfg(test)]
mod tests {
    use perfwatch_model::snapshot::{AgentView, DeviceView, HostView, SCHEMA_VERSION};

    use super::*;
    use crate::told;

    fn gpu(faults: &[&str]) -> DeviceView {
        let faults = faults.iter().map(|fault| (*fault).to_owned()).collect();
        DeviceView {
            id: "gpu:GPU-a".to_owned(),
            kind: "gpu".to_owned(),
            name: "H100".to_owned(),
            ledger: None,
            cpu: None,
            gpu: Some(GpuView { faults, power_watts: Some(300.0), ..GpuView::default() }),
        }
    }

    fn missing(metric: &MetricDef, entity: &str, reason: &str) -> Unavailable {
        Unavailable {
            metric: metric.name.to_owned(),
            entity: entity.to_owned(),
            reason: reason.to_owned(),
            cure: String::new(),
            kind: perfwatch_model::AbsenceKind::Normal,
        }
    }

    fn empty() -> Snapshot {
        Snapshot {
            schema_version: SCHEMA_VERSION,
            time: String::new(),
            window_s: 0.0,
            host: HostView::default(),
            devices: Vec::new(),
            servers: Vec::new(),
            findings: Vec::new(),
            undecided: Vec::new(),
            unavailable: Vec::new(),
            agent: AgentView::default(),
        }
    }

    /// The lines that are written while a log is told what `play` shows.
    fn lines(play: impl FnOnce(&mut dyn FnMut(&Snapshot))) -> Vec<String> {
        let (mut log, probes) = (GpuLog::default(), ProbeSet::new(Vec::new(), Vec::new(), 1.0));
        told::lines(|| play(&mut |shown| log.tell(shown, &probes)))
    }

    #[test]
    fn each_change_is_told_once() {
        let told = lines(|tell| {
            let [starts, its_faults] =
                [&gpu::UTILIZATION, &gpu::FAULT].map(|metric| missing(metric, "host:here", "NVML starts"));
            let mut shown = Snapshot { unavailable: vec![starts, its_faults], ..empty() };
            let mut tell = |shown: &Snapshot| (0..2 * SETTLED).for_each(|_| tell(shown));
            tell(&shown);
            shown.unavailable = vec![missing(&gpu::UTILIZATION, "host:here", "no answer")];
            tell(&shown);
            (shown.unavailable, shown.devices) = (Vec::new(), vec![gpu(&[])]);
            tell(&shown);
            (shown.unavailable, shown.devices) =
                (vec![missing(&gpu::UTILIZATION, "gpu:GPU-a", "off the bus")], vec![gpu(&["lost"])]);
            tell(&shown);
            (shown.unavailable, shown.devices) = (Vec::new(), vec![gpu(&[])]);
            tell(&shown);
            shown.unavailable = vec![missing(&gpu::UTILIZATION, "host:here", "GPU 1 cannot be opened")];
            tell(&shown);
            (shown.unavailable, shown.devices) = (Vec::new(), Vec::new());
            tell(&shown);
        });
        let expected = [
            r#"INFO no GPU reason="NVML starts""#,
            r#"WARN no GPU: its driver fails reason="no answer""#,
            r#"INFO GPU found gpu="gpu:GPU-a" name="H100" pci="unknown" driver="unknown""#,
            r#"WARN GPU has a fault gpu="gpu:GPU-a" name="H100" faults="lost" reason="off the bus""#,
            r#"INFO GPU has no fault any more gpu="gpu:GPU-a" name="H100""#,
            r#"WARN not every GPU is seen reason="GPU 1 cannot be opened""#,
            r#"INFO GPU gone gpu="gpu:GPU-a""#,
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_comes_and_goes_what_somebody_set_and_what_nobody_knows_is_no_news() {
        let told = lines(|tell| {
            let shown = |device: DeviceView| Snapshot { devices: vec![device], ..empty() };
            for _ in 0..10 {
                tell(&shown(gpu(&["unresponsive"])));
                tell(&shown(gpu(&["unresponsive"])));
                tell(&shown(gpu(&["clocks_locked"])));
            }
            (0..10).for_each(|_| tell(&shown(gpu(&["lost"]))));
            let mut unread = gpu(&[]);
            unread.gpu = Some(GpuView::default());
            (0..10).for_each(|_| tell(&shown(unread.clone())));
        });
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("GPU found") && told[1].contains(r#"faults="lost""#), "{told:?}");
    }
}
