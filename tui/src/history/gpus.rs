//! The recent past of a GPU.

use perfwatch_model::snapshot::GpuView;

use super::Trail;

/// What is followed of a GPU.
#[derive(Clone, Debug, Default)]
pub struct GpuTrails {
    /// Share of time in which any kernel ran.
    pub utilization: Trail,
    /// Share of the SMs' cycles with a warp on them.
    pub sm: Trail,
    /// Share of cycles in which the tensor cores were busy.
    pub tensor: Trail,
    /// Share of the memory's bandwidth on paper.
    pub dram: Trail,
    /// Bytes per second over `PCIe`, both ways.
    pub pcie: Trail,
    /// Bytes per second over all `NVLinks`, both ways.
    pub nvlink: Trail,
    /// Bytes of memory in use.
    pub memory: Trail,
    /// Watts.
    pub power: Trail,
    /// Core temperature, degrees Celsius.
    pub temperature: Trail,
    /// Clock of the SMs, hertz.
    pub sm_clock: Trail,
    /// Share of time for which the clocks were held down for the reason that held longest. Reasons overlap.
    pub held_down: Trail,
}

impl GpuTrails {
    fn all(&mut self) -> [&mut Trail; 11] {
        [
            &mut self.utilization,
            &mut self.sm,
            &mut self.tensor,
            &mut self.dram,
            &mut self.pcie,
            &mut self.nvlink,
            &mut self.memory,
            &mut self.power,
            &mut self.temperature,
            &mut self.sm_clock,
            &mut self.held_down,
        ]
    }

    pub(super) fn advance(&mut self, steps: usize) {
        self.all().into_iter().for_each(|trail| trail.advance(steps));
    }

    pub(super) fn put(&mut self, gpu: &GpuView, held_down: Option<f64>) {
        let activity = gpu.activity.unwrap_or_default();
        self.utilization.put(gpu.utilization);
        self.sm.put(activity.sm_active);
        self.tensor.put(activity.tensor_active);
        self.dram.put(activity.dram_active);
        self.pcie.put(gpu.pcie.and_then(|pcie| both_ways(pcie.transmit_bytes_per_s, pcie.receive_bytes_per_s)));
        self.nvlink.put(gpu.nvlink.and_then(|link| both_ways(link.transmit_bytes_per_s, link.receive_bytes_per_s)));
        self.memory.put(gpu.memory_used_bytes.map(|bytes| bytes as f64));
        self.power.put(gpu.power_watts);
        self.temperature.put(gpu.temperature_celsius);
        self.sm_clock.put(gpu.sm_clock_hertz);
        self.held_down.put(held_down);
    }

    pub(super) fn is_forgotten(&mut self) -> bool {
        self.all().iter().all(|trail| trail.is_forgotten())
    }
}

/// What goes and what comes; `None` when either is not known: half of it would pass for the whole.
pub(crate) fn both_ways(transmit: Option<f64>, receive: Option<f64>) -> Option<f64> {
    Some(transmit? + receive?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_a_gap() {
        let mut trails = GpuTrails::default();
        let newest = |trail: &Trail| trail.iter().next_back();
        trails.put(&GpuView::default(), None);
        assert!(newest(&trails.pcie).is_some_and(f64::is_nan) && trails.is_forgotten());
        trails.put(&GpuView::default(), Some(0.7));
        assert_eq!(newest(&trails.held_down), Some(0.7));
        assert_eq!((both_ways(Some(1.0), None), both_ways(Some(1.0), Some(2.0))), (None, Some(3.0)));
    }
}
