//! The probe's side of the NVML thread: asks, waits no longer than its budget, and puts what came into the sample.

mod released;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError};

use perfwatch_model::metrics::gpu;
use perfwatch_model::tick::{SLOT_NS, SLOTS};
use perfwatch_model::{Entity, EntityId, EntityKind, GpuSlot, MetricDef, Reading, Reason, Sample, Stamp};

use super::activity::Activity;
use super::clock::monotonic_ns;
use super::exchange::{Description, Failure, Message, Refused, Report, Request};
use super::fault;
use super::grip::NvmlGrip;
use super::health::{self, Sign};
use super::overdue::{Known, Overdue, TICK_NS, of_known};
use super::permit::Permit;
use super::readings::{DeviceFault, DeviceReadings, NOT_READ};
use super::sampler;
use super::series::DeviceSeries;
use crate::Probe;
use crate::gpu::{GpuContext, GpuDevice, GpuProbe, Grip, Sharing};

/// An answer that is late weighs as much as two that are not: a driver may be late in each second sample alone, when lists
/// of processes are read, and is expected to be. After one that was late by itself a single sample is a second old.
const LATE: u32 = 2;
/// So far it goes: what has been does not count for long.
const LATEST: u32 = 4;
/// Ticks come a little early or late.
const JITTER_NS: u64 = TICK_NS / 2;

/// NVIDIA's GPUs, sampled.
pub(crate) struct NvidiaProbe {
    context: GpuContext,
    activity: Activity,
    permit: Arc<Permit>,
    requests: Option<Arc<SyncSender<Message>>>,
    reports: Receiver<Report>,
    overdue: Option<Overdue>,
    /// How long the last answer took that came too late, as long as the next are expected to.
    slow_ns: Option<u64>,
    /// How late answers have been: up by [`LATE`] with each that was, down by one with each that was not.
    lateness: u32,
    /// How long it took, where that was longer than a tick: then there is no reading that could be told.
    too_slow_ns: Option<u64>,
    /// Why the driver showed no device when it was last begun with; the last answer had none.
    failed: Option<Failure>,
    /// When it gave the last answer that could be used, as long as none is given.
    silent_since: Option<Stamp>,
    /// Since when the driver is to be let go of, as long as it is open still.
    letting_go_since: Option<Stamp>,
    /// The report's buffers, while the thread does not have them.
    spare: Report,
    /// CPU time of the thread, as of its last answer.
    thread_cpu_ns: u64,
    /// CPU time that it may use between two answers, in a second.
    allowed_ns: u64,
    stretched: bool,
    /// Those that answer, then those that the driver could not open any more.
    devices: Vec<GpuDevice>,
    series: Vec<DeviceSeries>,
    /// The driver's number of each.
    indices: Vec<u32>,
    /// Those that it could not.
    refused: Vec<Refused>,
    /// What is wrong with those among them that were never seen, if there are any.
    unseen: Option<(Reason, Sign)>,
}

impl NvidiaProbe {
    /// Starts the NVML thread. It is never joined: it may be in a call that does not return.
    pub(crate) fn start(context: GpuContext) -> Self {
        // There is one question at a time, and one message beside it that asks nothing; and one answer to the question. A place
        // that is kept costs no allocation.
        let (requests, asked) = mpsc::sync_channel(2);
        let (answers, reports) = mpsc::sync_channel(1);
        let (activity, permit) = (Activity::default(), Arc::new(Permit::default()));
        // It is the first thing that the thread does, whenever it comes to that.
        activity.start(sampler::INITIALISE);
        let (theirs, settings, needed) = (activity.clone(), context.clone(), Arc::clone(&permit));
        let thread = std::thread::Builder::new()
            .name("perfwatch-nvml".into())
            .spawn(move || sampler::run(&asked, &answers, &settings, &theirs, &needed));
        Self {
            context,
            activity,
            permit,
            requests: thread.is_ok().then(|| Arc::new(requests)),
            reports,
            overdue: None,
            slow_ns: None,
            lateness: 0,
            too_slow_ns: None,
            silent_since: None,
            letting_go_since: None,
            failed: None,
            spare: Report::default(),
            thread_cpu_ns: 0,
            allowed_ns: u64::MAX,
            stretched: false,
            devices: Vec::new(),
            series: Vec::new(),
            indices: Vec::new(),
            refused: Vec::new(),
            unseen: None,
        }
    }

