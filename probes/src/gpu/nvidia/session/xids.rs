//! XID errors: which devices are listened to, and what is told of each.

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use perfwatch_model::{Reading, Reason};

use super::Session;
use crate::gpu::nvidia::activity::Activity;
use crate::gpu::nvidia::events::{self, Events};
use crate::gpu::nvidia::fault;
use crate::gpu::nvidia::held::Held;
use crate::gpu::nvidia::mig::Part;
use crate::gpu::nvidia::readings::{DeviceReadings, Reader, Tally};

/// Asks for the XID errors of those devices that are there.
pub(super) fn listen<'nvml>(
    nvml: &'nvml Nvml,
    devices: &mut [Held<'nvml>],
    activity: &Activity,
) -> Result<Events<'nvml>, Reason> {
    activity.turn_to(None);
    let events = Events::open(nvml, activity)?;
    for held in devices.iter_mut().filter(|held| held.part != Part::Instance) {
        activity.turn_to(Some(&held.past.uuid));
        held.deaf = if held.past.is_lost {
            Some(fault::at_call(&NvmlError::GpuLost, events::CALL))
        } else {
            events.register(&held.device).err()
        };
    }
    activity.turn_to(None);
    Ok(events)
}

impl<'nvml> Session<'nvml> {
    /// XID errors, each to its device.
    pub(super) fn read_xids(&mut self, into: &mut [DeviceReadings]) {
        for (held, device) in
            self.devices.iter_mut().zip(into.iter_mut()).filter(|(held, _)| held.part != Part::Instance)
        {
            device.xids = match (&self.events, &held.deaf) {
                // Nobody was told of what the session before heard.
                _ if !held.past.xids.is_empty() => Reading::Value(std::mem::take(&mut held.past.xids)),
                (Err(reason), _) | (_, Some(reason)) => Reading::Unavailable(reason.clone()),
                _ => Reading::Value(Vec::new()),
            };
        }
        if self.is_to_listen_anew {
            // Of what the old set told until now, nothing is lost.
            let old = std::mem::replace(&mut self.events, listen(self.nvml, &mut self.devices, self.activity));
            let _told = self.look(old.as_ref(), into);
            self.is_to_listen_anew = false;
        }
        let mut looked = self.look(self.events.as_ref(), into);
        if matches!(looked, Err(NvmlError::GpuLost)) && self.find_lost() {
            // One that is lost may silence the set for all.
            self.events = listen(self.nvml, &mut self.devices, self.activity);
            looked = self.look(self.events.as_ref(), into);
            for (held, device) in self.devices.iter().zip(into.iter_mut()) {
                if let Some(reason) = held.deaf.as_ref().filter(|_| device.xids.as_value().is_none_or(Vec::is_empty)) {
                    device.xids = Reading::Unavailable(reason.clone());
                }
            }
        }
        if let Err(error) = looked {
            let reason = fault::at_call(&error, events::CALL);
            for (_, device) in self.devices.iter().zip(into).filter(|(held, _)| held.hears()) {
                // What was told before the call failed is told.
                if device.xids.as_value().is_none_or(Vec::is_empty) {
                    device.xids = Reading::Unavailable(reason.clone());
                }
            }
        }
    }

    /// Takes what a set of events has to tell.
    #[allow(unsafe_code, reason = "handles are compared, and nothing is done with them")]
    fn look(&self, events: Result<&Events<'nvml>, &Reason>, into: &mut [DeviceReadings]) -> Result<(), NvmlError> {
        let Ok(events) = events else { return Ok(()) };
        self.activity.turn_to(None);
        self.activity.enter(events::CALL);
        events.look(|handle, xid| {
            // SAFETY: the handle is not used as one.
            let of = |held: &Held<'_>| unsafe { held.device.handle() }.addr() == handle;
            let Some(at) = self.devices.iter().position(of) else { return };
            match &mut into[at].xids {
                Reading::Value(xids) => xids.push(xid),
                absent @ Reading::Unavailable(_) => *absent = Reading::Value(vec![xid]),
            }
        })
    }

    /// Asks each device whether it is lost, and notes it; true where one is.
    fn find_lost(&mut self) -> bool {
        let mut tally = Tally::default();
        for held in self.devices.iter_mut().filter(|held| held.hears()) {
            self.activity.turn_to(Some(&held.past.uuid));
            let (device, part) = (&held.device, &held.part);
            let mut reader = Reader { device, activity: self.activity, tally: &mut tally, part };
            held.past.is_lost = reader.is_lost().is_some();
            tally.take_fault(&mut held.past.unanswered);
        }
        self.devices.iter().any(|held| held.past.is_lost)
    }
}
