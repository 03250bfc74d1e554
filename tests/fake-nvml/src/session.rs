//! What lives between `nvmlInit` and `nvmlShutdown`: the scenario being played, its clock, its handles.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

use crate::codes::{GPU_IS_LOST, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED, SUCCESS, UNINITIALIZED, UNKNOWN};
use crate::install::beside;
use crate::scenario::{Codes, Device, MOST_DEVICES, MOST_INSTANCES, Scenario};
use crate::series::Series;

/// A scenario being played.
pub(crate) struct Session {
    pub(crate) scenario: Scenario,
    started: Instant,
    generation: usize,
    log: Option<Mutex<File>>,
}

struct State {
    /// `nvmlInit` less `nvmlShutdown`; NVML counts references the same way.
    references: usize,
    /// Counts initialisations, so that a handle kept across a re-initialisation is refused, as a real driver may crash on it.
    generation: usize,
    session: Option<Arc<Session>>,
}

static STATE: Mutex<State> = Mutex::new(State { references: 0, generation: 0, session: None });

/// Handles are `generation * STRIDE + index + 1`, and `MOST_DEVICES` more for each slot of a MIG instance: never null, never reused
/// by a later generation.
const STRIDE: usize = MOST_DEVICES * (MOST_INSTANCES + 1);

/// Where a device is: by index, and for a MIG instance the slot on it.
#[derive(Clone, Copy)]
struct Place {
    index: usize,
    slot: Option<usize>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.slot {
            Some(slot) => write!(f, "{}/{slot}", self.index),
            None => write!(f, "{}", self.index),
        }
    }
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts playing; the scenario is read anew.
pub(crate) fn init(symbol: &str) -> nvmlReturn_t {
    let generation = state().generation + 1;
    match Session::load(generation) {
        Ok(session) => {
            session.before(symbol, None, &session.scenario.delays_ms);
            if session.scenario.init.0 != SUCCESS {
                return session.scenario.init.0;
            }
            let mut state = state();
            state.references += 1;
            state.generation = session.generation;
            state.session = Some(Arc::new(session));
            SUCCESS
        }
        Err(reason) => {
            complain(&reason);
            UNKNOWN
        }
    }
}

/// Ends one reference; the last one ends the session.
pub(crate) fn shutdown() -> nvmlReturn_t {
    let mut state = state();
    if state.references == 0 {
        return UNINITIALIZED;
    }
    state.references -= 1;
    if state.references == 0 {
        state.session = None;
    }
    SUCCESS
}

/// Plays a call on the system: delay, scripted error, else `answer`.
pub(crate) fn system(symbol: &'static str, answer: impl FnOnce(&Session) -> Result<(), nvmlReturn_t>) -> nvmlReturn_t {
    let Some(session) = state().session.clone() else { return UNINITIALIZED };
    session.before(symbol, None, &session.scenario.delays_ms);
    match session.error(symbol, &session.scenario.errors) {
        SUCCESS => answer(&session).err().unwrap_or(SUCCESS),
        code => code,
    }
}

/// Plays a call on a device: delay, scripted error, else `answer`.
pub(crate) fn device(
    handle: nvmlDevice_t,
    symbol: &'static str,
    answer: impl FnOnce(&Device, f64) -> Result<(), nvmlReturn_t>,
) -> nvmlReturn_t {
    let Some(session) = state().session.clone() else { return UNINITIALIZED };
    let Some((place, device)) = session.device(handle) else { return INVALID_ARGUMENT };
    session.before(symbol, Some(place), &device.delays_ms);
    if session.is_lost(place.index) {
        return GPU_IS_LOST;
    }
    match session.error(symbol, &device.errors) {
        SUCCESS => answer(device, session.elapsed_s()).err().unwrap_or(SUCCESS),
        code => code,
    }
}

