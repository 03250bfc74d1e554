//! Who uses a device: the processes that hold memory on it, and what each one has of the SMs' time.

use std::ffi::c_uint;

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlProcessInfo_t, nvmlProcessUtilizationSample_t, nvmlReturn_t};
use perfwatch_model::{Reading, Reason, Stamp};

use super::fault;
use super::mig::Part;
use super::readings::{DeviceReadings, Reader};
use crate::gpu::{GpuProcess, Sharing};

const COMPUTE: &str = "nvmlDeviceGetComputeRunningProcesses_v3";
const GRAPHICS: &str = "nvmlDeviceGetGraphicsRunningProcesses_v3";
const MPS: &str = "nvmlDeviceGetMPSComputeRunningProcesses_v3";
const SHARES: &str = "nvmlDeviceGetProcessUtilization";

/// Rows that there is room for at first; most devices have fewer processes.
const FIRST_ROOM: usize = 64;
/// Room beside what a list is said to take: processes start between one call and the next.
const SPARE_ROOM: usize = 16;
/// What is said to be longer is no list of processes.
const MOST_ROWS: usize = 65_536;
/// A list that grows faster than it can be asked for is given up until the next time.
const TRIES: usize = 4;
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

/// Why its memory is, where the driver says what it cannot be.
const TOO_MUCH: Reason = Reason::fixed(
    "the driver attributes more memory to the process than the device has",
    "none: the next look is usually right",
);

/// `NVML_VALUE_NOT_AVAILABLE`.
const NOT_ATTRIBUTED: u64 = u64::MAX;

const NO_PROCESS: nvmlProcessInfo_t =
    nvmlProcessInfo_t { pid: 0, usedGpuMemory: NOT_ATTRIBUTED, gpuInstanceId: 0, computeInstanceId: 0 };
const NO_SAMPLE: nvmlProcessUtilizationSample_t =
    nvmlProcessUtilizationSample_t { pid: 0, timeStamp: 0, smUtil: 0, memUtil: 0, encUtil: 0, decUtil: 0 };

/// The buffers of one device's lists, and how far its samples were read.
#[derive(Default)]
pub(crate) struct Tenants {
    compute: Vec<nvmlProcessInfo_t>,
    graphics: Vec<nvmlProcessInfo_t>,
    mps: Vec<nvmlProcessInfo_t>,
    uses: Vec<Use>,
    shares: Shares,
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
    /// Reads the lists. Each process is told once: under MPS the same one is in more than one list. Without `host_pids` only how
    /// the device is shared is told.
    pub(crate) fn read(
        &mut self,
        reader: &mut Reader<'_, '_>,
        nvml: &Nvml,
        at: Stamp,
        host_pids: bool,
        into: &mut DeviceReadings,
    ) {
        let (lib, device) = (nvml.lib(), reader.device);
        let compute = reader.call(COMPUTE, || {
            let call = nvml_sym(lib.nvmlDeviceGetComputeRunningProcesses_v3.as_ref())?;
            list(*call, device, &mut self.compute)
        });
        let graphics = reader.call(GRAPHICS, || {
            let call = nvml_sym(lib.nvmlDeviceGetGraphicsRunningProcesses_v3.as_ref())?;
            list(*call, device, &mut self.graphics)
        });
        let mps = reader.call(MPS, || {
            let call = nvml_sym(lib.nvmlDeviceGetMPSComputeRunningProcesses_v3.as_ref())?;
            list(*call, device, &mut self.mps)
        });
        for (reading, rows) in [(&graphics, &mut self.graphics), (&mps, &mut self.mps)] {
            if reading.as_value().is_none() {
                rows.clear();
            }
        }
        into.sharing = match &compute {
            _ if matches!(reader.part, Part::Cut(_)) => Sharing::Mig,
            Reading::Value(()) => sharing(&mut self.compute, mps.as_value().map(|()| self.mps.len())),
            Reading::Unavailable(_) => Sharing::Unknown,
        };
        match compute {
            _ if !host_pids => into.processes = Reading::Unavailable(fault::FOREIGN_PIDS),
            // It is the list that model servers are in; without it the others would pass a part off as the whole.
            Reading::Unavailable(reason) => into.processes = Reading::Unavailable(reason),
            Reading::Value(()) => {
                let shares = match reader.part {
                    Part::Whole => match reader.call(SHARES, || self.shares.read(nvml, device, at)) {
                        Reading::Value(known) => known,
                        Reading::Unavailable(reason) => Some(reason),
                    },
                    // Drivers tell how long the list is, and then that the question is none.
                    Part::Cut(_) | Part::Instance => Some(NO_SHARES),
                };
                self.merge(shares.as_ref(), into);
            }
        }
    }

