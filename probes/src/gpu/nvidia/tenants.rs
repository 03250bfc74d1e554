//! Who uses a device: the processes that hold memory on it, and what each one has of the SMs' time.

use std::ffi::c_uint;

use nvml_wrapper::Device;
use nvml_wrapper::error::{NvmlError, nvml_sym};
use nvml_wrapper_sys::bindings::{nvmlProcessInfo_t, nvmlProcessUtilizationSample_t};
use perfwatch_model::{Reading, Reason, Stamp};

use super::fault;
use super::lists::{self, Layout, Room, fill};
use super::mig::Part;
use super::namespace::Namespace;
use super::readings::{DeviceReadings, Reader};
use crate::gpu::{GpuContext, GpuProcess, Sharing};

const SHARES: &str = "nvmlDeviceGetProcessUtilization";

/// How much further than the agent's clock the driver's may have gone since the last look.
const LEAP_NS: u64 = 60_000_000_000;

/// Why the part of a process is unknown at first.
const FIRST_LOOK: Reason =
    Reason::fixed("the SMs' time of a process is told from one look at the processes to the next", "wait two seconds");
/// Why it is unknown for good.
const NO_SHARES: Reason = Reason::fixed(
    "the driver does not tell the SMs' time by process here",
    "none: MIG, WSL and vGPUs do not support it; GPM and utilisation still tell the device's",
);

/// Why it is where the lists have our pids and the samples do not: drivers have been seen to translate only the lists.
const FOREIGN_SHARES: Reason = Reason::fixed(
    "the driver tells the SMs' time by pids of another namespace",
    "run the agent in the host's pid namespace (`--pid=host`, Kubernetes `hostPID: true`)",
);

/// Why its memory is, where the driver says what it cannot be.
const TOO_MUCH: Reason = Reason::fixed(
    "the driver attributes more memory to the process than the device has",
    "none: the next look is usually right",
);

/// `NVML_VALUE_NOT_AVAILABLE`.
const NOT_ATTRIBUTED: u64 = u64::MAX;

const NO_SAMPLE: nvmlProcessUtilizationSample_t =
    nvmlProcessUtilizationSample_t { pid: 0, timeStamp: 0, smUtil: 0, memUtil: 0, encUtil: 0, decUtil: 0 };

/// The buffers of one device's lists, and how far its samples were read.
#[derive(Default)]
pub(crate) struct Tenants {
    room: Vec<Room>,
    compute: Vec<nvmlProcessInfo_t>,
    graphics: Vec<nvmlProcessInfo_t>,
    mps: Vec<nvmlProcessInfo_t>,
    uses: Vec<Use>,
    namespace: Namespace,
    shares: Shares,
    /// How much memory the device has, by the last that was told.
    total: Option<u64>,
}

/// What a process holds in an instance of the device, or on all of it.
#[derive(Clone, Copy)]
struct Use {
    pid: u32,
    instance: u32,
    bytes: Result<u64, Unknown>,
}

/// Why that is not known.
#[derive(Clone, Copy)]
enum Unknown {
    NotAttributed,
    TooMuch,
}