/// Plays a call for the MIG instance in a slot of a device.
pub(crate) fn instance(
    handle: nvmlDevice_t,
    symbol: &'static str,
    slot: usize,
    answer: impl FnOnce(nvmlDevice_t) -> Result<(), nvmlReturn_t>,
) -> nvmlReturn_t {
    let Some(session) = state().session.clone() else { return UNINITIALIZED };
    device(handle, symbol, |_, _| answer(session.instance(handle, slot)?))
}

/// Plays a call for the MIG instance of a device that is in the GPU instance of this number: for that of the least slot.
pub(crate) fn instance_of_id(
    handle: nvmlDevice_t,
    symbol: &'static str,
    id: u32,
    answer: impl FnOnce(nvmlDevice_t, &Device, f64) -> Result<(), nvmlReturn_t>,
) -> nvmlReturn_t {
    let Some(session) = state().session.clone() else { return UNINITIALIZED };
    device(handle, symbol, |device, elapsed_s| {
        let instances = &device.mig.as_ref().ok_or(NOT_SUPPORTED)?.instances;
        let mut there = instances.iter().enumerate().filter_map(|(slot, instance)| Some((slot, instance.as_ref()?)));
        let (slot, instance) =
            there.find(|(slot, instance)| instance.gpu_instance(*slot) == id).ok_or(INVALID_ARGUMENT)?;
        answer(session.instance(handle, slot)?, instance, elapsed_s)
    })
}

impl Session {
    fn load(generation: usize) -> Result<Self, String> {
        let scenario = match scenario_file() {
            Some(path) => {
                let said = |reason: &dyn std::fmt::Display| format!("{}: {reason}", path.display());
                let json = std::fs::read_to_string(&path).map_err(|error| said(&error))?;
                Scenario::parse(&json).map_err(|error| said(&error))?
            }
            None => Scenario::parse("{}").map_err(|error| error.to_string())?,
        };
        let log = match &scenario.call_log {
            Some(path) => {
                let file = File::options().create(true).append(true).open(path);
                Some(Mutex::new(file.map_err(|error| format!("call_log {}: {error}", path.display()))?))
            }
            None => None,
        };
        #[allow(clippy::disallowed_methods, reason = "the fake driver has a clock of its own, as the real one does")]
        let started = Instant::now();
        Ok(Self { scenario, started, generation, log })
    }

