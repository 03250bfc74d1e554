//! The `PCIe` link: how fast it is now, and how fast it could be.

use perfwatch_model::{Reading, Reason};

use super::port::Port;
use super::readings::Reader;

/// Newer than any that is built.
const LAST_GENERATION: u32 = 8;
/// Bytes a second and lane of each generation, from the first (PCI Express Base Specification).
const LANE: [f64; 6] = [0.25e9, 0.5e9, 0.984_6e9, 1.969e9, 3.938e9, 7.563e9];
/// How many lanes a link can have.
const WIDTHS: [u32; 7] = [1, 2, 4, 8, 12, 16, 32];

/// The most lanes, and the newest generation, that a link was seen to have; 0 before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Best {
    width: u64,
    generation: u64,
}

/// Generation and lanes of the link.
#[derive(Clone, Debug)]
pub(crate) struct LinkReadings {
    pub(crate) generation: Reading<u64>,
    pub(crate) width: Reading<u64>,
    /// The most that this device can have in this machine.
    pub(crate) generation_limit: Reading<u64>,
    width_limit: Reading<u64>,
    /// Whether that of the width is of the slot as well, and not of the device alone.
    is_slot_known: bool,
}

impl LinkReadings {
    /// None of them, for this reason.
    pub(crate) fn absent(reason: &Reason) -> Self {
        let absent = || Reading::Unavailable(reason.clone());
        let (generation, width, generation_limit, width_limit) = (absent(), absent(), absent(), absent());
        Self { generation, width, generation_limit, width_limit, is_slot_known: false }
    }

    /// Reads what changes with the load.
    pub(crate) fn read(&mut self, reader: &mut Reader<'_, '_>) {
        let device = reader.device;
        let generation = reader.call("nvmlDeviceGetCurrPcieLinkGeneration", || device.current_pcie_link_gen());
        let width = reader.call("nvmlDeviceGetCurrPcieLinkWidth", || device.current_pcie_link_width());
        (self.generation, self.width) = (known_generation(generation), known_width(width));
    }

    /// Reads what the slot and the device can do, by the driver and by what the kernel says of the port. One that the link has
    /// more than is another's, or made up: nothing is heard of it any more.
    pub(crate) fn read_limits(&mut self, reader: &mut Reader<'_, '_>, port: &mut Option<Port>) {
        let device = reader.device;
        let generation = reader.call("nvmlDeviceGetMaxPcieLinkGeneration", || device.max_pcie_link_gen());
        let width = reader.call("nvmlDeviceGetMaxPcieLinkWidth", || device.max_pcie_link_width());
        (self.generation_limit, self.width_limit) = (known_generation(generation), known_width(width));
        *port = port.filter(|port| {
            let has_more =
                |now: &Reading<u64>, most: Option<u64>| now.as_value().zip(most).is_some_and(|(now, most)| *now > most);
            !has_more(&self.width, Some(port.width)) && !has_more(&self.generation, port.generation)
        });
        self.is_slot_known = port.is_some();
        for (limit, most) in [
            (&mut self.width_limit, port.map(|port| port.width)),
            (&mut self.generation_limit, port.and_then(|port| port.generation)),
        ] {
            if let (Reading::Value(limit), Some(most)) = (limit, most) {
                *limit = most.min(*limit);
            }
        }
    }

    /// The most lanes that it can have; where nothing is known of the slot the most that it had, as far as that was seen.
    pub(super) fn width_limit(&self, best: Best) -> Reading<u64> {
        self.limit(&self.width_limit, &self.width, best.width)
    }

    fn limit(&self, limit: &Reading<u64>, now: &Reading<u64>, seen: u64) -> Reading<u64> {
        match limit {
            Reading::Value(limit) if !self.is_slot_known => {
                let seen = now.as_value().copied().unwrap_or(0).max(seen).min(*limit);
                Reading::Value(if seen == 0 { *limit } else { seen })
            }
            limit => limit.clone(),
        }
    }

    /// What it has now, or had before, whichever is more.
    pub(super) fn best(&self, before: Best) -> Best {
        let now = |reading: &Reading<u64>| reading.as_value().copied().unwrap_or(0);
        Best { width: now(&self.width).max(before.width), generation: now(&self.generation).max(before.generation) }
    }

    /// Bytes that it can move in a second in one direction, at most.
    pub(super) fn rate(&self) -> Option<f64> {
        let most = |now: &Reading<u64>, limit: &Reading<u64>| {
            let limit = *limit.as_value()?;
            Some(now.as_value().map_or(limit, |now| limit.max(*now)))
        };
        let generation = usize::try_from(most(&self.generation, &self.generation_limit)?).ok()?;
        Some(LANE.get(generation.checked_sub(1)?)? * most(&self.width, &self.width_limit)? as f64)
    }

    /// Whether it is slower than it could be, as far as anybody knows.
    pub(super) fn may_be_slow(&self) -> bool {
        self.is_slow(Best { width: u64::MAX, generation: u64::MAX }) == Some(true)
    }

    /// Whether it is slower than it could be, where it is known to have been so good. An idle link is so on purpose: it saves power.
    pub(super) fn is_slow(&self, best: Best) -> Option<bool> {
        let speed = |generation: &Reading<u64>, width: &Reading<u64>| Some(generation.as_value()? * width.as_value()?);
        let generation_limit = self.limit(&self.generation_limit, &self.generation, best.generation);
        Some(speed(&self.generation, &self.width)? < speed(&generation_limit, &self.width_limit(best))?)
    }
}

fn known_generation(reading: Reading<u32>) -> Reading<u64> {
    known(reading, "generation", |generation| (1..=LAST_GENERATION).contains(&generation))
}

fn known_width(reading: Reading<u32>) -> Reading<u64> {
    known(reading, "width", |width| WIDTHS.contains(&width))
}

fn known(reading: Reading<u32>, what: &str, can_be: impl Fn(u32) -> bool) -> Reading<u64> {
    match reading {
        Reading::Value(value) if !can_be(value) => Reading::Unavailable(Reason::new(
            format!("the driver reported a PCIe link of {what} {value}, which cannot be true"),
            "none: the next sample is usually right",
        )),
        other => other.map(u64::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_slow_below_what_it_could_be_and_unknown_where_a_part_is() {
        let link = |generation, width, is_slot_known| LinkReadings {
            generation: known_generation(Reading::Value(generation)),
            width: known_width(Reading::Value(width)),
            generation_limit: Reading::Value(5),
            width_limit: Reading::Value(16),
            is_slot_known,
        };
        let of_slot = |generation, width| link(generation, width, true).is_slow(Best::default());
        assert_eq!([of_slot(5, 16), of_slot(1, 16), of_slot(5, 8)], [false, true, true].map(Some));
        assert_eq!([of_slot(0, 16), of_slot(9, 16), of_slot(5, 0), of_slot(5, 17)], [None; 4]);
        let narrow = link(5, 8, false);
        let wide = |width| Best { width, ..Best::default() };
        assert_eq!([0, 8, 16, 32].map(|width| narrow.is_slow(wide(width))), [false, false, true, true].map(Some));
        assert_eq!([0, 16, 32].map(|width| narrow.width_limit(wide(width))), [8, 16, 16].map(Reading::Value));
        // In a slot of an older generation, of which nothing is known.
        let old = link(3, 16, false);
        let new = |generation| Best { generation, ..Best::default() };
        assert_eq!([0, 3, 4].map(|generation| old.is_slow(new(generation))), [false, false, true].map(Some));
        assert_eq!(link(1, 16, false).best(old.best(narrow.best(Best::default()))), Best { width: 16, generation: 5 });
    }
}
