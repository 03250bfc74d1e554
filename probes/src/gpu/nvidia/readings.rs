//! What is read from one device, in perfwatch's units.

use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::error::{Bits, NvmlError};
use nvml_wrapper::{Device, Nvml};
use perfwatch_model::tick::SLOTS;
use perfwatch_model::{GpuSlot, Reading, Reason, Share};

use super::activity::Activity;
use super::clock::monotonic_ns;
use super::exchange::Failure;
use super::fault;
use super::fields::{self, Batch, FieldReadings};
use super::gpm::{self, Gpm, Measured, UnitReadings};
use super::headroom::Headroom;
use super::health::Sign;
use super::link::LinkReadings;
use super::link_reads::{LinkRead, LinkReads, LinkWatch, WAYS};
use super::link_slots::share_of_link;
use super::memory;
use super::mig::{self, Part};
use super::port::Port;
use super::power;
use super::settings::SettingReadings;
use super::short;
use super::spans::Spans;
use super::traffic::{self, Moved, RATES, Traffic};
use crate::gpu::{GpuContext, GpuProcess, Sharing};

/// Devices that are built stay below these by far.
const MOST_C: u32 = 200;
const MOST_MHZ: u32 = 20_000;
const MOST_BYTES: u64 = 1 << 44;

/// Before the first answer, and of what is read of one device after the other.
pub(crate) const NOT_READ: Reason =
    Reason::fixed("not read yet: limits and processes are read of a few GPUs at a time", "wait some seconds");

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
    /// When they were asked for, `CLOCK_MONOTONIC`.
    pub(crate) at_ns: u64,
    pub(crate) utilization: Reading<f64>,
    pub(crate) memory_busy: Reading<f64>,
    pub(crate) memory_used: Reading<u64>,
    pub(crate) memory_total: Reading<u64>,
    /// What driver and firmware keep for themselves, which is no part of what is in use.
    pub(crate) memory_reserved: Reading<u64>,
    pub(crate) power_w: Reading<f64>,
    pub(crate) power_limit_w: Reading<f64>,
    pub(crate) energy_mj: Reading<u64>,
    pub(crate) temperature_c: Reading<f64>,
    pub(crate) headroom: Headroom,
    pub(crate) sm_clock_hz: Reading<u64>,
    pub(crate) memory_clock_hz: Reading<u64>,
    pub(crate) sm_clock_limit_hz: Reading<u64>,
    pub(crate) memory_clock_limit_hz: Reading<u64>,
    pub(crate) throttle_mask: Reading<u64>,
    pub(crate) encoder: Reading<f64>,
    pub(crate) decoder: Reading<f64>,
    pub(crate) link: LinkReadings,
    pub(crate) settings: SettingReadings,
    pub(crate) fields: FieldReadings,
    /// When those were asked for that are read each time, `CLOCK_MONOTONIC`.
    pub(crate) fields_ns: u64,
    /// The fields that are read seldom were read for this sample.
    pub(crate) slow_is_new: bool,
    pub(crate) units: UnitReadings,
    /// Bytes over the links since the last sample, as GPM tells them.
    pub(crate) moved: Moved,
    /// The link's counters, where they are read more often than that.
    pub(crate) link_reads: LinkReads,
    /// The units, tenth by tenth.
    pub(crate) slots: [GpuSlot; SLOTS],
    /// Said by any call on the device.
    pub(crate) fault: Option<DeviceFault>,
    /// Codes of XID errors since the last sample; or why none are told.
    pub(crate) xids: Reading<Vec<u32>>,
    /// Read for this sample; else what they hold is left from an earlier one.
    pub(crate) processes_are_new: bool,
    pub(crate) processes: Reading<Vec<GpuProcess>>,
    pub(crate) sharing: Sharing,
}

impl DeviceReadings {
    /// Nothing read yet.
    pub(crate) fn unread() -> Self {
        Self::absent(&NOT_READ)
    }

