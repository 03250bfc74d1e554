//! GPUs: what they do, draw and hold, by vendor.
//!
//! A [`Vendor`] describes itself and opens into a [`GpuProbe`]; it opens on every machine, and says with each sample why it has
//! nothing to report where its driver is missing, broken or hung. To add a vendor, copy `nvidia`, and add its `mod` line and its
//! line in [`VENDORS`]; metric names are shared by all vendors.

pub mod nvidia;

use std::path::{Path, PathBuf};
use std::time::Duration;

use perfwatch_model::{EntityId, MetricDef, Reading};

use crate::Probe;

/// Every vendor there is a probe for.
pub const VENDORS: &[&dyn Vendor] = &[&nvidia::Nvidia];

/// A vendor's way to its GPUs.
pub trait Vendor: Sync {
    /// Stable lowercase name used in configuration and logs; also the name of the vendor's file or folder.
    fn name(&self) -> &'static str;

    /// Every metric its probe can emit or call unavailable.
    fn metrics(&self) -> &'static [&'static MetricDef];

    /// Opens the probe. Does not wait for the driver: what is wrong with it comes with each sample, and is retried.
    fn open(&self, context: &GpuContext) -> Box<dyn GpuProbe>;
}

/// An opened vendor: a [`Probe`] that also knows its devices.
pub trait GpuProbe: Probe {
    /// The devices that were seen last, in the driver's order; empty until the driver has answered once.
    fn devices(&self) -> &[GpuDevice];
}

/// One device and who uses it.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuDevice {
    /// Its entity, `gpu:<UUID>`; the entity's attributes carry name, vendor and driver version.
    pub entity: EntityId,
    /// Vendor-wide unique id, as the vendor writes it (`GPU-…`).
    pub uuid: String,
    /// Product name.
    pub name: String,
    /// `domain:bus:device.function`.
    pub pci: Reading<String>,
    /// Version of the driver that answers for it.
    pub driver_version: Reading<String>,
    /// The processes that hold memory on it, each once, sorted by pid; read every few seconds.
    pub processes: Reading<Vec<GpuProcess>>,
}

/// A process that holds memory on a device.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuProcess {
    /// Pid in the host's pid namespace, which [`GpuContext::host_pids`] says to be the agent's own.
    pub pid: u32,
    /// Device memory it holds, in bytes.
    pub used: Reading<u64>,
}

/// Where GPU probes look, and how long they may take.
#[derive(Clone, Debug)]
pub struct GpuContext {
    /// The machine; what is missing while no device is known is missing of it.
    pub host: EntityId,
    /// NVML to load in place of the dynamic loader's `libnvidia-ml.so.1` (`--nvml-lib`, `PERFWATCH_NVML_LIB`).
    pub nvml_lib: Option<PathBuf>,
    /// Longest that one sample may wait for a driver. A driver that has not answered by then is reported as unresponsive.
    pub budget: Duration,
    /// Whether the agent sees pids as the drivers report them. They report those of the host, whatever namespace asks.
    pub host_pids: bool,
    /// Whether an NVIDIA kernel driver is loaded; tells a container without the user-space part from a machine without GPU.
    pub nvidia_kernel_driver: bool,
}

impl GpuContext {
    /// Longer than a healthy driver takes for eight devices by two orders of magnitude, short beside the second of a tick.
    pub const BUDGET: Duration = Duration::from_millis(200);

    /// The running machine.
    pub fn live(host: EntityId, nvml_lib: Option<PathBuf>) -> Self {
        Self {
            host,
            nvml_lib,
            budget: Self::BUDGET,
            host_pids: in_first_pid_namespace(Path::new("/proc")),
            nvidia_kernel_driver: Path::new("/proc/driver/nvidia/version").exists(),
        }
    }
}

/// The kernel gives the first pid namespace a fixed inode (`PROC_PID_INIT_INO` of `proc_ns.h`).
fn in_first_pid_namespace(proc: &Path) -> bool {
    std::fs::read_link(proc.join("self/ns/pid")).is_ok_and(|link| link == Path::new("pid:[4026531836]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vendor_in_this_folder_is_listed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gpu");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .expect("the source folder")
            .map(|entry| entry.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned())
            .filter(|name| name != "mod")
            .collect();
        let mut names: Vec<_> = VENDORS.iter().map(|vendor| vendor.name().to_owned()).collect();
        files.sort();
        names.sort();
        assert_eq!(files, names, "add the vendor to VENDORS in probes/src/gpu/mod.rs");
    }
}