    fn known(&self) -> Known {
        Known { failed: self.failed.clone(), took_ns: self.too_slow_ns }
    }

    /// The answer that the thread owes, if it has come and tells anything of this sample; or why it has not come.
    fn owed(&mut self, now: Stamp, out: &mut Sample<'_>) -> Result<Option<Report>, Failure> {
        let known = self.known();
        if let Some(overdue) = &mut self.overdue {
            match self.reports.try_recv() {
                Ok(late) => {
                    let sent_ns = overdue.sent_ns;
                    self.overdue = None;
                    return Ok(self.take_late(late, sent_ns, out));
                }
                Err(TryRecvError::Empty) => {
                    let doing = self.activity.doing();
                    let is_no_more_slow = overdue.is_slow && overdue.is_silent();
                    if is_no_more_slow || overdue.is_starting || (!overdue.is_slow && overdue.doing != doing) {
                        *overdue = Overdue::silent(overdue.asked, overdue.sent_ns, now, doing, known);
                    }
                    overdue.miss();
                    return Err(overdue.of_machine());
                }
                Err(TryRecvError::Disconnected) => return Err(fault::NO_THREAD.into()),
            }
        }
        Ok(None)
    }

    /// One question to the thread and its answer, or why there is none.
    fn ask(&mut self, now: Stamp, out: &mut Sample<'_>) -> Result<Report, Failure> {
        if let Some(report) = self.owed(now, out)? {
            return Ok(report);
        }
        let sent_ns = self.send(now)?;
        match self.reports.recv_timeout(self.context.budget) {
            Ok(report) if report.is_released => Ok(report),
            Ok(mut report) => {
                (self.slow_ns, self.too_slow_ns, self.silent_since) = (None, None, None);
                self.lateness = self.lateness.saturating_sub(1);
                self.take_state(&mut report, out);
                self.failed = report.failure.take();
                let Some(failure) = self.failed.clone() else { return Ok(report) };
                // The error that ended the session may be told in its last answer, and is told once.
                self.take_seldom(&mut report, out);
                self.spare = report;
                Err(failure)
            }
            Err(RecvTimeoutError::Timeout) => {
                let doing = self.activity.doing();
                let overdue = if let Some(took_ns) = self.slow_ns {
                    Overdue::slow(now, sent_ns, doing, took_ns)
                } else {
                    let since = *self.silent_since.get_or_insert(now);
                    Overdue::silent(since, sent_ns, now, doing, self.known())
                };
                let failure = overdue.of_machine();
                self.overdue = Some(overdue);
                Err(failure)
            }
            Err(RecvTimeoutError::Disconnected) => Err(fault::NO_THREAD.into()),
        }
    }

    /// Sends a question to the thread, which answers whenever it can; says when, by `CLOCK_MONOTONIC`.
    fn send(&mut self, now: Stamp) -> Result<u64, Reason> {
        let (allowed_ns, report, sent_ns) = (self.allowed_ns, std::mem::take(&mut self.spare), monotonic_ns());
        let request = Request { at: now, sent_ns, allowed_ns, report };
        let request = Message::Sample(request);
        self.requests.as_ref().and_then(|requests| requests.send(request).ok()).ok_or(fault::NO_THREAD)?;
        Ok(sent_ns)
    }

    /// Asks a slow driver for the next sample, and does not wait: so there is one each second, of the second before.
    fn ask_ahead(&mut self, now: Stamp) {
        if let Some(took_ns) = self.slow_ns
            && let Ok(sent_ns) = self.send(now)
        {
            self.overdue = Some(Overdue::slow(now, sent_ns, self.activity.doing(), took_ns));
        }
    }

