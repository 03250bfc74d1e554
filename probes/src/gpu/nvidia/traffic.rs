//! Bytes over the links as GPM tells them: rates, over the time that each was measured in. For devices whose driver has no counter
//! of them that lasts.

use super::fields::Field;

/// The counters in whose place they are, with GPM's number for the rate. Transmit is from the device.
pub(crate) const RATES: [(Field, u32); 4] =
    [(Field::PcieTransmit, 20), (Field::PcieReceive, 21), (Field::NvlinkTransmit, 61), (Field::NvlinkReceive, 60)];

/// GPM's unit is MiB/s (`nvml.h`).
const UNIT: f64 = 1_048_576.0;
/// No link is as fast: 16 TiB/s.
const MOST: f64 = 16.0 * 1024.0 * 1024.0;

/// In bytes a second, in the order of [`RATES`]; `None` where GPM does not tell one, or one that cannot be true.
pub(crate) type Rates = [Option<f64>; RATES.len()];

/// What went over the links since the last answer, in the order of [`RATES`]; `None` where GPM does not tell.
pub(crate) type Moved = [Option<u64>; RATES.len()];

/// GPM's rate in bytes a second.
pub(super) fn rate(mebibytes: f64) -> Option<f64> {
    (0.0..=MOST).contains(&mebibytes).then_some(mebibytes * UNIT)
}

/// What goes over the `PCIe` link in the direction in which more goes, in bytes a second; `None` where one of the two is not told.
pub(super) fn busier_way(rates: &Rates) -> Option<f64> {
    const _: () = assert!(matches!(RATES[0].0, Field::PcieTransmit) && matches!(RATES[1].0, Field::PcieReceive));
    rates[0].zip(rates[1]).map(|(transmit, receive)| f64::max(transmit, receive))
}

/// What a device's links moved and nobody was told of yet.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    moved: Moved,
}

impl Traffic {
    /// Takes in a measurement of so many nanoseconds.
    pub(crate) fn add(&mut self, ns: u64, rates: &Rates) {
        for (moved, rate) in self.moved.iter_mut().zip(rates) {
            if let Some(rate) = rate {
                *moved = Some(moved.unwrap_or(0).saturating_add((rate * ns as f64 / 1e9).round() as u64));
            }
        }
    }

    /// What came since the last call.
    pub(crate) fn told(&mut self) -> Moved {
        std::mem::take(&mut self.moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_rates_over_the_time_they_were_measured_in_and_are_told_once() {
        let mut traffic = Traffic::default();
        traffic.add(100_000_000, &[rate(1000.0), rate(0.0), None, rate(f64::NAN)]);
        traffic.add(200_000_000, &[rate(10.0), None, None, rate(-1.0)]);
        assert_eq!(traffic.told(), [Some(102 * 1_048_576), Some(0), None, None]);
        assert_eq!(traffic.told(), [None; 4]);
        assert_eq!(rate(1e12), None, "faster than any link");
    }
}
