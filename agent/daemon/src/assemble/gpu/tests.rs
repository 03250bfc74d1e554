use perfwatch_model::{Attr, Entity, Stamp};

use super::*;

/// A table with one GPU.
fn table() -> (SeriesTable, EntityId) {
    let mut table = SeriesTable::new();
    let gpu = table.entity(Entity::new(EntityKind::Gpu, "GPU-1"));
    (table, gpu)
}

fn tick(second: u64, values: &[(SeriesId, Number)]) -> Tick {
    let end_ns = second * 1_000_000_000;
    let end = Stamp { mono_ns: end_ns, wall_ns: end_ns };
    let mut tick = Tick { end, dt_ns: 1_000_000_000, values: values.to_vec(), ..Tick::default() };
    tick.seal();
    tick
}

fn view(handles: &mut GpuHandles, tick: &Tick, table: &SeriesTable) -> GpuView {
    handles.refresh(tick, table);
    handles.told(tick, table).remove(0).gpu.expect("a GPU's view")
}

#[test]
fn everything_that_a_gpu_has_one_of_is_found_in_its_place() {
    for (at, (shown, ..)) in SHOWN.iter().enumerate() {
        assert_eq!(*shown as usize, at, "the table is in the order of its names");
    }
}

#[test]
fn a_server_is_on_an_instance_and_not_on_its_gpu_too() {
    let (mut table, gpu) = table();
    let mut instance = Entity::new(EntityKind::Gpu, "MIG-1");
    instance.attributes.push(Attr::text("hw.parent", "GPU-1"));
    let instance = table.entity(instance);
    let other = table.entity(Entity::new(EntityKind::Gpu, "GPU-2"));
    let mut handles = GpuHandles::default();
    handles.refresh(&tick(1, &[]), &table);
    assert_eq!(handles.named(&[gpu, instance, other], &table), ["gpu:MIG-1", "gpu:GPU-2"]);
    assert_eq!(handles.named(&[gpu, other], &table), ["gpu:GPU-1", "gpu:GPU-2"], "no instance is told of");
}

#[test]
fn a_rate_needs_two_ticks_and_a_counter_that_went_back_has_none() {
    let (mut table, gpu) = table();
    let label = [Attr::fixed("network.io.direction", "transmit")];
    let bytes = table.series(&gpu::PCIE_IO, gpu, &label);
    let mut handles = GpuHandles::default();
    let mut rate = |second, total| {
        let tick = tick(second, &[(bytes, Number::Int(total))]);
        view(&mut handles, &tick, &table).pcie.and_then(|pcie| pcie.transmit_bytes_per_s)
    };
    assert_eq!(rate(1, 5_000), None);
    assert_eq!(rate(2, 8_000), Some(3_000.0));
    assert_eq!(rate(4, 9_000), Some(500.0), "over the time that passed");
    assert_eq!(rate(5, 100), None);
    assert_eq!(rate(6, 300), Some(200.0));
}

#[test]
fn a_rate_is_over_the_time_in_which_the_counter_was_read_not_over_whole_seconds() {
    let (mut table, gpu) = table();
    let bytes = table.series(&gpu::PCIE_IO, gpu, &[Attr::fixed("network.io.direction", "transmit")]);
    let mut handles = GpuHandles::default();
    let (mut total, mut read_at) = (0, 1_000);
    // A thousand bytes a second, read at these milliseconds.
    let mut rate = |second, at_ms: u64| {
        total += at_ms - read_at;
        let dt_ns = (at_ms - read_at) * 1_000_000;
        read_at = at_ms;
        let tick = Tick { dt_ns, ..tick(second, &[(bytes, Number::Int(total))]) };
        view(&mut handles, &tick, &table).pcie.and_then(|pcie| pcie.transmit_bytes_per_s).map(f64::round)
    };
    assert_eq!(rate(1, 1_000), None);
    assert_eq!(rate(2, 2_950), Some(1_000.0), "woken late");
    assert_eq!(rate(3, 3_000), Some(1_000.0), "and on time again");
    assert_eq!(rate(4, 20_800), Some(1_000.0), "stalled while it was read");
    assert_eq!(rate(20, 20_801), Some(1_000.0), "and the newest second right after");
    assert_eq!(rate(21, 21_000), Some(1_000.0));
}