    /// Takes an answer that came too late for its own sample. It is handed back where it came before the next one: then it is all
    /// that a slow driver has. Else its numbers are of a time long past, and what does not change from second to second holds.
    fn take_late(&mut self, mut late: Report, sent_ns: u64, out: &mut Sample<'_>) -> Option<Report> {
        if late.is_released {
            self.spare = late;
            return None;
        }
        let budget_ns = u64::try_from(self.context.budget.as_nanos()).unwrap_or(u64::MAX);
        // An answer that is older than a tick is of no use: who takes that long each time does not answer.
        if (budget_ns..TICK_NS).contains(&late.took_ns) {
            self.slow_ns = Some(late.took_ns);
            self.lateness = (self.lateness + LATE).min(LATEST);
        } else if late.took_ns < budget_ns {
            self.lateness = self.lateness.saturating_sub(1);
            self.slow_ns = self.slow_ns.filter(|_| self.lateness >= LATE);
        } else {
            self.slow_ns = None;
        }
        self.too_slow_ns = Some(late.took_ns).filter(|took_ns| *took_ns >= TICK_NS);
        self.take_state(&mut late, out);
        // Ticks may be late as well.
        let is_recent = late.took_ns < TICK_NS && monotonic_ns().saturating_sub(sent_ns) < TICK_NS + JITTER_NS;
        self.failed.clone_from(&late.failure);
        if is_recent && late.failure.is_none() {
            // Those of the tick before.
            late.devices.iter_mut().for_each(|readings| readings.slots = [GpuSlot::default(); SLOTS]);
            self.silent_since = None;
            return Some(late);
        }
        self.take_seldom(&mut late, out);
        self.spare = late;
        None
    }

    /// What an answer says of the devices as a whole and of the thread.
    fn take_state(&mut self, report: &mut Report, out: &mut Sample<'_>) {
        if let Some(inventory) = report.inventory.take() {
            self.adopt(inventory, std::mem::take(&mut report.refused), out);
        }
        self.thread_cpu_ns = report.cpu_ns;
        self.stretched = report.stretched;
    }

    /// Takes what is told once or seldom, of an answer that is not published.
    fn take_seldom(&mut self, report: &mut Report, out: &mut Sample<'_>) {
        let known = self.series.iter_mut().zip(&mut self.devices);
        for ((series, device), readings) in known.zip(&mut report.devices) {
            series.count_xids(&readings.xids, out);
            series.count_traffic(readings);
            series.count_link(readings);
            series.count_seldom(readings);
            take_processes(device, readings);
        }
    }

    /// Takes over a new list of devices; those that are gone retire with their series. One that was lost stays, and where the driver
    /// could not open one that is there, those that are missing are taken for it: a dead GPU must not vanish from sight. An instance is not there
    /// where its GPU is, and is not on it.
    fn adopt(&mut self, inventory: Vec<Description>, refused: Vec<Refused>, out: &mut Sample<'_>) {
        self.refused = refused;
        let mut known = std::mem::take(&mut self.series);
        let before = std::mem::take(&mut self.devices).into_iter().zip(std::mem::take(&mut self.indices));
        let is_there = |uuid: &str| inventory.iter().any(|now| now.uuid == uuid);
        let mut missing: Vec<_> = before.filter(|(device, _)| !is_there(&device.uuid)).collect();
        let is_lost = |of: EntityId| known.iter().any(|series| series.entity == of && series.is_lost());
        missing.retain(|(device, _)| {
            let is_missed = !self.refused.is_empty() || is_lost(device.entity);
            let stays = is_missed && device.parent.as_deref().is_none_or(|parent| !is_there(parent));
            if !stays {
                out.table().retire(device.entity);
            }
            stays
        });
        self.unseen = self.find_unseen(&missing);
        for description in inventory {
            let entity = out.entity(entity(&description));
            // The index may move from one initialisation to the next; the UUID does not.
            let kept = known.iter().position(|series| series.entity == entity).map(|at| known.swap_remove(at));
            self.series.push(kept.unwrap_or_else(|| DeviceSeries::intern(entity, out)));
            self.indices.push(description.index);
            self.devices.push(GpuDevice {
                entity,
                uuid: description.uuid,
                parent: description.parent,
                name: description.name,
                pci: description.pci,
                driver_version: description.driver_version,
                slots: [GpuSlot::default(); SLOTS],
                processes: Reading::Unavailable(NOT_READ),
                may_have_others: !self.context.host_pids,
                sharing: Sharing::Unknown,
            });
        }
        for (device, index) in missing {
            let kept = known.iter().position(|series| series.entity == device.entity).map(|at| known.swap_remove(at));
            self.series.push(kept.unwrap_or_else(|| DeviceSeries::intern(device.entity, out)));
            self.indices.push(index);
            self.devices.push(device);
        }
    }

