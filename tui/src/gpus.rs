//! The GPUs of a snapshot in the order and by the numbers in which every view shows them: a MIG instance follows the device
//! that it is a part of.

use perfwatch_model::Snapshot;
use perfwatch_model::snapshot::{DeviceView, GpuView, Unavailable};

/// One GPU, or one MIG instance.
#[derive(Clone, Debug)]
pub(crate) struct Gpu<'a> {
    /// `3`; `3.1` for an instance.
    pub(crate) number: String,
    /// True for an instance whose device is in the list.
    pub(crate) instance: bool,
    /// True for a device whose instances are in the list: they have memory, processes and a ledger, and it has none of its own.
    pub(crate) cut: bool,
    pub(crate) device: &'a DeviceView,
    pub(crate) view: &'a GpuView,
}

/// All of them. Devices keep the order in which the agent lists them.
pub(crate) fn gpus(snapshot: &Snapshot) -> Vec<Gpu<'_>> {
    let all = || snapshot.devices.iter().filter_map(|device| Some((device, device.gpu.as_ref()?)));
    // A part of itself, or of a part, is nobody's instance: no agent says so, and none of them may get lost.
    let is_device = |id: &str| all().any(|(device, view)| device.id == id && view.parent.is_none());
    let parent = |view: &GpuView| view.parent.clone().filter(|parent| is_device(parent));
    let mut gpus = Vec::new();
    for (number, (device, view)) in all().filter(|(_, view)| parent(view).is_none()).enumerate() {
        let instances = || all().filter(|(_, view)| parent(view).as_deref() == Some(device.id.as_str()));
        let cut = instances().next().is_some();
        gpus.push(Gpu { number: number.to_string(), instance: false, cut, device, view });
        gpus.extend(instances().enumerate().map(|(at, (device, view))| Gpu {
            number: format!("{number}.{at}"),
            instance: true,
            cut: false,
            device,
            view,
        }));
    }
    gpus
}

/// How the agent's reasons begin where nobody waits for a GPU: no driver, an agent that cannot look.
const NOBODY_WAITS: [&str; 2] = ["no NVIDIA driver here", "this perfwatch is a static"];

/// Why there is no GPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoGpu<'a> {
    /// The reason and what would change that; `None` where the agent tells none.
    pub(crate) missing: Option<&'a Unavailable>,
    /// There is a driver, and it shows none: somebody may wait for that GPU.
    pub(crate) is_expected: bool,
}

/// Why the snapshot has no GPU; `None` where it has one.
pub(crate) fn no_gpu(snapshot: &Snapshot) -> Option<NoGpu<'_>> {
    if snapshot.devices.iter().any(|device| device.gpu.is_some()) {
        return None;
    }
    let missing = snapshot.unavailable.iter().find(|missing| missing.metric == "hw.gpu.utilization");
    let is_expected = missing.is_some_and(|missing| {
        !missing.is_by_choice() && !NOBODY_WAITS.iter().any(|reason| missing.reason.starts_with(reason))
    });
    Some(NoGpu { missing, is_expected })
}

/// What a finding is about in few words: a GPU by its number and name, as in every view; anything else by its id.
pub(crate) fn about(snapshot: &Snapshot, entity: &str) -> String {
    called(snapshot, entity).unwrap_or_else(|| bare(entity).to_owned())
}

/// `GPU 0 H100`, as people tell GPUs apart; nobody knows one by its UUID. `None` of anything else.
pub(crate) fn called(snapshot: &Snapshot, entity: &str) -> Option<String> {
    let gpu = gpus(snapshot).into_iter().find(|gpu| gpu.device.id == entity)?;
    Some(format!("GPU {} {}", gpu.number, short_name(&gpu.device.name)).trim_end().to_owned())
}

/// An entity's id without its kind.
pub(crate) fn bare(entity: &str) -> &str {
    entity.split_once(':').map_or(entity, |(_, id)| id)
}

/// `NVIDIA H100 80GB HBM3` is `H100` to everybody, and an instance is known by its profile.
pub(crate) fn short_name(name: &str) -> String {
    if let Some((_, profile)) = name.rsplit_once("MIG ") {
        return profile.to_owned();
    }
    let name = name.strip_prefix("NVIDIA ").unwrap_or(name);
    let name = name.strip_prefix("GeForce ").unwrap_or(name);
    let mut words = name.split(' ');
    let first = words.next().unwrap_or_default();
    match words.next() {
        Some(model) if ["RTX", "Tesla", "Quadro", "TITAN"].contains(&first) => format!("{first} {model}"),
        _ => first.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    fn numbers(snapshot: &Snapshot) -> Vec<(String, String)> {
        gpus(snapshot).iter().map(|gpu| (gpu.number.clone(), short_name(&gpu.device.name))).collect()
    }

    #[test]
    fn an_instance_follows_its_device_and_has_its_number() {
        let expected = [("0", "H100"), ("0.0", "3g.40gb"), ("0.1", "1g.10gb"), ("1", "H100")];
        let expected = expected.map(|(number, name)| (number.to_owned(), name.to_owned()));
        assert_eq!(numbers(&fixtures::mig()), expected);
    }

    #[test]
    fn a_finding_is_about_a_gpu_of_a_number_and_a_name_and_a_server_of_a_name() {
        let snapshot = fixtures::mig();
        let about = |entity: &str| about(&snapshot, entity);
        assert_eq!(about("gpu:MIG-1g.10gb"), "GPU 0.1 1g.10gb");
        assert_eq!(about("server:shop/1"), "shop/1");
        assert_eq!(about("gpu:GPU-gone"), "GPU-gone");
    }

    #[test]
    fn nothing_gets_lost_whatever_is_said_of_parents() {
        let mut snapshot = fixtures::mig();
        for (at, parent) in [(0, "gpu:MIG-1g.10gb"), (1, "gpu:nowhere"), (2, "gpu:MIG-3g.40gb"), (3, "gpu:MIG-3g.40gb")]
        {
            let gpu = snapshot.devices[at].gpu.as_mut().expect("a GPU");
            gpu.parent = Some(parent.to_owned());
        }
        assert_eq!(gpus(&snapshot).len(), 4);
    }

    #[test]
    fn short_names_are_what_people_say() {
        for (name, short) in [
            ("NVIDIA H100 80GB HBM3", "H100"),
            ("NVIDIA GeForce RTX 4090", "RTX 4090"),
            ("Tesla T4", "Tesla T4"),
            ("", ""),
        ] {
            assert_eq!(short_name(name), short);
        }
    }
}
