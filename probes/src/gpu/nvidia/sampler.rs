//! The thread that talks to NVML, and may hang in it: it loads the library, and begins anew when a session ended.

use std::mem::ManuallyDrop;
use std::sync::mpsc::{Receiver, SyncSender};

use nvml_wrapper::Nvml;

use super::activity::Activity;
use super::exchange::{Failure, Report, Request, send};
use super::fault;
use super::plugged::Plugged;
use super::retry::Retry;
use super::session::{End, Kept, Session};
use crate::gpu::GpuContext;

/// What [`Activity`] says while the library is loaded, too.
const INITIALISE: &str = "nvmlInit_v2";
/// Made where the library is dropped.
const SHUT_DOWN: &str = "nvmlShutdown";

/// Answers requests until nobody asks any more.
pub(crate) fn run(
    requests: &Receiver<Request>,
    reports: &SyncSender<Report>,
    context: &GpuContext,
    activity: &Activity,
) {
    let (mut retry, mut revival) = (Retry::of_driver(), Retry::of_device());
    let mut plugged = Plugged::new(&context.nvidia_gpus);
    let mut failure = None;
    // What is taken over from a session that ended for the sake of one device.
    let mut kept: Option<Kept> = None;
    // The next session begins without being asked.
    let mut at_once = false;
    loop {
        let mut request = None;
        if !at_once {
            let Ok(asked) = requests.recv() else { return };
            if let Some(failure) = failure.clone().filter(|_| !retry.is_due(asked.at)) {
                if !refuse(reports, asked.report, failure) {
                    return;
                }
                continue;
            }
            request = Some(asked);
        }
        activity.start(true);
        activity.enter(INITIALISE);
        plugged.note();
        let at = request.as_ref().map(|request| request.at).or(kept.as_ref().map(|kept| kept.at)).unwrap_or_default();
        let failed = match load(context) {
            Ok(nvml) => match Session::open(&nvml, context, activity) {
                Ok(mut session) => {
                    activity.start(false);
                    at_once = false;
                    if let Some(kept) = kept.take() {
                        session.take_over(kept);
                    }
                    match session.serve(request, requests, reports, &mut retry, &mut revival, &mut plugged) {
                        End::Closed => return,
                        End::Lost(at, lost) => {
                            retry.failed(at);
                            failure = Some(lost);
                        }
                        End::Ailing(from) => (kept, at_once) = (Some(from), true),
                    }
                    activity.enter(SHUT_DOWN);
                    continue;
                }
                Err(failed) => {
                    activity.enter(SHUT_DOWN);
                    failed
                }
            },
            Err(failed) => failed,
        };
        activity.start(false);
        // What is kept waits for the session that opens: errors are in it that nobody was told of.
        at_once = false;
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

fn refuse(reports: &SyncSender<Report>, mut report: Report, failure: Failure) -> bool {
    report.devices.clear();
    report.inventory = None;
    report.failure = Some(failure);
    send(reports, report)
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