    /// Devices that could not be opened ever since the agent began have no name that anything could be told of, and are the machine's.
    /// In a container one that nothing was ever seen of may be another's.
    fn find_unseen(&self, missing: &[(GpuDevice, u32)]) -> Option<(Reason, Sign)> {
        let surplus = self.refused.len().saturating_sub(missing.len());
        let strangers = self.refused.iter().filter(|refused| missing.iter().all(|(_, index)| *index != refused.index));
        let is_told = |sign: &Sign| matches!(sign, Sign::Device(_)) || !self.context.in_container;
        let mut told = strangers.take(surplus).filter_map(|refused| Some((refused, refused.sign.filter(is_told)?)));
        let (Refused { index, reason, .. }, sign) = told.next()?;
        let more = match told.count() {
            0 => String::new(),
            more => format!(", and so it is with {more} more"),
        };
        let text = format!("GPU {index} cannot be opened: {}{more}", reason.text);
        Some((Reason { text: text.into(), ..reason.clone() }, sign))
    }

    /// Tells of the machine what is wrong with GPUs that were never seen, beside those that are.
    fn report_unseen(&self, out: &mut Sample<'_>) {
        if let Some((reason, sign)) = &self.unseen {
            out.unavailable(&gpu::UTILIZATION, self.context.host, reason.clone());
            health::publish_of_machine(*sign, self.context.host, out);
        }
    }

    /// What is known of the devices that the driver could not open.
    fn report_refused(&mut self, answered: usize, out: &mut Sample<'_>) {
        let known = self.devices.iter_mut().zip(&mut self.series).zip(&self.indices);
        for ((device, series), index) in known.skip(answered) {
            // Numbers may have moved; then it is one of those that there are.
            let by_index = self.refused.iter().find(|refused| refused.index == *index);
            let (reason, sign) = match by_index.or(self.refused.first()) {
                Some(Refused { reason, sign, .. }) => (reason, *sign),
                None => (&fault::LOST_FROM_SIGHT, Some(Sign::Device(DeviceFault::Lost))),
            };
            (device.processes, device.sharing) = (Reading::Unavailable(reason.clone()), Sharing::Unknown);
            device.slots = [GpuSlot::default(); SLOTS];
            report_missing(device.entity, reason, out);
            series.publish_only(sign, out);
        }
    }

    /// Says of every metric, of every device known or else of the machine, why it is missing.
    fn report_absence(&mut self, failure: &Failure, out: &mut Sample<'_>) {
        for (device, series) in self.devices.iter_mut().zip(&mut self.series) {
            let (reason, sign) = match &self.overdue {
                Some(overdue) => overdue.of(device),
                None => (&failure.reason, Some(of_known(failure))),
            };
            device.slots = [GpuSlot::default(); SLOTS];
            if self.overdue.as_ref().is_none_or(|overdue| !overdue.is_slow) {
                (device.processes, device.sharing) = (Reading::Unavailable(reason.clone()), Sharing::Unknown);
            }
            report_missing(device.entity, reason, out);
            series.publish_only(sign, out);
        }
        if self.series.is_empty() {
            self.report_absence_of_machine(failure, out);
        }
    }

