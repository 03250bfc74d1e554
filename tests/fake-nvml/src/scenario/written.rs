//! Values that are written in a form of their own: XID errors, return codes, PCI addresses.

use serde::Deserialize;
use serde_json::Value;

use crate::codes;
use crate::series::Series;

/// An XID error, written as a list.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(from = "WrittenXid")]
pub(crate) struct Xid {
    pub(crate) second: f64,
    pub(crate) code: u64,
    /// GPU instance and compute instance, `NO_INSTANCE` where the error is the whole device's.
    pub(crate) instance: (u32, u32),
}

/// What NVML says for no MIG instance.
pub(crate) const NO_INSTANCE: u32 = u32::MAX;

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenXid {
    OfTheDevice(f64, u64),
    OfAnInstance(f64, u64, u32, u32),
}

impl From<WrittenXid> for Xid {
    fn from(written: WrittenXid) -> Self {
        match written {
            WrittenXid::OfTheDevice(second, code) => Self { second, code, instance: (NO_INSTANCE, NO_INSTANCE) },
            WrittenXid::OfAnInstance(second, code, gpu, compute) => Self { second, code, instance: (gpu, compute) },
        }
    }
}

/// A return code, written as its number or its name.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(try_from = "Value")]
pub(crate) struct Code(pub(crate) u32);

impl TryFrom<Value> for Code {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match numbered(value)? {
            Value::Number(number) => match number.as_u64().map(u32::try_from) {
                Some(Ok(code)) => Ok(Self(code)),
                _ => Err(format!("return code {number} is not an unsigned 32-bit number")),
            },
            other => Err(format!("return code must be a number or a name, not `{other}`")),
        }
    }
}

/// A series of return codes, each written as its number or its name.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
pub(crate) struct Codes(pub(crate) Series);

impl TryFrom<Value> for Codes {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        Series::try_from(numbered(value)?).map(Self)
    }
}

/// Replaces the names of return codes by their numbers, at any depth.
fn numbered(value: Value) -> Result<Value, String> {
    match value {
        Value::String(name) => codes::by_name(&name).map(Value::from).ok_or_else(|| {
            format!("unknown return code `{name}`; write NVML's name without NVML_ERROR_, or the number")
        }),
        Value::Array(values) => values.into_iter().map(numbered).collect(),
        Value::Object(keys) => keys.into_iter().map(|(key, value)| Ok((key, numbered(value)?))).collect(),
        other => Ok(other),
    }
}

/// `domain:bus:device.function`, hexadecimal, as NVML prints it.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct PciAddress {
    pub(crate) text: String,
    pub(crate) domain: u32,
    pub(crate) bus: u32,
    pub(crate) device: u32,
}

impl TryFrom<String> for PciAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = |digits: Option<&str>| digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let mut parts = text.split([':', '.']);
        let (domain, bus, device) = (number(parts.next()), number(parts.next()), number(parts.next()));
        match (domain, bus, device, number(parts.next()), parts.next()) {
            (Some(domain), Some(bus), Some(device), Some(_), None) if text.len() < 32 => {
                Ok(Self { text, domain, bus, device })
            }
            _ => Err(format!("pci address `{text}` is not of the form 00000000:1B:00.0")),
        }
    }
}