    pub(crate) fn elapsed_s(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// The handle of device `index`, if there is one.
    pub(crate) fn handle(&self, index: usize) -> Result<nvmlDevice_t, nvmlReturn_t> {
        if index >= self.scenario.devices.len() {
            return Err(INVALID_ARGUMENT);
        }
        Ok(std::ptr::without_provenance_mut(self.generation * STRIDE + index + 1))
    }

    /// The handle of the MIG instance in `slot` of a device, if there is one.
    pub(crate) fn instance(&self, of: nvmlDevice_t, slot: usize) -> Result<nvmlDevice_t, nvmlReturn_t> {
        let (_, device) = self.device(of).ok_or(INVALID_ARGUMENT)?;
        let instances = &device.mig.as_ref().ok_or(NOT_SUPPORTED)?.instances;
        match instances.get(slot) {
            Some(Some(_)) => Ok(std::ptr::without_provenance_mut(of.addr() + MOST_DEVICES * (slot + 1))),
            Some(None) => Err(NOT_FOUND),
            None => Err(INVALID_ARGUMENT),
        }
    }

    fn device(&self, handle: nvmlDevice_t) -> Option<(Place, &Device)> {
        let offset = handle.addr().checked_sub(self.generation * STRIDE + 1)?;
        let index = offset % MOST_DEVICES;
        let device = self.scenario.devices.get(index)?;
        match offset / MOST_DEVICES {
            0 => Some((Place { index, slot: None }, device)),
            slot => {
                let instance = device.mig.as_ref()?.instances.get(slot - 1)?.as_ref()?;
                Some((Place { index, slot: Some(slot - 1) }, instance))
            }
        }
    }

    /// Whether a device fell off the bus; its handles find it no more, whatever becomes of it.
    pub(crate) fn is_lost(&self, index: usize) -> bool {
        let device = &self.scenario.devices[index];
        if device.lost.as_ref().is_some_and(|lost| lost.next(self.elapsed_s()) > 0.0) {
            device.was_lost.store(true, Ordering::Relaxed);
        }
        device.was_lost.load(Ordering::Relaxed)
    }

    /// The position of a device that answers a call, for `nvmlDeviceGetIndex`.
    pub(crate) fn index_of(handle: nvmlDevice_t) -> u32 {
        ((handle.addr() - 1) % MOST_DEVICES) as u32
    }

    /// The slot of a MIG instance; none of a device that is whole.
    pub(crate) fn slot_of(handle: nvmlDevice_t) -> Option<usize> {
        ((handle.addr() - 1) % STRIDE / MOST_DEVICES).checked_sub(1)
    }

    fn before(&self, symbol: &str, place: Option<Place>, delays: &std::collections::BTreeMap<String, Series>) {
        if let Some(log) = &self.log {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            let written = match place {
                Some(place) => writeln!(log, "{symbol} {place}"),
                None => writeln!(log, "{symbol}"),
            };
            if let Err(error) = written {
                complain(&format!("cannot write call_log: {error}"));
            }
        }
        if let Some(delay) = delays.get(symbol) {
            std::thread::sleep(Duration::from_secs_f64(delay.next(self.elapsed_s()) / 1e3));
        }
    }

    fn error(&self, symbol: &str, errors: &std::collections::BTreeMap<String, Codes>) -> nvmlReturn_t {
        errors.get(symbol).map_or(SUCCESS, |codes| codes.0.next(self.elapsed_s()) as nvmlReturn_t)
    }
}

/// Whether the driver that is played writes 32-byte rows of processes by the newest symbols: 535.43 up to 535.98 do.
pub(crate) fn writes_long_rows() -> bool {
    let session = state().session.clone();
    session.is_some_and(|session| {
        let mut numbers = session.scenario.driver.split('.').map(str::parse::<u32>);
        matches!((numbers.next(), numbers.next()), (Some(Ok(535)), Some(Ok(43..98))))
    })
}

/// Microseconds since 1970, as a driver's times are.
pub(crate) fn wall_us() -> u64 {
    #[allow(clippy::disallowed_methods, reason = "the fake driver has a clock of its own, as the real one does")]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

fn scenario_file() -> Option<PathBuf> {
    let own = own_path().map(|library| beside(&library)).filter(|path| path.exists());
    own.or_else(|| std::env::var_os("FAKE_NVML_SCENARIO").map(PathBuf::from))
}

#[allow(clippy::print_stderr, reason = "a C library has no other way to say why its scenario was refused")]
fn complain(reason: &str) {
    eprintln!("fake-nvml: {reason}");
}

/// `Dl_info` of `dlfcn.h`.
#[repr(C)]
struct DlInfo {
    file: *const c_char,
    base: *mut c_void,
    symbol: *const c_char,
    address: *mut c_void,
}

#[allow(unsafe_code, reason = "only the dynamic loader knows which copy of the library this is")]
fn own_path() -> Option<PathBuf> {
    unsafe extern "C" {
        fn dladdr(address: *const c_void, info: *mut DlInfo) -> c_int;
    }
    let mut info = DlInfo {
        file: std::ptr::null(),
        base: std::ptr::null_mut(),
        symbol: std::ptr::null(),
        address: std::ptr::null_mut(),
    };
    // SAFETY: `STATE` is an address inside this library, `info` outlives the call, and a non-null `file` is a C string that lives as
    // long as the library is loaded.
    unsafe {
        if dladdr((&raw const STATE).cast(), &raw mut info) == 0 || info.file.is_null() {
            return None;
        }
        Some(Path::new(OsStr::from_bytes(CStr::from_ptr(info.file).to_bytes())).to_owned())
    }
}
