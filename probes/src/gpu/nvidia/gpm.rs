//! GPM: which units of a device were busy, from Hopper on. Two samples of counters, and what NVML makes of their difference.

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlGpmMetric_t, nvmlGpmMetric_t__bindgen_ty_1, nvmlGpmMetricsGet_t, nvmlGpmSample_t,
};
use perfwatch_model::{Reading, Reason, Stamp};

use super::activity::Activity;
use super::fault;
use super::readings::DeviceReadings;
use super::traffic::{self, RATES, Rates};

pub(crate) const COMPARE: &str = "nvmlGpmMetricsGet";

/// NVML refreshes its counters each 100 ms, and shorter intervals are invalid (`nvml.h`). Samples that are due 100 ms after each
/// other come as much nearer to each other as the first one was late; where there was no refresh between them, the next one is
/// compared with the older of the two.
const SHORTEST_NS: u64 = 90_000_000;
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

/// What is asked for with one call: shares first, then rates.
const ASKED: usize = UNITS.len() + RATES.len();

/// What happened between two samples.
pub(crate) struct Measured {
    /// When they were taken, `CLOCK_MONOTONIC`.
    pub(crate) from_ns: u64,
    pub(crate) to_ns: u64,
    pub(crate) units: UnitReadings,
    pub(crate) rates: Rates,
}

/// Why there is nothing yet: it takes two samples.
pub(crate) const FIRST_SAMPLE: Reason =
    Reason::fixed("GPM compares two samples, and has one", "wait for the next second");
/// Why there is nothing any more: the driver answers, and its counters are those of then.
pub(crate) fn stood_still(since: Stamp) -> Reason {
    Reason::new(
        format!("GPM's counters have stood still since {}", fault::time(since)),
        "check `dmesg | grep -i -e nvrm -e xid`; reloading the driver has been seen to help",
    )
    .by_failure()
}

/// Why there is nothing at all. A driver that does not know the question leaves open what the device could.
const NO_GPM: Reason = Reason::fixed(
    "this device does not support GPM, as far as its driver tells: it is older than Hopper, shared in a way that hides it, or the \
     driver is older than GPM",
    "none before Hopper, or where it is hidden: utilisation, power and clocks are still shown; from Hopper on, update the driver",
);

/// The two samples of a device.
pub(crate) struct Gpm<'nvml> {
    nvml: &'nvml Nvml,
    activity: Activity,
    /// The GPU's, of which samples are taken, or of an instance of it: the driver is not asked for GPM with an instance's handle,
    /// which has been seen to break that handle.
    gpu: nvmlDevice_t,
    instance: Option<u32>,
    samples: [nvmlGpmSample_t; 2],
    /// Which of them the next one is compared with.
    older: usize,
    /// When that was taken.
    older_ns: Option<u64>,
    /// When the other was, as long as the two were not compared.
    newer_ns: Option<u64>,
    asked: Box<nvmlGpmMetricsGet_t>,
}

