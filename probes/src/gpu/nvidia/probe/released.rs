//! What is told while the agent has let go of the GPUs: why there is nothing, and what stood before.

use perfwatch_model::metrics::gpu;
use perfwatch_model::tick::SLOTS;
use perfwatch_model::{GpuSlot, Reading, Sample, Stamp};

use super::{NvidiaProbe, Sharing, report_missing};
use crate::gpu::nvidia::exchange::Failure;
use crate::gpu::nvidia::grip;
use crate::gpu::nvidia::health::Sign;
use crate::gpu::nvidia::overdue::{LONGEST_START_NS, of_known};
use crate::gpu::nvidia::permit::Library;

impl NvidiaProbe {
    /// Asks nothing. That nothing is known is nobody's fault; what was broken before is so still, as far as anybody knows.
    pub(super) fn sample_released(&mut self, now: Stamp, out: &mut Sample<'_>) {
        match self.owed(now, out) {
            // It is asked for no more, and has what is told once.
            Ok(Some(mut late)) => {
                self.take_seldom(&mut late, out);
                self.spare = late;
            }
            Ok(None) => {}
            // A call that hung before hangs on, and cannot be let go of.
            Err(failure) => return self.report_absence(&failure, out),
        }
        self.report_released(now, out);
    }

    /// Says of every metric that the agent has let go, of every device known or else of the machine.
    pub(super) fn report_released(&mut self, now: Stamp, out: &mut Sample<'_>) {
        // How slow the driver was says nothing of the one that is begun with next.
        (self.slow_ns, self.too_slow_ns, self.silent_since) = (None, None, None);
        (self.lateness, self.stretched) = (0, false);
        let absence = self.permit.withdrawn(now);
        let is_open = absence.as_ref().is_some_and(|absence| absence.nvml != Library::Closed);
        self.letting_go_since = is_open.then(|| self.letting_go_since.unwrap_or(now));
        let is_too_long = |since: Stamp| now.mono_ns.saturating_sub(since.mono_ns) >= LONGEST_START_NS;
        if self.letting_go_since.is_some_and(is_too_long) {
            // No driver takes as long to start or to stop.
            let reason = grip::stuck(self.activity.doing().call).by_failure();
            return self.report_absence(&Failure { reason, sign: Some(Sign::Silence) }, out);
        }
        let reason = absence.map_or(grip::TAKEN, |absence| grip::released(absence, &self.activity));
        let failed = self.failed.as_ref();
        for (device, series) in self.devices.iter_mut().zip(&mut self.series) {
            device.slots = [GpuSlot::default(); SLOTS];
            (device.processes, device.sharing) = (Reading::Unavailable(reason.clone()), Sharing::Unknown);
            report_missing(device.entity, &reason, out);
            // Those of before are counted; what happens now nobody hears of.
            out.unavailable(&gpu::XIDS, device.entity, reason.clone());
            match failed {
                Some(failed) => series.publish_only(Some(of_known(failed)), out),
                None => series.publish_remembered(&reason, out),
            }
        }
        if self.series.is_empty() {
            let sign = failed.and_then(|failed| failed.sign);
            self.report_absence_of_machine(&Failure { reason, sign }, out);
        }
    }
}
