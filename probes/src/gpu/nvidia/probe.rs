//! The probe's side of the NVML thread: asks, waits no longer than its budget, and puts what came into the sample.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};

use perfwatch_model::metrics::gpu;
use perfwatch_model::{Entity, EntityKind, Reading, Reason, Sample, Stamp};

use super::activity::Activity;
use super::fault;
use super::readings::DeviceFault;
use super::sampler::{self, Description, Report, Request};
use super::series::{DeviceSeries, Sign};
use crate::Probe;
use crate::gpu::{GpuContext, GpuDevice, GpuProbe};

/// Process lists cost more than all other readings together, and change when models are loaded.
const PROCESSES_EVERY_NS: u64 = 2_000_000_000;
/// Limits change when somebody sets them.
const LIMITS_EVERY_NS: u64 = 30_000_000_000;

/// NVIDIA's GPUs, sampled.
pub(crate) struct NvidiaProbe {
    context: GpuContext,
    activity: Activity,
    requests: Option<Sender<Request>>,
    reports: Receiver<Report>,
    /// Why there is nothing to read, while the thread owes an answer to a request that was given up on.
    overdue: Option<Reason>,
    /// The report's buffers, while the thread does not have them.
    spare: Report,
    /// CPU time of the thread, as of its last answer.
    thread_cpu_ns: u64,
    processes_due_ns: u64,
    limits_due_ns: u64,
    /// Those that answer, then those that the driver could not open any more.
    devices: Vec<GpuDevice>,
    series: Vec<DeviceSeries>,
    /// Why it could not.
    refused: Option<Reason>,
}

impl NvidiaProbe {
    /// Starts the NVML thread. It is never joined: it may be in a call that does not return.
    pub(crate) fn start(context: GpuContext) -> Self {
        let (requests, asked) = mpsc::channel();
        let (answers, reports) = mpsc::channel();
        let activity = Activity::default();
        let (theirs, settings) = (activity.clone(), context.clone());
        let thread = std::thread::Builder::new()
            .name("perfwatch-nvml".into())
            .spawn(move || sampler::run(&asked, &answers, &settings, &theirs));
        Self {
            context,
            activity,
            requests: thread.is_ok().then_some(requests),
            reports,
            overdue: None,
            spare: Report::default(),
            thread_cpu_ns: 0,
            processes_due_ns: 0,
            limits_due_ns: 0,
            devices: Vec::new(),
            series: Vec::new(),
            refused: None,
        }
    }

