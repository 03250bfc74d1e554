//! What is known of a GPU in one tick, and the ledger of that.

use perfwatch_diagnose::Fact;
use perfwatch_diagnose::facts::{Bearing, GpuFacts};
use perfwatch_diagnose::ledger::gpu_ledger;
use perfwatch_model::{EntityId, Ledger, Quality, Share, Sharing};

pub(crate) const SECOND: u64 = 1_000_000_000;

pub(crate) fn gpu_whole(facts: &GpuFacts) -> Option<Ledger> {
    gpu_ledger(facts).map(|(ledger, _)| ledger)
}

/// A GPU that does nothing, with everything known.
pub(crate) fn idle_gpu() -> GpuFacts {
    let share = |value| Fact::known(value, Quality::Counter);
    GpuFacts {
        entity: EntityId(0),
        dt_ns: SECOND,
        utilization: share(0.0),
        graphics: share(0.0),
        sm: share(0.0),
        tensor: share(0.0),
        vector: share(0.0),
        dram: share(0.0),
        memory_used: Fact::known(0, Quality::Counter),
        memory_total: Fact::known(80 << 30, Quality::Counter),
        memory_reserved: Fact::known(0, Quality::Counter),
        sm_clock: Fact::known(1_980e6, Quality::Counter),
        sm_clock_limit: Fact::known(1_980e6, Quality::Counter),
        power_limit: Fact::known(700.0, Quality::Counter),
        held_down: vec![("sw_power_cap".to_owned(), Fact::known(0, Quality::Counter))],
        uncorrected: Fact::known(0, Quality::Counter),
        xids: Vec::new(),
        began_anew: false,
        faults: Vec::new(),
        spans: Vec::new(),
        bearing: Bearing::Whole,
        servers: Vec::new(),
        sharing: Sharing::Alone,
        processes: None,
        transfer_ns: Fact::known(0, Quality::Modelled),
        own_sm: Share::UNKNOWN,
        other_sm: Share::UNKNOWN,
    }
}
