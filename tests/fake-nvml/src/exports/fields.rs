//! Values by the driver's ids, many with one call.

use std::ffi::{c_int, c_longlong, c_uint};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlFieldValue_t, nvmlReturn_t, nvmlValue_t};

use crate::codes::{INVALID_ARGUMENT, NOT_SUPPORTED, SUCCESS};
use crate::scenario::{Field, FieldType};
use crate::session::device;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetFieldValues(
    handle: nvmlDevice_t,
    count: c_int,
    values: *mut nvmlFieldValue_t,
) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetFieldValues", |device, elapsed_s| {
        let count = usize::try_from(count).map_err(|_| INVALID_ARGUMENT)?;
        if values.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: not null, and valid for `count` initialised elements by the header's contract.
        let asked = unsafe { std::slice::from_raw_parts_mut(values, count) };
        for value in asked {
            value.timestamp = (elapsed_s * 1e6) as c_longlong;
            match device.fields.iter().find(|field| field.id == value.fieldId && field.scope == value.scopeId) {
                Some(field) => {
                    (value.valueType, value.value) = field_value(field, elapsed_s);
                    value.nvmlReturn = SUCCESS;
                }
                None => value.nvmlReturn = NOT_SUPPORTED,
            }
        }
        Ok(())
    })
}

fn field_value(field: &Field, elapsed_s: f64) -> (c_uint, nvmlValue_t) {
    let value = field.value.next(elapsed_s);
    let whole = value.round();
    // Written whole, so that the bytes beyond a short value are zero rather than the caller's.
    let mut out = nvmlValue_t { ullVal: 0 };
    match field.kind {
        FieldType::Double => out.dVal = value,
        FieldType::UnsignedInt => out.uiVal = whole as _,
        FieldType::UnsignedLong => out.ulVal = whole as _,
        FieldType::UnsignedLongLong => out.ullVal = whole as _,
        FieldType::SignedLongLong => out.sllVal = whole as _,
        FieldType::SignedInt => out.siVal = whole as _,
        FieldType::UnsignedShort => out.usVal = whole as _,
    }
    (field.kind as c_uint, out)
}
