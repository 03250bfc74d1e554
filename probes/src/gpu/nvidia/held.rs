//! A device that a session holds: the buffers of its calls, and what is known of it from the calls before.

use std::sync::Arc;

use nvml_wrapper::{Device, FieldIdScheme};
use perfwatch_model::tick::SLOTS;
use perfwatch_model::{GpuSlot, Reading, Reason, Stamp};

use super::clock::monotonic_ns;
use super::fields::{self, Batch};
use super::gpm::{self, Doubt, Gpm};
use super::link_reads::LinkWatch;
use super::mig::Part;
use super::port::Port;
use super::power::Meter;
use super::readings::DeviceReadings;
use super::spans::Spans;
use super::tenants::Tenants;
use super::traffic::Traffic;
use super::turn::Turn;
use super::utilization::Samples;

/// A device and the buffers of its calls.
pub(super) struct Held<'nvml> {
    pub(super) device: Device<'nvml>,
    pub(super) part: Part,
    pub(super) fast: Batch,
    pub(super) slow: Batch,
    /// Of the link's counters alone.
    pub(super) link: Batch,
    pub(super) gpm: Result<Gpm<'nvml>, Reason>,
    /// What is known of the slot that it is in.
    pub(super) above: Option<Port>,
    /// Whether it is still cut into the same instances.
    pub(super) is_to_be_looked_at: bool,
    /// Why its XID errors are not told.
    pub(super) deaf: Option<Reason>,
    pub(super) past: Past,
}

/// What is known of a device from the calls before, whatever its handle is now.
pub(super) struct Past {
    pub(super) uuid: Arc<str>,
    pub(super) spans: Spans,
    /// When something was last told of them, by `CLOCK_MONOTONIC`, and to which request.
    pub(super) told: Option<(u64, Stamp)>,
    pub(super) doubt: Doubt,
    /// Over its links, as GPM tells it.
    pub(super) traffic: Traffic,
    /// The link's counters, where there is no GPM.
    pub(super) link: LinkWatch,
    /// Of its utilisation, where there is no GPM.
    pub(super) samples: Samples,
    pub(super) meter: Meter,
    pub(super) tenants: Tenants,
    pub(super) limits: Turn,
    pub(super) processes: Turn,
    pub(super) link_due_ns: u64,
    /// Calls that failed since one was answered.
    pub(super) unanswered: u32,
    /// XID errors that were told to the last session, and not yet by an answer.
    pub(super) xids: Vec<u32>,
    /// It fell off the bus: it is asked one thing each time, and no more until that is answered.
    pub(super) is_lost: bool,
}

impl Past {
    pub(super) fn new(uuid: Arc<str>) -> Self {
        let (spans, traffic, samples) = (Spans::default(), Traffic::default(), Samples::default());
        let (link, meter, tenants, limits, processes) = Default::default();
        let (told, doubt, xids, is_lost, link_due_ns, unanswered) = (None, Doubt::default(), Vec::new(), false, 0, 0);
        Self {
            uuid,
            spans,
            told,
            doubt,
            traffic,
            link,
            samples,
            meter,
            tenants,
            limits,
            processes,
            link_due_ns,
            unanswered,
            xids,
            is_lost,
        }
    }

    /// Makes all that is read seldom due: the readings of before are gone.
    pub(super) fn forget(&mut self) {
        (self.limits, self.processes, self.told, self.link_due_ns) = Default::default();
    }
}

impl<'nvml> Held<'nvml> {
    pub(super) fn new(
        scheme: FieldIdScheme,
        device: Device<'nvml>,
        uuid: &str,
        part: Part,
        gpm: Result<Gpm<'nvml>, Reason>,
        above: Option<Port>,
    ) -> Self {
        let [fast, slow, link] = [fields::FAST, fields::SLOW, fields::LINK].map(|of| Batch::new(of, scheme));
        Self {
            device,
            part,
            fast,
            slow,
            link,
            gpm,
            above,
            is_to_be_looked_at: false,
            deaf: None,
            past: Past::new(uuid.into()),
        }
    }
}

impl Held<'_> {
    /// Whether something of it is to be sampled between two ticks.
    pub(super) fn needs_rounds(&self) -> bool {
        self.gpm.is_ok() || self.past.link.is_on()
    }

    /// Limits are the whole device's.
    pub(super) fn turn_of_limits(&mut self) -> Option<&mut Turn> {
        (self.part != Part::Instance && !self.past.is_lost).then_some(&mut self.past.limits)
    }

    /// Whether its XID errors are told.
    pub(super) fn hears(&self) -> bool {
        self.part != Part::Instance && self.deaf.is_none()
    }

    pub(super) fn turn_of_processes(&mut self) -> Option<&mut Turn> {
        (!self.past.is_lost).then_some(&mut self.past.processes)
    }

    /// Which units were busy since the last time, and in each slot of the second that ended at `end_ns`. Without a new measurement
    /// the last one stands for `fresh_ns`: requests may come in quick succession.
    pub(super) fn tell_units(&mut self, at: Stamp, end_ns: u64, fresh_ns: u64, into: &mut DeviceReadings) {
        match &self.gpm {
            Ok(_) => {
                let now_ns = monotonic_ns();
                if let Some(units) = self.past.spans.told() {
                    into.units = units;
                    self.past.told = Some((now_ns, at));
                    self.past.doubt.judge(into);
                } else {
                    match self.past.told {
                        Some((then_ns, _)) if now_ns.saturating_sub(then_ns) <= fresh_ns => {}
                        Some((_, since)) => {
                            into.units = gpm::UNITS.map(|_| Reading::Unavailable(gpm::stood_still(since)));
                        }
                        None => into.units = gpm::UNITS.map(|_| Reading::Unavailable(gpm::FIRST_SAMPLE)),
                    }
                }
                into.slots = self.past.spans.slots(end_ns);
            }
            Err(reason) => {
                into.units = gpm::UNITS.map(|_| Reading::Unavailable(reason.clone()));
                into.slots = self.past.samples.slots(end_ns);
            }
        }
        if self.past.doubt.holds() {
            into.slots = [GpuSlot::default(); SLOTS];
        }
    }
}
