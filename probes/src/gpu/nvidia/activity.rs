//! What the NVML thread is doing, for whoever waits for it.

use std::sync::{Arc, Mutex, PoisonError};

/// A call, and the device that it is made on; none where it is made on all, or on the driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Doing {
    pub(crate) call: &'static str,
    /// Its UUID.
    pub(crate) device: Option<Arc<str>>,
    /// NVML is being initialised or shut down, which takes seconds where the driver has to start or stop the devices (persistence
    /// mode off).
    pub(crate) is_starting: bool,
}

/// The call that the NVML thread is in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Activity(Arc<Mutex<Doing>>);

impl Activity {
    /// Notes that `call` comes next. The lock is held by neither side for longer than a copy.
    pub(crate) fn enter(&self, call: &'static str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).call = call;
    }

    /// Notes that what comes next is of this device, or of none.
    pub(crate) fn turn_to(&self, device: Option<&Arc<str>>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).device = device.cloned();
    }

    /// Notes that NVML is being initialised or shut down, and that this call comes first.
    pub(crate) fn start(&self, call: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Doing { call, device: None, is_starting: true };
    }

    /// Notes that it is initialised, or could not be.
    pub(crate) fn has_started(&self) {
        let mut doing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (doing.is_starting, doing.device) = (false, None);
    }

    /// What was entered last.
    pub(crate) fn doing(&self) -> Doing {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
