//! Work whose nature is known is told for what it is.

use nvml_wrapper::Nvml;
use perfwatch_model::Attr;
use perfwatch_model::metrics::gpu;

use crate::binary::Recording;
use crate::fixture;
use crate::smi::Card;
use crate::torch::{PRODUCTS, Worker};
use crate::watch::{Watch, card};

/// Copies within the device's memory, each of 4 GiB.
const COPIES: &str = "
import torch
a = torch.zeros(1 << 32, device='cuda', dtype=torch.uint8)
b = torch.zeros_like(a)
def work():
    for _ in range(20):
        b.copy_(a)
    torch.cuda.synchronize()
";

/// Copies from the host's memory and back.
const TRANSFERS: &str = "
import torch
a = torch.zeros(1 << 28, dtype=torch.uint8, pin_memory=True)
b = torch.zeros(1 << 28, device='cuda', dtype=torch.uint8)
def work():
    for _ in range(4):
        b.copy_(a, non_blocking=True)
        a.copy_(b, non_blocking=True)
    torch.cuda.synchronize()
";

/// Kernels of one block each, one after the other.
const CRUMBS: &str = "
import torch
a = torch.zeros(32, device='cuda')
def work():
    for _ in range(5000):
        a.add_(1)
    torch.cuda.synchronize()
";

/// What the probe says of a second of the work.
#[derive(Debug)]
struct Told {
    graphics: f64,
    sm: f64,
    tensor: f64,
    dram: f64,
    /// Bytes a second to the host, and from it.
    pcie: [f64; 2],
}

/// As long as the probe looks, and rules do that judge a window of ten seconds and a finding's rise.
const RECORDED_S: u32 = 16;

fn told_of(name: &str, work: &str) -> Told {
    let _alone = crate::alone();
    let card = card();
    let _worker = Worker::for_ever(&card.uuid, work);
    let recording = Recording::begin(name, RECORDED_S);
    let mut watch = Watch::open();
    let way = |which: &'static str| [Attr::fixed("network.io.direction", which)];
    let (transmit, receive) = (way("transmit"), way("receive"));
    let means = watch.means(
        &card.uuid,
        [
            (&gpu::GRAPHICS_ACTIVE, &[]),
            (&gpu::SM_ACTIVE, &[]),
            (&gpu::TENSOR_ACTIVE, &[]),
            (&gpu::DRAM_ACTIVE, &[]),
            (&gpu::PCIE_IO, &transmit),
            (&gpu::PCIE_IO, &receive),
        ],
    );
    say!("{name}: graphics, SM, tensor, DRAM, PCIe bytes/s to the host and from it: {means:.3?}");
    keep_scenario(name, &card);
    if let Some(recording) = recording {
        recording.end();
    }
    let [graphics, sm, tensor, dram, sent, received] =
        means.map(|mean| mean.unwrap_or_else(|reason| panic!("{name}: {reason}")));
    Told { graphics, sm, tensor, dram, pcie: [sent, received] }
}

fn keep_scenario(name: &str, card: &Card) {
    let nvml = Nvml::init().expect("the probe could");
    let device = nvml.device_by_uuid(card.uuid.as_str()).expect("nvidia-smi lists it");
    fixture::keep(name, &nvml, &device);
}

#[test]
fn large_products_keep_the_tensor_cores_busy() {
    let told = told_of("products", PRODUCTS);
    assert!(told.tensor > 0.5 && told.sm > 0.8, "{told:?}");
}

#[test]
fn copies_within_the_device_keep_its_memory_busy_and_no_tensor_core() {
    let told = told_of("copies", COPIES);
    assert!(told.dram > 0.6 && told.tensor < 0.05, "{told:?}");
}

#[test]
fn copies_from_the_host_and_back_go_over_the_link() {
    let told = told_of("transfers", TRANSFERS);
    assert!(told.pcie.iter().all(|rate| (3e9..1e12).contains(rate)), "{told:?}");
    assert!(told.dram < 0.2, "{told:?}");
}

#[test]
fn kernels_too_small_for_the_device_leave_its_sms_idle() {
    let told = told_of("crumbs", CRUMBS);
    assert!(told.graphics > 0.5 && told.sm < 0.1, "{told:?}");
}