impl<'nvml> Gpm<'nvml> {
    /// Makes room for two samples of a GPU, or of a MIG instance of it, where the GPU supports them.
    ///
    /// # Errors
    /// It does not, or cannot say so.
    #[allow(unsafe_code, reason = "the wrapper's samples are allocated anew each time")]
    pub(crate) fn open(
        nvml: &'nvml Nvml,
        device: &Device<'nvml>,
        instance: Option<u32>,
        activity: &Activity,
    ) -> Result<Self, Reason> {
        activity.enter("nvmlGpmQueryDeviceSupport");
        match device.gpm_support() {
            Ok(true) => {}
            Ok(false)
            | Err(NvmlError::NotSupported | NvmlError::FunctionNotFound | NvmlError::FailedToLoadSymbol(_)) => {
                return Err(NO_GPM);
            }
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
            numMetrics: ASKED as u32,
            sample1: none,
            sample2: none,
            metrics: [nothing; 210],
        });
        let ids = UNITS.iter().map(|(_, id)| *id).chain(RATES.iter().map(|(_, id)| *id));
        for (metric, id) in asked.metrics.iter_mut().zip(ids) {
            metric.metricId = id;
        }
        activity.enter("nvmlGpmSampleAlloc");
        let activity = activity.clone();
        // SAFETY: it lives as long as the library's session, which outlives this.
        let gpu = unsafe { device.handle() };
        let (samples, older, older_ns, newer_ns) = ([none; 2], 0, None, None);
        let mut gpm = Self { nvml, activity, gpu, instance, samples, older, older_ns, newer_ns, asked };
        for sample in &mut gpm.samples {
            // SAFETY: `sample` is a valid place for the pointer; what is allocated is freed once, when this is dropped.
            nvml_try(unsafe { alloc(sample) }).map_err(failed)?;
        }
        Ok(gpm)
    }

    /// The call by which a sample is taken.
    pub(crate) const fn take_call(&self) -> &'static str {
        if self.instance.is_some() { "nvmlGpmMigSampleGet" } else { "nvmlGpmSampleGet" }
    }

    /// Takes a sample. False when the last one is too near for another.
    pub(crate) fn take(&mut self, now_ns: u64) -> Result<bool, NvmlError> {
        let since = self.older_ns.map(|taken| now_ns.saturating_sub(taken));
        if since.is_some_and(|ns| ns < SHORTEST_NS) {
            return Ok(false);
        }
        if since.is_some_and(|ns| ns > LONGEST_NS) {
            self.older_ns = None;
        }
        self.newer_ns = None;
        let into = if self.older_ns.is_none() { self.older } else { 1 - self.older };
        if let Err(error) = self.fill(self.samples[into]) {
            // Half a sample is compared with nothing.
            self.older_ns = None;
            return Err(error);
        }
        if self.older_ns.is_none() {
            self.older_ns = Some(now_ns);
        } else {
            self.newer_ns = Some(now_ns);
        }
        Ok(true)
    }

    #[allow(unsafe_code, reason = "the wrapper offers no way to fill a sample again")]
    fn fill(&self, sample: nvmlGpmSample_t) -> Result<(), NvmlError> {
        let lib = self.nvml.lib();
        // SAFETY: the device and the sample are this library's, and alive.
        match self.instance {
            None => nvml_try(unsafe { nvml_sym(lib.nvmlGpmSampleGet.as_ref())?(self.gpu, sample) }),
            Some(id) => nvml_try(unsafe { nvml_sym(lib.nvmlGpmMigSampleGet.as_ref())?(self.gpu, id, sample) }),
        }
    }

    /// What happened between the last two samples. `None` while there is only one, and where the driver did not refresh its
    /// counters in between.
    #[allow(unsafe_code, reason = "the wrapper allocates an answer for each call")]
    pub(crate) fn compare(&mut self) -> Result<Option<Measured>, NvmlError> {
        let (Some(from_ns), Some(to_ns)) = (self.older_ns, self.newer_ns.take()) else { return Ok(None) };
        let newer = 1 - self.older;
        let compare = nvml_sym(self.nvml.lib().nvmlGpmMetricsGet.as_ref())?;
        (self.asked.sample1, self.asked.sample2) = (self.samples[self.older], self.samples[newer]);
        for metric in self.asked.metrics.iter_mut().take(ASKED) {
            metric.nvmlReturn = UNFILLED;
        }
        // SAFETY: `asked` names two samples of this library's and has room for more metrics than it asks for.
        nvml_try(unsafe { compare(&raw mut *self.asked) })?;
        let (told, rates) = self.asked.metrics[..ASKED].split_at(UNITS.len());
        if told.iter().all(|metric| metric.nvmlReturn != 0 || metric.value.is_nan())
            && told.iter().any(|metric| metric.nvmlReturn == 0)
        {
            return Ok(None);
        }
        (self.older, self.older_ns) = (newer, Some(to_ns));
        let reading = |at: usize| match nvml_try(told[at].nvmlReturn) {
            Ok(()) => share(told[at].value),
            Err(error) => Reading::Unavailable(fault::at_call(&error, COMPARE)),
        };
        let rate = |at: usize| if rates[at].nvmlReturn == 0 { traffic::rate(rates[at].value) } else { None };
        let (units, rates) = (std::array::from_fn(reading), std::array::from_fn(rate));
        Ok(Some(Measured { from_ns, to_ns, units, rates }))
    }
}