impl Tenants {
    /// Reads the lists. Each process is told once: under MPS the same one is in more than one list. Where the pids are another
    /// namespace's only how the device is shared is told, as far as it can be.
    pub(crate) fn read(
        &mut self,
        reader: &mut Reader<'_, '_>,
        layout: Layout,
        context: &GpuContext,
        at: Stamp,
        into: &mut DeviceReadings,
    ) {
        let device = reader.device;
        let compute = lists::COMPUTE.read(reader, layout, &mut self.room, &mut self.compute);
        lists::GRAPHICS.read(reader, layout, &mut self.room, &mut self.graphics);
        let mps = lists::MPS.read(reader, layout, &mut self.room, &mut self.mps);
        let is_cut = matches!(reader.part, Part::Cut(_));
        into.sharing = if is_cut { Sharing::Mig } else { Sharing::Unknown };
        if let Reading::Unavailable(reason) = compute {
            // It is the list that model servers are in; without it the others would pass a part off as the whole.
            into.processes = Reading::Unavailable(reason);
            return;
        }
        self.total = into.memory_total.as_value().copied().or(self.total);
        self.gather(context.host_pids);
        let are_known = context.host_pids || self.find_own(context);
        if !is_cut {
            let mps = mps.as_value().map(|()| self.mps.len());
            into.sharing = sharing(&mut self.compute, mps, context.host_pids);
        }
        if !are_known {
            into.processes = Reading::Unavailable(fault::FOREIGN_PIDS);
            return;
        }
        let namespace = (!context.host_pids).then_some(&self.namespace);
        let shares = match reader.part {
            Part::Whole => match reader.call(SHARES, || self.shares.read(device, at, namespace)) {
                Reading::Value(None) if !context.host_pids && !self.shares.are_of(&self.uses) => Some(FOREIGN_SHARES),
                Reading::Value(known) => known,
                Reading::Unavailable(reason) => Some(reason),
            },
            // Drivers tell how long the list is, and then that the question is none.
            Part::Cut(_) | Part::Instance => Some(NO_SHARES),
        };
        self.merge(shares.as_ref(), into);
    }

    /// Puts what the lists tell together, by pid.
    fn gather(&mut self, host_pids: bool) {
        let total = self.total;
        self.uses.clear();
        let lists = self.compute.iter().chain(&self.graphics).chain(&self.mps);
        self.uses.extend(lists.filter(|process| process.pid != 0).map(|process| Use {
            pid: process.pid,
            instance: process.gpuInstanceId,
            bytes: match process.usedGpuMemory {
                NOT_ATTRIBUTED => Err(Unknown::NotAttributed),
                // Kernel modules that translate pids have looked for the memory by the translated one, and found none.
                0 if !host_pids => Err(Unknown::NotAttributed),
                bytes if total.is_some_and(|total| bytes > total) => Err(Unknown::TooMuch),
                bytes => Ok(bytes),
            },
        }));
        self.sort();
    }

    /// Of equal ones the largest that is known comes first.
    fn sort(&mut self) {
        self.uses.sort_unstable_by_key(|one| (one.pid, one.instance, std::cmp::Reverse(one.bytes.ok())));
    }

    /// Finds the processes in our own pid namespace; false where the pids are of another.
    fn find_own(&mut self, context: &GpuContext) -> bool {
        if !self.namespace.has_all(&context.proc, self.uses.iter().map(|one| one.pid)) {
            return false;
        }
        for one in &mut self.uses {
            one.pid = self.namespace.process(one.pid);
        }
        for one in &mut self.compute {
            one.pid = self.namespace.process(one.pid);
        }
        self.sort();
        true
    }

    /// Begins anew with the next look: what processes had since the last one is of too long a time.
    pub(super) fn begin_anew(&mut self) {
        self.shares.begin_anew();
    }

    /// One row per pid. Under MPS the same use of memory is in more than one list, and the larger number counts; what a process
    /// holds in several instances of a GPU adds up.
    fn merge(&mut self, no_shares: Option<&Reason>, into: &mut DeviceReadings) {
        let mut rows = match &mut into.processes {
            Reading::Value(rows) => std::mem::take(rows),
            Reading::Unavailable(_) => Vec::new(),
        };
        rows.clear();
        let total = self.total;
        self.uses.dedup_by_key(|one| (one.pid, one.instance));
        rows.extend(self.uses.chunk_by(|one, other| one.pid == other.pid).map(|of_one| GpuProcess {
            pid: of_one[0].pid,
            used: match all_of(of_one, total) {
                Ok(bytes) => Reading::Value(bytes),
                Err(Unknown::NotAttributed) => Reading::Unavailable(fault::MEMORY_NOT_ATTRIBUTED),
                Err(Unknown::TooMuch) => Reading::Unavailable(TOO_MUCH),
            },
            sm: Reading::Unavailable(NO_SHARES),
        }));
        for row in &mut rows {
            row.sm = no_shares.map_or_else(|| self.shares.of(row.pid), |reason| Reading::Unavailable(reason.clone()));
        }
        into.processes = Reading::Value(rows);
    }
}

