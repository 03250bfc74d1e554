//! Letting go of NVML for a while, as the agent is asked to: so that GPUs can be reset or cut anew, and the driver be unloaded.

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Weak};
use std::time::Duration;

use perfwatch_model::{Reason, Stamp};

use super::activity::Activity;
use super::exchange::Message;
use super::fault;
use super::permit::{Absence, Closed, Library, Permit, Withdrawn};
use crate::gpu::Grip;

/// A healthy driver answers within this whatever it is asked, and who waits wants to know.
const ANSWER: Duration = Duration::from_millis(1_500);

/// What holds NVML open.
pub(super) struct NvmlGrip {
    pub(super) permit: Arc<Permit>,
    pub(super) activity: Activity,
    /// The thread ends with its probe, whoever has a grip on it.
    pub(super) requests: Weak<SyncSender<Message>>,
    /// How long a sample waits for the driver.
    pub(super) budget: Duration,
}

impl Grip for NvmlGrip {
    fn release(&self, until: Stamp) -> Result<bool, Reason> {
        let Withdrawn { was_open, is_to_be_woken } = self.permit.withdraw(until);
        if is_to_be_woken && let Some(requests) = self.requests.upgrade() {
            // There is room for it beside the one request; and without a thread nothing is open.
            let _ = requests.try_send(Message::Wake);
        }
        match self.permit.wait_closed(self.budget.max(ANSWER)) {
            Closed::Yes => Ok(was_open),
            Closed::Badly(reason) => Err(reason),
            Closed::NotYet => Err(stuck(self.activity.doing().call)),
            Closed::CalledOff => Err(CALLED_OFF),
        }
    }

    fn take(&self) -> bool {
        self.permit.give()
    }
}

/// The time was over, or somebody took the GPUs back, before the driver was closed.
const CALLED_OFF: Reason = Reason::fixed(
    "the GPUs were taken back before the agent had let go of them",
    "find out who ran `perfwatch gpus take`, or give it more time with --for",
);

/// Permission was given again just now.
pub(super) const TAKEN: Reason =
    Reason::fixed("the agent is taking the GPUs back", "wait for the next second: NVML is initialised anew then");

pub(super) fn stuck(call: &str) -> Reason {
    Reason::new(
        format!("the agent still has the NVIDIA driver open: `{call}` has not returned"),
        "it lets go as soon as that call returns; check `dmesg | grep -i -e nvrm -e xid`, and where it never does, stop the agent",
    )
}

/// Why there is nothing of any GPU as long as nothing may be open.
pub(super) fn released(absence: Absence, activity: &Activity) -> Reason {
    match absence {
        Absence { failed: Some(failed), nvml: Library::Closed, .. } => failed,
        Absence { until, nvml: Library::Closed, .. } => Reason::new(
            format!("let go of until {} by this agent", fault::time(until)),
            "wait until then, or take them back now: `perfwatch gpus take`",
        )
        .by_choice(),
        Absence { nvml: Library::Open | Library::Closing, .. } => Reason::new(
            format!("the agent is letting go of the GPUs: `{}` has not returned", activity.doing().call),
            "wait until it has, or call it off: `perfwatch gpus take`",
        ),
    }
}
