//! MIG: a GPU that is cut into instances, each of them a device of its own with its own memory and processes.

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, Nvml};
use perfwatch_model::Reason;

use super::activity::Activity;
use super::fault;

/// Devices have seven slices; a driver that says many more is not believed.
const MOST_INSTANCES: u32 = 64;
/// `NVML_DEVICE_UUID_V2_BUFFER_SIZE`.
const LONGEST_UUID: usize = 96;
/// `NVML_DEVICE_MIG_ENABLE`.
const ENABLED: u32 = 1;

/// Why an instance has no reading.
pub(crate) const OF_THE_WHOLE: Reason = Reason::fixed(
    "NVML tells this of the whole GPU and not of a MIG instance",
    "look at the GPU that it is part of (`hw.parent`)",
);
/// Why a GPU with instances has no reading.
pub(crate) const OF_THE_PARTS: Reason = Reason::fixed(
    "NVML does not tell this of a GPU in MIG mode",
    "look at its MIG instances: their memory, their processes, and from Hopper on which of their units are busy (GPM)",
);

/// Why an instance that was destroyed has no reading, until the next look at what there is.
pub(crate) const GONE: Reason = Reason::fixed("this MIG instance is gone", "wait for the next second");

/// Why GPM tells nothing of a compute instance that has others beside it.
const NOT_ALONE: Reason = Reason::fixed(
    "GPM tells of a GPU instance, and this is one of several compute instances in it",
    "none here; its memory and its processes are still shown",
);

/// What a device is a part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A GPU.
    Whole,
    /// A GPU in MIG mode, with the UUIDs of its instances.
    Cut(Vec<String>),
    /// A MIG instance.
    Instance,
}

/// An instance and what it is called.
pub(crate) struct Instance<'nvml> {
    pub(crate) device: Device<'nvml>,
    pub(crate) uuid: String,
    pub(crate) name: String,
    /// The number of the GPU instance that it is, or why GPM cannot be asked for it.
    pub(crate) number: Result<u32, Reason>,
}

/// The instances of a GPU that is called `parent`; none where it is not in MIG mode.
pub(crate) fn instances<'nvml>(
    nvml: &Nvml,
    device: &Device<'nvml>,
    parent: &str,
    activity: &Activity,
) -> Option<Vec<Instance<'nvml>>> {
    let mut found = Vec::new();
    let is_cut = each(device, activity, |device, uuid| {
        let name = name(&device, parent, activity);
        let number = gpu_instance(nvml, &device, activity);
        found.push(Instance { device, uuid, name, number });
    });
    let ids: Vec<_> = found.iter().map(|instance: &Instance<'_>| instance.number.clone().ok()).collect();
    for Instance { number, .. } in &mut found {
        if number.as_ref().is_ok_and(|id| ids.iter().filter(|other| **other == Some(*id)).count() > 1) {
            *number = Err(NOT_ALONE);
        }
    }
    // An error amid them hides neither the GPU nor the instances before it.
    is_cut.unwrap_or(!found.is_empty()).then_some(found)
}

#[allow(unsafe_code, reason = "the wrapper does not offer it")]
fn gpu_instance(nvml: &Nvml, instance: &Device<'_>, activity: &Activity) -> Result<u32, Reason> {
    const CALL: &str = "nvmlDeviceGetGpuInstanceId";
    activity.enter(CALL);
    let mut id = 0;
    let asked = nvml_sym(nvml.lib().nvmlDeviceGetGpuInstanceId.as_ref())
        // SAFETY: the device is one of this library's, and the number outlives the call.
        .and_then(|call| nvml_try(unsafe { call(instance.handle(), &raw mut id) }));
    asked.map(|()| id).map_err(|error| fault::at_call(&error, CALL))
}

/// Whether a GPU is cut otherwise than it was: instances come and go without a word. A driver that fails says nothing of that.
pub(crate) fn has_changed(device: &Device<'_>, part: &Part, activity: &Activity) -> bool {
    let known = match part {
        Part::Whole => None,
        Part::Cut(uuids) => Some(uuids.as_slice()),
        Part::Instance => return false,
    };
    let mut now = Vec::new();
    match each(device, activity, |_, uuid| now.push(uuid)) {
        Ok(is_cut) => known != is_cut.then_some(now.as_slice()),
        Err(_) => false,
    }
}

