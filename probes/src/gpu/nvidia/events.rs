//! XID errors: what the driver reports when a GPU, or what ran on it, failed.

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::{nvmlEventData_t, nvmlEventSet_t, nvmlEventTypeXidCriticalError};
use perfwatch_model::Reason;

use super::activity::Activity;
use super::fault;

pub(crate) const CALL: &str = "nvmlEventSetWait_v2";

/// Events that one look takes; more wait for the next. A broken device reports by the thousand.
const AT_ONCE: usize = 64;

/// The events of all devices.
pub(crate) struct Events<'nvml> {
    nvml: &'nvml Nvml,
    activity: Activity,
    set: nvmlEventSet_t,
}

impl<'nvml> Events<'nvml> {
    /// Makes a set that no device is in.
    ///
    /// # Errors
    /// The driver has no events.
    #[allow(unsafe_code, reason = "the wrapper gives the set away when one device refuses")]
    pub(crate) fn open(nvml: &'nvml Nvml, activity: &Activity) -> Result<Self, Reason> {
        let failed = |error: NvmlError| fault::at_call(&error, "nvmlEventSetCreate");
        let lib = nvml.lib();
        let create = nvml_sym(lib.nvmlEventSetCreate.as_ref()).map_err(failed)?;
        // What cannot be freed is not made.
        nvml_sym(lib.nvmlEventSetFree.as_ref()).map_err(failed)?;
        activity.enter("nvmlEventSetCreate");
        let mut events = Self { nvml, activity: activity.clone(), set: std::ptr::null_mut() };
        // SAFETY: the place for the pointer is valid; the set is freed once, when this is dropped.
        nvml_try(unsafe { create(&raw mut events.set) }).map_err(failed)?;
        Ok(events)
    }

    /// Asks the driver to report XID errors of this device.
    #[allow(unsafe_code, reason = "the wrapper gives the set away when one device refuses")]
    pub(crate) fn register(&self, device: &Device<'nvml>) -> Result<(), Reason> {
        let failed = |error: NvmlError| fault::at_call(&error, "nvmlDeviceRegisterEvents");
        let register = nvml_sym(self.nvml.lib().nvmlDeviceRegisterEvents.as_ref()).map_err(failed)?;
        self.activity.enter("nvmlDeviceRegisterEvents");
        // SAFETY: device and set are this library's, and alive.
        nvml_try(unsafe { register(device.handle(), nvmlEventTypeXidCriticalError.into(), self.set) }).map_err(failed)
    }

    /// Tells of each error since the last look: the raw handle of its device, as a number, and its code. Waits for none.
    ///
    /// Of an error in a MIG instance the driver names the GPU and the numbers of the instance. It is told of the GPU: the instance
    /// may be gone by then, and its number another's.
    #[allow(unsafe_code, reason = "the wrapper makes a device of the handle, which cannot be compared")]
    pub(crate) fn look(&self, mut tell: impl FnMut(usize, u32)) -> Result<(), NvmlError> {
        let wait = nvml_sym(self.nvml.lib().nvmlEventSetWait_v2.as_ref())?;
        for _ in 0..AT_ONCE {
            let mut data = nvmlEventData_t {
                device: std::ptr::null_mut(),
                eventType: 0,
                eventData: 0,
                gpuInstanceId: 0,
                computeInstanceId: 0,
            };
            // SAFETY: the set is this library's and alive, and `data` is a valid place for an event.
            match nvml_try(unsafe { wait(self.set, &raw mut data, 0) }) {
                Ok(()) if data.eventType == u64::from(nvmlEventTypeXidCriticalError) => {
                    tell(data.device.addr(), u32::try_from(data.eventData).unwrap_or(u32::MAX));
                }
                Ok(()) => {}
                Err(NvmlError::Timeout) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Drop for Events<'_> {
    #[allow(unsafe_code, reason = "what was made raw is freed raw")]
    fn drop(&mut self) {
        if let Ok(free) = self.nvml.lib().nvmlEventSetFree.as_ref()
            && !self.set.is_null()
        {
            self.activity.enter("nvmlEventSetFree");
            // SAFETY: made by this library, which is still loaded, and freed nowhere else.
            let _ = unsafe { free(self.set) };
        }
    }
}
