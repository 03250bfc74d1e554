//! The GPUs of a machine in a report: a line for each, or why there is none.

use perfwatch_model::Snapshot;

use crate::gpus::{called, gpus, no_gpu};
use crate::views::gpu_fault;

/// Columns of a report before a line's text.
const LABEL: usize = 11;

/// `gpu 0      NVIDIA H100 80GB HBM3, 00000000:17:00.0, GPU-…`, with what is wrong with it; without any, why that is and what would
/// give one.
pub fn inventory(snapshot: &Snapshot) -> Vec<String> {
    let line = |label: &str, text: &str| format!("{label:<LABEL$}{text}");
    if let Some(none) = no_gpu(snapshot) {
        let Some(missing) = none.missing else { return vec![line("gpus", "none")] };
        let mut lines = vec![line("gpus", &format!("none: {}", missing.reason))];
        if !missing.cure.is_empty() {
            lines.push(line("", &format!("to get it: {}", missing.cure)));
        }
        return lines;
    }
    let of = |gpu: &crate::gpus::Gpu<'_>| {
        let uuid = gpu.device.id.split_once(':').map_or(gpu.device.id.as_str(), |(_, uuid)| uuid);
        let words = [Some(gpu.device.name.as_str()), gpu.view.pci_bus_id.as_deref(), Some(uuid)];
        let words: Vec<_> = words.into_iter().flatten().filter(|words| !words.is_empty()).collect();
        let faults: Vec<_> = gpu.view.faults.iter().map(|fault| gpu_fault(fault).1).collect();
        let faults = if faults.is_empty() { String::new() } else { format!(": {}", faults.join("; ")) };
        line(&format!("gpu {}", gpu.number), &format!("{}{faults}", words.join(", ")))
    };
    gpus(snapshot).iter().map(of).collect()
}

/// What something is missing of: a GPU by its number in the report, and its name; anything else by its `kind:id`.
pub fn subject(snapshot: &Snapshot, entity: &str) -> String {
    called(snapshot, entity).unwrap_or_else(|| entity.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn every_gpu_has_a_line_with_what_is_wrong_with_it() {
        let mut snapshot = fixtures::two_gpus();
        let device = snapshot.devices.iter_mut().find(|device| device.gpu.is_some()).expect("a GPU");
        device.id = "gpu:GPU-dead".to_owned();
        let view = device.gpu.as_mut().expect("a GPU");
        view.faults = vec!["lost".to_owned()];
        view.pci_bus_id = Some("00000000:17:00.0".to_owned());
        let lines = inventory(&snapshot);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("gpu 0      NVIDIA "), "{lines:?}");
        assert!(lines[0].ends_with(", 00000000:17:00.0, GPU-dead: it has fallen off the bus"), "{lines:?}");
    }

    #[test]
    fn without_a_gpu_stands_why_and_what_would_give_one() {
        let mut snapshot = fixtures::no_server();
        snapshot.devices.clear();
        snapshot.unavailable.clear();
        assert_eq!(inventory(&snapshot), ["gpus       none"]);
        snapshot.unavailable.push(perfwatch_model::snapshot::Unavailable {
            metric: "hw.gpu.utilization".to_owned(),
            entity: "host:here".to_owned(),
            reason: "no NVIDIA driver here".to_owned(),
            cure: "install it".to_owned(),
            kind: perfwatch_model::AbsenceKind::Normal,
        });
        assert_eq!(
            inventory(&snapshot),
            ["gpus       none: no NVIDIA driver here", "           to get it: install it"]
        );
    }
}
