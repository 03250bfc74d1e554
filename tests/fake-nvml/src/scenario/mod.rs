//! The scenario file: what the fake driver and its devices answer. Its format is documented in the crate's documentation.

mod check;
mod device;
mod written;

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::series::Series;

pub use device::Device;
pub(crate) use device::{Clocks, Field, FieldType, Process, ProcessUtilization, Processes};
pub(crate) use written::{Code, Codes, NO_INSTANCE};

/// Why a scenario was refused.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Not JSON, an unknown key, or a value of the wrong kind; says where.
    #[error("scenario does not parse: {0}")]
    Parse(#[from] serde_json::Error),
    /// It parses but cannot be played; says which device and key.
    #[error("scenario cannot be played: {0}")]
    Invalid(String),
}

/// A parsed scenario; its keys are documented in the crate's documentation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    #[serde(default)]
    pub(crate) init: Code,
    #[serde(default = "default_driver")]
    pub(crate) driver: String,
    #[serde(default)]
    pub(crate) devices: Vec<Device>,
    /// Symbols that the library has not.
    #[serde(default)]
    pub(crate) missing: Vec<String>,
    #[serde(default)]
    pub(crate) errors: BTreeMap<String, Codes>,
    #[serde(default)]
    pub(crate) delays_ms: BTreeMap<String, Series>,
    #[serde(default)]
    pub(crate) call_log: Option<std::path::PathBuf>,
}

/// What there are handles for.
pub(crate) const MOST_DEVICES: usize = 256;
pub(crate) const MOST_INSTANCES: usize = 15;

fn default_driver() -> String {
    "580.95.05".into()
}

impl Scenario {
    /// Parses and checks a scenario.
    pub fn parse(json: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = serde_json::from_str(json)?;
        scenario.check().map_err(ScenarioError::Invalid)?;
        Ok(scenario)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::float_cmp, reason = "scripted values come back exactly")]
    fn return_codes_are_numbers_or_names() {
        let scenario =
            Scenario::parse(r#"{"init": "DRIVER_NOT_LOADED", "errors": {"nvmlDeviceGetCount_v2": [0, "UNKNOWN"]}}"#)
                .expect("parses");
        assert_eq!(scenario.init.0, 9);
        let codes = &scenario.errors["nvmlDeviceGetCount_v2"].0;
        assert_eq!([codes.next(0.0), codes.next(0.0)], [0.0, 999.0]);
    }

    #[test]
    fn mistakes_are_refused_with_their_place() {
        let refused = [
            (r#"{"device": []}"#, "unknown field `device`"),
            (r#"{"devices": [{"name": "x"}]}"#, "missing field `uuid`"),
            (r#"{"devices": [{"uuid": "a"}, {"uuid": "a"}]}"#, "device 1: uuid `a` is taken"),
            (r#"{"devices": [{"uuid": "a", "power_mw": -1}]}"#, "device 0: `power_mw` can become negative"),
            (r#"{"devices": [{"uuid": "a", "errors": {"nvmlFoo": 3}}]}"#, "device 0: `nvmlFoo` is not a symbol"),
            (
                r#"{"devices": [{"uuid": "a", "mig": {"instances": [null, {"uuid": "a"}]}}]}"#,
                "device 0: instance 1: uuid `a` is taken",
            ),
            (
                r#"{"devices": [{"uuid": "a", "xids": [[5, 31], [0, 79, 1, 0]]}]}"#,
                "device 0: the seconds of `xids` must",
            ),
            (r#"{"devices": [{"uuid": "a", "xids": [[5, 31, 1]]}]}"#, "did not match"),
            (r#"{"missing": ["nvmlFoo"]}"#, "`nvmlFoo` is not a symbol"),
            (r#"{"init": "NO_SUCH"}"#, "unknown return code `NO_SUCH`"),
            (r#"{"devices": [{"uuid": "a", "pci": "1B:00.0"}]}"#, "not of the form 00000000:1B:00.0"),
        ];
        for (json, reason) in refused {
            let error = Scenario::parse(json).expect_err("refused").to_string();
            assert!(error.contains(reason), "{json}: {error}");
        }
    }
}
