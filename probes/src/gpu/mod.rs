//! GPUs: what they do, draw and hold, by vendor.
//!
//! A [`Vendor`] describes itself and opens into a [`GpuProbe`]; it opens on every machine, and says with each sample why it has
//! nothing to report where its driver is missing, broken or hung. To add a vendor, copy `nvidia`, and add its `mod` line and its
//! line in [`VENDORS`]; metric names are shared by all vendors.

pub mod nvidia;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use perfwatch_model::Sharing;
use perfwatch_model::tick::SLOTS;
use perfwatch_model::{EntityId, GpuSlot, MetricDef, Reading, Reason, Stamp};

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

    /// How much CPU time its own thread may use in a second for what it samples between two ticks; without a call, any.
    fn allow(&mut self, cpu_ns_per_s: u64);

    /// Whether it samples less often than it could, to stay within that.
    fn is_stretched(&self) -> bool;

    /// By what it can be made to let go of its driver.
    fn grip(&self) -> Arc<dyn Grip>;
}

/// A probe's grip on its driver: whoever has a driver open keeps it from being reset, unloaded and set up anew. It can be loosened
/// for a while, from any thread; the probe says why it has nothing to report meanwhile, and goes on by itself afterwards.
pub trait Grip: Send + Sync {
    /// Lets go until then, by the clock that the probe is sampled by; a time that was given before is replaced. Comes back when
    /// the driver is not open any more, and tells whether it had been. Waits for a driver that does not answer for some two
    /// seconds, and longer only for one that is shutting down.
    ///
    /// # Errors
    /// Why the driver is open still. It will be let go of as soon as it can be, if the time is not over by then.
    fn release(&self, until: Stamp) -> Result<bool, Reason>;

    /// Goes on with the next sample; true where it had let go, or was about to.
    fn take(&self) -> bool;
}

/// One device and who uses it.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuDevice {
    /// Its entity, `gpu:<UUID>`; the entity's attributes carry name, vendor and driver version.
    pub entity: EntityId,
    /// Vendor-wide unique id, as the vendor writes it (`GPU-…`, `MIG-…`).
    pub uuid: String,
    /// Of a MIG instance, which stands beside its GPU: the UUID of that GPU. What is told of the GPU contains the instance.
    pub parent: Option<String>,
    /// Product name.
    pub name: String,
    /// `domain:bus:device.function`.
    pub pci: Reading<String>,
    /// Version of the driver that answers for it.
    pub driver_version: Reading<String>,
    /// What its units did in each tenth of the second that ended with the last sample; unknown where nothing tells.
    pub slots: [GpuSlot; SLOTS],
    /// The processes that hold memory on it, each once, sorted by pid; read every few seconds.
    pub processes: Reading<Vec<GpuProcess>>,
    /// Whether there may be others on it that are not listed: outside the agent's pid namespace, where it is not the host's.
    pub may_have_others: bool,
    /// How they share it, as of the same look.
    pub sharing: Sharing,
}

/// A process that holds memory on a device.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuProcess {
    /// Pid in the agent's pid namespace.
    pub pid: u32,
    /// Device memory it holds, in bytes.
    pub used: Reading<u64>,
    /// Mean share of the SMs' time that was its own since the last look at the processes, 0 to 1.
    pub sm: Reading<f64>,
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
    /// Whether the agent is in the host's pid namespace, and so sees every process with the pid that drivers report. Anywhere else
    /// they report the host's, or those of the namespace that asks and nothing of the others.
    pub host_pids: bool,
    /// Where processes are looked up that drivers report: the agent's `/proc`.
    pub proc: PathBuf,
    /// Whether an NVIDIA kernel driver is loaded; tells a container without the user-space part from a machine without GPU.
    pub nvidia_kernel_driver: bool,
    /// Where the kernel's part of the NVIDIA driver has a folder for each GPU, if it has.
    pub nvidia_gpus: PathBuf,
    /// Where the kernel has a folder for each PCI device.
    pub pci_devices: PathBuf,
    /// Whether the agent runs in a container, which may have been given no device, or lost it.
    pub in_container: bool,
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
            proc: PathBuf::from("/proc"),
            nvidia_kernel_driver: Path::new("/proc/driver/nvidia/version").exists(),
            nvidia_gpus: PathBuf::from("/proc/driver/nvidia/gpus"),
            pci_devices: PathBuf::from("/sys/bus/pci/devices"),
            in_container: in_container(Path::new("/")),
        }
    }
}

/// The kernel gives the first pid namespace a fixed inode (`PROC_PID_INIT_INO` of `proc_ns.h`).
fn in_first_pid_namespace(proc: &Path) -> bool {
    std::fs::read_link(proc.join("self/ns/pid")).is_ok_and(|link| link == Path::new("pid:[4026531836]"))
}

/// By what Docker, Podman, systemd-nspawn and Kubernetes leave in a container, or a root that is stacked of layers.
fn in_container(root: &Path) -> bool {
    let marks = [".dockerenv", "run/.containerenv", "run/systemd/container", "var/run/secrets/kubernetes.io"];
    let is_stacked = |mounts: String| mounts.lines().any(|line| line.split(' ').skip(1).take(2).eq(["/", "overlay"]));
    marks.iter().any(|mark| root.join(mark).exists())
        || std::fs::read_to_string(root.join("proc/self/mounts")).is_ok_and(is_stacked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_known_by_a_mark_or_by_a_root_of_layers() {
        let root = tempfile::tempdir().expect("a folder");
        let proc = root.path().join("proc/self");
        std::fs::create_dir_all(&proc).expect("created");
        let mounted = |mounts: &str| {
            std::fs::write(proc.join("mounts"), mounts).expect("written");
            in_container(root.path())
        };
        assert!(!mounted("/dev/sda1 / ext4 rw 0 0\noverlay /var/lib/docker/overlay2/1/merged overlay rw 0 0\n"));
        assert!(mounted("overlay / overlay rw,lowerdir=/a:/b 0 0\nproc /proc proc rw 0 0\n"));
        assert!(!mounted("/dev/sda1 / ext4 rw 0 0\n"));
        std::fs::write(root.path().join(".dockerenv"), "").expect("written");
        assert!(in_container(root.path()));
    }

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