    /// The same of the machine, where no device is known.
    fn report_absence_of_machine(&self, failure: &Failure, out: &mut Sample<'_>) {
        let Failure { reason, sign } = failure;
        report_missing(self.context.host, reason, out);
        let is_told = |metric: &MetricDef| sign.is_some() && metric.name == gpu::FAULT.name;
        for metric in [&gpu::FAULT, &gpu::STATUS, &gpu::XIDS].into_iter().filter(|metric| !is_told(metric)) {
            out.unavailable(metric, self.context.host, reason.clone());
        }
        if let Some(sign) = sign {
            health::publish_of_machine(*sign, self.context.host, out);
        }
    }
}

impl Probe for NvidiaProbe {
    fn sample(&mut self, now: Stamp, out: &mut Sample<'_>) {
        if self.permit.withdrawn(now).is_some() {
            self.sample_released(now, out);
            return;
        }
        self.letting_go_since = None;
        match self.ask(now, out) {
            // Just now.
            Ok(report) if report.is_released => {
                self.spare = report;
                self.report_released(now, out);
            }
            Ok(mut report) => {
                let end_ns = now.mono_ns / (SLOTS as u64 * SLOT_NS) * (SLOTS as u64 * SLOT_NS);
                let known = self.series.iter_mut().zip(&mut self.devices);
                for ((series, device), readings) in known.zip(&mut report.devices) {
                    series.publish(readings, out);
                    device.slots = readings.slots;
                    series.lay_link(end_ns, &mut device.slots);
                    readings.link_reads.are_short = series.has_short_link();
                    take_processes(device, readings);
                }
                self.report_refused(report.devices.len(), out);
                self.report_unseen(out);
                self.spare = report;
                self.ask_ahead(now);
            }
            Err(failure) => self.report_absence(&failure, out),
        }
    }

    fn own_threads_cpu_ns(&self) -> u64 {
        self.thread_cpu_ns
    }
}

impl GpuProbe for NvidiaProbe {
    fn devices(&self) -> &[GpuDevice] {
        &self.devices
    }

    fn allow(&mut self, cpu_ns_per_s: u64) {
        self.allowed_ns = cpu_ns_per_s;
    }

    fn is_stretched(&self) -> bool {
        // A second old is less than there could be, too.
        self.stretched || self.slow_ns.is_some()
    }

    fn grip(&self) -> Arc<dyn Grip> {
        let requests = self.requests.as_ref().map(Arc::downgrade).unwrap_or_default();
        let (permit, activity, budget) = (Arc::clone(&self.permit), self.activity.clone(), self.context.budget);
        Arc::new(NvmlGrip { permit, activity, requests, budget })
    }
}

/// What the agent counts itself stays true, and of a device that does not answer its faults are known.
fn report_missing(entity: EntityId, reason: &Reason, out: &mut Sample<'_>) {
    for metric in gpu::ALL.iter().filter(|metric| !health::is_told_regardless(metric)) {
        out.unavailable(metric, entity, reason.clone());
    }
}

fn take_processes(device: &mut GpuDevice, readings: &mut DeviceReadings) {
    if readings.processes_are_new {
        // What is handed back is filled again.
        std::mem::swap(&mut device.processes, &mut readings.processes);
        device.sharing = readings.sharing;
    }
}

fn entity(description: &Description) -> Entity {
    let mut entity = Entity::new(EntityKind::Gpu, description.uuid.clone())
        .with("hw.id", description.uuid.clone())
        .with("hw.name", description.name.clone())
        .with("hw.vendor", "nvidia");
    if let Some(parent) = &description.parent {
        entity = entity.with("hw.parent", parent.clone());
    }
    if let Reading::Value(version) = &description.driver_version {
        entity = entity.with("hw.driver_version", version.clone());
    }
    entity
}
