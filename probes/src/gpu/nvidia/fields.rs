//! Field values: what NVML keeps as numbered fields of a device, many of them with one call.

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, FieldIdScheme, Nvml};
use nvml_wrapper_sys::bindings::{nvmlFieldValue_t, nvmlValue_t, nvmlValueType_t};
use perfwatch_model::{Reading, Reason};

use super::counter::{Bound, FULL_TOO_SOON};
use super::fault;
use super::link_reads::WAYS;

pub(crate) const CALL: &str = "nvmlDeviceGetFieldValues";

/// What a value says that the driver does not fill in (`NVML_ERROR_UNKNOWN`).
const UNFILLED: u32 = 999;

/// No counter of bytes or of nanoseconds comes as far; DCGM has been seen to hand out values just below 2^63 for none.
pub(super) const MOST_COUNTED: u64 = 1 << 62;

/// What DCGM's interface says for a number that there is none of, and what has been seen in counters of errors.
const BLANK: u64 = 1 << 47;
const BLANK_ERRORS: u64 = u32::MAX as u64;

/// What a `PCIe` link of the sixth generation moves in a second in one direction, in bytes.
const MOST_PCIE: f64 = 128e9;
/// Twice what the links between two devices move in a second in one direction, KiB.
const MOST_NVLINK: f64 = 3.6e12 / 1024.0;

/// All links of `NVLink` together.
const ALL_LINKS: u32 = u32::MAX;

/// A field that perfwatch reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// Of the memory, °C.
    MemoryTemperature,
    /// Bytes from the device to the host, since the driver was loaded.
    PcieTransmit,
    /// Bytes from the host to the device.
    PcieReceive,
    /// Packets of the `PCIe` link that had to be sent again.
    PcieReplays,
    /// KiB to other devices, over all links.
    NvlinkTransmit,
    /// KiB from other devices.
    NvlinkReceive,
    /// Nanoseconds for which the clocks were held down to stay below the power limit.
    SwPowerCap,
    /// The same, because another device of the group was.
    SyncBoost,
    /// The same, because it became warmer than it should run for long.
    SwThermal,
    /// The same, by half or more: too hot.
    HwThermal,
    /// The same: the power supply asked for it.
    HwPowerBrake,
    /// Errors of the memory that were corrected, since the driver was loaded.
    EccCorrected,
    /// Errors of the memory that were not.
    EccUncorrected,
    /// Rows of the memory replaced for corrected errors, in the life of the device.
    RemappedCorrected,
    /// The same for uncorrected ones.
    RemappedUncorrected,
    /// 1 when a row is to be replaced at the next reset.
    RemapPending,
    /// 1 when a row could not be replaced.
    RemapFailed,
    /// Pages of the memory taken out of use for corrected errors, in the life of the device: before Ampere, in place of rows.
    RetiredCorrected,
    /// The same for uncorrected ones.
    RetiredUncorrected,
    /// 1 when a page is to be taken out of use when the driver is loaded next.
    RetirementPending,
    /// What the driver asks for: 0 nothing, 1 a reset, 2 a reboot, 3 and 4 draining.
    RecoveryAction,
}

/// How many there are.
pub(crate) const COUNT: usize = Field::RecoveryAction as usize + 1;

/// What may change from one second to the next.
pub(crate) const FAST: &[Field] = &[
    Field::MemoryTemperature,
    Field::PcieTransmit,
    Field::PcieReceive,
    Field::PcieReplays,
    Field::NvlinkTransmit,
    Field::NvlinkReceive,
    Field::SwPowerCap,
    Field::SyncBoost,
    Field::SwThermal,
    Field::HwThermal,
    Field::HwPowerBrake,
];

/// What may be read more often than that.
pub(crate) const LINK: &[Field] = &WAYS;

/// What changes when something breaks.
pub(crate) const SLOW: &[Field] = &[
    Field::EccCorrected,
    Field::EccUncorrected,
    Field::RemappedCorrected,
    Field::RemappedUncorrected,
    Field::RemapPending,
    Field::RemapFailed,
    Field::RetiredCorrected,
    Field::RetiredUncorrected,
    Field::RetirementPending,
    Field::RecoveryAction,
];

impl Field {
    /// Its number. Drivers from 580.82 on number some of them anew.
    const fn id(self, scheme: FieldIdScheme) -> u32 {
        let (before, from_580_82) = match self {
            Self::MemoryTemperature => (82, 82),
            Self::PcieTransmit => (197, 197),
            Self::PcieReceive => (198, 198),
            Self::PcieReplays => (94, 94),
            Self::NvlinkTransmit => (138, 138),
            Self::NvlinkReceive => (139, 139),
            Self::SwPowerCap => (74, 74),
            Self::SyncBoost => (76, 76),
            Self::SwThermal => (251, 269),
            Self::HwThermal => (252, 270),
            Self::HwPowerBrake => (253, 271),
            Self::EccCorrected => (3, 3),
            Self::EccUncorrected => (4, 4),
            Self::RemappedCorrected => (142, 142),
            Self::RemappedUncorrected => (143, 143),
            Self::RemapPending => (144, 144),
            Self::RemapFailed => (145, 145),
            Self::RetiredCorrected => (29, 29),
            Self::RetiredUncorrected => (30, 30),
            Self::RetirementPending => (31, 31),
            Self::RecoveryAction => (230, 230),
        };
        match scheme {
            FieldIdScheme::V12 => before,
            FieldIdScheme::V13Update1 => from_580_82,
        }
    }

