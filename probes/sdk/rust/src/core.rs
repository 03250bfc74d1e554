//! The process-wide half of a server: everything that its handles, requests and flusher share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use perfwatch_model::{Stage, Unit};

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
            stage_names: Mutex::new(Vec::new()),
            control: Mutex::new(None),
            status: Mutex::new(Status::Starting),
        }))
    }

    /// True when this process image has a flusher of its own; false in the child of a fork before [`Core::revive`].
    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        self.generation.load(Relaxed) == fork::generation()
    }

    /// In the child of a fork: begins a new session that counts from here, with a flusher of its own. False when
    /// another thread is at it at this instant; the caller then records nothing, or only into its shard.
    pub(crate) fn revive(&'static self) -> bool {
        let Some(inside) = fork::try_enter() else { return false };
        if self.is_current() {
            return true;
        }
        let now = self.clock.now();
        self.exclusive.reset(now);
        self.slowest.take(&inside); // The parent's.
        let origin = Origin::of(self, now, &inside);
        let control = Arc::new(Control::default());
        *lock(&self.control) = Some(Arc::clone(&control));
        self.generation.store(fork::generation(), Relaxed);
        drop(inside);
        flusher::spawn(self, control, origin);
        true
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

    pub(crate) fn control(&self) -> Option<Arc<Control>> {
        let _inside = fork::enter();
        lock(&self.control).clone()
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

    /// The handle of a distribution with this name, new or known.
    pub(crate) fn histogram(&'static self, name: &str, unit: Unit) -> Histogram {
        let _inside = fork::enter();
        let mut all = lock(&self.series);
        let known = all.iter().find(|series| series.name == name && series.stage.is_none());
        let series = known.copied().unwrap_or_else(|| {
            let series = Series::leak(name.to_owned(), None, unit);
            all.push(series);
            series
        });
        Histogram { core: Some(self), series: Some(series) }
    }

    /// The stage with this name: built in, known, or new while there is room; else `other`.
    pub(crate) fn stage(&self, name: &str) -> Stage {
        if let Some(stage) = Stage::from_name(name) {
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
            tell(status);
        }
    }
}
