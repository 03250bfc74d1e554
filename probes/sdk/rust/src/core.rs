//! The process-wide half of a server: everything that its handles, requests and flusher share.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};

use perfwatch_model::{Stage, Unit};
use perfwatch_wire::limits::MAX_SERIES;

use crate::activity::{Activity, Step};
use crate::clock::Clock;
use crate::collect::Origin;
use crate::errors::Kinds;
use crate::exclusive::Exclusive;
use crate::flusher::{self, Control};
use crate::fork::{self, Pass};
use crate::histogram::{Histogram, Series, lock};
use crate::local;
use crate::slowest::Slowest;
use crate::status::Status;

/// Called with each new status.
pub(crate) type Listener = Box<dyn Fn(&Status) + Send + Sync>;

/// What the user said about the server.
pub(crate) struct Settings {
    pub(crate) service: String,
    pub(crate) instance: Option<String>,
    pub(crate) max_batch_size: u32,
    pub(crate) config: Vec<(String, String)>,
    pub(crate) socket: Option<PathBuf>,
    pub(crate) on_status: Option<Listener>,
}

/// Lives as long as the process: requests on any thread refer to it without counting references, which would cost every
/// request a contended cache line. A process has one server, or a few.
pub(crate) struct Core {
    /// Place in each thread's table of activities.
    pub(crate) id: usize,
    pub(crate) clock: Clock,
    pub(crate) settings: Settings,
    pub(crate) exclusive: Exclusive,
    /// The fork generation in which the flusher was started.
    generation: AtomicU32,
    activities: Mutex<Vec<&'static Activity>>,
    idle: Mutex<Vec<&'static Activity>>,
    fallback: Activity,
    pub(crate) request_duration: &'static Series,
    pub(crate) stage_duration: [&'static Series; Stage::COUNT],
    pub(crate) batch_size: &'static Series,
    pub(crate) first_token: &'static Series,
    pub(crate) inter_token: &'static Series,
    pub(crate) kinds: Kinds,
    pub(crate) slowest: Slowest,
    series: Mutex<Vec<&'static Series>>,
    refused: AtomicU64,
    stage_names: Mutex<Vec<String>>,
    control: Mutex<Option<Arc<Control>>>,
    status: Mutex<Status>,
}

impl Core {
    pub(crate) fn leak(settings: Settings, clock: Clock) -> &'static Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let request_duration = Series::leak("request.duration".into(), None, Unit::Seconds);
        let batch_size = Series::leak("batch.size".into(), None, Unit::Count("{request}"));
        let stage_duration: [&'static Series; Stage::COUNT] =
            std::array::from_fn(|at| Series::leak("stage.duration".into(), Some(at as u32), Unit::Seconds));
        let first_token = Series::leak("time_to_first_token".into(), None, Unit::Seconds);
        let inter_token = Series::leak("inter_token".into(), None, Unit::Seconds);
        let mut series = vec![request_duration, batch_size, first_token, inter_token];
        series.extend(stage_duration);
        Box::leak(Box::new(Self {
            id: NEXT.fetch_add(1, Relaxed),
            exclusive: Exclusive::new(clock.now()),
            clock,
            settings,
            generation: AtomicU32::new(fork::generation()),
            activities: Mutex::new(Vec::new()),
            idle: Mutex::new(Vec::new()),
            fallback: Activity::new(),
            request_duration,
            stage_duration,
            batch_size,
            first_token,
            inter_token,
            kinds: Kinds::default(),
            slowest: Slowest::new(),
            series: Mutex::new(series),
            refused: AtomicU64::new(0),
            stage_names: Mutex::new(Vec::new()),
            control: Mutex::new(None),
            status: Mutex::new(Status::Starting),
        }))
    }

    /// True when this process image has a flusher of its own; false in the child of a fork before [`Core::revive`].
    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        self.generation.load(Acquire) == fork::generation()
    }

    /// In the child of a fork: begins a new session that counts from here, with a flusher of its own. A thread that comes
    /// while another one is at it waits, for what it recorded before the session's origin would not count.
    pub(crate) fn revive(&'static self) {
        let inside = fork::enter();
        if self.is_current() {
            return;
        }
        let now = self.clock.now();
        let control = self.leave_to_parent(now, &inside);
        let origin = Origin::of(self, now, &inside);
        self.generation.store(fork::generation(), Release);
        drop(inside);
        flusher::spawn(self, control, origin);
    }

    /// In the child of a fork that closes the server before it used it: there is nothing to send, and will not be.
    pub(crate) fn retire(&self) {
        let inside = fork::enter();
        if self.is_current() {
            return;
        }
        self.leave_to_parent(self.clock.now(), &inside).stop();
        *lock(&self.status) = Status::Closed;
        self.generation.store(fork::generation(), Release);
    }