    /// One row per pid. Under MPS the same use of memory is in more than one list, and the larger number counts; what a process
    /// holds in several instances of a GPU adds up.
    fn merge(&mut self, no_shares: Option<&Reason>, into: &mut DeviceReadings) {
        let mut rows = match &mut into.processes {
            Reading::Value(rows) => std::mem::take(rows),
            Reading::Unavailable(_) => Vec::new(),
        };
        rows.clear();
        let total = into.memory_total.as_value().copied();
        self.uses.clear();
        let lists = self.compute.iter().chain(&self.graphics).chain(&self.mps);
        self.uses.extend(lists.filter(|process| process.pid != 0).map(|process| Use {
            pid: process.pid,
            instance: process.gpuInstanceId,
            bytes: match process.usedGpuMemory {
                NOT_ATTRIBUTED => Err(Unknown::NotAttributed),
                bytes if total.is_some_and(|total| bytes > total) => Err(Unknown::TooMuch),
                bytes => Ok(bytes),
            },
        }));
        // Of equal ones the largest that is known comes first.
        self.uses.sort_unstable_by_key(|one| (one.pid, one.instance, std::cmp::Reverse(one.bytes.ok())));
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

/// How the processes of the compute list share the device, where the list of MPS has so many.
fn sharing(compute: &mut [nvmlProcessInfo_t], mps: Option<usize>) -> Sharing {
    compute.sort_unstable_by_key(|process| process.pid);
    let several = compute.windows(2).any(|pair| pair[0].pid != pair[1].pid);
    match mps {
        Some(1..) => Sharing::Mps,
        _ if !several => Sharing::Alone,
        Some(0) => Sharing::TimeSliced,
        None => Sharing::Unknown,
    }
}

type ListCall = unsafe extern "C" fn(nvmlDevice_t, *mut c_uint, *mut nvmlProcessInfo_t) -> nvmlReturn_t;

/// The wrapper's lists are allocated anew each time, and that of MPS fails when a process starts meanwhile.
#[allow(unsafe_code, reason = "the wrapper offers no way to fill a list again")]
fn list(call: ListCall, device: &Device<'_>, rows: &mut Vec<nvmlProcessInfo_t>) -> Result<(), NvmlError> {
    // SAFETY: the device is one of this library's; `fill` hands out a buffer of `room` rows.
    fill(rows, NO_PROCESS, |out, room| unsafe { call(device.handle(), room, out) })
}

/// Fills a buffer that is kept. `call` is given the room there is, and says in its place how much it takes.
fn fill<T: Copy>(
    rows: &mut Vec<T>,
    empty: T,
    mut call: impl FnMut(*mut T, &mut c_uint) -> nvmlReturn_t,
) -> Result<(), NvmlError> {
    let mut room = rows.capacity().max(FIRST_ROOM);
    for _ in 0..TRIES {
        rows.clear();
        rows.resize(room, empty);
        let mut count = c_uint::try_from(room).unwrap_or(c_uint::MAX);
        match nvml_try(call(rows.as_mut_ptr(), &mut count)) {
            Ok(()) => {
                rows.truncate(count as usize);
                return Ok(());
            }
            Err(NvmlError::InsufficientSize(_)) if (count as usize) < MOST_ROWS => {
                room = room.max(count as usize + SPARE_ROOM);
            }
            Err(error) => {
                rows.clear();
                return Err(error);
            }
        }
    }
    rows.clear();
    Err(NvmlError::InsufficientSize(None))
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
    /// Asks for what is new; says why there is nothing to be told, if there is not.
    #[allow(unsafe_code, reason = "the wrapper's list is allocated anew each time")]
    fn read(&mut self, nvml: &Nvml, device: &Device<'_>, at: Stamp) -> Result<Option<Reason>, NvmlError> {
        // The driver's times are those of the wall's clock, which somebody has put back: nothing would be new for that long.
        if self.seen.is_some_and(|seen| at.wall_ns < seen.wall_ns) {
            *self = Self { samples: std::mem::take(&mut self.samples), ..Self::default() };
        }
        let call = *nvml_sym(nvml.lib().nvmlDeviceGetProcessUtilization.as_ref())?;
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
    fn a_list_that_grows_meanwhile_is_asked_for_again_and_one_without_end_is_none() {
        let mut rows = Vec::new();
        let mut lengths = [70, 200, 100].into_iter();
        let mut asked = 0;
        let filled = fill(&mut rows, 0_u32, |_, room| {
            asked += 1;
            let length = lengths.next().expect("no more calls");
            let fits = *room >= length;
            *room = length;
            if fits { 0 } else { 7 }
        });
        assert!(filled.is_ok() && rows.len() == 100 && asked == 3, "{filled:?}");
        let endless = fill(&mut rows, 0, |_, room| {
            *room += 1;
            7
        });
        assert!(matches!(endless, Err(NvmlError::InsufficientSize(_))) && rows.is_empty());
        let absurd = fill(&mut rows, 0, |_, room| {
            *room = u32::MAX;
            7
        });
        assert!(absurd.is_err() && rows.capacity() < 1000);
    }

    #[test]
    fn a_device_is_shared_by_mps_by_turns_or_not_at_all() {
        let of = |pids: &[u32], mps| {
            sharing(&mut pids.iter().map(|&pid| nvmlProcessInfo_t { pid, ..NO_PROCESS }).collect::<Vec<_>>(), mps)
        };
        assert_eq!((of(&[], Some(0)), of(&[7, 7], Some(0))), (Sharing::Alone, Sharing::Alone));
        assert_eq!((of(&[7, 8], Some(0)), of(&[7], Some(1))), (Sharing::TimeSliced, Sharing::Mps));
        assert_eq!((of(&[7, 8], None), of(&[7], None)), (Sharing::Unknown, Sharing::Alone));
    }
}
