//! Finding devices, and telling which one it is.

use std::ffi::{c_char, c_uint};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlPciInfo_t, nvmlReturn_t};

use super::arguments::{Answer, given, put, text};
use crate::codes::{INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED};
use crate::scenario::Device;
use crate::session::{Session, device, system};

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCount_v2(out: Option<&mut c_uint>) -> nvmlReturn_t {
    system("nvmlDeviceGetCount_v2", |session| put(out, session.scenario.devices.len() as c_uint))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, out: Option<&mut nvmlDevice_t>) -> nvmlReturn_t {
    system("nvmlDeviceGetHandleByIndex_v2", |session| put(out, session.handle(index as usize)?))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, out: Option<&mut nvmlDevice_t>) -> nvmlReturn_t {
    system("nvmlDeviceGetHandleByUUID", |session| {
        let uuid = given(uuid)?;
        find(session, |device| device.uuid == uuid, out)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByPciBusId_v2(bus_id: *const c_char, out: Option<&mut nvmlDevice_t>) -> nvmlReturn_t {
    system("nvmlDeviceGetHandleByPciBusId_v2", |session| {
        let bus_id = given(bus_id)?;
        find(session, |device| device.pci.as_ref().is_some_and(|pci| pci.text.eq_ignore_ascii_case(bus_id)), out)
    })
}

fn find(session: &Session, found: impl Fn(&Device) -> bool, out: Option<&mut nvmlDevice_t>) -> Answer {
    let index = session.scenario.devices.iter().position(found).ok_or(NOT_FOUND)?;
    put(out, session.handle(index)?)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetIndex(handle: nvmlDevice_t, out: Option<&mut c_uint>) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetIndex", |_, _| put(out, Session::index_of(handle)))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetName(handle: nvmlDevice_t, out: *mut c_char, room: c_uint) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetName", |device, _| text(out, room, device.name.as_deref().ok_or(NOT_SUPPORTED)?))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetUUID(handle: nvmlDevice_t, out: *mut c_char, room: c_uint) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetUUID", |device, _| text(out, room, &device.uuid))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetSerial(handle: nvmlDevice_t, out: *mut c_char, room: c_uint) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetSerial", |device, _| text(out, room, device.serial.as_deref().ok_or(NOT_SUPPORTED)?))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPciInfo_v3(handle: nvmlDevice_t, out: Option<&mut nvmlPciInfo_t>) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetPciInfo_v3", |device, _| {
        let out = out.ok_or(INVALID_ARGUMENT)?;
        let pci = device.pci.as_ref().ok_or(NOT_SUPPORTED)?;
        (out.domain, out.bus, out.device) = (pci.domain, pci.bus, pci.device);
        // 0x10de is NVIDIA's PCI vendor id.
        (out.pciDeviceId, out.pciSubSystemId) = (0x2330_10de, 0x16c1_10de);
        text(out.busIdLegacy.as_mut_ptr(), 16, &format!("{:04X}:{:02X}:{:02X}.0", pci.domain, pci.bus, pci.device))?;
        text(out.busId.as_mut_ptr(), 32, &pci.text)
    })
}
