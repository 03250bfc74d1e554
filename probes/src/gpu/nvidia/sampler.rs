//! The thread that talks to NVML, and may hang in it: it loads the library, and begins anew when a session ended.

use std::mem::ManuallyDrop;
use std::sync::mpsc::{Receiver, SyncSender};

use nvml_wrapper::Nvml;

use super::activity::Activity;
use super::exchange::{Failure, Message, Report, send};
use super::fault;
use super::permit::Permit;
use super::plugged::Plugged;
use super::retry::Retry;
use super::session::{End, Kept, Session};
use super::unload::{left_open, unload};
use crate::gpu::GpuContext;

/// What [`Activity`] says while the library is loaded, too.
pub(super) const INITIALISE: &str = "nvmlInit_v2";
/// Also while it is unloaded.
pub(super) const SHUT_DOWN: &str = "nvmlShutdown";

/// Answers requests until nobody asks any more.
pub(crate) fn run(
    requests: &Receiver<Message>,
    reports: &SyncSender<Report>,
    context: &GpuContext,
    activity: &Activity,
    permit: &Permit,
) {
    let (mut retry, mut revival) = (Retry::of_driver(), Retry::of_device());
    let mut plugged = Plugged::new(&context.nvidia_gpus);
    let mut failure = None;
    // What is taken over from a session that ended for the sake of one device, or because it had to let go.
    let mut kept: Option<Kept> = None;
    // The next session begins without being asked.
    let mut at_once = false;
    loop {
        let mut request = None;
        if !std::mem::take(&mut at_once) {
            match requests.recv() {
                Ok(Message::Sample(asked)) => request = Some(asked),
                Ok(Message::Wake) => {
                    permit.woke();
                    continue;
                }
                Err(_) => return,
            }
        }
        if permit.is_anew() {
            // Whoever had the GPUs meanwhile may have mended what failed, and changed what was read.
            (retry, revival, failure) = (Retry::of_driver(), Retry::of_device(), None);
            if let Some(kept) = &mut kept {
                kept.is_old = true;
            }
        }
        let is_too_soon = request.as_ref().is_some_and(|request| !retry.is_due(request.at));
        if is_too_soon && let Some(failure) = failure.clone() {
            if request.is_some_and(|request| !refuse(reports, request.report, failure)) {
                return;
            }
            continue;
        }
        if !permit.open() {
            if request.is_some_and(|request| !refuse_released(reports, request.report)) {
                return;
            }
            continue;
        }
        activity.start(INITIALISE);
        plugged.note();
        let at = request.as_ref().map(|request| request.at).or(kept.as_ref().map(|kept| kept.at)).unwrap_or_default();
        let (ended, is_open_still) = match load(context) {
            Ok(nvml) => {
                let ended = match Session::open(&nvml, context, activity, permit) {
                    Ok(mut session) => {
                        activity.has_started();
                        if let Some(kept) = kept.take() {
                            session.take_over(kept);
                        }
                        Ok(session.serve(request, requests, reports, &mut retry, &mut revival, &mut plugged))
                    }
                    Err(failed) => Err((failed, request)),
                };
                permit.closing();
                // It takes as long as a start where the driver has to stop the devices, and is as little of a fault.
                activity.start(SHUT_DOWN);
                (ended, unload(nvml, &context.proc))
            }
            // It may have opened the driver before it failed.
            Err(failed) => (Err((failed, request)), left_open(&context.proc)),
        };
        permit.closed(is_open_still);
        match ended {
            Ok(End::Closed) => return,
            Ok(End::Lost(at, lost)) => {
                retry.failed(at);
                failure = Some(lost);
            }
            Ok(End::Ailing(from)) => (kept, at_once) = (Some(from), true),
            Ok(End::Released(from)) => kept = Some(from),
            Err((failed, request)) => {
                // What is kept waits for the session that opens: errors are in it that nobody was told of.
                if let Some(kept) = &mut kept {
                    kept.is_old = true;
                }
                retry.failed(at);
                failure = Some(failed.clone());
                if request.is_some_and(|request| !refuse(reports, request.report, failed)) {
                    return;
                }
            }
        }
        // Only now: who waits for the answer waits for the start, until it is there.
        activity.has_started();
    }
}

fn refuse(reports: &SyncSender<Report>, report: Report, failure: Failure) -> bool {
    send(reports, Report { failure: Some(failure), ..report.empty() })
}

/// Answers that the agent has let go of the GPUs.
pub(super) fn refuse_released(reports: &SyncSender<Report>, report: Report) -> bool {
    send(reports, Report { is_released: true, ..report.empty() })
}

fn load(context: &GpuContext) -> Result<Nvml, Failure> {
    let path = context.nvml_lib.as_ref().map_or(fault::DEFAULT_LIBRARY.as_ref(), |path| path.as_os_str());
    let nvml = Nvml::builder().lib_path(path).init().map_err(|error| fault::at_start(&error, context))?;
    // Dropping the wrapper calls nvmlShutdown and panics where there is none.
    let nvml = ManuallyDrop::new(nvml);
    if nvml.lib().nvmlShutdown.is_err() {
        return Err(fault::wrong_file(context, "it has no `nvmlShutdown`").into());
    }
    Ok(ManuallyDrop::into_inner(nvml))
}
