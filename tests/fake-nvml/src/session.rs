//! What lives between `nvmlInit` and `nvmlShutdown`: the scenario being played, its clock, its handles.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

use crate::codes::{INVALID_ARGUMENT, SUCCESS, UNINITIALIZED, UNKNOWN};
use crate::install::beside;
use crate::scenario::{Codes, Device, Scenario};
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

/// Handles are `generation * STRIDE + index + 1`: never null, never reused by a later generation.
const STRIDE: usize = 4096;

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
    let Some((index, device)) = session.device(handle) else { return INVALID_ARGUMENT };
    session.before(symbol, Some(index), &device.delays_ms);
    match session.error(symbol, &device.errors) {
        SUCCESS => answer(device, session.elapsed_s()).err().unwrap_or(SUCCESS),
        code => code,
    }
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

    fn device(&self, handle: nvmlDevice_t) -> Option<(usize, &Device)> {
        let index = handle.addr().checked_sub(self.generation * STRIDE + 1)?;
        self.scenario.devices.get(index).map(|device| (index, device))
    }

    /// The position of a device that answers a call, for `nvmlDeviceGetIndex`.
    pub(crate) fn index_of(handle: nvmlDevice_t) -> u32 {
        ((handle.addr() - 1) % STRIDE) as u32
    }

    fn before(&self, symbol: &str, index: Option<usize>, delays: &std::collections::BTreeMap<String, Series>) {
        if let Some(log) = &self.log {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            let written = match index {
                Some(index) => writeln!(log, "{symbol} {index}"),
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