/// What a process holds in all instances together, of a device that has so much.
fn all_of(uses: &[Use], total: Option<u64>) -> Result<u64, Unknown> {
    let bytes = uses.iter().try_fold(0_u64, |sum, one| sum.checked_add(one.bytes?).ok_or(Unknown::TooMuch))?;
    if total.is_some_and(|total| bytes > total) { Err(Unknown::TooMuch) } else { Ok(bytes) }
}

/// How the processes of the compute list share the device, where the list of MPS has so many. Where the lists may lack some, that
/// there is nobody else cannot be known.
fn sharing(compute: &mut [nvmlProcessInfo_t], mps: Option<usize>, are_all: bool) -> Sharing {
    compute.sort_unstable_by_key(|process| process.pid);
    let several = compute.windows(2).any(|pair| pair[0].pid != pair[1].pid);
    match mps {
        Some(1..) => Sharing::Mps,
        _ if !several && are_all => Sharing::Alone,
        Some(0) if several => Sharing::TimeSliced,
        _ => Sharing::Unknown,
    }
}

/// The samples of what processes had of the SMs' time.
///
/// Drivers have been seen to tell one row a process, the mean of its samples since the time asked for. NVIDIA writes that processes
/// are told of which had some in the last sample period: one that has fewer samples than others did nothing in the rest.
#[derive(Default)]
struct Shares {
    /// By pid, and then by time.
    samples: Vec<nvmlProcessUtilizationSample_t>,
    /// Sample periods since the last look: as many as the process has times that has the most.
    periods: u32,
    /// The newest time of a sample seen so far, by the driver's clock: what is asked for is newer.
    since_us: u64,
    /// When that was.
    seen: Option<Stamp>,
}

impl Shares {
    /// Begins anew with the next look: nobody looked for longer than two looks are apart.
    fn begin_anew(&mut self) {
        self.seen = None;
    }

    /// Asks for what is new; says why there is nothing to be told, if there is not. `namespace` names the processes of threads.
    #[allow(unsafe_code, reason = "the wrapper's list is allocated anew each time")]
    fn read(
        &mut self,
        device: &Device<'_>,
        at: Stamp,
        namespace: Option<&Namespace>,
    ) -> Result<Option<Reason>, NvmlError> {
        // The driver's times are those of the wall's clock, which somebody has put back: nothing would be new for that long.
        if self.seen.is_some_and(|seen| at.wall_ns < seen.wall_ns) {
            *self = Self { samples: std::mem::take(&mut self.samples), ..Self::default() };
        }
        let process = |pid: u32| namespace.map_or(pid, |namespace| namespace.process(pid));
        let call = *nvml_sym(device.nvml().lib().nvmlDeviceGetProcessUtilization.as_ref())?;
        let since = self.since_us;
        // SAFETY: the device is one of this library's; `fill` hands out a buffer of `room` rows.
        let ask = |out, room: &mut c_uint| unsafe { call(device.handle(), out, room, since) };
        match fill(&mut self.samples, NO_SAMPLE, ask) {
            Ok(()) => {}
            // Nothing new: nobody used it.
            Err(NvmlError::NotFound) => self.samples.clear(),
            Err(NvmlError::NotSupported | NvmlError::FunctionNotFound) => {
                self.samples.clear();
                return Ok(Some(NO_SHARES));
            }
            Err(error) => return Err(error),
        }
        for sample in &mut self.samples {
            sample.pid = process(sample.pid);
        }
        Ok((!self.take(at)).then_some(FIRST_LOOK))
    }