    /// Forgets what goes on in the parent only, its flusher included; returns what the new one will listen to. No thread of
    /// this process image has recorded yet, nor does before the generation is set.
    fn leave_to_parent(&self, now: u64, inside: &Pass) -> Arc<Control> {
        self.exclusive.reset(now);
        self.slowest.take(inside);
        for activity in self.activities(inside).into_iter().chain([&self.fallback]) {
            activity.repair();
        }
        let control = Arc::new(Control::default());
        *lock(&self.control) = Some(Arc::clone(&control));
        control
    }

    /// Starts the first flusher.
    pub(crate) fn start_flusher(&'static self) {
        let inside = fork::enter();
        let origin = Origin::of(self, self.clock.now(), &inside);
        let control = Arc::new(Control::default());
        *lock(&self.control) = Some(Arc::clone(&control));
        drop(inside);
        flusher::spawn(self, control, origin);
    }

    /// What the flusher of this process image listens to; `None` in the child of a fork that has not used the server: the
    /// parent's flusher, which does not exist there, may have held its lock.
    pub(crate) fn control(&self) -> Option<Arc<Control>> {
        let _inside = fork::enter();
        self.is_current().then(|| lock(&self.control).clone())?
    }

    /// Takes one step of a request's life in the calling thread's shard.
    #[inline]
    pub(crate) fn step(&'static self, step: Step, now: u64) {
        match local::activity(self.id) {
            Some(activity) => activity.step(step, now),
            None => self.first_step(step, now),
        }
    }

    #[cold]
    fn first_step(&'static self, step: Step, now: u64) {
        let Some(inside) = fork::try_enter() else { return self.fallback.shared(step, now) };
        let shard = lock(&self.idle).pop().unwrap_or_else(|| {
            let shard = Box::leak(Box::new(Activity::new()));
            lock(&self.activities).push(shard);
            shard
        });
        drop(inside);
        if local::keep_activity(self, shard) {
            shard.step(step, now);
        } else {
            self.give_back(shard);
            self.fallback.shared(step, now);
        }
    }

    /// Takes over the shard of a thread that ends.
    pub(crate) fn give_back(&self, shard: &'static Activity) {
        let _inside = fork::enter();
        lock(&self.idle).push(shard);
    }

    pub(crate) fn activities(&self, _inside: &Pass) -> Vec<&'static Activity> {
        lock(&self.activities).clone()
    }

    pub(crate) fn fallback(&self) -> &Activity {
        &self.fallback
    }

    pub(crate) fn series(&self, _inside: &Pass) -> Vec<&'static Series> {
        lock(&self.series).clone()
    }

    /// The handle of a distribution with this name, new or known. There is room for [`MAX_SERIES`], as in a session of the
    /// protocol; a handle beyond them records nothing, and that it was asked for is counted.
    pub(crate) fn histogram(&'static self, name: &str, unit: Unit) -> Histogram {
        let _inside = fork::enter();
        let mut all = lock(&self.series);
        let known = all.iter().find(|series| series.name == name && series.stage.is_none());
        let series = known.copied().or_else(|| {
            // A name that the protocol does not allow would cost the whole flush.
            if all.len() >= MAX_SERIES || name.is_empty() {
                self.refused.fetch_add(1, Relaxed);
                return None;
            }
            let series = Series::leak(name.to_owned(), None, unit);
            all.push(series);
            Some(series)
        });
        Histogram { core: Some(self), series }
    }

    /// How often a distribution was asked for that found no place.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// The stage with this name: built in, known, or new while there is room; else `other`.
    pub(crate) fn stage(&self, name: &str) -> Stage {
        if let Some(stage) = Stage::from_name(name).or(name.is_empty().then_some(Stage::Other)) {
            return stage;
        }
        let _inside = fork::enter();
        let mut names = lock(&self.stage_names);
        let at = names.iter().position(|known| known == name).unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        });
        let stage = Stage::from_index(usize::from(Stage::FIRST_CUSTOM) + at);
        if stage.is_none() {
            names.pop();
        }
        stage.unwrap_or(Stage::Other)
    }

    pub(crate) fn stage_names(&self, _inside: &Pass) -> Vec<String> {
        lock(&self.stage_names).clone()
    }

    pub(crate) fn status(&self) -> Status {
        let _inside = fork::enter();
        lock(&self.status).clone()
    }

    /// Remembers a new status and tells the user's callback, once per change.
    pub(crate) fn set_status(&self, status: &Status) {
        let changed = {
            let _inside = fork::enter();
            let mut known = lock(&self.status);
            let changed = *known != *status;
            known.clone_from(status);
            changed
        };
        if let (true, Some(tell)) = (changed, &self.settings.on_status) {
            // A panic in there is the user's affair; the flusher goes on.
            let _ = catch_unwind(AssertUnwindSafe(|| tell(status)));
        }
    }
}
