//! The thread that talks to NVML, and may hang in it.

use std::mem::ManuallyDrop;
use std::sync::mpsc::{Receiver, Sender};

use nvml_wrapper::{Device, Nvml};
use perfwatch_model::{Reading, Reason, Stamp};

use super::activity::Activity;
use super::events::{self, Events};
use super::fault;
use super::fields::{self, Batch};
use super::gpm::Gpm;
use super::readings::{DeviceReadings, Reader, Tally};
use super::retry::Retry;
use crate::gpu::GpuContext;

/// What [`Activity`] says while the library is loaded and initialised. It takes seconds where the driver has to start the devices
/// first (persistence mode off).
pub(crate) const INITIALISING: &str = "nvmlInit_v2";

/// Asks for one sample.
pub(crate) struct Request {
    /// When it is taken.
    pub(crate) at: Stamp,
    /// Whether to read the process lists too.
    pub(crate) processes: bool,
    /// Whether to read the limits too.
    pub(crate) limits: bool,
    /// To be filled and sent back: its buffers are reused.
    pub(crate) report: Report,
}

/// Answers one [`Request`].
#[derive(Default)]
pub(crate) struct Report {
    /// The devices, when they are other than in the last report.
    pub(crate) inventory: Option<Vec<Description>>,
    /// Beside a new inventory: why a device that is there is not in it.
    pub(crate) refused: Option<Reason>,
    /// Readings, in the inventory's order.
    pub(crate) devices: Vec<DeviceReadings>,
    /// Why there are no readings at all.
    pub(crate) failure: Option<Reason>,
    /// CPU time that this thread has used so far.
    pub(crate) cpu_ns: u64,
}

/// What does not change about a device.
#[derive(Clone, Debug)]
pub(crate) struct Description {
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) pci: Reading<String>,
    pub(crate) driver_version: Reading<String>,
}

/// Why [`Session::serve`] came back.
enum End {
    /// Nobody asks any more.
    Closed,
    /// NVML has to be initialised anew: since when, and why.
    Lost(Stamp, Reason),
}

/// Answers requests until nobody asks any more.
pub(crate) fn run(requests: &Receiver<Request>, reports: &Sender<Report>, context: &GpuContext, activity: &Activity) {
    let mut retry = Retry::default();
    let mut failure = None;
    while let Ok(request) = requests.recv() {
        if let Some(reason) = failure.clone().filter(|_| !retry.is_due(request.at)) {
            if !refuse(reports, request.report, reason) {
                return;
            }
            continue;
        }
        activity.enter(INITIALISING);
        let at = request.at;
        let reason = match load(context) {
            Ok(nvml) => match Session::open(&nvml, context, activity) {
                Ok(session) => match session.serve(request, requests, reports, &mut retry) {
                    End::Closed => return,
                    End::Lost(at, reason) => {
                        retry.failed(at);
                        failure = Some(reason);
                        continue;
                    }
                },
                Err(reason) => reason,
            },
            Err(reason) => reason,
        };
        retry.failed(at);
        failure = Some(reason.clone());
        if !refuse(reports, request.report, reason) {
            return;
        }
    }
}

fn refuse(reports: &Sender<Report>, mut report: Report, reason: Reason) -> bool {
    report.devices.clear();
    report.inventory = None;
    report.failure = Some(reason);
    send(reports, report)
}

/// Answers, and says what answering has cost so far; false when nobody asks any more.
fn send(reports: &Sender<Report>, mut report: Report) -> bool {
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    report.cpu_ns = cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64;
    reports.send(report).is_ok()
}

/// When a sample of GPM is taken, which is later than the tick that asks for it by what the calls before it took.
fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn load(context: &GpuContext) -> Result<Nvml, Reason> {
    let path = context.nvml_lib.as_ref().map_or(fault::DEFAULT_LIBRARY.as_ref(), |path| path.as_os_str());
    let nvml = Nvml::builder().lib_path(path).init().map_err(|error| fault::at_load(&error, context))?;
    // Dropping the wrapper calls nvmlShutdown and panics where there is none.
    let nvml = ManuallyDrop::new(nvml);
    if nvml.lib().nvmlShutdown.is_err() {
        return Err(fault::wrong_file(context, "it has no `nvmlShutdown`"));
    }
    Ok(ManuallyDrop::into_inner(nvml))
}

/// The time from one initialisation to the next.
struct Session<'nvml> {
    context: &'nvml GpuContext,
    activity: &'nvml Activity,
    nvml: &'nvml Nvml,
    devices: Vec<Held<'nvml>>,
    events: Result<Events<'nvml>, Reason>,
    inventory: Option<Vec<Description>>,
    refused: Option<Reason>,
}

/// A device and the buffers of its calls.
struct Held<'nvml> {
    device: Device<'nvml>,
    fast: Batch,
    slow: Batch,
    gpm: Result<Gpm<'nvml>, Reason>,
}

impl<'nvml> Held<'nvml> {
    fn open(nvml: &'nvml Nvml, device: Device<'nvml>, activity: &Activity) -> Self {
        let scheme = nvml.field_id_scheme();
        activity.enter("nvmlGpmQueryDeviceSupport");
        let gpm = Gpm::open(nvml, &device);
        Self { fast: Batch::new(fields::FAST, scheme), slow: Batch::new(fields::SLOW, scheme), gpm, device }
    }
}

