//! What is read between two requests: GPM, and the counters of links that are soon full.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::Session;
use crate::gpu::nvidia::clock::{cpu_ns, monotonic_ns};
use crate::gpu::nvidia::exchange::Message;
use crate::gpu::nvidia::held::{Held, Past};
use crate::gpu::nvidia::mig::Part;
use crate::gpu::nvidia::pace::Pace;
use crate::gpu::nvidia::readings::{DeviceReadings, Reader, Tally};

impl Session<'_> {
    /// Waits for the next message and samples the devices meanwhile; `None` when nobody asks any more.
    pub(super) fn wait(&mut self, requests: &Receiver<Message>) -> Option<Message> {
        while let Some(due) = self.round_due_ns {
            let left = Duration::from_nanos(due.saturating_sub(monotonic_ns()));
            match requests.recv_timeout(left) {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Timeout) => self.round(),
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        requests.recv().ok()
    }

    /// Samples GPM of all devices that have it, and reads the link's counters of others that need it, if it is time.
    pub(super) fn round(&mut self) {
        let (began, cpu) = (monotonic_ns(), cpu_ns());
        if self.round_due_ns.is_none_or(|due| began < due) {
            return;
        }
        // What fails here fails in the next answer too, and is told there.
        let mut tally = Tally::default();
        for held in self.devices.iter_mut().filter(|held| !held.past.is_lost && held.needs_rounds()) {
            self.activity.turn_to(Some(&held.past.uuid));
            let (device, part) = (&held.device, &held.part);
            let mut reader = Reader { device, activity: self.activity, tally: &mut tally, part };
            let Past { spans, traffic, link, unanswered, .. } = &mut held.past;
            if let Ok(gpm) = &mut held.gpm {
                reader.sample_units(gpm, monotonic_ns(), link.rate, spans, traffic);
            } else {
                reader.read_link(self.nvml, &mut held.link, link);
            }
            let _ = tally.take_fault(unanswered);
        }
        let now = monotonic_ns();
        self.pace.took(cpu_ns().saturating_sub(cpu), now.saturating_sub(began), self.allowed_ns);
        for held in &mut self.devices {
            held.past.link.keep_up(&self.pace, now);
        }
        self.round_due_ns = self.devices.iter().any(Held::needs_rounds).then(|| self.pace.next_ns(now));
    }

    /// Decides of which devices the link's counters are read between two ticks, by what was read for this one.
    pub(super) fn choose_links(&mut self, readings: &[DeviceReadings]) {
        let now = monotonic_ns();
        for (held, readings) in self.devices.iter_mut().zip(readings) {
            let is_alone = held.gpm.is_err() && held.part != Part::Instance && !held.past.is_lost;
            let are_short = held.fast.has_short_link() || readings.link_reads.are_short;
            held.past.link.rate = readings.link.rate();
            held.past.link.choose(is_alone && are_short, now);
        }
        if self.round_due_ns.is_none() && self.devices.iter().any(Held::needs_rounds) {
            // What rounds cost when the last of them gave up says nothing of now.
            self.pace = Pace::default();
            self.round_due_ns = Some(self.pace.next_ns(now));
        }
    }
}
