//! GPM: which units of a device were busy, from Hopper on. Two samples of counters, and what NVML makes of their difference.

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::{
    nvmlGpmMetric_t, nvmlGpmMetric_t__bindgen_ty_1, nvmlGpmMetricsGet_t, nvmlGpmSample_t,
};
use perfwatch_model::{Reading, Reason};

use super::fault;

pub(crate) const CALL: &str = "nvmlGpmMetricsGet";

/// NVML refreshes its counters no faster; values of shorter intervals are invalid (`nvml.h`).
const SHORTEST_NS: u64 = 100_000_000;
/// What is told of more than this is not this second's: the driver hung meanwhile.
const LONGEST_NS: u64 = 3_000_000_000;
/// What an entry says that the driver does not fill in (`NVML_ERROR_UNKNOWN`).
const UNFILLED: u32 = 999;

/// A unit whose share of busy time GPM tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Any application was active on the device.
    Graphics,
    /// SMs with at least one warp, over all SMs.
    Sm,
    /// Warps on the SMs, over the most they hold.
    Occupancy,
    /// The tensor cores.
    Tensor,
    /// FP64 outside them.
    Fp64,
    /// FP32.
    Fp32,
    /// FP16.
    Fp16,
    /// Integers.
    Integer,
    /// The memory's bandwidth, over what it is on paper.
    Dram,
}

/// Each with GPM's number for it.
pub(crate) const UNITS: [(Unit, u32); 9] = [
    (Unit::Graphics, 1),
    (Unit::Sm, 2),
    (Unit::Occupancy, 3),
    (Unit::Tensor, 5),
    (Unit::Fp64, 11),
    (Unit::Fp32, 12),
    (Unit::Fp16, 13),
    (Unit::Integer, 4),
    (Unit::Dram, 10),
];

/// Shares of 0 to 1, by [`Unit`].
pub(crate) type UnitReadings = [Reading<f64>; UNITS.len()];

/// Why there is nothing yet: it takes two samples.
const FIRST_SAMPLE: Reason = Reason::fixed("GPM compares two samples, and has one", "wait for the next second");
/// Why there is nothing at all.
const NO_GPM: Reason = Reason::fixed(
    "this device does not support GPM: it is older than Hopper, or shared in a way that hides it",
    "none here; its utilisation, power and clocks are still shown",
);

/// The two samples of a device.
pub(crate) struct Gpm<'nvml> {
    nvml: &'nvml Nvml,
    samples: [nvmlGpmSample_t; 2],
    /// Which of them is the newer one.
    newer: usize,
    /// When the newer one was taken.
    taken_ns: Option<u64>,
    asked: Box<nvmlGpmMetricsGet_t>,
}

impl<'nvml> Gpm<'nvml> {
    /// Makes room for two samples, where the device supports them.
    ///
    /// # Errors
    /// It does not, or cannot say so.
    #[allow(unsafe_code, reason = "the wrapper's samples are allocated anew each time")]
    pub(crate) fn open(nvml: &'nvml Nvml, device: &Device<'nvml>) -> Result<Self, Reason> {
        match device.gpm_support() {
            Ok(true) => {}
            Ok(false) | Err(NvmlError::NotSupported) => return Err(NO_GPM),
            Err(error) => return Err(fault::at_call(&error, "nvmlGpmQueryDeviceSupport")),
        }
        let failed = |error: NvmlError| fault::at_call(&error, "nvmlGpmSampleAlloc");
        let lib = nvml.lib();
        let alloc = nvml_sym(lib.nvmlGpmSampleAlloc.as_ref()).map_err(failed)?;
        // What cannot be freed is not allocated.
        nvml_sym(lib.nvmlGpmSampleFree.as_ref()).map_err(failed)?;
        let nothing = nvmlGpmMetric_t {
            metricId: 0,
            nvmlReturn: 0,
            value: 0.0,
            metricInfo: nvmlGpmMetric_t__bindgen_ty_1 {
                shortName: std::ptr::null_mut(),
                longName: std::ptr::null_mut(),
                unit: std::ptr::null_mut(),
            },
        };
        let none = std::ptr::null_mut();
        let mut asked = Box::new(nvmlGpmMetricsGet_t {
            version: 1,
            numMetrics: UNITS.len() as u32,
            sample1: none,
            sample2: none,
            metrics: [nothing; 210],
        });
        for (metric, (_, id)) in asked.metrics.iter_mut().zip(UNITS) {
            metric.metricId = id;
        }
        let mut gpm = Self { nvml, samples: [none; 2], newer: 0, taken_ns: None, asked };
        for sample in &mut gpm.samples {
            // SAFETY: `sample` is a valid place for the pointer; what is allocated is freed once, when this is dropped.
            nvml_try(unsafe { alloc(sample) }).map_err(failed)?;
        }
        Ok(gpm)
    }

