//! NVML's errors as reasons a user can act on.

use nvml_wrapper::error::NvmlError;
use perfwatch_model::{Reason, Stamp};

use super::exchange::Failure;
use super::health::Sign;
use super::readings::DeviceFault;
use super::said;
use crate::gpu::GpuContext;

/// What the dynamic loader looks for when no path is given.
pub(crate) const DEFAULT_LIBRARY: &str = "libnvidia-ml.so.1";

/// The return code of newer drivers that the wrapper has no name for.
const GPU_NOT_FOUND: u32 = 28;

/// The call by which a device is had.
pub(crate) const OPEN: &str = "nvmlDeviceGetHandleByIndex_v2";

const CONTAINER_CURE: &str = "in a container: start it with the NVIDIA Container Toolkit and `--gpus all` \
                              (Kubernetes: runtimeClassName nvidia, NVIDIA_VISIBLE_DEVICES=all)";

/// NVML is there and works, and shows no device.
const NO_DEVICE: Reason = Reason::fixed(
    "NVML works but shows no GPU",
    "in a container: pass the devices in (`--gpus all`, NVIDIA_VISIBLE_DEVICES=all); else check `nvidia-smi -L`",
)
.by_failure();

/// A container without the device nodes, or that may not open them any more. Its first word is stable.
pub(crate) const NO_DEVICE_IN_CONTAINER: Reason = Reason::fixed(
    "no_device_in_container: the driver is there, and this container cannot open its GPUs",
    "restart the container with its GPUs (`--gpus all`, NVIDIA_VISIBLE_DEVICES=all); where it had them before, a reload of systemd \
     on the host took them away: use CDI, or name the nodes (`--device /dev/nvidia0 --device /dev/nvidiactl`)",
)
.by_failure();

/// A device fell off the bus, and NVML was initialised anew.
pub(crate) const LOST_FROM_SIGHT: Reason = Reason::fixed(
    "the GPU has fallen off the bus, and the driver shows it no more",
    "check `dmesg | grep -i xid` (79), power and seating; it needs a reset or a reboot",
)
.by_failure();

/// Every call fails without a reason.
const ALL_UNKNOWN: Reason = Reason::fixed(
    "the NVIDIA driver answers every call with `unknown error`",
    "check `dmesg | grep -i nvrm`; restart the container",
)
.by_failure();

/// The NVML thread could not be started or died.
pub(crate) const NO_THREAD: Reason = Reason::fixed(
    "the thread that talks to NVML has stopped",
    "restart perfwatch; if it happens again, report it with the output of `perfwatch doctor`",
)
.by_failure();

/// The device, or its driver, has no such reading.
pub(crate) const NOT_SUPPORTED: Reason =
    Reason::fixed("this device does not support the reading", "none: the driver offers it on other products");

/// Pids of another namespace must not be looked up in ours.
pub(crate) const FOREIGN_PIDS: Reason = Reason::fixed(
    "this agent runs in a pid namespace of its own, and nothing shows that the pids that NVML reports are of it",
    "run it in the host's pid namespace (`--pid=host`, Kubernetes `hostPID: true`); or, with a driver that tells pids by namespace, \
     in the servers' (`shareProcessNamespace: true`) and as their user or with CAP_SYS_PTRACE",
);

/// Why a process' share of the memory is unknown.
pub(crate) const MEMORY_NOT_ATTRIBUTED: Reason = Reason::fixed(
    "the driver does not attribute memory to processes here",
    "none on WSL and some vGPUs, which do not support it; in a pid namespace of its own: a newer driver, or the host's namespace",
);

