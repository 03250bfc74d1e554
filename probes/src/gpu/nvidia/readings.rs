//! What is read from one device, in perfwatch's units.

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::{Bits, NvmlError};
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::{Device, Nvml};
use perfwatch_model::{Reading, Reason};

use super::activity::Activity;
use super::fault;
use super::fields::{self, Batch, FieldReadings};
use super::gpm::{self, Gpm, UnitReadings};
use crate::gpu::GpuProcess;

/// Before the first answer; never leaves the probe, as every slot is filled before a report is sent.
const NOT_READ: Reason = Reason::fixed("not read yet", "");

/// NVML's reasons for clocks that are held down, with the value of `perfwatch.gpu.throttle.reason`.
///
/// Idle (0x1) is left out: an idle GPU clocks down without anything holding it.
pub(crate) const THROTTLE_REASONS: [(u64, &str); 8] = [
    (0x2, "application_clocks"),
    (0x4, "sw_power_cap"),
    (0x8, "hw_slowdown"),
    (0x10, "sync_boost"),
    (0x20, "sw_thermal"),
    (0x40, "hw_thermal"),
    (0x80, "hw_power_brake"),
    (0x100, "display_clocks"),
];

/// One device's readings. Integers are bytes, hertz, and millijoules for the energy, as the metrics have them.
#[derive(Clone, Debug)]
pub(crate) struct DeviceReadings {
    pub(crate) utilization: Reading<f64>,
    pub(crate) memory_busy: Reading<f64>,
    pub(crate) memory_used: Reading<u64>,
    pub(crate) memory_total: Reading<u64>,
    pub(crate) power_w: Reading<f64>,
    pub(crate) power_limit_w: Reading<f64>,
    pub(crate) energy_mj: Reading<u64>,
    pub(crate) temperature_c: Reading<f64>,
    pub(crate) sm_clock_hz: Reading<u64>,
    pub(crate) memory_clock_hz: Reading<u64>,
    pub(crate) sm_clock_limit_hz: Reading<u64>,
    pub(crate) memory_clock_limit_hz: Reading<u64>,
    pub(crate) throttle_mask: Reading<u64>,
    pub(crate) fields: FieldReadings,
    /// The fields that are read seldom were read for this sample.
    pub(crate) slow_is_new: bool,
    pub(crate) units: UnitReadings,
    /// Said by any call on the device.
    pub(crate) fault: Option<DeviceFault>,
    /// Codes of XID errors since the last sample; or why none are told.
    pub(crate) xids: Reading<Vec<u32>>,
    pub(crate) processes: Reading<Vec<GpuProcess>>,
}

impl DeviceReadings {
    /// Nothing read yet.
    pub(crate) fn unread() -> Self {
        Self {
            utilization: Reading::Unavailable(NOT_READ),
            memory_busy: Reading::Unavailable(NOT_READ),
            memory_used: Reading::Unavailable(NOT_READ),
            memory_total: Reading::Unavailable(NOT_READ),
            power_w: Reading::Unavailable(NOT_READ),
            power_limit_w: Reading::Unavailable(NOT_READ),
            energy_mj: Reading::Unavailable(NOT_READ),
            temperature_c: Reading::Unavailable(NOT_READ),
            sm_clock_hz: Reading::Unavailable(NOT_READ),
            memory_clock_hz: Reading::Unavailable(NOT_READ),
            sm_clock_limit_hz: Reading::Unavailable(NOT_READ),
            memory_clock_limit_hz: Reading::Unavailable(NOT_READ),
            throttle_mask: Reading::Unavailable(NOT_READ),
            fields: [const { Reading::Unavailable(NOT_READ) }; fields::COUNT],
            slow_is_new: false,
            units: [const { Reading::Unavailable(NOT_READ) }; gpm::UNITS.len()],
            fault: None,
            xids: Reading::Unavailable(NOT_READ),
            processes: Reading::Unavailable(NOT_READ),
        }
    }
}

/// What a device says of itself in place of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceFault {
    /// It fell off the bus.
    Lost,
    /// It works again after a reset.
    ResetRequired,
}