impl<'nvml> Session<'nvml> {
    fn open(nvml: &'nvml Nvml, context: &'nvml GpuContext, activity: &'nvml Activity) -> Result<Self, Reason> {
        let count = nvml.device_count().map_err(|error| fault::at_load(&error, context))?;
        let driver = match nvml.sys_driver_version() {
            Ok(version) => Reading::Value(version),
            Err(error) => Reading::Unavailable(fault::at_call(&error, "nvmlSystemGetDriverVersion")),
        };
        let mut devices = Vec::new();
        let mut inventory = Vec::new();
        let mut refused = None;
        for index in 0..count {
            // The first call on a device may have to start it.
            activity.enter(INITIALISING);
            // A device that cannot be opened (lost, or not ours by cgroup) must not hide the others.
            let opened = nvml.device_by_index(index).and_then(|device| device.uuid().map(|uuid| (device, uuid)));
            match opened {
                Ok((device, uuid)) => {
                    inventory.push(Description {
                        name: device.name().unwrap_or_else(|_| "NVIDIA GPU".to_owned()),
                        pci: match device.pci_info() {
                            Ok(pci) => Reading::Value(pci.bus_id),
                            Err(error) => Reading::Unavailable(fault::at_call(&error, "nvmlDeviceGetPciInfo_v3")),
                        },
                        driver_version: driver.clone(),
                        uuid,
                    });
                    devices.push(Held::open(nvml, device, activity));
                }
                Err(error) => refused = Some(fault::at_load(&error, context)),
            }
        }
        if devices.is_empty() {
            return Err(refused.unwrap_or(fault::NO_DEVICE));
        }
        activity.enter("nvmlEventSetCreate");
        let events = Events::open(nvml, devices.iter().map(|held: &Held<'nvml>| &held.device));
        Ok(Self { context, activity, nvml, devices, events, inventory: Some(inventory), refused })
    }

    /// Answers `first` and what comes after it.
    fn serve(
        mut self,
        first: Request,
        requests: &Receiver<Request>,
        reports: &Sender<Report>,
        retry: &mut Retry,
    ) -> End {
        let mut next = first;
        loop {
            let at = next.at;
            let (report, lost) = self.answer(next);
            if !send(reports, report) {
                return End::Closed;
            }
            if let Some(reason) = lost {
                return End::Lost(at, reason);
            }
            // Only now: a driver that initialises and then fails must not be initialised over and over.
            retry.succeeded();
            next = match requests.recv() {
                Ok(request) => request,
                Err(_) => return End::Closed,
            };
        }
    }

    /// XID errors, each to its device.
    #[allow(unsafe_code, reason = "handles are compared, and nothing is done with them")]
    fn read_xids(&mut self, into: &mut [DeviceReadings]) {
        self.activity.enter(events::CALL);
        let looked = match &self.events {
            Ok(events) => {
                for device in into.iter_mut() {
                    device.xids = Reading::Value(Vec::new());
                }
                let looked = events.look(|handle, xid| {
                    // SAFETY: the handle is not used as one.
                    let of = |held: &Held<'_>| unsafe { held.device.handle() }.addr() == handle;
                    if let Some(at) = self.devices.iter().position(of)
                        && let Reading::Value(xids) = &mut into[at].xids
                    {
                        xids.push(xid);
                    }
                });
                looked.map_err(|error| fault::at_call(&error, events::CALL))
            }
            Err(reason) => Err(reason.clone()),
        };
        if let Err(reason) = looked {
            for device in into {
                // What was told before the call failed is told.
                if device.xids.as_value().is_none_or(Vec::is_empty) {
                    device.xids = Reading::Unavailable(reason.clone());
                }
            }
        }
    }

    fn answer(&mut self, request: Request) -> (Report, Option<Reason>) {
        let mut report = request.report;
        // A new session has new devices: what is kept from the last one's is not theirs.
        let new = self.inventory.is_some();
        if new {
            report.devices.clear();
        }
        report.devices.resize_with(self.devices.len(), DeviceReadings::unread);
        report.inventory = self.inventory.take();
        report.refused = self.refused.take();
        report.failure = None;
        self.read_xids(&mut report.devices);
        let mut tally = Tally::default();
        for (held, into) in self.devices.iter_mut().zip(&mut report.devices) {
            let mut reader = Reader { device: &held.device, activity: self.activity, tally: &mut tally };
            reader.read_fast(into);
            reader.read_fields(self.nvml, &mut held.fast, &mut into.fields);
            reader.read_units(&mut held.gpm, monotonic_ns(), into);
            into.slow_is_new = request.limits || new;
            if into.slow_is_new {
                reader.read_limits(into);
                reader.read_fields(self.nvml, &mut held.slow, &mut into.fields);
            }
            if !self.context.host_pids {
                into.processes = Reading::Unavailable(fault::FOREIGN_PIDS);
            } else if request.processes || new {
                reader.read_processes(into);
            }
            into.fault = tally.take_fault();
        }
        let lost = tally.end_of_session();
        report.failure.clone_from(&lost);
        (report, lost)
    }
}