/// The same, with what it says of the driver.
pub(crate) fn at_start(error: &NvmlError, context: &GpuContext) -> Failure {
    let is_fault = match error {
        NvmlError::LibRmVersionMismatch => true,
        // No driver, no device, no permission: so it was set up, as far as anybody can tell.
        NvmlError::LibloadingError(_)
        | NvmlError::FailedToLoadSymbol(_)
        | NvmlError::DriverNotLoaded
        | NvmlError::NoPermission
        | NvmlError::OperatingSystem
        | NvmlError::NotFound
        | NvmlError::UnexpectedVariant(GPU_NOT_FOUND) => false,
        error => !(context.in_container && is_denied(error, context)),
    };
    Failure { reason: at_load(error, context), sign: is_fault.then_some(Sign::Driver) }
}

/// Why NVML could not be loaded or initialised.
pub(crate) fn at_load(error: &NvmlError, context: &GpuContext) -> Reason {
    let reason = match error {
        NvmlError::LibloadingError(error) => return not_loaded(&with_sources(error), context),
        NvmlError::FailedToLoadSymbol(_) => wrong_file(context, "it has no `nvmlInit_v2`"),
        error if context.in_container && is_denied(error, context) => NO_DEVICE_IN_CONTAINER,
        NvmlError::DriverNotLoaded => Reason::fixed(
            "NVML is installed but the NVIDIA kernel driver is not loaded",
            "load it (`modprobe nvidia`) or, after an update, reboot; check `dmesg | grep -i nvrm`",
        ),
        NvmlError::LibRmVersionMismatch => Reason::fixed(
            "NVML and the loaded NVIDIA kernel driver are of different versions",
            "the driver was updated while loaded: reload its modules or reboot; in a container: restart it",
        ),
        NvmlError::NoPermission | NvmlError::OperatingSystem => Reason::fixed(
            "the operating system denies access to the NVIDIA device nodes",
            "allow /dev/nvidiactl and /dev/nvidia* (group `video`, systemd DeviceAllow=, the container's device cgroup)",
        ),
        NvmlError::UnexpectedVariant(GPU_NOT_FOUND) | NvmlError::NotFound => NO_DEVICE,
        NvmlError::Unknown => Reason::fixed(
            "NVML cannot be initialised: the driver answers `unknown error`",
            "the device nodes are probably missing: in a container restart it with `--gpus all`; else check /dev/nvidia* \
             and `dmesg | grep -i nvrm`",
        ),
        NvmlError::UnexpectedVariant(code) => Reason::new(
            format!("NVML cannot be initialised: return code {code}"),
            "look the code up as nvmlReturn_t in NVIDIA's documentation; compare `nvidia-smi`",
        ),
        other => Reason::new(
            format!("NVML cannot be initialised: {other}"),
            "compare `nvidia-smi`, which uses the same library",
        ),
    };
    reason.by_failure()
}

/// What a container hears whose device nodes are missing, or that its control group keeps from them.
fn is_denied(error: &NvmlError, context: &GpuContext) -> bool {
    match error {
        // Without a node NVML takes the driver for missing, which is the host's.
        NvmlError::DriverNotLoaded => context.nvidia_kernel_driver,
        NvmlError::Unknown | NvmlError::NoPermission | NvmlError::OperatingSystem | NvmlError::NotFound => true,
        other => matches!(other, NvmlError::UnexpectedVariant(GPU_NOT_FOUND)),
    }
}

/// Why a device cannot be opened, and what that says of it; `others` of the same driver can be.
pub(crate) fn at_open(error: &NvmlError, context: &GpuContext, others: bool) -> Failure {
    match error {
        NvmlError::NoPermission | NvmlError::OperatingSystem => at_load(error, context).into(),
        // A container that lost its GPUs hears the same as one whose GPU fell off the bus: from all of them, or from that one.
        error if !others && context.in_container && is_denied(error, context) => NO_DEVICE_IN_CONTAINER.into(),
        error => {
            let sign = DeviceFault::of(error).map_or(Sign::Driver, Sign::from);
            Failure { reason: at_call(error, OPEN), sign: Some(sign) }
        }
    }
}

