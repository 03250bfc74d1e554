//! The thread that talks to NVML, and may hang in it: it loads the library, and begins anew when a session ended.

use std::mem::ManuallyDrop;
use std::sync::mpsc::{Receiver, SyncSender};

use nvml_wrapper::Nvml;
use perfwatch_model::Reason;

use super::activity::Activity;
use super::exchange::{Report, Request, send};
use super::fault;
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
    let (mut retry, mut revival) = (Retry::default(), Retry::default());
    let mut failure = None;
    // What is taken over from a session that ended for the sake of one device; the next one begins at once.
    let mut kept: Option<Kept> = None;
    loop {
        let mut request = None;
        if kept.is_none() {
            let Ok(asked) = requests.recv() else { return };
            if let Some(reason) = failure.clone().filter(|_| !retry.is_due(asked.at)) {
                if !refuse(reports, asked.report, reason) {
                    return;
                }
                continue;
            }
            request = Some(asked);
        }
        activity.start(true);
        activity.enter(INITIALISE);
        let at = request.as_ref().map(|request| request.at).or(kept.as_ref().map(|kept| kept.at)).unwrap_or_default();
        let reason = match load(context) {
            Ok(nvml) => match Session::open(&nvml, context, activity) {
                Ok(mut session) => {
                    activity.start(false);
                    if let Some(kept) = kept.take() {
                        session.take_over(kept);
                    }
                    match session.serve(request, requests, reports, &mut retry, &mut revival) {
                        End::Closed => return,
                        End::Lost(at, reason) => {
                            retry.failed(at);
                            failure = Some(reason);
                        }
                        End::Ailing(from) => kept = Some(from),
                    }
                    activity.enter(SHUT_DOWN);
                    continue;
                }
                Err(reason) => {
                    activity.enter(SHUT_DOWN);
                    reason
                }
            },
            Err(reason) => reason,
        };
        activity.start(false);
        kept = None;
        retry.failed(at);
        failure = Some(reason.clone());
        if request.is_some_and(|request| !refuse(reports, request.report, reason)) {
            return;
        }
    }
}

fn refuse(reports: &SyncSender<Report>, mut report: Report, reason: Reason) -> bool {
    report.devices.clear();
    report.inventory = None;
    report.failure = Some(reason);
    send(reports, report)
}

fn load(context: &GpuContext) -> Result<Nvml, Reason> {
    let path = context.nvml_lib.as_ref().map_or(fault::DEFAULT_LIBRARY.as_ref(), |path| path.as_os_str());
    let nvml = Nvml::builder().lib_path(path).init().map_err(|error| fault::at_load(&error, context))?;
    // Dropping the wrapper calls nvmlShutdown and panics where there is none.
    let nvml = ManuallyDrop::new(nvml);
    if nvml.lib().nvmlShutdown.is_err() {
        return Err(fault::wrong_file(context, "it has no `nvmlShutdown`"));
    }
    Ok(ManuallyDrop::into_inner(nvml))
}
