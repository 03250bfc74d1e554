//! How busy a device without GPM was, in finer steps than a tick: the driver's own samples of its utilisation.

use std::collections::VecDeque;

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::{
    nvmlSample_t, nvmlSamplingType_enum_NVML_GPU_UTILIZATION_SAMPLES as UTILIZATION, nvmlValue_t, nvmlValueType_t,
};
use perfwatch_model::tick::SLOTS;
use perfwatch_model::{GpuSlot, Share, Stamp};

use super::fields;
use super::readings::Reader;
use super::spans::{COVERED_NS, overlap};

pub(crate) const CALL: &str = "nvmlDeviceGetSamples";

/// Room for what a driver keeps, which it tells; some hundred are usual.
const MOST_ROWS: usize = 4_096;
/// As many as are kept here: two seconds of one each 20 ms.
const MOST: usize = 100;
/// What is older is in no slot that is asked for.
const REACH_US: u64 = 2_000_000;
/// Samples are 1/6 s to 1 s apart (`nvml.h`). Of what lies further apart, nobody knows what it is the mean of.
const LONGEST_US: u64 = 1_200_000;
/// How much later than the tick a sample may be: the driver takes some while it is asked.
const LATE_US: u64 = 1_000_000;

/// What the driver says of the time since the sample before.
#[derive(Clone, Copy, Debug)]
struct Piece {
    /// `CLOCK_MONOTONIC`.
    from_ns: u64,
    to_ns: u64,
    share: f64,
}

/// A device's samples of utilisation, and the buffer of the call.
pub(crate) struct Samples {
    /// As long as the driver says that its own is; empty before the first call.
    rows: Vec<nvmlSample_t>,
    /// The newest time seen, by the driver's clock, which is the wall's.
    newest_us: Option<u64>,
    /// Oldest first.
    pieces: VecDeque<Piece>,
}

impl Default for Samples {
    fn default() -> Self {
        Self { rows: Vec::new(), newest_us: None, pieces: VecDeque::with_capacity(MOST) }
    }
}

impl Samples {
    /// Reads what is new. Where the driver keeps no samples there is nothing finer than its utilisation, and no fault.
    pub(crate) fn read(&mut self, reader: &mut Reader<'_, '_>, nvml: &Nvml, at: Stamp) {
        let device = reader.device;
        let _told = reader.call(CALL, || self.ask(nvml, device, at));
    }

    #[allow(unsafe_code, reason = "the wrapper's list is allocated anew each time")]
    fn ask(&mut self, nvml: &Nvml, device: &Device<'_>, at: Stamp) -> Result<(), NvmlError> {
        let call = *nvml_sym(nvml.lib().nvmlDeviceGetSamples.as_ref())?;
        let since = self.since_us(at);
        let mut kind = 0;
        let mut ask = |count: &mut u32, out| {
            // SAFETY: the device is one of this library's; `out` is null, or has room for `count` rows.
            match nvml_try(unsafe { call(device.handle(), UTILIZATION, since, &raw mut kind, count, out) }) {
                // Nothing new.
                Err(NvmlError::NotFound) => {
                    *count = 0;
                    Ok(())
                }
                other => other,
            }
        };
        if self.rows.is_empty() {
            let mut most = 0;
            ask(&mut most, std::ptr::null_mut())?;
            let nothing = nvmlSample_t { timeStamp: 0, sampleValue: nvmlValue_t { ullVal: 0 } };
            self.rows.resize((most as usize).min(MOST_ROWS), nothing);
        }
        let mut count = self.rows.len() as u32;
        if count == 0 {
            return Ok(());
        }
        ask(&mut count, self.rows.as_mut_ptr())?;
        self.take(count as usize, kind, at);
        Ok(())
    }