    /// Takes a sample, and tells what happened since the last one.
    #[allow(unsafe_code, reason = "the wrapper offers no way to fill a sample again")]
    pub(crate) fn sample(&mut self, device: &Device<'_>, now_ns: u64) -> Result<Option<UnitReadings>, NvmlError> {
        let since = self.taken_ns.map(|taken| now_ns.saturating_sub(taken));
        if since.is_some_and(|ns| ns < SHORTEST_NS) {
            return Ok(None);
        }
        let lib = self.nvml.lib();
        let (take, compare) = (nvml_sym(lib.nvmlGpmSampleGet.as_ref())?, nvml_sym(lib.nvmlGpmMetricsGet.as_ref())?);
        let older = self.newer;
        let newer = 1 - older;
        // SAFETY: the device and both samples are this library's, and alive.
        let taken = nvml_try(unsafe { take(device.handle(), self.samples[newer]) });
        if let Err(error) = taken {
            // Half a sample is compared with nothing.
            self.taken_ns = None;
            return Err(error);
        }
        (self.newer, self.taken_ns) = (newer, Some(now_ns));
        if since.is_none_or(|ns| ns > LONGEST_NS) {
            return Ok(Some(UNITS.map(|_| Reading::Unavailable(FIRST_SAMPLE))));
        }
        (self.asked.sample1, self.asked.sample2) = (self.samples[older], self.samples[newer]);
        for metric in self.asked.metrics.iter_mut().take(UNITS.len()) {
            metric.nvmlReturn = UNFILLED;
        }
        // SAFETY: `asked` names two samples of this library's and has room for more metrics than it asks for.
        nvml_try(unsafe { compare(&raw mut *self.asked) })?;
        let told = |at: usize| {
            let metric = &self.asked.metrics[at];
            match nvml_try(metric.nvmlReturn) {
                Ok(()) => share(metric.value),
                Err(error) => Reading::Unavailable(fault::at_call(&error, CALL)),
            }
        };
        Ok(Some(std::array::from_fn(told)))
    }
}

impl Drop for Gpm<'_> {
    #[allow(unsafe_code, reason = "what was allocated raw is freed raw")]
    fn drop(&mut self) {
        if let Ok(free) = self.nvml.lib().nvmlGpmSampleFree.as_ref() {
            for sample in self.samples.iter().filter(|sample| !sample.is_null()) {
                // SAFETY: allocated by this library, which is still loaded, and freed nowhere else.
                let _ = unsafe { free(*sample) };
            }
        }
    }
}

/// Percent to ratio. Counters are read one after the other, so 100 is passed by a little now and then.
fn share(percent: f64) -> Reading<f64> {
    if !percent.is_finite() || !(0.0..=101.0).contains(&percent) {
        let text = format!("GPM answered {percent} %, which cannot be true");
        return Reading::Unavailable(Reason::new(text, "none: the next sample is usually right"));
    }
    Reading::Value((percent / 100.0).min(1.0))
}

/// GPM has been seen to answer 0 for everything after an error, until the driver was loaded anew.
pub(crate) fn disbelieve_zeros(readings: &mut UnitReadings, utilization: &Reading<f64>) {
    let busy = utilization.as_value().is_some_and(|share| *share >= 0.5);
    let zero = |reading: &Reading<f64>| reading.as_value().is_none_or(|share| *share == 0.0);
    let all = readings.iter().all(zero) && readings.iter().any(|reading| reading.as_value().is_some());
    if busy && all {
        let reason = Reason::fixed(
            "GPM answers 0 for every unit while the driver says that the device is busy",
            "check `dmesg | grep -i xid`; reloading the driver has been seen to help",
        );
        *readings = UNITS.map(|_| Reading::Unavailable(reason.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_in_the_order_of_their_names() {
        for (at, (unit, _)) in UNITS.iter().enumerate() {
            assert_eq!(*unit as usize, at);
        }
    }

    #[test]
    fn what_cannot_be_true_is_no_reading() {
        assert_eq!(share(100.4), Reading::Value(1.0));
        assert_eq!(share(37.5), Reading::Value(0.375));
        for percent in [f64::NAN, -1.0, 150.0, 1.4e14] {
            assert!(matches!(share(percent), Reading::Unavailable(_)), "{percent}");
        }
    }

    #[test]
    fn zeros_are_believed_of_an_idle_device_alone() {
        let zeros = || UNITS.map(|_| Reading::Value(0.0));
        let believed = |utilization| {
            let mut readings = zeros();
            disbelieve_zeros(&mut readings, &utilization);
            readings == zeros()
        };
        assert!(
            believed(Reading::Value(0.0)) && believed(Reading::Value(0.4)) && believed(Reading::Unavailable(NO_GPM))
        );
        assert!(!believed(Reading::Value(0.97)));
    }
}
