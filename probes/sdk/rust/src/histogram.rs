//! Distributions, recorded into shards that only their own thread writes.
//!
//! Layout: `HdrHistogram`'s with 2 significant digits ([`perfwatch_model::histogram::layout`]), in pages of one octave
//! (1 KiB) that are allocated when a thread first records into them.

use std::fmt;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, fence};
use std::sync::{Mutex, OnceLock};

use perfwatch_model::Unit;
use perfwatch_model::histogram::layout;

use crate::fork::Pass;
use crate::local;

/// How often a shard is read until no value came in between. One reading takes a microsecond, as long as a few hundred
/// values; what is still amiss then is put right by the next flush.
const READINGS: usize = 8;

type Page = [AtomicU64; layout::PAGE];

/// One thread's part of a distribution. Cumulative: it is never reset, and passes to another thread when its own ends, so
/// it lives as long as its series, which is as long as the process.
#[repr(align(64))]
pub(crate) struct Shard {
    sum: AtomicU64,
    pages: [OnceLock<Box<Page>>; layout::PAGES],
}

impl Shard {
    pub(crate) fn new() -> Self {
        Self { sum: AtomicU64::new(0), pages: [const { OnceLock::new() }; layout::PAGES] }
    }

    /// Records a value; only the owning thread may call it. Plain loads and stores: no other thread writes here.
    #[inline]
    pub(crate) fn record(&self, value: u64) {
        let bucket = self.bucket(value);
        bucket.store(bucket.load(Relaxed).wrapping_add(1), Relaxed);
        self.sum.store(self.sum.load(Relaxed).wrapping_add(value), Relaxed);
    }

    /// Records a value into a shard that several threads may write.
    pub(crate) fn record_shared(&self, value: u64) {
        self.bucket(value).fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    #[inline]
    fn bucket(&self, value: u64) -> &AtomicU64 {
        let index = layout::index(value);
        let page = &self.pages[index / layout::PAGE];
        let page = match page.get() {
            Some(page) => page,
            None => first_in_octave(page),
        };
        &page[index % layout::PAGE]
    }

    /// Copies everything recorded so far over `into`, again while values come in between. Should they never pause, the
    /// sum may lag behind the buckets; the next reading has both.
    fn copy_to(&self, into: &mut Cumulative) {
        for _ in 0..READINGS {
            into.sum = self.sum.load(Acquire);
            for (page, copy) in self.pages.iter().zip(into.pages.iter_mut()) {
                match (page.get(), copy) {
                    (Some(page), copy) => {
                        let copy = copy.get_or_insert_with(|| Box::new([0; layout::PAGE]));
                        copy.iter_mut().zip(page.iter()).for_each(|(copy, count)| *copy = count.load(Relaxed));
                    }
                    (None, Some(stale)) => stale.fill(0),
                    (None, None) => {}
                }
            }
            fence(Acquire);
            if self.sum.load(Relaxed) == into.sum {
                return;
            }
        }
    }
}

#[cold]
fn first_in_octave(page: &OnceLock<Box<Page>>) -> &Page {
    page.get_or_init(|| Box::new([const { AtomicU64::new(0) }; layout::PAGE]))
}

/// A distribution's running totals at one instant.
#[derive(Clone)]
pub(crate) struct Cumulative {
    pub(crate) sum: u64,
    pub(crate) pages: Box<[Option<Box<[u64; layout::PAGE]>>; layout::PAGES]>,
}

impl Default for Cumulative {
    fn default() -> Self {
        Self { sum: 0, pages: Box::new([const { None }; layout::PAGES]) }
    }
}

impl Cumulative {
    fn add(&mut self, other: &Self) {
        self.sum = self.sum.wrapping_add(other.sum);
        for (mine, theirs) in self.pages.iter_mut().zip(other.pages.iter()) {
            let Some(theirs) = theirs else { continue };
            let mine = mine.get_or_insert_with(|| Box::new([0; layout::PAGE]));
            mine.iter_mut().zip(theirs.iter()).for_each(|(mine, theirs)| *mine = mine.wrapping_add(*theirs));
        }
    }

