//! The time from one initialisation of NVML to the next: who is asked what, and when.

mod rounds;
mod xids;

use std::sync::mpsc::{Receiver, SyncSender};

use nvml_wrapper::Nvml;
use perfwatch_model::tick::{SLOT_NS, SLOTS};
use perfwatch_model::{Reading, Reason, Stamp};

use super::activity::Activity;
use super::clock::monotonic_ns;
use super::events::Events;
use super::exchange::{Description, Failure, Message, Refused, Report, Request, send};
use super::fault;
use super::gpm::Gpm;
use super::health::Sign;
use super::held::{Held, Past};
use super::lists::Layout;
use super::mig::{self, Instance, Part};
use super::pace::Pace;
use super::permit::Permit;
use super::plugged::Plugged;
use super::port::Port;
use super::readings::{DeviceFault, DeviceReadings, Reader, Tally};
use super::retry::Retry;
use super::sampler::refuse_released;
use super::traffic::RATES;
use super::turn::Pass;
use crate::gpu::GpuContext;

/// Process lists cost more than all other readings together, and change when models are loaded.
const PROCESSES_EVERY_NS: u64 = 2_000_000_000;
/// Limits change when somebody sets them.
const LIMITS_EVERY_NS: u64 = 30_000_000_000;
/// A link that is as fast as it can be is seldom another the second after.
const LINK_EVERY_NS: u64 = 5_000_000_000;
/// Devices whose limits one answer reads.
const LIMITS_AT_ONCE: usize = 2;

/// As long as GPM's last measurement stands, at least.
const FRESH_NS: u64 = 3_000_000_000;

/// Why [`Session::serve`] came back.
pub(super) enum End {
    /// Nobody asks any more.
    Closed,
    /// NVML has to be initialised anew: since when, and why.
    Lost(Stamp, Failure),
    /// The devices answer, and one that does not, or was not there, may be there after NVML was initialised anew.
    Ailing(Kept),
    /// The permission to have NVML open was withdrawn.
    Released(Kept),
}

/// The time from one initialisation to the next.
pub(super) struct Session<'nvml> {
    context: &'nvml GpuContext,
    activity: &'nvml Activity,
    permit: &'nvml Permit,
    nvml: &'nvml Nvml,
    /// How the driver lays out the processes of a device.
    layout: Layout,
    devices: Vec<Held<'nvml>>,
    events: Result<Events<'nvml>, Reason>,
    /// A device that was lost is back, and in no set.
    is_to_listen_anew: bool,
    inventory: Option<Vec<Description>>,
    refused: Vec<Refused>,
    /// A device that was refused may be there when NVML is initialised anew.
    has_missing: bool,
    /// Devices that there were left when one that was lost was shown no more.
    count_gone: Option<usize>,
    pace: Pace,
    /// When devices are sampled next between two ticks, `CLOCK_MONOTONIC`; `None` where none is.
    round_due_ns: Option<u64>,
    /// CPU time that rounds may use in a second.
    allowed_ns: u64,
    /// The last answer came when the next tick was due.
    was_late: bool,
}

/// What one session leaves to the next.
pub(super) struct Kept {
    pub(super) at: Stamp,
    devices: Vec<Past>,
    refused: Vec<Refused>,
    has_missing: bool,
    count_gone: Option<usize>,
    pace: Pace,
    allowed_ns: u64,
    /// Another try to begin came in between, and failed: what was read before is not held any more.
    pub(super) is_old: bool,
}

