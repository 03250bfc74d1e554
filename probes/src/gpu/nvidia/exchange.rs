//! What the probe asks of the NVML thread, and what that answers.

use std::sync::mpsc::SyncSender;

use perfwatch_model::{Reading, Reason, Stamp};

use super::clock::cpu_ns;
use super::health::Sign;
use super::readings::DeviceReadings;

/// What the thread is sent.
pub(crate) enum Message {
    /// Asks for one sample, and is answered.
    Sample(Request),
    /// The permission to have NVML open was withdrawn; is not answered.
    Wake,
}

/// Asks for one sample.
pub(crate) struct Request {
    /// When it is taken.
    pub(crate) at: Stamp,
    /// When it was sent, `CLOCK_MONOTONIC`.
    pub(crate) sent_ns: u64,
    /// CPU time that sampling GPM between two requests may use in a second.
    pub(crate) allowed_ns: u64,
    /// To be filled and sent back: its buffers are reused.
    pub(crate) report: Report,
}

/// Answers one [`Request`].
#[derive(Default)]
pub(crate) struct Report {
    /// The devices, when they are other than in the last report.
    pub(crate) inventory: Option<Vec<Description>>,
    /// Beside a new inventory: devices that are there and not in it.
    pub(crate) refused: Vec<Refused>,
    /// Readings, in the inventory's order.
    pub(crate) devices: Vec<DeviceReadings>,
    /// Why there are no readings at all.
    pub(crate) failure: Option<Failure>,
    /// There are none because there was no permission to have NVML open.
    pub(crate) is_released: bool,
    /// CPU time that this thread has used so far.
    pub(crate) cpu_ns: u64,
    /// How long it took from the request on; what came before the first answer of all is no part of it.
    pub(crate) took_ns: u64,
    /// GPM is sampled, or a link's counters are read, less often than could be, for what it costs.
    pub(crate) stretched: bool,
}

/// Why there is nothing of any device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    /// What is wrong with the driver or its devices, where that is why: a machine without a driver is in order.
    pub(crate) sign: Option<Sign>,
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self { reason, sign: None }
    }
}

/// A device that the driver does not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) index: u32,
    pub(crate) reason: Reason,
    /// What is wrong with it, where that is why: one that is kept from this container or user is in order.
    pub(crate) sign: Option<Sign>,
}

/// What does not change about a device.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    /// The driver's, of the GPU that it is or is a part of.
    pub(crate) index: u32,
    pub(crate) uuid: String,
    pub(crate) name: String,
    /// UUID of the GPU that it is a MIG instance of.
    pub(crate) parent: Option<String>,
    pub(crate) pci: Reading<String>,
    pub(crate) driver_version: Reading<String>,
}

impl Report {
    /// Without a reading of any device.
    pub(super) fn empty(mut self) -> Self {
        self.devices.clear();
        (self.inventory, self.failure, self.is_released) = (None, None, false);
        self
    }
}

/// Answers, and says what answering has cost so far; false when nobody asks any more.
pub(super) fn send(reports: &SyncSender<Report>, mut report: Report) -> bool {
    report.cpu_ns = cpu_ns();
    reports.send(report).is_ok()
}