/// Whether an error is an answer: there is no such thing, or not for us.
pub(crate) fn is_answer(error: &NvmlError) -> bool {
    matches!(
        error,
        NvmlError::NotSupported
            | NvmlError::FunctionNotFound
            | NvmlError::FailedToLoadSymbol(_)
            | NvmlError::InvalidArg
            | NvmlError::NoPermission
            | NvmlError::NotFound
            | NvmlError::NoData
    )
}

/// NVML is there and works, and shows no device.
pub(crate) fn no_device(context: &GpuContext) -> Reason {
    if context.in_container { NO_DEVICE_IN_CONTAINER } else { NO_DEVICE }
}

/// Every call on every device fails with `unknown error`.
pub(crate) fn all_unknown(context: &GpuContext) -> Reason {
    if context.in_container { NO_DEVICE_IN_CONTAINER } else { ALL_UNKNOWN }
}

/// A file that has NVML's first symbol and not its last: loading it on would end in a panic.
pub(crate) fn wrong_file(context: &GpuContext, what: &str) -> Reason {
    let file = name_of(context);
    Reason::new(
        format!("{file} is not NVML: {what}"),
        "let --nvml-lib (PERFWATCH_NVML_LIB) name a libnvidia-ml.so.1, or unset it",
    )
    .by_failure()
}

fn not_loaded(said: &str, context: &GpuContext) -> Reason {
    if said.contains("Dynamic loading not supported") {
        return Reason::fixed(
            "this perfwatch is a static (musl) build, which cannot load NVML",
            "use the glibc build of perfwatch on machines with a GPU",
        );
    }
    let absent = said.contains("No such file or directory");
    let reason = match &context.nvml_lib {
        Some(path) if absent => Reason::new(
            format!("there is no NVML at {}", path.display()),
            "let --nvml-lib (PERFWATCH_NVML_LIB) name a libnvidia-ml.so.1, or unset it to search the system",
        ),
        None if absent && context.nvidia_kernel_driver && context.in_container => Reason::fixed(
            "no_device_in_container: the host has an NVIDIA driver, and this container was given no GPU: it has no libnvidia-ml.so.1",
            CONTAINER_CURE,
        ),
        None if absent && context.nvidia_kernel_driver => {
            Reason::fixed("the NVIDIA kernel driver is loaded but its libnvidia-ml.so.1 is not here", CONTAINER_CURE)
        }
        None if absent => {
            return Reason::fixed(
                "no NVIDIA driver here: libnvidia-ml.so.1 is not installed",
                "none needed without an NVIDIA GPU; with one: install its driver, or name the library with --nvml-lib PATH",
            );
        }
        _ if ["file too short", "invalid ELF header", "wrong ELF class"].iter().any(|sign| said.contains(sign)) => {
            wrong_file(context, said.rsplit(": ").next().unwrap_or(said))
        }
        _ => Reason::new(
            format!("{} cannot be loaded: {said}", name_of(context)),
            "check the file and its permissions; --nvml-lib PATH names another",
        ),
    };
    reason.by_failure()
}

fn name_of(context: &GpuContext) -> String {
    context.nvml_lib.as_ref().map_or_else(|| DEFAULT_LIBRARY.to_owned(), |path| path.display().to_string())
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !said.contains(&more) {
            said = format!("{said}: {more}");
        }
        source = error.source();
    }
    said
}

