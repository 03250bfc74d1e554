//! Lists that a driver fills, into buffers that are kept; those of processes as each generation of drivers writes them.

use std::ffi::c_uint;

use nvml_wrapper::Device;
use nvml_wrapper::error::{NvmlError, nvml_try};
use nvml_wrapper_sys::bindings::{NvmlLib, nvmlDevice_t, nvmlProcessInfo_t, nvmlReturn_t};
use perfwatch_model::Reading;

use super::readings::Reader;

/// Rows that there is room for at first; most devices have fewer processes.
const FIRST_ROOM: usize = 64;
/// Room beside what a list is said to take: processes start between one call and the next.
const SPARE_ROOM: usize = 16;
/// What is said to be longer is no list of processes.
const MOST_ROWS: usize = 65_536;
/// A list that grows faster than it can be asked for is given up until the next time.
const TRIES: usize = 4;

/// Room for the longest row of a process that any driver writes, whichever is expected of this one: a wrong guess about the driver
/// may make a wrong row, and must not make it write past the end.
pub(super) type Room = [u64; 4];

/// How a driver lays out the rows that it writes by the newest of its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// `nvmlProcessInfo_t`.
    Short,
    /// With `usedGpuCcProtectedMemory` behind it: the first drivers of R535 (535.54.03, 535.86.10) write it by the same symbols.
    Long,
}

impl Layout {
    /// That of a driver of this version.
    pub(super) fn of(driver: Option<&str>) -> Self {
        let mut numbers = driver.unwrap_or_default().split('.').map(|number| number.parse().unwrap_or(0_u32));
        match (numbers.next(), numbers.next()) {
            (Some(535), Some(43..98)) => Self::Long,
            _ => Self::Short,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Short => size_of::<nvmlProcessInfo_t>(),
            Self::Long => size_of::<Room>(),
        }
    }
}

type ListCall = unsafe extern "C" fn(nvmlDevice_t, *mut c_uint, *mut nvmlProcessInfo_t) -> nvmlReturn_t;

/// A list of processes: the calls that tell it, the newest first, with their names. Drivers before 510 have the second alone, and
/// its rows are short.
pub(super) struct List {
    names: [&'static str; 2],
    calls: fn(&NvmlLib) -> [Option<ListCall>; 2],
}

pub(super) const COMPUTE: List = List {
    names: ["nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2"],
    calls: |lib| {
        let (newest, older) =
            (&lib.nvmlDeviceGetComputeRunningProcesses_v3, &lib.nvmlDeviceGetComputeRunningProcesses_v2);
        [newest.as_ref().ok().copied(), older.as_ref().ok().copied()]
    },
};

pub(super) const GRAPHICS: List = List {
    names: ["nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetGraphicsRunningProcesses_v2"],
    calls: |lib| {
        let (newest, older) =
            (&lib.nvmlDeviceGetGraphicsRunningProcesses_v3, &lib.nvmlDeviceGetGraphicsRunningProcesses_v2);
        [newest.as_ref().ok().copied(), older.as_ref().ok().copied()]
    },
};

pub(super) const MPS: List = List {
    names: ["nvmlDeviceGetMPSComputeRunningProcesses_v3", "nvmlDeviceGetMPSComputeRunningProcesses_v2"],
    calls: |lib| {
        let (newest, older) =
            (&lib.nvmlDeviceGetMPSComputeRunningProcesses_v3, &lib.nvmlDeviceGetMPSComputeRunningProcesses_v2);
        [newest.as_ref().ok().copied(), older.as_ref().ok().copied()]
    },
};

impl List {
    /// Reads the list by the newest call that there is; without an answer there is nothing in it.
    pub(super) fn read(
        &self,
        reader: &mut Reader<'_, '_>,
        layout: Layout,
        room: &mut Vec<Room>,
        into: &mut Vec<nvmlProcessInfo_t>,
    ) -> Reading<()> {
        into.clear();
        let device = reader.device;
        let (name, call, layout) = match (self.calls)(device.nvml().lib()) {
            [Some(newest), _] => (self.names[0], newest, layout),
            [None, Some(older)] => (self.names[1], older, Layout::Short),
            [None, None] => {
                return reader.call(self.names[0], || Err(NvmlError::FailedToLoadSymbol(String::new())));
            }
        };
        reader.call(name, || {
            list(call, device, room)?;
            unpack(room, layout, into);
            Ok(())
        })
    }
}

/// The wrapper's lists are allocated anew each time, and that of MPS fails when a process starts meanwhile.
#[allow(unsafe_code, reason = "the wrapper offers no way to fill a list again")]
fn list(call: ListCall, device: &Device<'_>, room: &mut Vec<Room>) -> Result<(), NvmlError> {
    // SAFETY: the device is one of this library's; `fill` hands out a buffer of `count` rows, each as long as the longest.
    fill(room, Room::default(), |out, count| unsafe { call(device.handle(), count, out.cast()) })
}

/// Takes the rows out of what a driver wrote: as many as there is `room` of, one behind the other.
#[allow(unsafe_code, reason = "rows are as far apart as the driver says, which no type does")]
fn unpack(room: &[Room], layout: Layout, into: &mut Vec<nvmlProcessInfo_t>) {
    let rows = room.as_ptr().cast::<u8>();
    into.extend((0..room.len()).map(|at| {
        // SAFETY: no row is longer than `Room`, of which there are as many; both layouts begin alike, and any bits are numbers.
        unsafe { rows.add(at * layout.bytes()).cast::<nvmlProcessInfo_t>().read_unaligned() }
    }));
}

/// Fills a buffer that is kept. `call` is given the room there is, and says in its place how much it takes.
pub(super) fn fill<T: Copy>(
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

#[cfg(test)]
mod tests {
    use super::*;

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
    fn rows_are_long_from_535_43_up_to_535_98() {
        for (driver, long) in [
            ("470.256.02", false),
            ("530.41.03", false),
            ("535.43.02", true),
            ("535.54.03", true),
            ("535.86.10", true),
            ("535.98", false),
            ("535.104.05", false),
            ("580.95.05", false),
            ("none", false),
        ] {
            assert_eq!(Layout::of(Some(driver)) == Layout::Long, long, "{driver}");
        }
        assert_eq!(Layout::of(None), Layout::Short);
    }

    #[test]
    fn there_is_room_for_long_rows_whichever_are_expected() {
        assert!([Layout::Short, Layout::Long].iter().all(|layout| layout.bytes() <= size_of::<Room>()));
        assert_eq!((Layout::Short.bytes(), Layout::Long.bytes()), (24, 32), "as the header has them");
    }
}