    /// (bucket, count) gained since `earlier`, ascending; buckets that gained nothing are left out.
    pub(crate) fn since<'a>(&'a self, earlier: Option<&'a Self>) -> impl Iterator<Item = (u32, u64)> + 'a {
        self.pages.iter().enumerate().filter_map(|(number, page)| Some((number, page.as_deref()?))).flat_map(
            move |(number, page)| {
                let before = earlier.and_then(|earlier| earlier.pages[number].as_deref());
                page.iter().enumerate().filter_map(move |(at, count)| {
                    let gained = count.wrapping_sub(before.map_or(0, |before| before[at]));
                    (gained > 0).then_some(((number * layout::PAGE + at) as u32, gained))
                })
            },
        )
    }
}

/// The process-wide record of one distribution. Lives as long as the process.
pub(crate) struct Series {
    /// Place in each thread's table of shards.
    pub(crate) id: usize,
    pub(crate) name: String,
    /// Number of the stage it describes.
    pub(crate) stage: Option<u32>,
    pub(crate) unit: Unit,
    /// The fork generation whose flusher knows this series; see [`crate::core::Core::revive`].
    pub(crate) generation: AtomicU32,
    shards: Mutex<Vec<&'static Shard>>,
    /// Shards whose thread ended, waiting for the next one: memory is bounded by the threads alive at once.
    idle: Mutex<Vec<&'static Shard>>,
    /// For values recorded while the gate is closed or a thread is being torn down.
    fallback: Shard,
}

impl Series {
    /// A new series, for as long as the process lives.
    pub(crate) fn leak(name: String, stage: Option<u32>, unit: Unit) -> &'static Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Box::leak(Box::new(Self {
            id: NEXT.fetch_add(1, Relaxed),
            name,
            stage,
            unit,
            generation: AtomicU32::new(crate::fork::generation()),
            shards: Mutex::new(Vec::new()),
            idle: Mutex::new(Vec::new()),
            fallback: Shard::new(),
        }))
    }

    /// Records into the calling thread's shard.
    #[inline]
    pub(crate) fn record(&'static self, value: u64) {
        match local::histogram(self.id) {
            Some(shard) => shard.record(value),
            None => self.record_first(value),
        }
    }

    /// A thread's first value: takes a shard if the gate is free at this instant, else uses the shared one.
    #[cold]
    fn record_first(&'static self, value: u64) {
        let Some(pass) = crate::fork::try_enter() else { return self.fallback.record_shared(value) };
        let shard = self.take_shard(&pass);
        drop(pass);
        if local::keep_histogram(self, shard) {
            shard.record(value);
        } else {
            // The thread is being torn down; its table is gone.
            self.give_back(shard);
            self.fallback.record_shared(value);
        }
    }

    fn take_shard(&self, _inside: &Pass) -> &'static Shard {
        if let Some(shard) = lock(&self.idle).pop() {
            return shard;
        }
        let shard = Box::leak(Box::new(Shard::new()));
        lock(&self.shards).push(shard);
        shard
    }

    /// Takes over the shard of a thread that ends.
    pub(crate) fn give_back(&self, shard: &'static Shard) {
        let _inside = crate::fork::enter();
        lock(&self.idle).push(shard);
    }

    /// Running totals over all threads.
    pub(crate) fn totals(&self) -> Cumulative {
        let shards = self.shards(&crate::fork::enter());
        self.totals_of(&shards)
    }

    pub(crate) fn shards(&self, _inside: &Pass) -> Vec<&'static Shard> {
        lock(&self.shards).clone()
    }

    pub(crate) fn totals_of(&self, shards: &[&'static Shard]) -> Cumulative {
        let (mut totals, mut one) = (Cumulative::default(), Cumulative::default());
        for shard in shards.iter().copied().chain([&self.fallback]) {
            shard.copy_to(&mut one);
            totals.add(&one);
        }
        totals
    }
}

/// Locks; a panic elsewhere cannot leave these lists half-changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A handle to record values into one distribution of a server. Cheap to copy; any thread may use it.
///
/// Values are integers: nanoseconds for [`Unit::Seconds`], else counts of the unit. Values above 3.6e12 (one hour in
/// nanoseconds) are counted as that, while the sum stays exact.
#[derive(Clone, Copy)]
pub struct Histogram {
    pub(crate) core: Option<&'static crate::core::Core>,
    pub(crate) series: Option<&'static Series>,
}

impl Histogram {
    /// Records one value. Never blocks; allocates only on a thread's first value in an octave (a factor of two).
    #[inline]
    pub fn record(&self, value: u64) {
        let Some(series) = self.series else { return };
        if series.generation.load(Relaxed) != crate::fork::generation() {
            self.revive(series);
        }
        series.record(value);
    }

    #[cold]
    fn revive(&self, series: &Series) {
        if let Some(core) = self.core {
            core.revive();
            series.generation.store(crate::fork::generation(), Relaxed);
        }
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Histogram").field(&self.series.map(|series| &series.name)).finish()
    }
}