    /// The most that it can be.
    const fn most(self) -> u64 {
        match self {
            Self::MemoryTemperature => 200,
            Self::RemappedCorrected | Self::RemappedUncorrected => 1 << 20,
            // There is room for 64 in the list that the device keeps of them.
            Self::RetiredCorrected | Self::RetiredUncorrected => 64,
            Self::RemapPending | Self::RemapFailed | Self::RetirementPending => 1,
            Self::RecoveryAction => 100,
            // Counters: what is above has been seen for a value that there is none of.
            _ => MOST_COUNTED,
        }
    }

    /// How far it can rise, if it is a counter, on a device whose `PCIe` link moves so many bytes in a second.
    pub(super) const fn bound(self, link_rate: Option<f64>) -> Bound {
        match self {
            Self::SwPowerCap | Self::SyncBoost | Self::SwThermal | Self::HwThermal | Self::HwPowerBrake => {
                Bound::PerSecond(1e9)
            }
            Self::PcieTransmit | Self::PcieReceive => Bound::Link(match link_rate {
                Some(rate) => rate,
                None => MOST_PCIE,
            }),
            Self::NvlinkTransmit | Self::NvlinkReceive => Bound::PerSecond(MOST_NVLINK),
            _ => Bound::AtOnce(1 << 32),
        }
    }

    pub(super) const fn is_of_link(self) -> bool {
        matches!(self, Self::PcieTransmit | Self::PcieReceive)
    }

    const fn can_be(self, value: u64) -> bool {
        value <= self.most() && !self.is_blank(value)
    }

    /// Whether a value says that there is none.
    const fn is_blank(self, value: u64) -> bool {
        let counts_errors = matches!(self, Self::PcieReplays | Self::EccCorrected | Self::EccUncorrected);
        value == BLANK || (counts_errors && value == BLANK_ERRORS)
    }

    const fn scope(self) -> u32 {
        match self {
            Self::NvlinkTransmit | Self::NvlinkReceive => ALL_LINKS,
            _ => 0,
        }
    }
}

/// The readings of all fields, by [`Field`].
pub(crate) type FieldReadings = [Reading<u64>; COUNT];

/// Fields that are asked for with one call; its buffer is kept.
pub(crate) struct Batch {
    fields: &'static [Field],
    asked: Vec<nvmlFieldValue_t>,
}

impl Batch {
    pub(crate) fn new(fields: &'static [Field], scheme: FieldIdScheme) -> Self {
        let ask = |field: &Field| nvmlFieldValue_t {
            fieldId: field.id(scheme),
            scopeId: field.scope(),
            timestamp: 0,
            latencyUsec: 0,
            valueType: 0,
            nvmlReturn: 0,
            value: nvmlValue_t { ullVal: 0 },
        };
        Self { fields, asked: fields.iter().map(ask).collect() }
    }

    /// Asks. The safe wrapper's call knows no scopes and refuses signed values.
    #[allow(unsafe_code, reason = "the wrapper offers no safe way")]
    pub(crate) fn ask(&mut self, nvml: &Nvml, device: &Device<'_>) -> Result<(), NvmlError> {
        let call = nvml_sym(nvml.lib().nvmlDeviceGetFieldValues.as_ref())?;
        for value in &mut self.asked {
            value.nvmlReturn = UNFILLED;
        }
        let count = i32::try_from(self.asked.len()).unwrap_or(0);
        // SAFETY: the device is one of this library's, and the buffer holds `count` initialised values.
        nvml_try(unsafe { call(device.handle(), count, self.asked.as_mut_ptr()) })
    }

    /// Whether a field was answered, after [`Batch::ask`] went well.
    pub(crate) fn is_answered(&self) -> bool {
        self.asked
            .iter()
            .any(|value| nvml_try(value.nvmlReturn).map_or_else(|error| fault::is_answer(&error), |()| true))
    }

    /// Whether the driver counts the bytes of the `PCIe` link in a type of 32 bits, by the last that was asked.
    pub(crate) fn has_short_link(&self) -> bool {
        let mut all = self.fields.iter().zip(&self.asked);
        all.any(|(field, value)| field.is_of_link() && value.nvmlReturn == 0 && is_short(value))
    }

