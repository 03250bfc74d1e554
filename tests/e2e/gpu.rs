//! GPUs, through the real NVML wrapper and the library that stands in for the driver.

use perfwatch_tests::{Agent, wait_for};

use crate::PERFWATCH;

#[test]
fn without_a_driver_the_reason_and_the_cure_are_told() {
    let agent = Agent::spawn(PERFWATCH, &[], &[("PERFWATCH_NVML_LIB", "/nowhere/libnvidia-ml.so.1")]);
    let missing = wait_for("the reason", || {
        let snapshot = agent.json("/v1/snapshot");
        let unavailable = snapshot["unavailable"].as_array()?.clone();
        unavailable.into_iter().find(|missing| missing["metric"] == "hw.gpu.utilization")
    });
    assert!(missing["reason"].as_str().expect("text").contains("/nowhere/libnvidia-ml.so.1"), "{missing:#}");
    assert!(!missing["cure"].as_str().expect("text").is_empty(), "{missing:#}");
}
