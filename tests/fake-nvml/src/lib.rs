//! A scripted `libnvidia-ml.so.1`: exports NVML's C symbols and plays a scenario file, so that everything above NVML can be tested
//! through the real `nvml-wrapper` on machines without a GPU.
//!
//! # Using it from a test
//!
//! Make this crate a dev-dependency and call [`install`]: it checks the scenario, copies the shared library into a folder of the
//! test's own and lays the scenario beside it. Each copy is a library of its own for the dynamic loader (a hard link would not be),
//! so tests with different scenarios run side by side in one process:
//!
//! ```no_run
//! let dir = std::path::Path::new("/tmp/a-folder-of-this-test");
//! let library = fake_nvml::install(dir, r#"{"devices": [{"uuid": "GPU-1", "power_mw": 350000}]}"#)?;
//! // hand `library` to perfwatch as --nvml-lib, or put `dir` on LD_LIBRARY_PATH of a child process
//! # Ok::<(), fake_nvml::InstallError>(())
//! ```
//!
//! The library reads its scenario anew at each `nvmlInit`: the file `<library>.json` beside itself, else the file that
//! `FAKE_NVML_SCENARIO` names, else a machine with a driver and no GPU. A scenario it cannot read or does not understand makes
//! `nvmlInit` print the reason on stderr and return `UNKNOWN` (999). Overwrite the file (see [`rewrite`]) and re-initialise to play
//! a driver upgrade or a swapped GPU.
//!
//! # The scenario file
//!
//! JSON; unknown keys, symbols and error names are refused. Whatever a device does not mention answers `NOT_SUPPORTED` (3).
//!
//! | key | meaning | default |
//! |---|---|---|
//! | `init` | return code of `nvmlInit_v2` / `nvmlInitWithFlags`, a number or a name: `9` = `"DRIVER_NOT_LOADED"`, `18` = `"LIB_RM_VERSION_MISMATCH"` | `0` |
//! | `driver` | driver version; 580.82 and later use the new field ids, 535.43 up to (not including) 535.98 write rows of processes of 32 bytes in place of 24 by the `_v3` symbols | `"580.95.05"` |
//! | `missing` | list of symbols that the library has not, as an older driver; [`install`] takes them out of the copy it makes, and they stay out | `[]` |
//! | `devices` | list of devices, in index order | `[]` |
//! | `errors`, `delays_ms` | symbol → *series* of return codes / milliseconds, for calls on the system | `{}` |
//! | `call_log` | file to which each call appends a line: symbol, and for device calls the index, or index/slot of a MIG instance | none |
//!
//! A device:
//!
//! | key | meaning |
//! |---|---|
//! | `uuid` (required), `name`, `serial` | strings |
//! | `pci` | `"00000000:1B:00.0"` |
//! | `utilization` | `{"gpu": series, "memory": series}`, percent; values above 100 are played as they are |
//! | `memory` | `{"total": bytes, "reserved": bytes, "used": series of bytes}`; the first version of the call tells what is reserved as in use |
//! | `power_mw`, `power_limit_mw`, `energy_mj` | series |
//! | `power_limit_set_mw` | series; without it the enforced limit, `power_limit_mw`, is also the one that is set |
//! | `power_limit_default_mw` | series; without it the enforced limit is also the default one |
//! | `temperature_c` | series |
//! | `temperature_limits_c` | `{"shutdown": series, "slowdown": series, "memory_max": series, "gpu_max": series}`: what `nvmlDeviceGetTemperatureThreshold` says |
//! | `temperature_margin_c` | series, which may become negative: what `nvmlDeviceGetMarginTemperature` says |
//! | `clocks_mhz`, `max_clocks_mhz` | `{"graphics": series, "sm": series, "memory": series, "video": series}` |
//! | `application_clocks_mhz`, `default_application_clocks_mhz` | as `clocks_mhz` |
//! | `encoder`, `decoder` | series, percent |
//! | `pcie` | `{"generation": series, "width": series, "max_generation": series, "max_width": series}` |
//! | `throttle_reasons` | series of NVML's bit mask |
//! | `performance_state` | series, 0–15 |
//! | `processes` | `{"compute": [...], "graphics": [...], "mps": [...]}` of `{"pid": 1, "used": bytes, "gpu_instance": 3}`; without `used` the memory is "not available", without the last the process is on the whole device |
//! | `process_utilization` | list of `{"pid", "timestamp_us": series, "sm": series, "memory", "encoder", "decoder"}`; only what is newer than asked for is told, and `sm` takes a step when it is |
//! | `utilization_samples` | `{"percent": series, "period_ms": 167}`: the driver's samples of utilisation since `nvmlInit`, at the times of the wall's clock that the period divides, each with the series' value then; the last 120 are kept |
//! | `fields` | list of `{"id", "scope" (0), "type", "value": series}`; ids are the driver's; `type` is one of `double`, `unsigned_int`, `unsigned_long`, `unsigned_long_long`, `signed_long_long`, `signed_int`, `unsigned_short` |
//! | `gpm` | id of a GPM metric → series of its values as NVML gives them (percent, MiB/s), at the time of the newer sample. Counters are refreshed each 100 ms; samples without a refresh between them give NaN. Without it the device does not support GPM; one whose instances have it does, for them |
//! | `gpm_until_s` | second from which on GPM's counters are refreshed no more |
//! | `xids` | list of `[second, code]`, or `[second, code, gpu instance, compute instance]` of one that happened in a MIG instance, rising: XID errors that are reported to who registered for them, each once; to the first set since `nvmlInit` from second 0 on, to others from when the device was registered with them. Without it the device supports no events |
//! | `lost` | series: from the first call at which it is not 0 on, each call on the device or its instances answers `GPU_IS_LOST` until the next `nvmlInit`, and so does each look at a set of events that the device is in |
//! | `mig` | `{"instances": [device, null, ...]}`: the device is in MIG mode; each instance is a device with keys of its own, `null` an empty slot |
//! | `gpu_instance` | of an instance: the number of the GPU instance that it is in, by which `nvmlGpmMigSampleGet` samples it; without it its slot. GPM is refused with an instance's handle (`INVALID_ARGUMENT`) |
//! | `attributes` | of an instance: `{"slices", "compute_slices", "memory_mb"}` |
//! | `errors`, `delays_ms` | as above, for calls on this device; a delay comes first and holds no lock |
//!
//! A *series* says how a value moves, by call or by seconds since `nvmlInit`:
//!
//! | form | value |
//! |---|---|
//! | `42` | constant |
//! | `[10, 97, 55]` | one per call, the last one holds |
//! | `{"cycle": [10, 97]}` | one per call, over and over |
//! | `{"at": [[0, 10], [5, 97]]}` | from each second on; with `"repeat_s": 10` over and over |
//! | `{"ramp": [0, 100], "seconds": 60}` | linear, then holds; with `"repeat_s": 60` over and over |
//! | `{"start": 1000, "per_second": 350000}` | a counter that grows for ever |
//! | `{"rates": [[0, 1e6], [0.4, 3e9]]}` | a counter that grows so fast from each second on; with `"repeat_s": 1` over and over; with `"full_at": 4294967296` it begins anew whenever it reaches that; with `"each_s": 0.3` it is refreshed no more often than that |
//! | `{"garbage": 7}` | one per call: 0, small, huge or no number at all; the same for the same seed |
//!
//! # Adding a symbol
//!
//! Write the function in the file of `exports/` that is about such things and its name in [`SYMBOLS`] (a test compares the two), and
//! give the device the key it plays, in `scenario/device.rs`.

mod codes;
mod exports;
mod install;
mod scenario;
mod series;
mod session;

pub use exports::SYMBOLS;
pub use install::{InstallError, install, library_path, rewrite};
pub use scenario::{Device, Scenario, ScenarioError};
pub use series::Series;
