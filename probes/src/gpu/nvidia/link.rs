//! The `PCIe` link: how fast it is now, and how fast it could be.

use perfwatch_model::{Reading, Reason};

use super::readings::Reader;

/// Newer than any that is built.
const LAST_GENERATION: u32 = 8;
/// How many lanes a link can have.
const WIDTHS: [u32; 7] = [1, 2, 4, 8, 12, 16, 32];

/// Generation and lanes of the link.
#[derive(Clone, Debug)]
pub(crate) struct LinkReadings {
    pub(crate) generation: Reading<u64>,
    pub(crate) width: Reading<u64>,
    /// The most that this device can have in this machine.
    pub(crate) generation_limit: Reading<u64>,
    pub(crate) width_limit: Reading<u64>,
}

impl LinkReadings {
    /// None of them, for this reason.
    pub(crate) fn absent(reason: &Reason) -> Self {
        let absent = || Reading::Unavailable(reason.clone());
        Self { generation: absent(), width: absent(), generation_limit: absent(), width_limit: absent() }
    }

    /// Reads what changes with the load.
    pub(crate) fn read(&mut self, reader: &mut Reader<'_, '_>) {
        let device = reader.device;
        let generation = reader.call("nvmlDeviceGetCurrPcieLinkGeneration", || device.current_pcie_link_gen());
        let width = reader.call("nvmlDeviceGetCurrPcieLinkWidth", || device.current_pcie_link_width());
        (self.generation, self.width) = (known_generation(generation), known_width(width));
    }

    /// Reads what the slot and the device can do.
    pub(crate) fn read_limits(&mut self, reader: &mut Reader<'_, '_>) {
        let device = reader.device;
        let generation = reader.call("nvmlDeviceGetMaxPcieLinkGeneration", || device.max_pcie_link_gen());
        let width = reader.call("nvmlDeviceGetMaxPcieLinkWidth", || device.max_pcie_link_width());
        (self.generation_limit, self.width_limit) = (known_generation(generation), known_width(width));
    }

    /// Whether it is slower than it could be. An idle link is so on purpose: it saves power.
    pub(super) fn is_slow(&self) -> Option<bool> {
        let speed = |generation: &Reading<u64>, width: &Reading<u64>| Some(generation.as_value()? * width.as_value()?);
        Some(speed(&self.generation, &self.width)? < speed(&self.generation_limit, &self.width_limit)?)
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
        let link = |generation, width| LinkReadings {
            generation: known_generation(Reading::Value(generation)),
            width: known_width(Reading::Value(width)),
            generation_limit: Reading::Value(5),
            width_limit: Reading::Value(16),
        };
        assert_eq!([link(5, 16), link(1, 16), link(5, 8)].map(|link| link.is_slow()), [false, true, true].map(Some));
        assert_eq!([link(0, 16), link(9, 16), link(5, 0), link(5, 17)].map(|link| link.is_slow()), [None; 4]);
    }
}