/// Why one call on one device gave no value. Costs no allocation for what recurs with every sample.
pub(crate) fn at_call(error: &NvmlError, call: &'static str) -> Reason {
    let naming = |make: &dyn Fn() -> String, cure: &'static str| match said::once(error, call, make) {
        Some(text) => Reason::fixed(text, cure),
        None => Reason::new(make(), cure),
    };
    let reason = match error {
        NvmlError::NotSupported | NvmlError::FunctionNotFound => NOT_SUPPORTED,
        NvmlError::FailedToLoadSymbol(_) => {
            naming(&|| format!("the installed driver is too old: it has no `{call}`"), "update the NVIDIA driver")
        }
        NvmlError::GpuLost => Reason::fixed(
            "the GPU has fallen off the bus",
            "check `dmesg | grep -i xid` (79), power and seating; it needs a reset or a reboot",
        ),
        NvmlError::ResetRequired => Reason::fixed(
            "the GPU needs a reset",
            "stop all that have it open, make this agent let go of it (`perfwatch gpus release`), run `nvidia-smi --gpu-reset`, and \
             then `perfwatch gpus take`",
        ),
        NvmlError::NoPermission => naming(
            &|| format!("no permission for `{call}`"),
            "run perfwatch as root or with the permission the driver asks for",
        ),
        NvmlError::Timeout => naming(&|| format!("`{call}` timed out in the driver"), "check `dmesg | grep -i nvrm`"),
        other => naming(&|| format!("`{call}` failed: {other}"), "check `dmesg | grep -i nvrm`"),
    };
    if is_answer(error) { reason } else { reason.by_failure() }
}

/// When something began, for a reason. It has no date: what lasts for days is known by then.
pub(crate) fn time(at: Stamp) -> String {
    let seconds = at.wall_ns / 1_000_000_000 % 86_400;
    format!("{:02}:{:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Errors after which no call on any handle can work until NVML is initialised anew.
pub(crate) fn ends_session(error: &NvmlError) -> bool {
    matches!(error, NvmlError::Uninitialized | NvmlError::DriverNotLoaded | NvmlError::LibRmVersionMismatch)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use perfwatch_model::{AbsenceKind, EntityId};

    use super::*;

    #[test]
    fn what_failed_is_told_apart_from_what_a_device_or_its_driver_does_not_give() {
        let kind = |error: &NvmlError| at_call(error, "nvmlDeviceGetPowerUsage").kind;
        for error in [NvmlError::GpuLost, NvmlError::ResetRequired, NvmlError::Timeout, NvmlError::Unknown] {
            assert_eq!(kind(&error), AbsenceKind::Failed, "{error:?}");
        }
        for error in [NvmlError::NotSupported, NvmlError::NoPermission, NvmlError::InvalidArg, NvmlError::NoData] {
            assert_eq!(kind(&error), AbsenceKind::Normal, "{error:?}");
        }
        let host = GpuContext { in_container: false, ..GpuContext::live(EntityId(0), None) };
        let kind =
            |said, nvidia_kernel_driver| not_loaded(said, &GpuContext { nvidia_kernel_driver, ..host.clone() }).kind;
        let not_there = "libnvidia-ml.so.1: cannot open shared object file: No such file or directory";
        assert_eq!(kind(not_there, false), AbsenceKind::Normal, "nobody waits for a GPU");
        assert_eq!(kind(not_there, true), AbsenceKind::Failed);
        assert_eq!(kind("Dynamic loading not supported", true), AbsenceKind::Normal, "so this perfwatch was built");
        assert_eq!(kind("file too short", false), AbsenceKind::Failed);
        assert_eq!(at_load(&NvmlError::DriverNotLoaded, &host).kind, AbsenceKind::Failed);
    }

    #[test]
    fn a_machine_without_the_library_a_host_that_lacks_it_and_a_container_that_was_given_no_gpu_are_told_apart() {
        let said = "libnvidia-ml.so.1: cannot open shared object file: No such file or directory";
        let reason = |nvidia_kernel_driver, in_container| {
            let context = GpuContext {
                nvidia_kernel_driver,
                in_container,
                nvidia_gpus: PathBuf::new(),
                ..GpuContext::live(EntityId(0), None)
            };
            not_loaded(said, &context).text
        };
        assert!(reason(false, false).starts_with("no NVIDIA driver here: "));
        assert!(reason(false, true).starts_with("no NVIDIA driver here: "));
        assert!(reason(true, false).contains("its libnvidia-ml.so.1 is not here"));
        assert!(reason(true, true).starts_with("no_device_in_container: "));
    }
}