#[test]
fn a_tick_without_the_counter_ends_its_rate() {
    let (mut table, gpu) = table();
    let bytes = table.series(&gpu::NVLINK_IO, gpu, &[Attr::fixed("network.io.direction", "receive")]);
    let mut handles = GpuHandles::default();
    let nvlink = |handles: &mut GpuHandles, tick: &Tick| view(handles, tick, &table).nvlink;
    nvlink(&mut handles, &tick(1, &[(bytes, Number::Int(1))]));
    assert!(nvlink(&mut handles, &tick(2, &[(bytes, Number::Int(2))])).is_some());
    assert!(nvlink(&mut handles, &tick(3, &[])).is_none());
    assert!(nvlink(&mut handles, &tick(4, &[(bytes, Number::Int(9))])).is_none());
}

#[test]
fn clocks_held_down_are_a_share_of_the_tick_by_reason() {
    let (mut table, gpu) = table();
    let reason = |name| [Attr::fixed("perfwatch.gpu.throttle.reason", name)];
    let hot = table.series(&gpu::THROTTLE_TIME, gpu, &reason("hw_thermal"));
    let cap = table.series(&gpu::THROTTLE_TIME, gpu, &reason("sw_power_cap"));
    let mut handles = GpuHandles::default();
    let mut shares = |second, ns: [u64; 2]| {
        let tick = tick(second, &[(hot, Number::Int(ns[0])), (cap, Number::Int(ns[1]))]);
        let throttled = view(&mut handles, &tick, &table).throttled;
        throttled.into_iter().map(|one| (one.reason, one.share)).collect::<Vec<_>>()
    };
    assert!(shares(1, [0, 0]).is_empty(), "not known yet is not zero");
    let (hot, cap) = ("hw_thermal".to_owned(), "sw_power_cap".to_owned());
    assert_eq!(shares(2, [400_000_000, 0]), [(hot.clone(), 0.4), (cap.clone(), 0.0)]);
    assert_eq!(shares(3, [1_500_000_000, 0]), [(hot, 1.0), (cap, 0.0)], "never more than all of it");
}

#[test]
fn units_faults_errors_and_xids_are_those_of_the_tick() {
    let (mut table, gpu) = table();
    let mut series = |metric, key, value| table.series(metric, gpu, &[Attr::fixed(key, value)]);
    let (lost, pending) = (
        series(&gpu::FAULT, "perfwatch.gpu.fault", "lost"),
        series(&gpu::FAULT, "perfwatch.gpu.fault", "row_remap_pending"),
    );
    let fp16 = series(&gpu::PIPE_ACTIVE, "perfwatch.gpu.pipe", "fp16");
    let (core, memory) = (
        series(&gpu::TEMPERATURE, "hw.sensor_location", "core"),
        series(&gpu::TEMPERATURE, "hw.sensor_location", "memory"),
    );
    let pages = series(&gpu::RETIRED_PAGES, "error.type", "uncorrected");
    let bad = series(&gpu::ERRORS, "error.type", "uncorrected");
    let xid =
        |table: &mut SeriesTable, code| table.series(&gpu::XIDS, gpu, &[Attr::int("perfwatch.gpu.xid.code", code)]);
    let (late, early) = (xid(&mut table, 119), xid(&mut table, 13));
    let tensor = table.series(&gpu::TENSOR_ACTIVE, gpu, &[]);
    let margin = table.series(&gpu::TEMPERATURE_MARGIN, gpu, &[]);
    let tick = tick(
        1,
        &[
            (lost, Number::Float(0.0)),
            (pending, Number::Float(1.0)),
            (fp16, Number::Float(0.2)),
            (core, Number::Float(61.0)),
            (memory, Number::Float(88.0)),
            (margin, Number::Float(-2.0)),
            (pages, Number::Int(4)),
            (bad, Number::Int(3)),
            (late, Number::Int(1)),
            (early, Number::Int(2)),
            (tensor, Number::Float(0.5)),
        ],
    );
    let view = view(&mut GpuHandles::default(), &tick, &table);
    assert_eq!(view.faults, ["row_remap_pending"]);
    assert_eq!(view.xids, [XidView { code: 13, count: 2 }, XidView { code: 119, count: 1 }]);
    assert_eq!((view.temperature_celsius, view.memory_temperature_celsius), (Some(61.0), Some(88.0)));
    assert_eq!(view.temperature_margin_celsius, Some(-2.0), "it may be warmer than where it is slowed down");
    let activity = view.activity.expect("two units are known");
    assert_eq!((activity.tensor_active, activity.pipes.fp16, activity.sm_active), (Some(0.5), Some(0.2), None));
    let errors = view.memory_errors.expect("one kind is counted");
    assert_eq!((errors.corrected, errors.uncorrected), (None, Some(3)), "what is not counted is no zero");
    assert_eq!(view.retired_pages.map(|pages| (pages.corrected, pages.uncorrected)), Some((None, Some(4))));
    assert_eq!((view.remapped_rows, view.pcie, view.nvlink), (None, None, None));
}