/// How the calls of one sample went, over all devices.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    answered: u32,
    unknown: u32,
    ended: Option<Reason>,
    /// Of the device that is read now.
    fault: Option<DeviceFault>,
}

impl Tally {
    /// What the device that was read said of itself; the next one begins without.
    pub(crate) fn take_fault(&mut self) -> Option<DeviceFault> {
        self.fault.take()
    }

    /// Why NVML has to be initialised anew, if it has to: a call said so, or every call failed with `unknown error`.
    pub(crate) fn end_of_session(self) -> Option<Reason> {
        let lost = self.answered == 0 && self.unknown > 0;
        self.ended.or_else(|| {
            lost.then(|| {
                Reason::fixed(
                    "the NVIDIA driver answers every call with `unknown error`",
                    "check `dmesg | grep -i nvrm`; restart the container",
                )
            })
        })
    }
}

/// Makes calls on one device and turns their errors into reasons.
pub(crate) struct Reader<'a, 'nvml> {
    pub(crate) device: &'a Device<'nvml>,
    pub(crate) activity: &'a Activity,
    pub(crate) tally: &'a mut Tally,
}

impl Reader<'_, '_> {
    /// What may change from one second to the next.
    pub(crate) fn read_fast(&mut self, into: &mut DeviceReadings) {
        let device = self.device;
        match self.call("nvmlDeviceGetUtilizationRates", || device.utilization_rates()) {
            Reading::Value(rates) => {
                into.utilization = ratio(rates.gpu);
                into.memory_busy = ratio(rates.memory);
            }
            Reading::Unavailable(reason) => {
                into.memory_busy = Reading::Unavailable(reason.clone());
                into.utilization = Reading::Unavailable(reason);
            }
        }
        match self.call("nvmlDeviceGetMemoryInfo_v2", || device.memory_info()) {
            Reading::Value(memory) => {
                into.memory_used = used(memory.used, memory.total);
                into.memory_total = Reading::Value(memory.total);
            }
            Reading::Unavailable(reason) => {
                into.memory_used = Reading::Unavailable(reason.clone());
                into.memory_total = Reading::Unavailable(reason);
            }
        }
        into.power_w = self.call("nvmlDeviceGetPowerUsage", || device.power_usage()).map(watts);
        into.energy_mj = self.call("nvmlDeviceGetTotalEnergyConsumption", || device.total_energy_consumption());
        into.temperature_c =
            self.call("nvmlDeviceGetTemperature", || device.temperature(TemperatureSensor::Gpu)).map(f64::from);
        into.sm_clock_hz = self.call("nvmlDeviceGetClockInfo", || device.clock_info(Clock::SM)).map(hertz);
        into.memory_clock_hz = self.call("nvmlDeviceGetClockInfo", || device.clock_info(Clock::Memory)).map(hertz);
        into.throttle_mask = self.call("nvmlDeviceGetCurrentClocksThrottleReasons", || {
            match device.current_throttle_reasons_strict() {
                // The wrapper refuses bits newer than itself; they are handed on, and shown as `other`.
                Err(NvmlError::IncorrectBits(Bits::U64(mask))) => Ok(mask),
                other => other.map(|reasons: ThrottleReasons| reasons.bits()),
            }
        });
    }

    /// Everything of a batch with one call.
    pub(crate) fn read_fields(&mut self, nvml: &Nvml, batch: &mut Batch, into: &mut FieldReadings) {
        let device = self.device;
        match self.call(fields::CALL, || batch.ask(nvml, device)) {
            Reading::Value(()) => batch.tell(into),
            Reading::Unavailable(reason) => batch.tell_absent(&reason, into),
        }
    }

    /// Which units were busy since the last call.
    pub(crate) fn read_units(&mut self, gpm: &mut Result<Gpm<'_>, Reason>, now_ns: u64, into: &mut DeviceReadings) {
        let device = self.device;
        match gpm {
            Ok(gpm) => match self.call(gpm::CALL, || gpm.sample(device, now_ns)) {
                Reading::Value(Some(units)) => into.units = units,
                // Too soon after the last one, which still stands.
                Reading::Value(None) => {}
                Reading::Unavailable(reason) => into.units = gpm::UNITS.map(|_| Reading::Unavailable(reason.clone())),
            },
            Err(reason) => into.units = gpm::UNITS.map(|_| Reading::Unavailable(reason.clone())),
        }
        gpm::disbelieve_zeros(&mut into.units, &into.utilization);
    }

