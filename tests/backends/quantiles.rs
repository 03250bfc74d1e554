//! Quantiles that backends compute from our histograms, beside the exact ones of the values that were recorded.

use perfwatch_tests::wait_for;

use crate::peers::Peer;

/// The distribution that the SDK records; Prometheus calls it [`NATIVE`].
pub(crate) const LATENCY: &str = "test.latency";
const NATIVE: &str = "test_latency_seconds";

/// How far a quantile may be off: half an HDR bucket (0.4 %) and the width of an exponential one at scale 5 (2.2 %).
const BOUND: f64 = 0.026;
const QUANTILES: [f64; 5] = [0.5, 0.9, 0.95, 0.99, 0.999];

/// 20,000 latencies in nanoseconds, log-normal around 40 ms.
pub(crate) fn values() -> impl Iterator<Item = u64> {
    let mut state = 7_u64;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    };
    (0..20_000).map(move |_| {
        let normal = (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
        (0.04e9 * (0.8 * normal).exp()) as u64
    })
}

fn exact(quantile: f64) -> f64 {
    let mut sorted: Vec<u64> = values().collect();
    sorted.sort_unstable();
    sorted[((quantile * sorted.len() as f64).ceil() as usize).max(1) - 1] as f64 * 1e-9
}

fn assert_near(backend: &str, told: impl Fn(f64) -> Option<f64>) {
    let mut line = format!("quantiles in {backend}, against the exact ones:");
    for quantile in QUANTILES {
        let told = wait_for("a quantile", || told(quantile));
        let off = told / exact(quantile) - 1.0;
        line.push_str(&format!(" p{} {:+.2} %", quantile * 100.0, off * 100.0));
        assert!(off.abs() <= BOUND, "{backend}: quantile {quantile} is {told} instead of {}", exact(quantile));
    }
    println!("{line}");
}

/// The native histogram: quantiles within [`BOUND`], count exact, sum to a billionth.
pub(crate) fn assert_in_prometheus(prometheus: &Peer) {
    let last = format!("last_over_time({NATIVE}[30m])");
    assert_near("Prometheus", |quantile| prometheus.number(&format!("histogram_quantile({quantile}, {last})")));
    let (count, sum) = (values().count() as f64, values().sum::<u64>() as f64 * 1e-9);
    assert_eq!(prometheus.number(&format!("histogram_count({last})")), Some(count));
    let told = prometheus.number(&format!("histogram_sum({last})")).expect("a sum");
    assert!((told / sum - 1.0).abs() < 1e-9, "{told} instead of {sum}");
    // A new series begins with a point of 0, so that its first values are an increase as well.
    let increase = prometheus.query(&format!("{NATIVE}[30m]"));
    assert_eq!(increase[0]["histograms"][0][1]["count"], "0", "{increase:?}");
}

/// The same out of the ranges that `VictoriaMetrics` makes of it.
pub(crate) fn assert_in_victoria_metrics(victoria: &Peer) {
    let last = format!("sum by (vmrange) (last_over_time({NATIVE}_bucket[30m]))");
    assert_near("VictoriaMetrics", |quantile| victoria.number(&format!("histogram_quantile({quantile}, {last})")));
}