    /// Keeps what is of the time since the last look; false where that cannot be told.
    fn take(&mut self, at: Stamp) -> bool {
        let since = self.since_us;
        // Drivers have been seen to hand out older ones, and rows that they did not fill in.
        self.samples.retain(|sample| sample.timeStamp > since);
        self.samples.sort_unstable_by_key(|sample| (sample.pid, sample.timeStamp));
        self.periods = self.samples.chunk_by(|one, other| one.pid == other.pid).map(times).max().unwrap_or(0);
        let newest = self.samples.iter().map(|sample| sample.timeStamp).max().unwrap_or(since);
        let Some(seen) = self.seen.replace(at) else {
            // What is told now is of the driver's whole buffer, however old.
            self.since_us = newest;
            return false;
        };
        let most_us = at.mono_ns.saturating_sub(seen.mono_ns).saturating_add(LEAP_NS) / 1000;
        if since > 0 && newest - since > most_us {
            // A time that cannot be true would make all that come after it old.
            (self.since_us, self.seen) = (0, None);
            return false;
        }
        self.since_us = newest;
        true
    }

    /// Whether all that did anything are among these: else the pids may be of another namespace.
    fn are_of(&self, uses: &[Use]) -> bool {
        let is_listed = |pid: u32| uses.binary_search_by_key(&pid, |one| one.pid).is_ok();
        self.samples.iter().all(|sample| sample.smUtil == 0 || is_listed(sample.pid))
    }

    /// The mean of a process' samples over all periods: where it has none, it did nothing. Rows of one time are one sample.
    fn of(&self, pid: u32) -> Reading<f64> {
        let from = self.samples.partition_point(|sample| sample.pid < pid);
        let own = self.samples[from..].chunk_by(|one, other| one.pid == other.pid).next();
        let own = own.filter(|own| own[0].pid == pid).unwrap_or_default();
        let (mut sum, mut wrong) = (0.0, None);
        for at_once in own.chunk_by(|one, other| one.timeStamp == other.timeStamp) {
            let known = || at_once.iter().filter(|sample| can_be(sample)).map(|sample| f64::from(sample.smUtil));
            match known().count() {
                0 => wrong = Some(at_once[0].smUtil),
                count => sum += known().sum::<f64>() / count as f64,
            }
        }
        match (times(own), wrong) {
            (0, Some(percent)) => Reading::Unavailable(Reason::new(
                format!("the driver reported {percent} % of the SMs' time, which cannot be true"),
                "none: the next look is usually right",
            )),
            (0, None) => Reading::Value(0.0),
            // A period of which its sample is wrong says nothing of it, whatever the others did then.
            (_, Some(_)) => Reading::Value(sum / f64::from(times(own)) / 100.0),
            (_, None) => Reading::Value(sum / f64::from(self.periods) / 100.0),
        }
    }
}

fn can_be(sample: &nvmlProcessUtilizationSample_t) -> bool {
    sample.smUtil <= 100
}

