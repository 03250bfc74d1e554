//! In the steady state no probe allocates, but the list of processes, which comes and goes. Alone in its binary: it replaces the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use perfwatch_model::{Entity, EntityKind, Sample, SeriesTable, Stamp, Tick};
use perfwatch_probes::{ProbeContext, host};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting what the calling thread asks of it.
struct Counting;

#[allow(unsafe_code, reason = "an allocator cannot be replaced without")]
// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn probes_allocate_nothing_in_the_steady_state() {
    let mut table = SeriesTable::new();
    let here = table.entity(Entity::new(EntityKind::Host, "here"));
    let server = table.entity(Entity::new(EntityKind::Server, "served"));
    let (probes, _) = host::open_all(&ProbeContext::live(here), &mut table);
    let mut opened = 0;
    for mut open in probes.into_iter().filter(|open| open.name != "process") {
        opened += 1;
        open.probe.watch(&[(server, vec![std::process::id()])]);
        let mut tick = Tick::default();
        let mut second = 0;
        let mut sample = || {
            second += 1;
            tick.clear();
            let now = Stamp { mono_ns: second * 1_000_000_000, wall_ns: 0 };
            open.probe.sample(now, &mut Sample::new(&mut table, &mut tick));
            tick.values.len() + tick.absent.len()
        };
        for _ in 0..5 {
            sample();
        }
        let before = ALLOCATIONS.with(Cell::get);
        let values = (0..50).map(|_| sample()).sum::<usize>();
        let after = ALLOCATIONS.with(Cell::get);
        assert_eq!(after - before, 0, "the probe `{}` allocated in 50 samples of {} values", open.name, values);
        assert!(values > 0, "the probe `{}` measured nothing", open.name);
    }
    assert!(opened >= 5, "the probes of CPU, memory, load, network and the servers open everywhere");
}
