//! What the driver tells of processes that share the device: one that works all the time, and one that works in bursts.

use std::time::Duration;

use nvml_wrapper::Nvml;
use perfwatch_model::Reading;

use crate::torch::Worker;
use crate::watch::{Watch, card};

/// Small products: both processes have room beside each other.
const STEADY: &str = "
import torch
a = torch.randn(2048, 2048, device='cuda', dtype=torch.float16)
def work():
    for _ in range(100):
        torch.mm(a, a)
    torch.cuda.synchronize()
";

/// The same for a fifth of each second, and nothing for the rest.
const BURSTS: &str = "
import time, torch
a = torch.randn(2048, 2048, device='cuda', dtype=torch.float16)
def work():
    until = time.perf_counter() + .2
    while time.perf_counter() < until:
        for _ in range(20):
            torch.mm(a, a)
        torch.cuda.synchronize()
    time.sleep(.8)
";

/// Looks, a second apart.
const LOOKS: usize = 10;

/// Nobody publishes whether idle time is in a process' samples: here it can be seen.
#[test]
fn who_works_in_bursts_has_a_smaller_share_than_who_works_all_the_time() {
    let _alone = crate::alone();
    let card = card();
    let (steady, bursts) = (Worker::for_ever(&card.uuid, STEADY), Worker::for_ever(&card.uuid, BURSTS));
    say!("steady is pid {}, bursts pid {}", steady.pid(), bursts.pid());
    raw_rows(&card.uuid);
    let mut watch = Watch::open();
    let share = |watch: &Watch, pid: u32| match &watch.device(&card.uuid).processes {
        Reading::Unavailable(reason) => Err(reason.text.to_string()),
        Reading::Value(rows) => match rows.iter().find(|row| row.pid == pid).map(|row| &row.sm) {
            None => Err(format!("{pid} is not listed")),
            Some(Reading::Unavailable(reason)) => Err(reason.text.to_string()),
            Some(Reading::Value(share)) => Ok(*share),
        },
    };
    let mut sums = [0.0; 2];
    for look in 1..=LOOKS {
        watch.sample_next_second();
        let told = [steady.pid(), bursts.pid()].map(|pid| share(&watch, pid));
        say!("  look {look}: {told:?}, {:?}", watch.device(&card.uuid).sharing);
        // The first looks know of no time.
        if let [Ok(steady), Ok(bursts)] = told {
            sums = [sums[0] + steady, sums[1] + bursts];
        }
    }
    say!("  steady {:.2}, bursts {:.2}: a fifth of a second in each is .2 of it at most", sums[0], sums[1]);
    assert!(sums[0] > 0.0, "no share was told in {LOOKS} looks; why stands above");
    assert!(sums[1] < sums[0], "who works a fifth of the time is told as the larger");
}

/// The driver's rows as they are, each second since the newest time seen.
fn raw_rows(uuid: &str) {
    let nvml = Nvml::init().expect("NVML can be initialised where nvidia-smi runs");
    let device = nvml.device_by_uuid(uuid).expect("nvidia-smi lists it");
    let mut since = 0;
    for look in 1..=LOOKS {
        match device.process_utilization_stats(since) {
            Ok(rows) => {
                let told: Vec<_> = rows.iter().map(|row| (row.pid, row.timestamp, row.sm_util)).collect();
                say!("  since {since}: {} rows of (pid, µs, SM %): {told:?}", rows.len());
                since = rows.iter().map(|row| row.timestamp).max().unwrap_or(since);
            }
            Err(error) => say!("  since {since}: {error}"),
        }
        if look < LOOKS {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}