    /// None of them, for this reason.
    pub(crate) fn absent(reason: &Reason) -> Self {
        Self {
            at_ns: 0,
            utilization: Reading::Unavailable(reason.clone()),
            memory_busy: Reading::Unavailable(reason.clone()),
            memory_used: Reading::Unavailable(reason.clone()),
            memory_total: Reading::Unavailable(reason.clone()),
            memory_reserved: Reading::Unavailable(reason.clone()),
            power_w: Reading::Unavailable(reason.clone()),
            power_limit_w: Reading::Unavailable(reason.clone()),
            energy_mj: Reading::Unavailable(reason.clone()),
            temperature_c: Reading::Unavailable(reason.clone()),
            headroom: Headroom::absent(reason),
            sm_clock_hz: Reading::Unavailable(reason.clone()),
            memory_clock_hz: Reading::Unavailable(reason.clone()),
            sm_clock_limit_hz: Reading::Unavailable(reason.clone()),
            memory_clock_limit_hz: Reading::Unavailable(reason.clone()),
            throttle_mask: Reading::Unavailable(reason.clone()),
            encoder: Reading::Unavailable(reason.clone()),
            decoder: Reading::Unavailable(reason.clone()),
            link: LinkReadings::absent(reason),
            settings: SettingReadings::absent(reason),
            fields: std::array::from_fn(|_| Reading::Unavailable(reason.clone())),
            fields_ns: 0,
            slow_is_new: false,
            units: std::array::from_fn(|_| Reading::Unavailable(reason.clone())),
            moved: [None; RATES.len()],
            link_reads: LinkReads::default(),
            slots: [GpuSlot::default(); SLOTS],
            fault: None,
            xids: Reading::Unavailable(reason.clone()),
            processes_are_new: false,
            processes: Reading::Unavailable(reason.clone()),
            sharing: Sharing::Unknown,
        }
    }

    /// Keeps nothing but its XID errors.
    pub(crate) fn lose(&mut self, reason: &Reason) {
        let xids = std::mem::replace(&mut self.xids, Reading::Unavailable(NOT_READ));
        *self = Self { xids, slow_is_new: true, processes_are_new: true, ..Self::absent(reason) };
    }
}

/// What a device says of itself in place of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceFault {
    /// It fell off the bus.
    Lost,
    /// It works again after a reset.
    ResetRequired,
    /// It answers nothing but errors.
    Failing,
}

impl DeviceFault {
    pub(crate) fn of(error: &NvmlError) -> Option<Self> {
        match error {
            NvmlError::GpuLost => Some(Self::Lost),
            NvmlError::ResetRequired => Some(Self::ResetRequired),
            _ => None,
        }
    }
}

/// Calls that must have failed, one after the other, for that.
const NOTHING_BUT_ERRORS: u32 = 3;

/// How the calls of one sample went, over all devices.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    answered: u32,
    unknown: u32,
    ended: Option<Reason>,
    /// A MIG instance is not there any more.
    pub(crate) is_instance_gone: bool,
    /// Of the device that is read now.
    fault: Option<DeviceFault>,
    /// Calls on it that were answered, if only by that it does not support them; and that failed.
    of_device: (u32, u32),
}

impl Tally {
    /// What the device that was read said of itself; the next one begins without. `unanswered` counts its calls that failed, from
    /// one time to the next, since one was answered.
    pub(crate) fn take_fault(&mut self, unanswered: &mut u32) -> Option<DeviceFault> {
        let (answered, failed) = std::mem::take(&mut self.of_device);
        *unanswered = if answered > 0 { 0 } else { unanswered.saturating_add(failed) };
        self.fault.take()
    }

    /// The same where everything was asked that is asked each time: then that nothing was answered says something, too, where it
    /// was more than a call or two. Of a MIG instance there is one each time.
    pub(crate) fn take_fault_of_all(&mut self, unanswered: &mut u32) -> Option<DeviceFault> {
        let fault = self.take_fault(unanswered);
        fault.or((*unanswered >= NOTHING_BUT_ERRORS).then_some(DeviceFault::Failing))
    }

    /// Why NVML has to be initialised anew, if it has to: a call said so, or every call failed with `unknown error`.
    pub(crate) fn end_of_session(self, context: &GpuContext) -> Option<Failure> {
        let lost = self.answered == 0 && self.unknown > 0;
        let reason = self.ended.or_else(|| lost.then(|| fault::all_unknown(context)))?;
        Some(Failure { reason, sign: Some(Sign::Driver) })
    }
}