    /// What is asked for is newer than this. A time that is yet to come is one of before the wall's clock was put back.
    fn since_us(&mut self, at: Stamp) -> u64 {
        let now_us = at.wall_ns / 1000;
        self.newest_us = self.newest_us.filter(|newest| *newest <= now_us.saturating_add(LATE_US));
        self.newest_us.unwrap_or(0).max(now_us.saturating_sub(REACH_US))
    }

    /// Takes in the first rows of the buffer. Drivers have been seen to hand out older ones than they were asked for.
    fn take(&mut self, count: usize, kind: nvmlValueType_t, at: Stamp) {
        let (since, latest) = (self.since_us(at), (at.wall_ns / 1000).saturating_add(LATE_US));
        let count = count.min(self.rows.len());
        self.rows[..count].sort_unstable_by_key(|row| row.timeStamp);
        for row in &self.rows[..count] {
            let to_us = row.timeStamp;
            if to_us <= since || to_us > latest {
                continue;
            }
            let before = self.newest_us.replace(to_us).filter(|before| to_us - before <= LONGEST_US);
            let percent = fields::decode(kind, row.sampleValue).filter(|percent| *percent <= 100);
            let monotonic = |us: u64| (us * 1000 + at.mono_ns).checked_sub(at.wall_ns);
            if let (Some(from_ns), Some(to_ns), Some(percent)) = (before.and_then(monotonic), monotonic(to_us), percent)
            {
                if self.pieces.len() == MOST {
                    self.pieces.pop_front();
                }
                self.pieces.push_back(Piece { from_ns, to_ns, share: percent as f64 / 100.0 });
            }
        }
    }