/// Whether a handle is still that of the instance that it was: handles are used again, and of one that is gone the driver knows
/// nothing. An error of another kind says nothing of that.
#[allow(unsafe_code, reason = "the wrapper allocates an answer for each call")]
pub(crate) fn is_same(nvml: &Nvml, instance: &Device<'_>, uuid: &str, activity: &Activity) -> bool {
    let Ok(call) = nvml_sym(nvml.lib().nvmlDeviceGetUUID.as_ref()) else { return true };
    activity.enter("nvmlDeviceGetUUID");
    let mut now = [0_u8; LONGEST_UUID];
    // SAFETY: the device is one of this library's, and the buffer is as long as it is said to be.
    match nvml_try(unsafe { call(instance.handle(), now.as_mut_ptr().cast(), LONGEST_UUID as u32) }) {
        Ok(()) => now.split(|byte| *byte == 0).next() == Some(uuid.as_bytes()),
        Err(error) => !is_gone(&error),
    }
}

/// Whether an error on an instance means that there is none any more.
pub(crate) fn is_gone(error: &NvmlError) -> bool {
    matches!(error, NvmlError::NotFound | NvmlError::InvalidArg)
}

/// Tells of each instance; false where the device is not in MIG mode.
fn each<'nvml>(
    device: &Device<'nvml>,
    activity: &Activity,
    mut tell: impl FnMut(Device<'nvml>, String),
) -> Result<bool, NvmlError> {
    activity.enter("nvmlDeviceGetMigMode");
    match device.mig_mode() {
        Ok(mode) if mode.current == ENABLED => {}
        Ok(_) | Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_)) => return Ok(false),
        Err(error) => return Err(error),
    }
    activity.enter("nvmlDeviceGetMaxMigDeviceCount");
    // It is how many there can be, and any of them may be missing.
    for index in 0..device.mig_device_count()?.min(MOST_INSTANCES) {
        activity.enter("nvmlDeviceGetMigDeviceHandleByIndex");
        match device.mig_device_by_index(index) {
            Ok(instance) => {
                activity.enter("nvmlDeviceGetUUID");
                let uuid = instance.uuid()?;
                tell(instance, uuid);
            }
            Err(NvmlError::NotFound | NvmlError::InvalidArg) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// The driver's name for it where that says what it is a part of, else one in the same form.
fn name(instance: &Device<'_>, parent: &str, activity: &Activity) -> String {
    activity.enter("nvmlDeviceGetName");
    if let Some(name) = instance.name().ok().filter(|name| name.contains("MIG")) {
        return name;
    }
    activity.enter("nvmlDeviceGetAttributes_v2");
    match instance.attributes() {
        Ok(of) => {
            let profile = Profile {
                compute_slices: of.compute_instance_slice_count,
                slices: of.gpu_instance_slice_count,
                memory_mb: of.memory_size_mb,
            };
            format!("{parent} MIG {profile}")
        }
        Err(_) => format!("{parent} MIG"),
    }
}

/// What an instance has of its GPU, written as NVIDIA does: `3g.40gb`, `1c.3g.40gb`.
struct Profile {
    compute_slices: u32,
    slices: u32,
    memory_mb: u64,
}

impl std::fmt::Display for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.compute_slices != self.slices {
            write!(f, "{}c.", self.compute_slices)?;
        }
        // A little of the memory is the driver's own.
        write!(f, "{}g.{}gb", self.slices, self.memory_mb.div_ceil(1024))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_written_as_nvidia_does() {
        let profile = |compute_slices, slices, memory_mb| Profile { compute_slices, slices, memory_mb }.to_string();
        assert_eq!(profile(3, 3, 40_448), "3g.40gb");
        assert_eq!(profile(1, 3, 40_448), "1c.3g.40gb");
        assert_eq!(profile(1, 1, 9_984), "1g.10gb");
    }
}