    /// The value of a field, if it was answered with one that can be, after [`Batch::ask`] went well.
    pub(crate) fn value(&self, field: Field) -> Option<u64> {
        let at = self.fields.iter().position(|known| *known == field)?;
        let value = self.asked.get(at).filter(|value| value.nvmlReturn == 0)?;
        decode(value.valueType, value.value).filter(|decoded| field.can_be(*decoded))
    }

    /// What came, after [`Batch::ask`] went well, of a device whose `PCIe` link fills a counter of 32 bits before the next is told.
    pub(crate) fn tell(&self, is_full_too_soon: bool, into: &mut FieldReadings) {
        for (field, value) in self.fields.iter().zip(&self.asked) {
            into[*field as usize] = match nvml_try(value.nvmlReturn) {
                // `nvml.h`: "can be wrapped".
                Ok(()) if is_full_too_soon && is_short(value) && field.is_of_link() => {
                    Reading::Unavailable(FULL_TOO_SOON)
                }
                Ok(()) => match decode(value.valueType, value.value).filter(|decoded| field.can_be(*decoded)) {
                    Some(decoded) => Reading::Value(decoded),
                    None => Reading::Unavailable(cannot_be(value.fieldId)),
                },
                Err(error) => Reading::Unavailable(fault::at_call(&error, CALL)),
            };
        }
    }

    /// None of them, for this reason.
    pub(crate) fn tell_absent(&self, reason: &Reason, into: &mut FieldReadings) {
        for field in self.fields {
            into[*field as usize] = Reading::Unavailable(reason.clone());
        }
    }
}

fn is_short(value: &nvmlFieldValue_t) -> bool {
    matches!(value.valueType, 1 | 5 | 6)
}

/// None of what is read here is negative, whatever type a driver gives it.
#[allow(unsafe_code, reason = "a C union, whose type stands beside it")]
pub(super) fn decode(kind: nvmlValueType_t, out: nvmlValue_t) -> Option<u64> {
    let signed = |signed: i64| u64::try_from(signed).ok();
    // SAFETY: all members are numbers that begin at the same byte, and the whole union was initialised.
    unsafe {
        match kind {
            0 => (out.dVal.is_finite() && out.dVal >= 0.0).then_some(out.dVal as u64),
            1 => Some(u64::from(out.uiVal)),
            2 => Some(out.ulVal),
            3 => Some(out.ullVal),
            4 => signed(out.sllVal),
            5 => signed(i64::from(out.siVal)),
            6 => Some(u64::from(out.usVal)),
            _ => None,
        }
    }
}

fn cannot_be(field: u32) -> Reason {
    Reason::new(
        format!("the driver's value of field {field} is none that can be true"),
        "none: the next sample is usually right",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_from_580_82_on_number_the_clocks_reasons_anew() {
        assert_eq!(
            [FieldIdScheme::V12, FieldIdScheme::V13Update1].map(|scheme| Field::HwThermal.id(scheme)),
            [252, 270]
        );
        let batch = Batch::new(FAST, FieldIdScheme::V12);
        let scopes: Vec<_> =
            batch.asked.iter().filter(|value| value.scopeId == u32::MAX).map(|value| value.fieldId).collect();
        assert_eq!(scopes, [138, 139]);
    }

    #[test]
    fn blanks_are_no_values() {
        assert!([0, 1, 1 << 32].iter().all(|value| Field::EccCorrected.can_be(*value)));
        assert!([u64::from(u32::MAX), 1 << 47, u64::MAX].iter().all(|value| !Field::EccCorrected.can_be(*value)));
        assert!(Field::HwThermal.can_be(u64::from(u32::MAX)) && !Field::HwThermal.can_be(1 << 47));
        assert!(Field::RetiredUncorrected.can_be(64));
        assert!([65, u64::from(u32::MAX), 1 << 47].iter().all(|value| !Field::RetiredUncorrected.can_be(*value)));
    }

    #[test]
    fn each_field_is_in_one_batch() {
        let mut all: Vec<_> = FAST.iter().chain(SLOW).map(|field| *field as usize).collect();
        all.sort_unstable();
        assert_eq!(all, (0..COUNT).collect::<Vec<_>>());
    }

    #[test]
    fn values_of_every_type_are_read_and_those_that_cannot_be_true_are_none() {
        assert_eq!(decode(0, nvmlValue_t { dVal: 61.0 }), Some(61));
        assert_eq!(decode(0, nvmlValue_t { dVal: f64::NAN }), None);
        assert_eq!(decode(1, nvmlValue_t { uiVal: 61 }), Some(61));
        assert_eq!(decode(3, nvmlValue_t { ullVal: u64::MAX }), Some(u64::MAX));
        assert_eq!(decode(4, nvmlValue_t { sllVal: -1 }), None);
        assert_eq!(decode(9, nvmlValue_t { ullVal: 1 }), None);
    }
}
