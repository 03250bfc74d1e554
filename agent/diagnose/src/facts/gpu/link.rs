//! How long copies between host and device take at least.

use perfwatch_model::metrics::gpu;
use perfwatch_model::tick::SLOT_NS;
use perfwatch_model::{EntityId, GpuSlot, Quality};

use super::super::Fact;
use super::super::handles::GpuHandles;
use super::super::reader::Source;

/// Bytes a second and lane of each generation of `PCIe`, from the first: transfers a second times the line code's share (8/10 for
/// two generations, then 128/130, then 242/256 of flits; PCI Express Base Specification).
const LANE: [f64; 6] = [0.25e9, 0.5e9, 0.984_6e9, 1.969e9, 3.938e9, 7.563e9];
/// Of that, what is left for data at the largest packets that are in use (512 bytes beside 24 of header and framing).
const PAYLOAD: f64 = 0.95;

/// The time that the busier direction needs for what went over the link in the tick, if nothing slowed it down.
pub(super) fn transfer_ns(source: &Source<'_>, entity: EntityId, handles: &GpuHandles) -> Fact<u64> {
    // An idle link slows down of its own accord, and may have been faster while it was used: the least that copies take is what
    // they take at its fastest.
    let fastest = |now, now_metric, limit, limit_metric| {
        let (now, limit) = (source.gauge(now, now_metric, entity), source.gauge(limit, limit_metric, entity));
        match (now.known_or_reason(), limit.known_or_reason()) {
            (Ok(now), Ok(limit)) => Ok(now.max(*limit)),
            (Err(reason), _) | (_, Err(reason)) => Err(reason),
        }
    };
    let generation = fastest(
        handles.link_generation,
        &gpu::PCIE_GENERATION,
        handles.link_generation_limit,
        &gpu::PCIE_GENERATION_LIMIT,
    );
    let width = fastest(handles.link_width, &gpu::PCIE_WIDTH, handles.link_width_limit, &gpu::PCIE_WIDTH_LIMIT);
    let (generation, width) = match (generation, width) {
        (Ok(generation), Ok(width)) => (generation, width),
        (Err(reason), _) | (_, Err(reason)) => return Fact::unknown(reason),
    };
    let Some(rate) = rate(generation, width) else { return Fact::missing("the link is of no known kind") };
    let mut most = None;
    for series in &handles.link_io {
        match source.counter(Some(*series), &gpu::PCIE_IO, entity).known_or_reason() {
            Ok(bytes) => most = most.max(Some(*bytes)),
            Err(reason) => return Fact::unknown(reason),
        }
    }
    match most {
        Some(bytes) => Fact::known((bytes as f64 / rate * 1e9) as u64, Quality::Modelled),
        None => Fact::missing("what goes over the link is not counted"),
    }
}

/// The same of one slot, as far as it is known to have gone over the link in that one.
pub(super) fn slot_transfer_ns(slot: &GpuSlot) -> u64 {
    ((slot.link.get().unwrap_or(0.0) / PAYLOAD).min(1.0) * SLOT_NS as f64) as u64
}

/// Bytes a second.
fn rate(generation: f64, width: f64) -> Option<f64> {
    let lane = LANE.get((generation.round() as usize).checked_sub(1)?)?;
    (width >= 1.0).then_some(lane * width * PAYLOAD)
}

#[cfg(test)]
mod tests {
    use perfwatch_model::Share;

    use super::*;

    #[test]
    fn copies_of_a_slot_take_what_is_left_for_data_and_no_more_than_the_slot() {
        let takes = |link| slot_transfer_ns(&GpuSlot { link, ..GpuSlot::default() });
        assert_eq!([Share::of(0.475), Share::of(1.0), Share::UNKNOWN].map(takes), [SLOT_NS / 2, SLOT_NS, 0]);
    }

    #[test]
    fn a_link_is_as_fast_as_its_generation_and_lanes_allow() {
        let gigabytes = |generation, width| rate(generation, width).map(|rate| (rate / 1e8).round() / 10.0);
        assert_eq!(gigabytes(5.0, 16.0), Some(59.9));
        assert_eq!(gigabytes(3.0, 8.0), Some(7.5));
        assert_eq!((gigabytes(0.0, 16.0), gigabytes(9.0, 16.0), gigabytes(4.0, 0.0)), (None, None, None));
    }
}
