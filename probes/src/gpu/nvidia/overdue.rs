//! A question that the NVML thread has not answered yet, and what is told meanwhile.

use perfwatch_model::tick::{SLOT_NS, SLOTS};
use perfwatch_model::{Reason, Stamp};

use super::activity::Doing;
use super::clock::monotonic_ns;
use super::exchange::Failure;
use super::fault;
use super::health::Sign;
use super::sampler;
use crate::gpu::GpuDevice;

/// From one sample to the next.
pub(super) const TICK_NS: u64 = SLOTS as u64 * SLOT_NS;
/// A driver that starts its devices, or stops them, takes its time, and no longer than this.
pub(super) const LONGEST_START_NS: u64 = 60_000_000_000;

/// What the answers before say of one that does not come.
pub(super) struct Known {
    /// The last was that there is nothing.
    pub(super) failed: Option<Failure>,
    /// It took so long, and was one.
    pub(super) took_ns: Option<u64>,
}

/// A request that was given up on, and that the thread owes an answer to.
pub(super) struct Overdue {
    pub(super) asked: Stamp,
    /// When it was sent, `CLOCK_MONOTONIC`.
    pub(super) sent_ns: u64,
    /// What the thread is in.
    pub(super) doing: Doing,
    /// Why there is nothing to read meanwhile.
    pub(super) reason: Reason,
    /// Why there is nothing of the other devices, where it is one of them that does not answer.
    others: Option<Reason>,
    /// The answer before came late too, so that this one is not missed yet.
    pub(super) is_slow: bool,
    /// NVML is being initialised or shut down, and for no longer than that may take.
    pub(super) is_starting: bool,
    /// Why the try before this one failed, which stands until it has come to its end.
    before: Option<Failure>,
    /// It is a fault. One answer that comes too late is none: a program that starts or ends on a GPU holds the driver up for
    /// as long.
    is_fault: bool,
}

impl Overdue {
    /// A driver or device that does not answer.
    pub(super) fn silent(asked: Stamp, sent_ns: u64, now: Stamp, doing: Doing, known: Known) -> Self {
        let Known { failed: before, took_ns } = known;
        let others = doing.device.as_ref().map(|uuid| waiting(uuid, doing.call));
        let is_starting = doing.is_starting && now.mono_ns.saturating_sub(asked.mono_ns) < LONGEST_START_NS;
        let before = before.filter(|_| is_starting);
        let is_fault = took_ns.is_some();
        let reason = match &before {
            Some(failure) => failure.reason.clone(),
            None if is_starting => starting(asked, doing.call),
            None if is_fault => unresponsive(asked, doing.call, took_ns),
            None => late(asked, doing.call),
        };
        Self { asked, sent_ns, reason, others, doing, is_slow: false, is_starting, before, is_fault }
    }

    /// A driver that took so long the last time, and will answer.
    pub(super) fn slow(asked: Stamp, sent_ns: u64, doing: Doing, took_ns: u64) -> Self {
        let (others, before) = (None, None);
        let reason = slow(took_ns);
        Self { asked, sent_ns, doing, reason, others, is_slow: true, is_starting: false, before, is_fault: false }
    }

    /// There is no answer to it for the next sample either, unless it is one of a driver that is known to be slow.
    pub(super) fn miss(&mut self) {
        let is_fault = !self.is_slow && !self.is_starting;
        if is_fault && !self.is_fault {
            self.reason = unresponsive(self.asked, self.doing.call, None);
        }
        self.is_fault = is_fault;
    }

    /// Whether it is longer ago than a driver takes that is slow, and answers: by its own clock, as ticks may be late.
    pub(super) fn is_silent(&self) -> bool {
        monotonic_ns().saturating_sub(self.sent_ns) >= TICK_NS
    }

    /// What is told of the machine, where no device is known.
    pub(super) fn of_machine(&self) -> Failure {
        if let Some(before) = &self.before {
            return before.clone();
        }
        Failure { reason: self.reason.clone(), sign: self.is_fault.then_some(Sign::Silence) }
    }

    /// What is told of a device, and whether it is why.
    pub(super) fn of(&self, device: &GpuDevice) -> (&Reason, Option<Sign>) {
        match (&self.others, &self.doing.device) {
            (Some(others), Some(uuid)) if **uuid != *device.uuid => (others, None),
            _ if self.before.is_some() => (&self.reason, self.before.as_ref().map(of_known)),
            _ => (&self.reason, self.is_fault.then_some(Sign::Silence)),
        }
    }
}

/// What a failure says of a device that was there: that it is not is a fault, whatever the reason.
pub(super) fn of_known(failure: &Failure) -> Sign {
    failure.sign.unwrap_or(Sign::Driver)
}

/// Why a driver that did not answer in time has no readings. The text stays the same for as long as the call hangs, or as answers
/// take so many seconds.
fn unresponsive(since: Stamp, call: &str, took_ns: Option<u64>) -> Reason {
    let since = fault::time(since);
    let reason = match took_ns {
        Some(took_ns) => Reason::new(
            format!("driver unresponsive since {since}: its last answer took more than {} s", took_ns / TICK_NS),
            "find out who else asks it all the time (`nvidia-smi` is as slow then), and check `dmesg | grep -i -e nvrm -e xid`",
        ),
        None => Reason::new(
            format!("driver unresponsive since {since}: `{call}` has not returned"),
            "check `dmesg | grep -i -e nvrm -e xid`; a GPU that hangs needs a reset or a reboot",
        ),
    };
    reason.by_failure()
}

/// The same of one that may only be late.
fn late(since: Stamp, call: &str) -> Reason {
    Reason::new(
        format!("the driver has not answered since {}: in `{call}`", fault::time(since)),
        "wait for the next second: a program that starts or ends on a GPU holds the driver up",
    )
}

/// The same of one that is not expected to answer yet.
fn starting(since: Stamp, call: &str) -> Reason {
    let doing = if call == sampler::SHUT_DOWN { "shutting down" } else { "initializing" };
    Reason::new(
        format!("NVML has been {doing} since {}: in `{call}`", fault::time(since)),
        "wait: without persistence mode the driver starts and stops the GPUs with it (`nvidia-smi -pm 1` keeps them up)",
    )
}

/// Why a device has no readings while the thread is in a call on another.
fn waiting(uuid: &str, call: &str) -> Reason {
    Reason::new(
        format!("waits for {uuid}: `{call}` has not returned"),
        "wait until that call returns, and look at that GPU: those beside it are read again then",
    )
}

/// Why a driver that answers, and too late for each sample, has no readings in this one.
fn slow(took_ns: u64) -> Reason {
    Reason::new(
        format!(
            "the driver is slow: its last answer took {} ms, so that readings are those of a second ago",
            took_ns / 1_000_000
        ),
        "wait for the next second; find out who else asks it all the time (`nvidia-smi` is as slow then), and use persistence \
         mode (`nvidia-smi -pm 1`)",
    )
}
