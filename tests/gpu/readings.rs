//! The probe says what `nvidia-smi` says.

use perfwatch_model::metrics::gpu;
use perfwatch_model::{Attr, MetricDef};

use crate::smi::Card;
use crate::watch::{Watch, card};

/// Clocks and power change from one moment to the next, and to ask wakes an idle GPU: each reading has to agree once in so many looks.
const LOOKS: usize = 15;

#[test]
fn readings_are_those_of_nvidia_smi() {
    let _alone = crate::alone();
    let _there = card();
    let mut watch = Watch::open();
    let mut open: Option<Vec<Difference>> = None;
    for _ in 0..LOOKS {
        watch.sample_next_second();
        let card = card();
        let found = differences(&watch, &card);
        say!("{card:?}\n  differs in {found:?}");
        // What agreed before is not looked at again.
        let is_open =
            |found: &Difference| open.as_ref().is_none_or(|open| open.iter().any(|(what, _)| *what == found.0));
        let left: Vec<_> = found.into_iter().filter(is_open).collect();
        if left.is_empty() {
            return;
        }
        open = Some(left);
    }
    panic!("these never agreed: {open:#?}");
}

/// Which reading, and what the two say.
type Difference = (String, String);

/// A metric and its attributes, `nvidia-smi`'s unit in the metric's, what that says, and how far apart the two may be.
type Compared<'a> = (&'a MetricDef, &'a [Attr], f64, Option<f64>, f64);

/// What the probe says otherwise.
fn differences(watch: &Watch, card: &Card) -> Vec<Difference> {
    const MIB: f64 = 1_048_576.0;
    let device = watch.device(&card.uuid);
    let clock = |which: &'static str| [Attr::fixed("perfwatch.gpu.clock", which)];
    let (sm, memory) = (clock("sm"), clock("memory"));
    let (kind, core) = ([Attr::fixed("hw.type", "gpu")], [Attr::fixed("hw.sensor_location", "core")]);
    let general = [Attr::fixed("hw.gpu.task", "general")];
    let compared: [Compared<'_>; 7] = [
        (&gpu::MEMORY_LIMIT, &[], MIB, card.memory_total, 1.0),
        (&gpu::MEMORY_USAGE, &[], MIB, card.memory_used, 64.0),
        (&gpu::POWER, &kind, 1.0, card.power, card.power.unwrap_or(0.0) * 0.15 + 5.0),
        (&gpu::TEMPERATURE, &core, 1.0, card.temperature, 2.0),
        (&gpu::CLOCK, &sm, 1e6, card.sm_clock, 60.0),
        (&gpu::CLOCK, &memory, 1e6, card.memory_clock, 60.0),
        (&gpu::UTILIZATION, &general, 0.01, card.utilization, 15.0),
    ];
    let mut differences: Vec<_> = compared
        .into_iter()
        .filter_map(|(metric, attrs, unit, theirs, tolerance)| {
            let ours = watch.value(metric, &card.uuid, attrs).map(|value| value / unit);
            let agree = match (&ours, theirs) {
                (Ok(ours), Some(theirs)) => (ours - theirs).abs() <= tolerance,
                (Err(_), None) => true,
                _ => false,
            };
            (!agree).then(|| {
                (
                    format!("{} {attrs:?}", metric.name),
                    format!("{ours:?}, and {theirs:?} by nvidia-smi, within {tolerance}"),
                )
            })
        })
        .collect();
    if device.name != card.name {
        differences.push(("name".to_owned(), format!("{}, and {} by nvidia-smi", device.name, card.name)));
    }
    differences
}
