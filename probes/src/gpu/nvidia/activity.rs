//! What the NVML thread is doing, for whoever waits for it.

use std::sync::{Arc, Mutex, PoisonError};

/// The call that the NVML thread is in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Activity(Arc<Mutex<&'static str>>);

impl Activity {
    /// Notes that `call` comes next. The lock is held by neither side for longer than a copy.
    pub(crate) fn enter(&self, call: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = call;
    }

    /// The call that was entered last.
    pub(crate) fn call(&self) -> &'static str {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
