//! Power: from the energy that was drawn since the last read, or else as the driver averages it.

use perfwatch_model::{Reading, Reason};

use super::clock::monotonic_ns;
use super::counter::Bound;
use super::fields;
use super::readings::{self, DeviceReadings, Reader};

/// The driver renews its counter some ten times a second; over less than this a step too many would be a fifth.
const SHORTEST_NS: u64 = 500_000_000;
/// What was drawn over more than this is not this second's.
const LONGEST_NS: u64 = 3_000_000_000;
/// A device that draws more than this has not been built.
const MOST_MW: u32 = 20_000_000;

/// A device that is busier than this draws something.
const BUSY: f64 = 0.5;

/// The counter of one device's energy, as it was read last.
///
/// The sensors behind the driver's own average look at a quarter of the time on some devices, and its window is not the tick's.
#[derive(Default)]
pub(crate) struct Meter {
    /// Millijoules, and when.
    last: Option<(u64, u64)>,
    /// What the last two reads that were far enough apart told.
    watts: Option<f64>,
}

impl Meter {
    /// Reads energy, and power from it; the driver's average only where that tells nothing.
    pub(crate) fn read(&mut self, reader: &mut Reader<'_, '_>, into: &mut DeviceReadings) {
        let device = reader.device;
        into.energy_mj =
            counted(reader.call("nvmlDeviceGetTotalEnergyConsumption", || device.total_energy_consumption()));
        let drawn = self.drawn(into.energy_mj.as_value().copied(), monotonic_ns());
        // Without a limit there is nothing that it could be compared with.
        let most = into.power_limit_w.as_value().filter(|limit| **limit > 0.0).map(|limit| 2.0 * limit);
        into.power_w = if let Some(watts) = drawn.filter(|watts| most.is_some_and(|most| *watts < most)) {
            Reading::Value(watts)
        } else {
            let told = watts(reader.call("nvmlDeviceGetPowerUsage", || device.power_usage()));
            let is_busy = into.utilization.as_value().is_some_and(|share| *share >= BUSY);
            plausible(told, most, is_busy)
        };
    }

    /// What was drawn since the last read; none where the counter did not rise, which says nothing.
    fn drawn(&mut self, energy_mj: Option<u64>, now_ns: u64) -> Option<f64> {
        let since = self.last.map(|(_, then_ns)| now_ns.saturating_sub(then_ns));
        if since.is_some_and(|ns| ns < SHORTEST_NS) && energy_mj.is_some() {
            return self.watts;
        }
        let before = std::mem::replace(&mut self.last, energy_mj.map(|mj| (mj, now_ns)));
        let (before_mj, since) = (before?.0, since.filter(|ns| *ns <= LONGEST_NS));
        let drawn = energy_mj.and_then(|mj| mj.checked_sub(before_mj)).filter(|mj| *mj > 0);
        self.watts = drawn.zip(since).map(|(mj, ns)| mj as f64 * 1e6 / ns as f64);
        self.watts
    }
}

/// What the driver says, where it can be true.
fn plausible(told: Reading<f64>, most: Option<f64>, is_busy: bool) -> Reading<f64> {
    match told {
        Reading::Value(watts) if most.is_some_and(|most| watts > most) || (is_busy && watts == 0.0) => {
            let text = format!("the driver reported {watts} W, which cannot be true");
            Reading::Unavailable(Reason::new(text, "none: the next sample is usually right"))
        }
        other => other,
    }
}

/// How far the counter can rise, where the device may draw so much.
pub(super) fn bound(limit_w: &Reading<f64>) -> Bound {
    Bound::PerSecond(
        limit_w.as_value().filter(|limit| **limit > 0.0).map_or(f64::from(MOST_MW), |limit| 2.0 * limit * 1e3),
    )
}

/// Milliwatts to watts.
pub(super) fn watts(reading: Reading<u32>) -> Reading<f64> {
    readings::at_most(reading, MOST_MW, "mW").map(|milliwatts| f64::from(milliwatts) / 1e3)
}

fn counted(reading: Reading<u64>) -> Reading<u64> {
    match reading {
        Reading::Value(mj) if mj > fields::MOST_COUNTED => Reading::Unavailable(Reason::new(
            format!("the driver reported {mj} mJ, which cannot be true"),
            "none: the next sample is usually right",
        )),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_drivers_average_is_told_where_it_can_be_true() {
        let told = |watts, most, is_busy| plausible(Reading::Value(watts), most, is_busy).value();
        assert_eq!([told(0.0, None, false), told(690.0, Some(1400.0), true)], [Some(0.0), Some(690.0)]);
        assert_eq!([told(0.0, None, true), told(1401.0, Some(1400.0), false)], [None, None]);
    }

    #[test]
    fn power_is_the_energy_of_the_time_between_two_reads() {
        let mut meter = Meter::default();
        let reads = [
            (Some(1_000_000), 10 * SECOND, None),
            (Some(1_350_000), 11 * SECOND, Some(350.0)),
            (Some(1_360_000), 11 * SECOND + SECOND / 4, Some(350.0)),
            (Some(2_100_000), 12 * SECOND, Some(750.0)),
            (Some(2_100_000), 13 * SECOND, None),
            (Some(5), 14 * SECOND, None),
            (Some(700_005), 15 * SECOND, Some(700.0)),
            (Some(9_700_005), 24 * SECOND, None),
            (None, 25 * SECOND, None),
            (Some(9_900_000), 26 * SECOND, None),
            (Some(9_900_100), 27 * SECOND, Some(0.1)),
        ];
        for (at, (energy, now_ns, expected)) in reads.into_iter().enumerate() {
            assert_eq!(meter.drawn(energy, now_ns), expected, "read {at}");
        }
    }
}
