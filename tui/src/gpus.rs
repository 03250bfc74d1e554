//! The GPUs of a snapshot in the order and by the numbers in which every view shows them: a MIG instance follows the device
//! that it is a part of.

use perfwatch_model::snapshot::{DeviceView, GpuView, Unavailable};
use perfwatch_model::{AbsenceKind, Snapshot};

use crate::views::{gpu_fault, is_setting, worst_fault};

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

impl Gpu<'_> {
    /// Whether nothing is read of it: it is lost, its driver does not answer, or waits for another.
    pub(crate) fn is_unread(&self) -> bool {
        let view = self.view;
        let readings = [
            view.utilization,
            view.activity.and_then(|activity| activity.sm_active),
            view.power_watts,
            view.temperature_celsius,
            view.sm_clock_hertz,
            view.memory_used_bytes.map(|bytes| bytes as f64),
        ];
        readings.iter().all(Option::is_none)
    }
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
    let is_expected = missing.is_some_and(|missing| missing.kind == AbsenceKind::Failed);
    Some(NoGpu { missing, is_expected })
}

/// Readings that tell how a GPU is: without them nobody knows that it is well.
const VITAL: [&str; 4] = ["hw.gpu.utilization", "hw.power", "hw.temperature", "hw.gpu.memory.usage"];

/// Why nobody may say that nothing is wrong with the GPUs, though no finding stands: one is broken, which takes some seconds to be
/// confirmed, or cannot be read. `None` where they are well as far as they tell.
pub(crate) fn in_doubt(snapshot: &Snapshot) -> Option<String> {
    let gpus = gpus(snapshot);
    let broken = gpus.iter().filter_map(|gpu| {
        let fault = worst_fault(gpu.view).filter(|fault| !is_setting(fault))?;
        Some(format!("GPU {}: {}; being confirmed", gpu.number, gpu_fault(fault).0))
    });
    let unseen = unseen(snapshot).map(str::to_owned);
    let unread = gpus.iter().filter(|gpu| worst_fault(gpu.view).is_none_or(is_setting)).filter_map(|gpu| {
        let fails = |missing: &&Unavailable| missing.entity == gpu.device.id && is_failure(missing);
        let missing = snapshot.unavailable.iter().find(fails)?;
        Some(format!("GPU {}: readings fail: {}", gpu.number, missing.reason))
    });
    let mut all = broken.chain(unseen).chain(unread);
    let first = all.next()?;
    Some(match all.count() {
        0 => first,
        more => format!("{first} (and {more} more)"),
    })
}

/// Whether one of the vital readings fails.
fn is_failure(missing: &Unavailable) -> bool {
    VITAL.contains(&missing.metric.as_str()) && missing.kind == AbsenceKind::Failed
}

/// Beside GPUs that are seen, why there are others that are not: they could not be opened ever since the agent began, so they have
/// no row of their own.
pub(crate) fn unseen(snapshot: &Snapshot) -> Option<&str> {
    snapshot.devices.iter().find(|device| device.gpu.is_some())?;
    let of_host = |missing: &&Unavailable| {
        missing.metric == "hw.gpu.utilization" && missing.entity.starts_with("host:") && !missing.is_by_choice()
    };
    snapshot.unavailable.iter().find(of_host).map(|missing| missing.reason.as_str())
}

/// What a finding is about in few words: a GPU by its number and name, as in every view; anything else by its id.
pub(crate) fn about(snapshot: &Snapshot, entity: &str) -> String {
    called(snapshot, entity).unwrap_or_else(|| bare(entity).to_owned())
}

/// `GPU 0 H100`, as people tell GPUs apart; nobody knows one by its UUID. `None` of anything else.
pub(crate) fn called(snapshot: &Snapshot, entity: &str) -> Option<String> {
    let gpu = gpus(snapshot).into_iter().find(|gpu| gpu.device.id == entity)?;
    Some(name(&gpu))
}

fn name(gpu: &Gpu<'_>) -> String {
    format!("GPU {} {}", gpu.number, short_name(&gpu.device.name)).trim_end().to_owned()
}

/// Calls GPUs by number and name where reasons name them by their UUIDs. What the agent keeps and ships has the UUID, which is
/// the same on every machine and in every recording; the number is the screen's.
pub(crate) fn name_in_reasons(snapshot: &mut Snapshot) {
    let mut names: Vec<(String, String)> = gpus(snapshot)
        .iter()
        .map(|gpu| (bare(&gpu.device.id).to_owned(), name(gpu)))
        .filter(|(uuid, _)| !uuid.is_empty())
        .collect();
    // One may be the beginning of another.
    names.sort_by_key(|(uuid, _)| std::cmp::Reverse(uuid.len()));
    let unknown = snapshot.devices.iter_mut().filter_map(|device| device.gpu.as_mut()?.processes_unknown.as_mut());
    for reason in snapshot.unavailable.iter_mut().map(|missing| &mut missing.reason).chain(unknown) {
        for (uuid, name) in &names {
            if reason.contains(uuid) {
                *reason = reason.replace(uuid, name);
            }
        }
    }
}

/// An entity's id without its kind.
pub(crate) fn bare(entity: &str) -> &str {
    entity.split_once(':').map_or(entity, |(_, id)| id)
}