/// Of how many times there is a sample of a process that can be true.
fn times(own: &[nvmlProcessUtilizationSample_t]) -> u32 {
    let at_once = own.chunk_by(|one, other| one.timeStamp == other.timeStamp);
    at_once.filter(|at_once| at_once.iter().any(can_be)).fold(0, |times, _| times + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Stamp {
        Stamp { mono_ns: seconds * 1_000_000_000, wall_ns: seconds * 1_000_000_000 }
    }

    fn sample(pid: u32, second: u64, sm: u32) -> nvmlProcessUtilizationSample_t {
        nvmlProcessUtilizationSample_t { pid, timeStamp: second * 1_000_000, smUtil: sm, ..NO_SAMPLE }
    }

    #[test]
    fn a_share_is_the_mean_of_the_samples_since_the_last_look() {
        let mut shares = Shares { samples: vec![sample(7, 100, 90)], ..Shares::default() };
        assert!(!shares.take(at(10)), "nobody knows since when");
        shares.samples =
            vec![sample(8, 102, 10), sample(8, 101, 10), sample(7, 102, 60), sample(7, 101, 40), sample(7, 100, 90)];
        assert!(shares.take(at(12)));
        assert_eq!([7, 8, 9].map(|pid| shares.of(pid)), [0.5, 0.1, 0.0].map(Reading::Value));
    }

    #[test]
    fn a_process_with_fewer_samples_than_others_did_nothing_in_the_rest() {
        let mut shares = Shares { since_us: 1, seen: Some(at(10)), ..Shares::default() };
        let steady = (1..=10).map(|second| sample(7, second, 40));
        let burst = [sample(8, 3, 60), sample(8, 4, 60)];
        shares.samples = steady.chain(burst).collect();
        assert!(shares.take(at(20)));
        assert_eq!([7, 8, 9].map(|pid| shares.of(pid)), [0.4, 0.12, 0.0].map(Reading::Value), "12 %, and not 60");
        // One row a process, each of another time, is the mean of all that it had.
        shares.samples = vec![sample(7, 15, 40), sample(8, 12, 60)];
        assert!(shares.take(at(22)));
        assert_eq!([7, 8].map(|pid| shares.of(pid)), [0.4, 0.6].map(Reading::Value));
        // Several rows of one time are no more time.
        shares.samples = vec![sample(7, 16, 40), sample(7, 16, 20), sample(8, 16, 60)];
        assert!(shares.take(at(24)));
        assert_eq!([7, 8].map(|pid| shares.of(pid)), [0.3, 0.6].map(Reading::Value));
    }

    #[test]
    fn samples_that_cannot_be_true_are_not_counted() {
        let mut shares = Shares { since_us: 1, seen: Some(at(10)), ..Shares::default() };
        shares.samples = vec![sample(7, 1, 2619), sample(7, 1, 30), sample(8, 1, 808_334_905), sample(9, 0, 50)];
        assert!(shares.take(at(12)));
        assert_eq!(shares.of(7), Reading::Value(0.3));
        assert!(matches!(shares.of(8), Reading::Unavailable(reason) if reason.text.contains("808334905 %")));
        assert_eq!(shares.of(9), Reading::Value(0.0), "older than asked");
    }

    #[test]
    fn a_time_that_leaps_begins_anew() {
        let mut shares = Shares { since_us: 5_000_000, seen: Some(at(10)), ..Shares::default() };
        shares.samples = vec![NO_SAMPLE, nvmlProcessUtilizationSample_t { timeStamp: u64::MAX, ..sample(7, 0, 50) }];
        assert!(!shares.take(at(12)));
        shares.samples = vec![sample(7, 8, 50)];
        assert!(!shares.take(at(14)), "the first look again");
        shares.samples = vec![sample(7, 10, 20)];
        assert!(shares.take(at(16)));
        assert_eq!(shares.of(7), Reading::Value(0.2));
    }

    #[test]
    fn a_device_is_shared_by_mps_by_turns_or_not_at_all() {
        let row = |pid| nvmlProcessInfo_t { pid, usedGpuMemory: 0, gpuInstanceId: 0, computeInstanceId: 0 };
        let of = |pids: &[u32], mps, are_all| {
            sharing(&mut pids.iter().map(|&pid| row(pid)).collect::<Vec<_>>(), mps, are_all)
        };
        assert_eq!([of(&[], Some(0), true), of(&[7, 7], Some(0), true), of(&[7], None, true)], [Sharing::Alone; 3]);
        assert_eq!((of(&[7, 8], Some(0), true), of(&[7], Some(1), true)), (Sharing::TimeSliced, Sharing::Mps));
        assert_eq!(of(&[7, 8], None, true), Sharing::Unknown);
        // Others may be there that are not in the lists.
        assert_eq!([of(&[], Some(0), false), of(&[7], Some(0), false), of(&[7], None, false)], [Sharing::Unknown; 3]);
        assert_eq!((of(&[7, 8], Some(0), false), of(&[7], Some(1), false)), (Sharing::TimeSliced, Sharing::Mps));
    }
}
