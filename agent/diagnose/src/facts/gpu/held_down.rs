//! For how long a GPU's clocks were held down, by reason.

use perfwatch_model::metrics::gpu;
use perfwatch_model::{EntityId, Quality};

use super::super::Fact;
use super::super::handles::GpuHandles;
use super::super::reader::Source;

/// The reasons that newer drivers count; older ones do not count the last three apart. The mask of reasons has more:
/// settings (`application_clocks`, `display_clocks`), and `hw_slowdown`, which is set beside `hw_thermal` and
/// `hw_power_brake`, and by itself for moments when the performance state changes or the power peaks (`nvml.h`). So
/// what it says of heat and brakes is said by the two.
const COUNTED: [&str; 5] = ["sw_power_cap", "sync_boost", "sw_thermal", "hw_thermal", "hw_power_brake"];

/// Nanoseconds of the tick by reason. Where the driver counts none, the whole tick or nothing of it, by the mask at its
/// end: [`Quality::Inferred`]. A counter that misses a tick is only unknown in it.
pub(super) fn held_down(source: &Source<'_>, entity: EntityId, handles: &GpuHandles) -> Vec<(String, Fact<u64>)> {
    let of = |known: &[(String, _)], reason: &str| {
        known.iter().find(|(known, _)| known == reason).map(|(_, series)| *series)
    };
    COUNTED
        .iter()
        .filter_map(|reason| {
            let (time, active) = (of(&handles.held_down, reason), of(&handles.held_down_now, reason));
            time.or(active)?;
            let counted = source.counter(time, &gpu::THROTTLE_TIME, entity);
            let is_counted = time.is_some_and(|series| source.has_begun(series));
            let now = source.gauge(active.filter(|_| !is_counted), &gpu::THROTTLE_ACTIVE, entity).get();
            let fact = match now {
                Some(active) => Fact::known(if active > 0.0 { source.dt_ns() } else { 0 }, Quality::Inferred),
                None => counted,
            };
            Some(((*reason).to_owned(), fact))
        })
        .collect()
}
