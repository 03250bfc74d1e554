//! NVML's answers as they are, where the wrapper makes something else of them or does not ask.

use std::time::Duration;

use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::{
    nvmlFieldValue_t, nvmlGpmMetric_t, nvmlGpmMetric_t__bindgen_ty_1, nvmlGpmMetricsGet_t, nvmlGpmSample_t,
    nvmlMarginTemperature_v1_t, nvmlValue_t,
};

/// What an entry says before the driver fills it in.
pub(crate) const UNFILLED: u32 = 999;
/// All links of `NVLink` together.
const ALL_LINKS: u32 = u32::MAX;
/// Everything that perfwatch reads, by the numbers of older and of newer drivers, each with its scope; and what it may read one day:
/// power (83, 185, 186), and which margins of the temperature are limits (193–196).
pub(crate) const FIELDS: [(u32, u32); 33] = [
    (3, 0),
    (4, 0),
    (29, 0),
    (30, 0),
    (31, 0),
    (74, 0),
    (76, 0),
    (82, 0),
    (83, 0),
    (94, 0),
    (138, ALL_LINKS),
    (139, ALL_LINKS),
    (142, 0),
    (143, 0),
    (144, 0),
    (145, 0),
    (185, 0),
    (186, 0),
    (193, 0),
    (194, 0),
    (195, 0),
    (196, 0),
    (197, 0),
    (198, 0),
    (202, 0),
    (204, 0),
    (230, 0),
    (251, 0),
    (252, 0),
    (253, 0),
    (269, 0),
    (270, 0),
    (271, 0),
];
/// GPM's numbers, in as many as are asked for at once: older drivers have room for fewer than there are.
pub(crate) const LAST_METRIC: u32 = 209;
const AT_ONCE: usize = 64;
/// As far apart as two samples of GPM have to be, and then some.
const APART: Duration = Duration::from_millis(250);

/// These fields, and what the call returned.
#[allow(unsafe_code, reason = "the wrapper's call knows no scopes")]
pub(crate) fn fields(nvml: &Nvml, device: &Device<'_>) -> Result<(u32, Vec<nvmlFieldValue_t>), String> {
    let mut asked = FIELDS.map(|(id, scope)| nvmlFieldValue_t {
        fieldId: id,
        scopeId: scope,
        timestamp: 0,
        latencyUsec: 0,
        valueType: 0,
        nvmlReturn: UNFILLED,
        value: nvmlValue_t { ullVal: 0 },
    });
    let call = nvml.lib().nvmlDeviceGetFieldValues.as_ref().map_err(ToString::to_string)?;
    // SAFETY: the device is this library's, and there are as many initialised values as is said.
    let code = unsafe { call(device.handle(), asked.len() as i32, asked.as_mut_ptr()) };
    Ok((code, asked.into()))
}

/// How far the temperature is below the one from which the clocks are held down, °C.
#[allow(unsafe_code, reason = "the wrapper does not ask")]
pub(crate) fn margin(nvml: &Nvml, device: &Device<'_>) -> Result<i32, String> {
    let version = size_of::<nvmlMarginTemperature_v1_t>() as u32 | 1 << 24;
    let mut told = nvmlMarginTemperature_v1_t { version, marginTemperature: i32::MAX };
    let call = nvml.lib().nvmlDeviceGetMarginTemperature.as_ref().map_err(ToString::to_string)?;
    // SAFETY: the device is this library's, and the structure is of the version that it says.
    match unsafe { call(device.handle(), &raw mut told) } {
        0 => Ok(told.marginTemperature),
        code => Err(format!("nvmlDeviceGetMarginTemperature returned {code}")),
    }
}

/// The bits of a value.
#[allow(unsafe_code, reason = "a C union")]
pub(crate) fn bits(value: &nvmlFieldValue_t) -> u64 {
    // SAFETY: the union was initialised as a whole.
    unsafe { value.value.ullVal }
}

/// GPM's metrics between two samples, chunk by chunk with what each call returned.
#[allow(unsafe_code, reason = "the wrapper stops at 97")]
pub(crate) fn gpm(nvml: &Nvml, device: &Device<'_>) -> Result<Vec<(u32, Vec<nvmlGpmMetric_t>)>, String> {
    let older = device.gpm_sample().map_err(|error| error.to_string())?;
    std::thread::sleep(APART);
    let newer = device.gpm_sample().map_err(|error| error.to_string())?;
    let call = nvml.lib().nvmlGpmMetricsGet.as_ref().map_err(ToString::to_string)?;
    let free = nvml.lib().nvmlGpmSampleFree.as_ref().map_err(ToString::to_string)?;
    let (older, newer) = (older.into_handle(), newer.into_handle());
    let mut told = Vec::new();
    for ids in (1..=LAST_METRIC).collect::<Vec<_>>().chunks(AT_ONCE) {
        let mut asked = asked(ids, older, newer);
        // SAFETY: both samples are this library's and alive, and there is room for more metrics than are asked for.
        let code = unsafe { call(&raw mut *asked) };
        told.push((code, asked.metrics[..ids.len()].to_vec()));
    }
    for sample in [older, newer] {
        // SAFETY: it was given away by the wrapper, and is freed once.
        let code = unsafe { free(sample) };
        if code != 0 {
            say!("  nvmlGpmSampleFree returned {code}");
        }
    }
    Ok(told)
}

fn asked(ids: &[u32], sample1: nvmlGpmSample_t, sample2: nvmlGpmSample_t) -> Box<nvmlGpmMetricsGet_t> {
    let null = std::ptr::null_mut();
    let metric_info = nvmlGpmMetric_t__bindgen_ty_1 { shortName: null, longName: null, unit: null };
    let metrics = std::array::from_fn(|at| nvmlGpmMetric_t {
        metricId: ids.get(at).copied().unwrap_or(0),
        nvmlReturn: UNFILLED,
        value: 0.0,
        metricInfo: metric_info,
    });
    Box::new(nvmlGpmMetricsGet_t { version: 1, numMetrics: ids.len() as u32, sample1, sample2, metrics })
}