    /// One question to the thread and its answer, or why there is none.
    fn ask(&mut self, now: Stamp, out: &mut Sample<'_>) -> Result<Report, Reason> {
        if let Some(reason) = &self.overdue {
            match self.reports.try_recv() {
                Ok(mut late) => {
                    // Its numbers are of a time long past; the list of devices still holds.
                    self.adopt(late.inventory.take(), late.refused.take(), out);
                    self.count_xids(&late, out);
                    self.thread_cpu_ns = late.cpu_ns;
                    self.spare = late;
                    self.overdue = None;
                }
                Err(TryRecvError::Empty) => return Err(reason.clone()),
                Err(TryRecvError::Disconnected) => return Err(fault::NO_THREAD),
            }
        }
        let (processes, limits) = (now.mono_ns >= self.processes_due_ns, now.mono_ns >= self.limits_due_ns);
        let request = Request { at: now, processes, limits, report: std::mem::take(&mut self.spare) };
        self.requests.as_ref().and_then(|requests| requests.send(request).ok()).ok_or(fault::NO_THREAD)?;
        match self.reports.recv_timeout(self.context.budget) {
            Ok(mut report) => {
                self.adopt(report.inventory.take(), report.refused.take(), out);
                self.thread_cpu_ns = report.cpu_ns;
                if processes {
                    self.processes_due_ns = now.mono_ns.saturating_add(PROCESSES_EVERY_NS);
                }
                if limits {
                    self.limits_due_ns = now.mono_ns.saturating_add(LIMITS_EVERY_NS);
                }
                match report.failure.take() {
                    Some(reason) => {
                        // The error that ended the session may be told in its last answer, and is told once.
                        self.count_xids(&report, out);
                        self.spare = report;
                        Err(reason)
                    }
                    None => Ok(report),
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                let reason = unresponsive(now, self.activity.call());
                self.overdue = Some(reason.clone());
                Err(reason)
            }
            Err(RecvTimeoutError::Disconnected) => Err(fault::NO_THREAD),
        }
    }

    fn count_xids(&mut self, report: &Report, out: &mut Sample<'_>) {
        for (series, readings) in self.series.iter_mut().zip(&report.devices) {
            series.count_xids(&readings.xids, out);
        }
    }

    /// Takes over a new list of devices; those that are gone retire with their series. Where the driver could not open one that
    /// is there, those that are missing are taken for it and stay: a dead GPU must not vanish from sight.
    fn adopt(&mut self, inventory: Option<Vec<Description>>, refused: Option<Reason>, out: &mut Sample<'_>) {
        let Some(inventory) = inventory else { return };
        self.refused = refused;
        let mut known = std::mem::take(&mut self.series);
        let mut missing = std::mem::take(&mut self.devices);
        missing.retain(|device| inventory.iter().all(|now| now.uuid != device.uuid));
        if self.refused.is_none() {
            missing.drain(..).for_each(|device| out.table().retire(device.entity));
        }
        for description in inventory {
            let entity = out.entity(entity(&description));
            // The index may move from one initialisation to the next; the UUID does not.
            let kept = known.iter().position(|series| series.entity == entity).map(|at| known.swap_remove(at));
            self.series.push(kept.unwrap_or_else(|| DeviceSeries::intern(entity, out)));
            self.devices.push(GpuDevice {
                entity,
                uuid: description.uuid,
                name: description.name,
                pci: description.pci,
                driver_version: description.driver_version,
                processes: Reading::Unavailable(Reason::fixed("not read yet", "")),
            });
        }
        for device in missing {
            let kept = known.iter().position(|series| series.entity == device.entity).map(|at| known.swap_remove(at));
            self.series.push(kept.unwrap_or_else(|| DeviceSeries::intern(device.entity, out)));
            self.devices.push(device);
        }
    }

    /// What is known of the devices that the driver could not open.
    fn report_refused(&mut self, answered: usize, out: &mut Sample<'_>) {
        let Some(reason) = &self.refused else { return };
        for (device, series) in self.devices.iter_mut().zip(&self.series).skip(answered) {
            device.processes = Reading::Unavailable(reason.clone());
            for metric in gpu::ALL.iter().filter(|metric| ![gpu::FAULT.name, gpu::XIDS.name].contains(&metric.name)) {
                out.unavailable(metric, device.entity, reason.clone());
            }
            series.publish_only(Some(Sign::Device(DeviceFault::Lost)), out);
        }
    }

    /// Says of every metric, of every device known or else of the machine, why it is missing.
    fn report_absence(&mut self, reason: &Reason, out: &mut Sample<'_>) {
        for device in &mut self.devices {
            device.processes = Reading::Unavailable(reason.clone());
        }
        let known = self.devices.iter().map(|device| device.entity);
        let nobody = self.devices.is_empty().then_some(self.context.host);
        for entity in known.chain(nobody) {
            // What the agent counts itself stays true, and of a driver that fails one fault is known.
            for metric in gpu::ALL.iter().filter(|metric| ![gpu::FAULT.name, gpu::XIDS.name].contains(&metric.name)) {
                out.unavailable(metric, entity, reason.clone());
            }
        }
        let sign = match &self.overdue {
            // A driver that starts its devices takes its time.
            Some(_) if self.activity.call() == sampler::INITIALISING => None,
            Some(_) => Some(Sign::Silence),
            None => Some(Sign::Driver),
        };
        for series in &self.series {
            series.publish_only(sign, out);
        }
        if self.series.is_empty() {
            for metric in [&gpu::FAULT, &gpu::XIDS] {
                out.unavailable(metric, self.context.host, reason.clone());
            }
        }
    }
}

impl Probe for NvidiaProbe {
    fn sample(&mut self, now: Stamp, out: &mut Sample<'_>) {
        match self.ask(now, out) {
            Ok(report) => {
                for ((series, device), readings) in self.series.iter_mut().zip(&mut self.devices).zip(&report.devices) {
                    series.publish(readings, out);
                    device.processes.clone_from(&readings.processes);
                }
                self.report_refused(report.devices.len(), out);
                self.spare = report;
            }
            Err(reason) => self.report_absence(&reason, out),
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
}

fn entity(description: &Description) -> Entity {
    let mut entity = Entity::new(EntityKind::Gpu, description.uuid.clone())
        .with("hw.id", description.uuid.clone())
        .with("hw.name", description.name.clone())
        .with("hw.vendor", "nvidia");
    if let Reading::Value(version) = &description.driver_version {
        entity = entity.with("hw.driver_version", version.clone());
    }
    entity
}

/// Why a driver that did not answer in time has no readings. The text stays the same for as long as the call hangs.
fn unresponsive(since: Stamp, call: &str) -> Reason {
    let seconds = since.wall_ns / 1_000_000_000 % 86_400;
    let time = format!("{:02}:{:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if call == sampler::INITIALISING {
        return Reason::new(
            format!("NVML has been initializing since {time}"),
            "wait: without persistence mode the driver starts the GPUs first (`nvidia-smi -pm 1` keeps them up)",
        );
    }
    Reason::new(
        format!("driver unresponsive since {time}: `{call}` has not returned"),
        "check `dmesg | grep -i -e nvrm -e xid`; a GPU that hangs needs a reset or a reboot",
    )
}
