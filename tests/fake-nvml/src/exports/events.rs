//! Events that a caller waits for: XID errors.

use std::ffi::{c_uint, c_ulonglong};
use std::sync::atomic::Ordering;

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlEventData_t, nvmlEventSet_t, nvmlEventTypeXidCriticalError, nvmlReturn_t,
};

use super::arguments::{free, held, put};
use crate::codes::{GPU_IS_LOST, INVALID_ARGUMENT, NOT_SUPPORTED, TIMEOUT};
use crate::session::{Session, device, system};

/// What a set of events holds: the devices that are in it, and how many of the errors of each were told.
#[derive(Default)]
struct EventSet {
    devices: Vec<(nvmlDevice_t, usize)>,
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetCreate(out: Option<&mut nvmlEventSet_t>) -> nvmlReturn_t {
    system("nvmlEventSetCreate", |_| put(out, Box::into_raw(Box::<EventSet>::default()).cast()))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceRegisterEvents(handle: nvmlDevice_t, types: c_ulonglong, set: nvmlEventSet_t) -> nvmlReturn_t {
    device(handle, "nvmlDeviceRegisterEvents", |device, elapsed_s| {
        let set = held(set.cast::<EventSet>())?;
        if device.xids.is_none() || types & u64::from(nvmlEventTypeXidCriticalError) == 0 {
            return Err(NOT_SUPPORTED);
        }
        let is_first = !device.is_listened_to.swap(true, Ordering::Relaxed);
        let before = device.xids.iter().flatten().take_while(|xid| !is_first && xid.second <= elapsed_s);
        let missed = before.count();
        set.devices.push((handle, missed));
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetWait_v2(
    set: nvmlEventSet_t,
    out: Option<&mut nvmlEventData_t>,
    timeout_ms: c_uint,
) -> nvmlReturn_t {
    system("nvmlEventSetWait_v2", |session| {
        let (set, out) = (held(set.cast::<EventSet>())?, out.ok_or(INVALID_ARGUMENT)?);
        if set.devices.iter().any(|(handle, _)| session.is_lost(Session::index_of(*handle) as usize)) {
            return Err(GPU_IS_LOST);
        }
        for (handle, told) in &mut set.devices {
            let device = session.scenario.devices.get(Session::index_of(*handle) as usize).ok_or(INVALID_ARGUMENT)?;
            let next = device.xids.iter().flatten().nth(*told).filter(|xid| xid.second <= session.elapsed_s());
            if let Some(xid) = next {
                *told += 1;
                *out = nvmlEventData_t {
                    device: *handle,
                    eventType: u64::from(nvmlEventTypeXidCriticalError),
                    eventData: xid.code,
                    gpuInstanceId: xid.instance.0,
                    computeInstanceId: xid.instance.1,
                };
                return Ok(());
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(timeout_ms.into()));
        Err(TIMEOUT)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetFree(set: nvmlEventSet_t) -> nvmlReturn_t {
    free(set.cast::<EventSet>())
}