    /// What changes when somebody changes it.
    pub(crate) fn read_limits(&mut self, into: &mut DeviceReadings) {
        let device = self.device;
        into.power_limit_w = self.call("nvmlDeviceGetEnforcedPowerLimit", || device.enforced_power_limit()).map(watts);
        into.sm_clock_limit_hz = self.call("nvmlDeviceGetMaxClockInfo", || device.max_clock_info(Clock::SM)).map(hertz);
        into.memory_clock_limit_hz =
            self.call("nvmlDeviceGetMaxClockInfo", || device.max_clock_info(Clock::Memory)).map(hertz);
    }

    /// The processes of the three lists, each once: under MPS the same process is in more than one.
    pub(crate) fn read_processes(&mut self, into: &mut DeviceReadings) {
        let device = self.device;
        let compute = self.call("nvmlDeviceGetComputeRunningProcesses_v3", || device.running_compute_processes());
        let graphics = self.call("nvmlDeviceGetGraphicsRunningProcesses_v3", || device.running_graphics_processes());
        let mps = self.call("nvmlDeviceGetMPSComputeRunningProcesses_v3", || device.mps_running_compute_processes());
        // Compute is the list that model servers are in; without it the others would pass a part off as the whole.
        into.processes = compute.map(|compute| {
            let more = [graphics, mps].into_iter().filter_map(Reading::value).flatten();
            merged(compute.into_iter().chain(more))
        });
    }

    fn call<T>(&mut self, name: &'static str, make: impl FnOnce() -> Result<T, NvmlError>) -> Reading<T> {
        self.activity.enter(name);
        match make() {
            Ok(value) => {
                self.tally.answered += 1;
                Reading::Value(value)
            }
            Err(error) => {
                let reason = fault::at_call(&error, name);
                match error {
                    NvmlError::GpuLost => self.tally.fault = Some(DeviceFault::Lost),
                    NvmlError::ResetRequired => self.tally.fault = Some(DeviceFault::ResetRequired),
                    _ => {}
                }
                match error {
                    NvmlError::Unknown => self.tally.unknown += 1,
                    error if fault::ends_session(&error) => self.tally.ended = Some(reason.clone()),
                    // "Not supported" is an answer too.
                    _ => self.tally.answered += 1,
                }
                Reading::Unavailable(reason)
            }
        }
    }
}

/// Percent to ratio. Drivers have been seen to report 808,334,905 %.
fn ratio(percent: u32) -> Reading<f64> {
    if percent > 100 {
        return Reading::Unavailable(Reason::new(
            format!("the driver reported {percent} %, which cannot be true"),
            "none: the next sample is usually right; newer drivers do it less",
        ));
    }
    Reading::Value(f64::from(percent) / 100.0)
}

fn used(used: u64, total: u64) -> Reading<u64> {
    if used > total {
        let text = format!("the driver reported {used} bytes in use of {total}, which cannot be true");
        return Reading::Unavailable(Reason::new(text, "none: the next sample is usually right"));
    }
    Reading::Value(used)
}

fn watts(milliwatts: u32) -> f64 {
    f64::from(milliwatts) / 1e3
}

fn hertz(megahertz: u32) -> u64 {
    u64::from(megahertz) * 1_000_000
}

/// One row per pid, the larger memory of its rows.
fn merged(processes: impl Iterator<Item = ProcessInfo>) -> Vec<GpuProcess> {
    let mut rows: Vec<(u32, Option<u64>)> = processes
        .map(|process| match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => (process.pid, Some(bytes)),
            UsedGpuMemory::Unavailable => (process.pid, None),
        })
        .collect();
    rows.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    rows.dedup_by_key(|(pid, _)| *pid);
    let row = |(pid, bytes): (u32, Option<u64>)| GpuProcess {
        pid,
        used: bytes.map_or(Reading::Unavailable(fault::MEMORY_NOT_ATTRIBUTED), Reading::Value),
    };
    rows.into_iter().map(row).collect()
}