    /// The ten slots that end at `end_ns`. Each has what the sample says that covers most of it, or the mean of those that are
    /// shorter. The last ones are unknown until the driver has taken its next sample.
    pub(crate) fn slots(&self, end_ns: u64) -> [GpuSlot; SLOTS] {
        let mut before = None;
        std::array::from_fn(|at| {
            let overlap = |piece: &Piece| overlap(end_ns, at, piece.from_ns, piece.to_ns);
            let covered: u64 = self.pieces.iter().map(overlap).sum();
            let most = self.pieces.iter().enumerate().max_by_key(|(_, piece)| overlap(piece));
            let most = most.filter(|(_, piece)| overlap(piece) >= COVERED_NS);
            let continued = most.is_some() && before == most.map(|(number, _)| number);
            before = most.map(|(number, _)| number);
            let graphics = match most {
                Some((_, piece)) => Share::of(piece.share),
                None if covered >= COVERED_NS => {
                    let busy: f64 = self.pieces.iter().map(|piece| piece.share * overlap(piece) as f64).sum();
                    Share::of(busy / covered as f64)
                }
                None => Share::UNKNOWN,
            };
            GpuSlot { graphics, continued, ..GpuSlot::default() }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wall's clock at the monotonic clock's zero.
    const BOOT_US: u64 = 1_767_323_045_000_000;
    const MS: u64 = 1_000;
    const UNSIGNED_INT: nvmlValueType_t = 1;

    fn at(mono_us: u64) -> Stamp {
        Stamp { mono_ns: mono_us * 1000, wall_ns: (BOOT_US + mono_us) * 1000 }
    }

    fn row(mono_us: u64, percent: u32) -> nvmlSample_t {
        nvmlSample_t { timeStamp: BOOT_US + mono_us, sampleValue: nvmlValue_t { ullVal: percent.into() } }
    }

    fn take(samples: &mut Samples, now_us: u64, rows: &[nvmlSample_t]) {
        samples.rows = rows.to_vec();
        samples.take(rows.len(), UNSIGNED_INT, at(now_us));
    }

    fn told(samples: &Samples, end_us: u64) -> Vec<(Option<f64>, bool)> {
        samples.slots(end_us * 1000).iter().map(|slot| (slot.graphics.get(), slot.continued)).collect()
    }

    #[test]
    fn each_slot_has_the_sample_that_covers_most_of_it() {
        let mut samples = Samples::default();
        let rows: Vec<_> = (0..=6).map(|at| row(1_000 * MS + at * 160 * MS, at as u32 * 10)).collect();
        take(&mut samples, 2_000 * MS, &rows);
        let slots = samples.slots(2_000 * MS * 1000);
        let shares: Vec<_> = slots.iter().map(|slot| slot.graphics.get().expect("known")).collect();
        assert_eq!(shares, [0.1, 0.1, 0.2, 0.3, 0.3, 0.4, 0.5, 0.5, 0.6, 0.6]);
        let continued: Vec<_> = (0..SLOTS).filter(|at| slots[*at].continued).collect();
        assert_eq!(continued, [1, 4, 7, 9]);
        assert!(slots.iter().all(|slot| slot.sm == Share::UNKNOWN && slot.vector == Share::UNKNOWN));
    }

    #[test]
    fn what_the_driver_has_not_sampled_yet_is_unknown() {
        let mut samples = Samples::default();
        take(&mut samples, 4_000 * MS, &[row(2_700 * MS, 10), row(3_700 * MS, 60)]);
        let slots = told(&samples, 4_000 * MS);
        assert_eq!(slots[0], (Some(0.6), false));
        assert!(slots[1..7].iter().all(|slot| *slot == (Some(0.6), true)));
        assert!(slots[7..].iter().all(|slot| *slot == (None, false)));
    }

    #[test]
    fn samples_shorter_than_a_slot_are_told_as_their_mean() {
        let mut samples = Samples::default();
        let rows: Vec<_> =
            (0..=50).map(|at| row(1_000 * MS + at * 20 * MS, if at % 5 == 0 { 100 } else { 0 })).collect();
        take(&mut samples, 2_000 * MS, &rows);
        assert!(told(&samples, 2_000 * MS).iter().all(|slot| *slot == (Some(0.2), false)));
    }

    #[test]
    fn what_cannot_be_true_is_dropped() {
        let mut samples = Samples::default();
        take(
            &mut samples,
            2_000 * MS,
            &[
                row(2_000 * MS, 808_334_905),
                row(1_500 * MS, 30),
                row(1_000 * MS, 50),
                nvmlSample_t { timeStamp: 0, ..row(0, 90) },
                nvmlSample_t { timeStamp: u64::MAX, ..row(0, 90) },
                row(3_500 * MS, 90),
            ],
        );
        let known: Vec<_> = told(&samples, 2_000 * MS).into_iter().map(|(share, _)| share).collect();
        assert_eq!(known[..5], [Some(0.3); 5]);
        assert_eq!(known[5..], [None; 5]);
        take(&mut samples, 3_000 * MS, &[row(1_500 * MS, 90), row(2_600 * MS, 70)]);
        assert_eq!(told(&samples, 3_000 * MS)[0].0, Some(0.7), "from the time of the one that was dropped");
    }

    #[test]
    fn after_a_pause_nothing_is_said_of_it() {
        let mut samples = Samples::default();
        take(&mut samples, 2_000 * MS, &[row(1_900 * MS, 30)]);
        take(&mut samples, 4_000 * MS, &[row(3_700 * MS, 40), row(3_900 * MS, 50)]);
        let known = told(&samples, 4_000 * MS).iter().filter(|(share, _)| share.is_some()).count();
        assert_eq!(known, 2, "of the time between two samples in a row alone");
    }

    #[test]
    fn a_clock_that_is_put_back_begins_anew() {
        let mut samples = Samples::default();
        take(&mut samples, 9_000 * MS, &[row(8_800 * MS, 30), row(9_000 * MS, 30)]);
        let back = Stamp { wall_ns: (BOOT_US + 5_000 * MS) * 1000, ..at(10_000 * MS) };
        samples.rows = vec![row(4_800 * MS, 70), row(5_000 * MS, 80)];
        samples.take(2, UNSIGNED_INT, back);
        assert_eq!(told(&samples, 10_000 * MS)[8..], [(Some(0.8), false), (Some(0.8), true)]);
    }
}