impl Drop for Gpm<'_> {
    #[allow(unsafe_code, reason = "what was allocated raw is freed raw")]
    fn drop(&mut self) {
        if let Ok(free) = self.nvml.lib().nvmlGpmSampleFree.as_ref() {
            for sample in self.samples.iter().filter(|sample| !sample.is_null()) {
                self.activity.enter("nvmlGpmSampleFree");
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

/// GPM has been seen to answer 0 for everything after an error, until the driver was loaded anew. The driver's utilisation is of up
/// to a second before, in which a job may have ended: zeros are doubted when they have come with it for so many ticks.
const DOUBTED_AFTER: u32 = 3;
/// A device that draws more than this of its limit is busy, whatever its utilisation says.
const BUSY_POWER: f64 = 0.6;

/// Whether zeros for every unit are believed.
#[derive(Debug, Default)]
pub(crate) struct Doubt {
    ticks: u32,
}

impl Doubt {
    /// Takes in a new measurement, and takes it away where it cannot be true.
    pub(crate) fn judge(&mut self, into: &mut DeviceReadings) {
        let zero = |reading: &Reading<f64>| reading.as_value().is_none_or(|share| *share == 0.0);
        let all = into.units.iter().all(zero) && into.units.iter().any(|reading| reading.as_value().is_some());
        self.ticks = if all && is_busy(into) { self.ticks.saturating_add(1) } else { 0 };
        if self.holds() {
            into.units = UNITS.map(|_| Reading::Unavailable(ZEROS));
        }
    }

    /// Whether the last one was taken away.
    pub(crate) fn holds(&self) -> bool {
        self.ticks >= DOUBTED_AFTER
    }
}

const ZEROS: Reason = Reason::fixed(
    "GPM answers 0 for every unit while the driver says that the device is busy",
    "check `dmesg | grep -i xid`; reloading the driver has been seen to help",
)
.by_failure();

/// By its utilisation, and where that says nothing by what it draws.
fn is_busy(readings: &DeviceReadings) -> bool {
    match readings.utilization.as_value() {
        Some(share) if *share > 0.0 => *share >= 0.5,
        _ => {
            let power = readings.power_w.as_value().zip(readings.power_limit_w.as_value());
            power.is_some_and(|(drawn, limit)| *limit > 0.0 && *drawn > BUSY_POWER * limit)
        }
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

    /// What is believed of zeros, tick by tick.
    fn believed(ticks: &[(Reading<f64>, f64)]) -> Vec<bool> {
        let mut doubt = Doubt::default();
        let tick = |(utilization, drawn): &(Reading<f64>, f64)| {
            let mut readings = DeviceReadings::unread();
            readings.units = UNITS.map(|_| Reading::Value(0.0));
            (readings.utilization, readings.power_w) = (utilization.clone(), Reading::Value(*drawn));
            readings.power_limit_w = Reading::Value(700.0);
            doubt.judge(&mut readings);
            readings.units[0].as_value().is_some()
        };
        ticks.iter().map(tick).collect()
    }

    #[test]
    fn zeros_are_believed_of_an_idle_device_and_not_for_long_of_a_busy_one() {
        let busy = || (Reading::Value(0.97), 600.0);
        let idle = || (Reading::Value(0.0), 90.0);
        assert_eq!(believed(&[busy(), busy(), idle(), busy(), busy()]), [true; 5], "a job has just ended");
        assert_eq!(believed(&[busy(), busy(), busy(), busy(), idle()]), [true, true, false, false, true]);
        assert_eq!(believed(&[(); 4].map(|()| (Reading::Value(0.4), 600.0))), [true; 4]);
    }

    #[test]
    fn what_a_device_draws_says_that_it_is_busy_where_its_utilisation_does_not() {
        for utilization in [Reading::Value(0.0), Reading::Unavailable(NO_GPM)] {
            let ticks = |drawn| [(); 3].map(|()| (utilization.clone(), drawn));
            assert_eq!(believed(&ticks(500.0)), [true, true, false]);
            assert_eq!(believed(&ticks(400.0)), [true, true, true]);
        }
    }
}
