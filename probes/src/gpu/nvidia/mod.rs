//! NVIDIA GPUs through NVML.
//!
//! NVML calls can block for ever inside the kernel, so all of them are made by one thread of their own (`sampler.rs`), which owns
//! the loaded library on its stack and can drop and load it again. The probe (`probe.rs`) hands that thread a request and waits no
//! longer than its budget; a thread that does not answer is reported as an unresponsive driver until it does.
//!
//! Whether the library may be open at all is said by a permit (`permit.rs`), which the agent can withdraw for a while (`grip.rs`).
//!
//! A statically linked (musl) build cannot load any library; it says so and points to the glibc build.

mod activity;
mod clock;
mod counted;
mod counter;
mod events;
mod exchange;
mod fault;
mod fields;
mod gpm;
mod grip;
mod headroom;
mod health;
mod held;
mod link;
mod link_reads;
mod link_slots;
mod lists;
mod memory;
mod mig;
mod namespace;
mod overdue;
mod pace;
mod permit;
mod plugged;
mod port;
mod power;
mod probe;
mod readings;
mod refresh;
mod retry;
mod said;
mod sampler;
mod series;
mod session;
mod settings;
mod short;
mod spans;
mod tenants;
mod traffic;
mod turn;
mod unload;
mod utilization;

use perfwatch_model::{MetricDef, metrics};

use crate::gpu::{GpuContext, GpuProbe, Vendor};

/// NVIDIA, through `libnvidia-ml.so.1`.
pub struct Nvidia;

impl Vendor for Nvidia {
    fn name(&self) -> &'static str {
        "nvidia"
    }

    fn metrics(&self) -> &'static [&'static MetricDef] {
        metrics::gpu::ALL
    }

    fn open(&self, context: &GpuContext) -> Box<dyn GpuProbe> {
        Box::new(probe::NvidiaProbe::start(context.clone()))
    }
}