/// Makes calls on one device and turns their errors into reasons.
pub(crate) struct Reader<'a, 'nvml> {
    pub(crate) device: &'a Device<'nvml>,
    pub(crate) activity: &'a Activity,
    pub(crate) tally: &'a mut Tally,
    pub(crate) part: &'a Part,
}

impl Reader<'_, '_> {
    /// Why a device that was lost still is, if it is: by one call, which has to ask the device.
    pub(crate) fn is_lost(&mut self) -> Option<Reason> {
        let device = self.device;
        let asked = self.call("nvmlDeviceGetTemperature", || device.temperature(TemperatureSensor::Gpu));
        match asked {
            Reading::Unavailable(reason) if self.tally.fault == Some(DeviceFault::Lost) => Some(reason),
            _ => None,
        }
    }

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
        self.read_memory(into);
        let degrees = self.call("nvmlDeviceGetTemperature", || device.temperature(TemperatureSensor::Gpu));
        into.temperature_c = at_most(degrees, MOST_C, "°C").map(f64::from);
        into.headroom.read(self);
        into.sm_clock_hz = hertz(self.call("nvmlDeviceGetClockInfo", || device.clock_info(Clock::SM)));
        into.memory_clock_hz = hertz(self.call("nvmlDeviceGetClockInfo", || device.clock_info(Clock::Memory)));
        into.throttle_mask = self.call("nvmlDeviceGetCurrentClocksThrottleReasons", || {
            match device.current_throttle_reasons_strict() {
                // The wrapper refuses bits newer than itself; they are handed on, and shown as `other`.
                Err(NvmlError::IncorrectBits(Bits::U64(mask))) => Ok(mask),
                other => other.map(|reasons: ThrottleReasons| reasons.bits()),
            }
        });
        let share = |reading: Reading<u32>| match reading {
            Reading::Value(percent) => ratio(percent),
            Reading::Unavailable(reason) => Reading::Unavailable(reason),
        };
        into.encoder = share(
            self.call("nvmlDeviceGetEncoderUtilization", || device.encoder_utilization()).map(|info| info.utilization),
        );
        into.decoder = share(
            self.call("nvmlDeviceGetDecoderUtilization", || device.decoder_utilization()).map(|info| info.utilization),
        );
    }

    /// How much memory there is, and how much of it is in use.
    pub(crate) fn read_memory(&mut self, into: &mut DeviceReadings) {
        let device = self.device;
        match self.call(memory::call(device), || memory::ask(device)) {
            Reading::Value(memory) => {
                into.memory_used = used(memory.used, memory.total);
                into.memory_total = total(memory.total);
                into.memory_reserved = match memory.reserved {
                    Some(reserved) => used(reserved, memory.total),
                    None => Reading::Unavailable(memory::NOT_APART),
                };
            }
            Reading::Unavailable(reason) => {
                into.memory_used = Reading::Unavailable(reason.clone());
                into.memory_total = Reading::Unavailable(reason.clone());
                into.memory_reserved = Reading::Unavailable(reason);
            }
        }
    }

    /// Everything of a batch with one call; bytes over the link are not told of counters that may be full before, unless they are
    /// read more often than with each tick.
    pub(crate) fn read_fields(&mut self, nvml: &Nvml, batch: &mut Batch, watch: &LinkWatch, into: &mut DeviceReadings) {
        match self.ask_fields(nvml, batch) {
            Reading::Value(()) => {
                let is_full_too_soon = !watch.is_on() && into.link.rate().is_none_or(short::is_too_fast);
                batch.tell(is_full_too_soon, &mut into.fields);
            }
            Reading::Unavailable(reason) => batch.tell_absent(&reason, &mut into.fields),
        }
    }

    fn ask_fields(&mut self, nvml: &Nvml, batch: &mut Batch) -> Reading<()> {
        let device = self.device;
        let asked = self.call(fields::CALL, || batch.ask(nvml, device));
        // The call goes well where each of its fields fails.
        if asked.as_value().is_some() && !batch.is_answered() {
            let (answered, failed) = self.tally.of_device;
            self.tally.of_device = (answered.saturating_sub(1), failed + 1);
        }
        asked
    }

    /// Reads the link's counters, if it is time. What fails here fails with the tick's fields too, and is told there.
    pub(crate) fn read_link(&mut self, nvml: &Nvml, batch: &mut Batch, watch: &mut LinkWatch) {
        let asked_ns = monotonic_ns();
        if watch.is_due(asked_ns)
            && let Reading::Value(()) = self.ask_fields(nvml, batch)
        {
            let raw = WAYS.map(|way| batch.value(way));
            watch.add(LinkRead { asked_ns, told_ns: monotonic_ns(), raw });
        }
    }

    /// Samples which units were busy, into `spans`, and what went over the links, into `traffic`; the link to the host moves so
    /// many bytes in a second.
    pub(crate) fn sample_units(
        &mut self,
        gpm: &mut Gpm<'_>,
        now_ns: u64,
        link_rate: Option<f64>,
        spans: &mut Spans,
        traffic: &mut Traffic,
    ) {
        let told = match self.call(gpm.take_call(), || gpm.take(now_ns)) {
            Reading::Value(true) => self.call(gpm::COMPARE, || gpm.compare()),
            Reading::Value(false) => return,
            Reading::Unavailable(reason) => Reading::Unavailable(reason),
        };
        match told {
            Reading::Value(Some(Measured { from_ns, to_ns, units, rates })) => {
                traffic.add(to_ns.saturating_sub(from_ns), &rates);
                let link = traffic::busier_way(&rates).zip(link_rate);
                spans.add(from_ns, to_ns, units, link.map_or(Share::UNKNOWN, |(now, most)| share_of_link(now, most)));
            }
            Reading::Value(None) => {}
            Reading::Unavailable(reason) => spans.fail(now_ns, &reason),
        }
    }

    /// What changes when somebody changes it.
    pub(crate) fn read_limits(&mut self, port: &mut Option<Port>, into: &mut DeviceReadings) {
        let device = self.device;
        into.power_limit_w =
            power::watts(self.call("nvmlDeviceGetEnforcedPowerLimit", || device.enforced_power_limit()));
        into.sm_clock_limit_hz = hertz(self.call("nvmlDeviceGetMaxClockInfo", || device.max_clock_info(Clock::SM)));
        into.memory_clock_limit_hz =
            hertz(self.call("nvmlDeviceGetMaxClockInfo", || device.max_clock_info(Clock::Memory)));
        into.headroom.read_limit(self);
        into.link.read_limits(self, port);
        into.settings.read(self);
    }

    /// Makes one call, and counts how it went.
    pub(crate) fn call<T>(&mut self, name: &'static str, make: impl FnOnce() -> Result<T, NvmlError>) -> Reading<T> {
        self.activity.enter(name);
        match make() {
            Ok(value) => {
                self.tally.answered += 1;
                self.tally.of_device.0 += 1;
                Reading::Value(value)
            }
            Err(error) => {
                let reason = match (self.part, &error) {
                    (Part::Cut(_), NvmlError::NotSupported) => mig::OF_THE_PARTS,
                    _ => fault::at_call(&error, name),
                };
                self.tally.is_instance_gone |= *self.part == Part::Instance && mig::is_gone(&error);
                self.tally.fault = DeviceFault::of(&error).or(self.tally.fault);
                let (answered, failed) = &mut self.tally.of_device;
                *(if fault::is_answer(&error) { answered } else { failed }) += 1;
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
    if used > total || total > MOST_BYTES {
        let text = format!("the driver reported {used} bytes in use of {total}, which cannot be true");
        return Reading::Unavailable(Reason::new(text, "none: the next sample is usually right"));
    }
    Reading::Value(used)
}

fn total(bytes: u64) -> Reading<u64> {
    if bytes == 0 || bytes > MOST_BYTES {
        let text = format!("the driver reported {bytes} bytes of memory, which cannot be true");
        return Reading::Unavailable(Reason::new(text, "none: the next sample is usually right"));
    }
    Reading::Value(bytes)
}

/// Megahertz to hertz.
fn hertz(reading: Reading<u32>) -> Reading<u64> {
    at_most(reading, MOST_MHZ, "MHz").map(|megahertz| u64::from(megahertz) * 1_000_000)
}

/// What is no more than it can be.
pub(super) fn at_most(reading: Reading<u32>, most: u32, unit: &str) -> Reading<u32> {
    match reading {
        Reading::Value(value) if value > most => Reading::Unavailable(Reason::new(
            format!("the driver reported {value} {unit}, which cannot be true"),
            "none: the next sample is usually right",
        )),
        other => other,
    }
}