impl<'nvml> Session<'nvml> {
    pub(super) fn open(
        nvml: &'nvml Nvml,
        context: &'nvml GpuContext,
        activity: &'nvml Activity,
        permit: &'nvml Permit,
    ) -> Result<Self, Failure> {
        activity.enter("nvmlDeviceGetCount_v2");
        let count = nvml.device_count().map_err(|error| fault::at_start(&error, context))?;
        activity.enter("nvmlSystemGetDriverVersion");
        let driver = match nvml.sys_driver_version() {
            Ok(version) => Reading::Value(version),
            Err(error) => Reading::Unavailable(fault::at_call(&error, "nvmlSystemGetDriverVersion")),
        };
        let layout = Layout::of(driver.as_value().map(String::as_str));
        let scheme = nvml.field_id_scheme();
        let mut devices = Vec::new();
        let mut inventory = Vec::new();
        let mut failed = Vec::new();
        for index in 0..count {
            // The first call on a device may have to start it.
            activity.turn_to(None);
            activity.enter(fault::OPEN);
            // A device that cannot be opened (lost, or not ours by cgroup) must not hide the others.
            let opened = nvml.device_by_index(index).and_then(|device| {
                activity.enter("nvmlDeviceGetUUID");
                device.uuid().map(|uuid| (device, uuid))
            });
            match opened {
                Ok((device, uuid)) => {
                    activity.turn_to(Some(&uuid.as_str().into()));
                    activity.enter("nvmlDeviceGetName");
                    let name = device.name().unwrap_or_else(|_| "NVIDIA GPU".to_owned());
                    activity.enter("nvmlDeviceGetPciInfo_v3");
                    let whole = Description {
                        index,
                        name,
                        pci: match device.pci_info() {
                            Ok(pci) => Reading::Value(pci.bus_id),
                            Err(error) => Reading::Unavailable(fault::at_call(&error, "nvmlDeviceGetPciInfo_v3")),
                        },
                        driver_version: driver.clone(),
                        parent: None,
                        uuid,
                    };
                    let instances = mig::instances(nvml, &device, &whole.name, activity);
                    let uuids = |of: &Vec<Instance<'_>>| of.iter().map(|instance| instance.uuid.clone()).collect();
                    let part = instances.as_ref().map_or(Part::Whole, |instances| Part::Cut(uuids(instances)));
                    let gpm = Gpm::open(nvml, &device, None, activity);
                    let instances = instances.into_iter().flatten().map(|instance| {
                        let of_it = |id: u32| Gpm::open(nvml, &device, Some(id), activity);
                        let gpm = instance.number.clone().and_then(of_it);
                        (instance, gpm)
                    });
                    let instances: Vec<_> = instances.collect();
                    let above = whole.pci.as_value().and_then(|bus_id| Port::above(&context.pci_devices, bus_id));
                    devices.push(Held::new(scheme, device, &whole.uuid, part, gpm, above));
                    inventory.push(whole.clone());
                    for (Instance { device, uuid, name, .. }, gpm) in instances {
                        devices.push(Held::new(scheme, device, &uuid, Part::Instance, gpm, None));
                        inventory.push(Description { parent: Some(whole.uuid.clone()), uuid, name, ..whole.clone() });
                    }
                }
                Err(error) => failed.push((index, error)),
            }
        }
        let others = !devices.is_empty();
        let refused: Vec<_> = failed
            .iter()
            .map(|(index, error)| {
                let Failure { reason, sign } = fault::at_open(error, context, others);
                Refused { index: *index, reason, sign }
            })
            .collect();
        // In a container one that nobody has seen yet may be another's.
        let is_ours = |sign: Sign| matches!(sign, Sign::Device(_)) || !context.in_container;
        let has_missing = refused.iter().any(|refused| refused.sign.is_some_and(is_ours));
        if devices.is_empty() {
            let of_worst = |Refused { reason, sign, .. }: Refused| Failure { reason, sign };
            let worst = refused.into_iter().max_by_key(|refused| refused.sign.is_some());
            return Err(worst.map_or_else(|| fault::no_device(context).into(), of_worst));
        }
        let events = xids::listen(nvml, &mut devices, activity);
        let round_due_ns = devices.iter().any(|held: &Held<'nvml>| held.gpm.is_ok()).then(monotonic_ns);
        let inventory = Some(inventory);
        let pace = Pace::default();
        let allowed_ns = 0;
        Ok(Self {
            context,
            activity,
            permit,
            nvml,
            layout,
            devices,
            events,
            is_to_listen_anew: false,
            inventory,
            refused,
            has_missing,
            count_gone: None,
            pace,
            round_due_ns,
            allowed_ns,
            was_late: false,
        })
    }

    /// Answers `first` and what comes after it.
    pub(super) fn serve(
        mut self,
        first: Option<Request>,
        requests: &Receiver<Message>,
        reports: &SyncSender<Report>,
        retry: &mut Retry,
        revival: &mut Retry,
        plugged: &mut Plugged<'_>,
    ) -> End {
        let mut next = first.map(Message::Sample);
        let mut at = Stamp::default();
        loop {
            let request = match next.take().or_else(|| self.wait(requests)) {
                Some(Message::Sample(request)) => Some(request),
                Some(Message::Wake) => {
                    self.permit.woke();
                    None
                }
                None => return End::Closed,
            };
            if self.permit.must_close() {
                // Before that may take long: whoever asks is told at once.
                if request.is_some_and(|request| !refuse_released(reports, request.report)) {
                    return End::Closed;
                }
                return End::Released(self.leave(at));
            }
            let Some(request) = request else { continue };
            at = request.at;
            let (report, lost) = self.answer(request);
            let is_ailing = self.has_missing || report.devices.iter().any(|readings| readings.fault.is_some());
            if !send(reports, report) {
                return End::Closed;
            }
            if let Some(lost) = lost {
                return End::Lost(at, lost);
            }
            // Only now: a driver that initialises and then fails must not be initialised over and over.
            retry.succeeded();
            if self.permit.must_close() {
                return End::Released(self.leave(at));
            }
            self.look_at_partitions(at);
            if plugged.has_changed(at) {
                return End::Ailing(self.leave(at));
            }
            match (is_ailing, revival.is_waiting()) {
                (false, _) => revival.succeeded(),
                // It may have been a moment's.
                (true, false) => revival.failed(at),
                (true, true) if revival.is_due(at) => {
                    revival.failed(at);
                    return End::Ailing(self.leave(at));
                }
                (true, true) => {}
            }
        }
    }

    fn answer(&mut self, request: Request) -> (Report, Option<Failure>) {
        let began_ns = monotonic_ns();
        let mut report = request.report;
        // A new session has new devices: what is kept from the last one's is not theirs.
        let new = self.inventory.is_some();
        if new {
            report.devices.clear();
        }
        report.devices.resize_with(self.devices.len(), DeviceReadings::unread);
        for (held, into) in self.devices.iter().zip(&mut report.devices) {
            if new && held.part == Part::Instance {
                *into = DeviceReadings::absent(&mig::OF_THE_WHOLE);
            }
        }
        report.inventory = self.inventory.take();
        if new {
            report.refused.clone_from(&self.refused);
        }
        (report.failure, report.is_released) = (None, false);
        self.allowed_ns = request.allowed_ns;
        // First of all, while the slot that ends with the tick has only just ended.
        self.round();
        report.stretched = (self.round_due_ns.is_some() && self.pace.is_stretched())
            || self.devices.iter().any(|held| held.past.link.is_resting());
        // Slots are those of the tick that ended on the last whole second.
        let end_ns = request.at.mono_ns / (SLOTS as u64 * SLOT_NS) * (SLOTS as u64 * SLOT_NS);
        self.read_xids(&mut report.devices);
        let mut tally = Tally::default();
        // What was told to a request that nobody waited for is not told again.
        let fresh_ns = if self.was_late { 0 } else { (2 * self.pace.period_ns()).max(FRESH_NS) };
        for (held, into) in self.devices.iter_mut().zip(&mut report.devices) {
            self.activity.turn_to(Some(&held.past.uuid));
            let (device, part) = (&held.device, &held.part);
            let mut reader = Reader { device, activity: self.activity, tally: &mut tally, part };
            if held.past.is_lost {
                if let Some(reason) = reader.is_lost() {
                    into.lose(&reason);
                    into.fault = tally.take_fault(&mut held.past.unanswered);
                    continue;
                }
                held.past.forget();
                self.is_to_listen_anew |= held.deaf.is_some();
            }
            into.at_ns = request.at.mono_ns;
            // Of an instance there are none, which is told at once.
            (into.slow_is_new, into.processes_are_new) = (new && *part == Part::Instance, false);
            if *part == Part::Instance {
                reader.read_memory(into);
            } else {
                reader.read_fast(into);
                // One that may be slow is looked at all the time: it may be awake when the device is next busy.
                if request.at.mono_ns >= held.past.link_due_ns || into.link.may_be_slow() {
                    into.link.read(&mut reader);
                    held.past.link_due_ns = request.at.mono_ns.saturating_add(LINK_EVERY_NS);
                }
                held.past.meter.read(&mut reader, into);
                into.fields_ns = monotonic_ns();
                reader.read_fields(self.nvml, &mut held.fast, &held.past.link, into);
                held.past.link.add_of_tick(into);
                // Of a GPU that is cut into instances it is not told.
                if held.gpm.is_err() && *part == Part::Whole {
                    held.past.samples.read(&mut reader, self.nvml, request.at);
                }
            }
            held.tell_units(request.at, end_ns, fresh_ns, into);
            held.past.link.tell(&mut into.link_reads);
            let moved = held.past.traffic.told();
            // Links are the whole device's.
            into.moved = if held.part == Part::Instance { [None; RATES.len()] } else { moved };
            into.fault = tally.take_fault_of_all(&mut held.past.unanswered);
            held.past.is_lost = into.fault == Some(DeviceFault::Lost);
        }
        let pass = Pass { at: request.at, began_ns, may_take: self.context.budget / 2, is_first: new };
        self.read_limits(&pass, &mut report.devices, &mut tally);
        self.read_processes(&pass, &mut report.devices, &mut tally);
        self.choose_links(&report.devices);
        if tally.is_instance_gone {
            // At once, and not when it is its turn.
            let whole = self.devices.iter_mut().filter(|held| held.part != Part::Instance);
            whole.for_each(|held| held.is_to_be_looked_at = true);
        }
        let lost = tally.end_of_session(self.context);
        report.failure.clone_from(&lost);
        self.was_late = monotonic_ns().saturating_sub(request.sent_ns) >= SLOTS as u64 * SLOT_NS;
        report.took_ns = monotonic_ns().saturating_sub(if new { began_ns } else { request.sent_ns });
        (report, lost)
    }

    /// Reads what changes seldom, of the devices whose turn it is.
    fn read_limits(&mut self, pass: &Pass, into: &mut [DeviceReadings], tally: &mut Tally) {
        let (nvml, activity) = (self.nvml, self.activity);
        let turn = Held::turn_of_limits;
        pass.each(&mut self.devices, LIMITS_AT_ONCE, LIMITS_EVERY_NS, turn, |at, held| {
            activity.turn_to(Some(&held.past.uuid));
            let (device, part, into) = (&held.device, &held.part, &mut into[at]);
            let mut reader = Reader { device, activity, tally: &mut *tally, part };
            reader.read_limits(&mut held.above, into);
            reader.read_fields(nvml, &mut held.slow, &held.past.link, into);
            into.slow_is_new = true;
            into.fault = tally.take_fault(&mut held.past.unanswered).or(into.fault);
            // When the answer was sent.
            held.is_to_be_looked_at = !pass.is_first;
        });
    }

    /// Reads who uses the devices, of those whose turn it is.
    fn read_processes(&mut self, pass: &Pass, into: &mut [DeviceReadings], tally: &mut Tally) {
        let (nvml, activity, context, layout) = (self.nvml, self.activity, self.context, self.layout);
        let at_once = self.devices.len().div_ceil(2);
        let turn = Held::turn_of_processes;
        pass.each(&mut self.devices, at_once, PROCESSES_EVERY_NS, turn, |at, held| {
            activity.turn_to(Some(&held.past.uuid));
            let (device, part, into) = (&held.device, &held.part, &mut into[at]);
            if *part == Part::Instance && !mig::is_same(nvml, device, &held.past.uuid, activity) {
                into.lose(&mig::GONE);
                tally.is_instance_gone = true;
                return;
            }
            let mut reader = Reader { device, activity, tally: &mut *tally, part };
            held.past.tenants.read(&mut reader, layout, context, pass.at, into);
            into.processes_are_new = true;
            into.fault = tally.take_fault(&mut held.past.unanswered).or(into.fault);
        });
    }

    /// Begins anew with the devices where a GPU is cut into other instances than before; the next answer tells of them.
    fn look_at_partitions(&mut self, at: Stamp) {
        let mut is_cut_anew = false;
        for held in self.devices.iter_mut().filter(|held| held.is_to_be_looked_at) {
            held.is_to_be_looked_at = false;
            self.activity.turn_to(Some(&held.past.uuid));
            is_cut_anew |= mig::has_changed(&held.device, &held.part, self.activity);
        }
        if is_cut_anew && let Ok(session) = Self::open(self.nvml, self.context, self.activity, self.permit) {
            // Only now: an error that comes meanwhile is in the old set of events or in the new one.
            let kept = std::mem::replace(self, session).leave(at);
            self.take_over(kept);
        }
    }

    /// Ends, with what is known of the devices.
    fn leave(mut self, at: Stamp) -> Kept {
        let mut last: Vec<_> = self.devices.iter().map(|_| DeviceReadings::unread()).collect();
        self.read_xids(&mut last);
        let with_xids = |(held, last): (Held<'_>, DeviceReadings)| Past {
            xids: last.xids.value().unwrap_or_default(),
            ..held.past
        };
        let devices = self.devices.into_iter().zip(last).map(with_xids).collect();
        Kept {
            at,
            devices,
            refused: self.refused,
            has_missing: self.has_missing,
            count_gone: self.count_gone,
            pace: self.pace,
            allowed_ns: self.allowed_ns,
            is_old: false,
        }
    }

    /// Goes on where another session ended. Where the devices are the same as then, nobody is told of it.
    pub(super) fn take_over(&mut self, mut from: Kept) {
        let is_same = |held: &Held<'_>, past: &Past| held.past.uuid == past.uuid;
        let are_same = self.devices.len() == from.devices.len()
            && self.devices.iter().zip(&from.devices).all(|(held, past)| is_same(held, past));
        // One that was there, or was looked for, is looked for on.
        let was_there = from.has_missing || from.devices.len() > self.devices.len();
        let is_refused = self.refused.iter().any(|refused| refused.sign.is_some());
        let is_there = |past: &Past| self.devices.iter().any(|held| is_same(held, past));
        let is_gone = from.devices.iter().any(|past| past.is_lost && !is_there(past));
        self.count_gone = if is_gone { Some(self.devices.len()) } else { from.count_gone };
        // As many as then: it is not back.
        let is_not_back = self.count_gone.is_some_and(|count| self.devices.len() <= count);
        self.count_gone = self.count_gone.filter(|_| is_not_back);
        self.has_missing |= (was_there && is_refused) || is_not_back;
        if are_same && self.refused == from.refused && !from.is_old {
            self.inventory = None;
        }
        for held in &mut self.devices {
            if let Some(at) = from.devices.iter().position(|past| is_same(held, past)) {
                held.past = from.devices.swap_remove(at);
                if !are_same || from.is_old {
                    held.past.forget();
                }
                if from.is_old {
                    // What its units and its processes did then is long past.
                    let _ = held.past.spans.told();
                    held.past.tenants.begin_anew();
                }
            }
        }
        (self.pace, self.allowed_ns) = (from.pace, from.allowed_ns);
    }
}