/// `NVIDIA H100 80GB HBM3` is `H100` to everybody, `NVIDIA A100-SXM4-80GB` is `A100`, and an instance is known by its profile.
pub(crate) fn short_name(name: &str) -> String {
    if let Some((_, profile)) = name.rsplit_once("MIG ") {
        return profile.to_owned();
    }
    let name = name.strip_prefix("NVIDIA ").unwrap_or(name);
    let name = name.strip_prefix("GeForce ").unwrap_or(name);
    // What follows a dash is how it is built in, and its memory.
    let mut words = name.split(' ').map(|word| word.split_once('-').map_or(word, |(model, _)| model));
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
    fn a_reason_names_a_gpu_as_every_view_does_and_the_longest_uuid_first() {
        let mut snapshot = fixtures::mig();
        let (whole, longer) = ("gpu:GPU-1".to_owned(), "gpu:GPU-11".to_owned());
        (snapshot.devices[0].id, snapshot.devices[1].id) = (whole.clone(), longer);
        for device in &mut snapshot.devices {
            if let Some(gpu) = device.gpu.as_mut().filter(|gpu| gpu.parent.is_some()) {
                gpu.parent = Some(whole.clone());
            }
        }
        "waits for GPU-11: `nvmlDeviceGetPowerUsage` has not returned".clone_into(&mut snapshot.unavailable[0].reason);
        "waits for MIG-1g.10gb".clone_into(&mut snapshot.unavailable[1].reason);
        snapshot.devices[0].gpu.as_mut().expect("a GPU").processes_unknown = Some("waits for GPU-1".to_owned());
        name_in_reasons(&mut snapshot);
        assert_eq!(snapshot.unavailable[0].reason, "waits for GPU 1 H100: `nvmlDeviceGetPowerUsage` has not returned");
        assert_eq!(snapshot.unavailable[1].reason, "waits for GPU 0.1 1g.10gb");
        let unknown = snapshot.devices[0].gpu.as_ref().and_then(|gpu| gpu.processes_unknown.clone());
        assert_eq!(unknown.as_deref(), Some("waits for GPU 0 H100"));
    }

    fn why(metric: &str, entity: &str, reason: &str, kind: AbsenceKind) -> Unavailable {
        let [metric, entity, reason, cure] = [metric, entity, reason, ""].map(str::to_owned);
        Unavailable { metric, entity, reason, cure, kind }
    }

    #[test]
    fn a_gpu_that_is_broken_and_one_that_cannot_be_read_are_in_doubt_and_what_it_never_tells_is_no_failure() {
        let mut snapshot = fixtures::two_gpus();
        let second = snapshot.devices[1].id.clone();
        let faults = |faults: &[&str]| {
            let mut snapshot = snapshot.clone();
            let gpu = snapshot.devices[1].gpu.as_mut().expect("a GPU");
            gpu.faults = faults.iter().map(|fault| (*fault).to_owned()).collect();
            in_doubt(&snapshot)
        };
        assert_eq!(faults(&[]), None);
        assert_eq!(faults(&["power_limit_lowered", "clocks_locked"]), None, "somebody set them");
        assert_eq!(faults(&["clocks_locked", "lost"]).as_deref(), Some("GPU 1: lost; being confirmed"));
        for kind in [AbsenceKind::Normal, AbsenceKind::Chosen] {
            snapshot.unavailable = vec![why("hw.power", &second, "for a reason", kind)];
            assert_eq!(in_doubt(&snapshot), None, "{kind:?}");
        }
        let failed = "`nvmlDeviceGetPowerUsage` failed: unknown error";
        snapshot.unavailable = vec![why("perfwatch.gpu.sm.active", &second, failed, AbsenceKind::Failed)];
        assert_eq!(in_doubt(&snapshot), None, "it tells enough without");
        snapshot.unavailable = vec![why("hw.power", &second, failed, AbsenceKind::Failed)];
        assert_eq!(in_doubt(&snapshot), Some(format!("GPU 1: readings fail: {failed}")));
        snapshot.devices[0].gpu.as_mut().expect("a GPU").faults = vec!["reset_required".to_owned()];
        assert_eq!(in_doubt(&snapshot).as_deref(), Some("GPU 0: needs reset; being confirmed (and 1 more)"));
    }

    #[test]
    fn a_gpu_that_cannot_be_opened_is_unseen_beside_others_and_in_doubt() {
        let mut snapshot = fixtures::two_gpus();
        let reason = "GPU 2 cannot be opened: the GPU has fallen off the bus";
        snapshot.unavailable = vec![why("hw.gpu.utilization", "host:gpu-host-3", reason, AbsenceKind::Failed)];
        assert_eq!(unseen(&snapshot), Some(reason));
        assert_eq!(in_doubt(&snapshot).as_deref(), Some(reason));
        snapshot.devices.clear();
        assert_eq!(unseen(&snapshot), None, "without another it is why there is none");
        assert_eq!(in_doubt(&snapshot), None);
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
            ("NVIDIA A100-SXM4-80GB", "A100"),
            ("Tesla V100-PCIE-16GB", "Tesla V100"),
            ("", ""),
        ] {
            assert_eq!(short_name(name), short);
        }
    }
}
