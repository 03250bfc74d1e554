//! The journal: what must survive the agent.

mod file;
mod load;
mod place;
mod schema;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use perfwatch_model::{SeriesTable, Tick};

use crate::codec::Encoder;
use crate::failpoint::{self, Point};
use crate::totals::{SeriesTotal, Totals};
use file::{Failure, File, Row, Writing};
use load::Loaded;
use place::Lock;
use sessions::Sessions;

pub use file::MIN_CAP;
pub use sessions::{Progress, SESSION_BYTES};

/// Ticks that wait for a disk that does not take them. Two minutes, as the ring holds; totals wait for as long as it takes.
const MAX_WAITING: usize = 120;
/// Of the database, what they may take: a lump that is larger could never be written.
const WAITING_SHARE: u64 = 4;
/// Ticks between two looks at the size of the file and at what can be forgotten.
const TIDY_EVERY: u64 = 60;
/// Ticks between two attempts to make a file where none could be made.
const RETRY_EVERY: u64 = 5;

/// Where a journal lies and how large it may grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// The database. Its folder is made when it is missing.
    pub path: PathBuf,
    /// Most bytes on disk, at least [`MIN_CAP`]; the oldest ticks go first.
    pub cap_bytes: u64,
    /// What tells one boot of this machine from another (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
    /// Now, in nanoseconds since 1970: the beginning of a new journal.
    pub now_wall_ns: u64,
}

/// What is to be kept of one tick.
#[derive(Clone, Copy, Debug)]
pub struct Commit<'a> {
    /// The tick.
    pub tick: &'a Tick,
    /// Names its series.
    pub table: &'a SeriesTable,
    /// How far each SDK session got whose flushes are in the tick.
    pub sessions: &'a [Progress],
}

/// Where a tick was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In the journal: it survives the agent.
    OnDisk,
    /// In memory only.
    InMemory,
}

/// Where the journal is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In memory, as asked.
    Memory,
    /// In memory, because nothing can be written there while this agent runs.
    Refused {
        /// Where it should have been.
        path: PathBuf,
        /// Why it is not.
        reason: String,
    },
    /// In memory and no longer kept: what wrote it has failed.
    Dead {
        /// Why.
        reason: String,
    },
    /// On disk.
    Disk(PathBuf),
    /// In memory until the disk takes it again.
    Failing {
        /// Where it belongs.
        path: PathBuf,
        /// What the last attempt met.
        reason: String,
        /// Ticks that only memory holds.
        ticks_at_risk: u64,
    },
}

impl std::fmt::Display for Place {
    /// `memory`, `memory (why)` or the path.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Refused { path, reason } | Self::Failing { path, reason, .. } => {
                write!(f, "memory ({}: {reason})", path.display())
            }
            Self::Dead { reason } => write!(f, "memory ({reason})"),
            Self::Disk(path) => write!(f, "{}", path.display()),
        }
    }
}

/// How the journal stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Where it is.
    pub place: Place,
    /// Bytes of its database, without the write-ahead log; 0 in memory.
    pub bytes: u64,
    /// When it began, in nanoseconds since 1970: what totals count from.
    pub since_wall_ns: u64,
    /// Ticks that never reached the disk since this agent started; their totals did.
    pub ticks_lost: u64,
    /// Series whose totals this agent forgot for want of room: the longest silent ones, once all together took 64 MiB or
    /// half of the database.
    pub series_forgotten: u64,
}

#[derive(Debug)]
struct Shared {
    totals: Mutex<Totals>,
    status: Mutex<Status>,
}

impl Shared {
    /// Nothing between lock and unlock leaves a half-changed table behind.
    fn totals(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks a journal that another thread writes. Never waits for a disk. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader(Arc<Shared>);

impl Reader {
    /// Totals of the counters and histograms of this name and of this entity (`kind:id`), or of all.
    pub fn query(&self, metric: Option<&str>, entity: Option<&str>) -> Vec<SeriesTotal> {
        self.0.totals().query(metric, entity)
    }

    /// How the journal stands.
    pub fn status(&self) -> Status {
        self.0.status().clone()
    }

    /// Says that the thread that wrote it is no more: nothing is added from now on.
    pub fn declare_dead(&self, reason: String) {
        self.0.status().place = Place::Dead { reason };
    }
}

/// Keeps ticks, totals and sessions. Owned by the one thread that writes.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    sessions: Sessions,
    /// `None` in memory.
    disk: Option<Disk>,
    encoder: Encoder,
    next_seq: u64,
    waiting: VecDeque<Row>,
}

#[derive(Debug)]
struct Disk {
    options: JournalOptions,
    /// `None` while no file can be made or opened.
    file: Option<File>,
    /// While it cannot be opened: the tick that its file is to get next. `None` where there is no file.
    peeked: Option<u64>,
    _lock: Lock,
}

impl Journal {
    /// A journal in memory: totals and sessions of this process's life.
    ///
    /// # Panics
    /// When memory for the compressor cannot be had.
    pub fn in_memory(now_wall_ns: u64) -> Self {
        Self::placed(Place::Memory, now_wall_ns, None)
    }

    fn placed(place: Place, since_wall_ns: u64, disk: Option<Disk>) -> Self {
        let status = Status { place, bytes: 0, since_wall_ns, ticks_lost: 0, series_forgotten: 0 };
        Self {
            shared: Arc::new(Shared { totals: Mutex::default(), status: Mutex::new(status) }),
            sessions: Sessions::default(),
            disk,
            encoder: Encoder::new().expect("memory for a compressor"),
            next_seq: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Opens the journal, or makes it. Never fails: [`Status`] says what became of it. A file that is damaged or that a
    /// newer agent wrote is renamed and left beside the new one.
    pub fn open(options: JournalOptions) -> Self {
        let refused = |options: JournalOptions, reason: String| {
            tracing::warn!(path = %options.path.display(), reason, "journal in memory only");
            Self::placed(Place::Refused { path: options.path, reason }, options.now_wall_ns, None)
        };
        let lock = match Lock::take(&options.path) {
            Ok(lock) => lock,
            Err(reason) => return refused(options, reason),
        };
        let (file, loaded, peeked, trouble) = match File::open(&options) {
            Ok((file, loaded)) => (Some(file), loaded, None, None),
            // A full disk gets better. What is on it must be known first: totals and sessions go on from there.
            Err(Failure::Trouble(reason)) => match File::peek(&options) {
                Ok(Some(loaded)) => {
                    let next = loaded.next_seq;
                    (None, loaded, Some(next), Some(reason))
                }
                Ok(None) => (None, Loaded::fresh(options.now_wall_ns), None, Some(reason)),
                Err(failure) => return refused(options, format!("{reason}; {failure}")),
            },
            Err(failure) => return refused(options, failure.to_string()),
        };
        let path = options.path.clone();
        let place = match trouble {
            None => {
                tracing::info!(path = %path.display(), ticks = loaded.next_seq, "journal open");
                Place::Disk(path)
            }
            Some(reason) => {
                tracing::warn!(path = %path.display(), reason, "journal in memory until the disk takes it");
                Place::Failing { path, reason, ticks_at_risk: 0 }
            }
        };
        let mut journal = Self::placed(place, loaded.since_wall_ns, None);
        journal.next_seq = loaded.next_seq;
        journal.sessions = loaded.sessions;
        *journal.shared.totals() = loaded.totals;
        journal.shared.totals().fit(options.database_bytes());
        journal.shared.status().bytes = file.as_ref().map_or(0, File::bytes);
        journal.disk = Some(Disk { options, file, peeked, _lock: lock });
        journal
    }

    /// Asks it from other threads.
    pub fn reader(&self) -> Reader {
        Reader(Arc::clone(&self.shared))
    }

    /// How far each SDK session had got when the journal was last written, the longest silent first.
    pub fn sessions(&self) -> impl Iterator<Item = Progress> + '_ {
        self.sessions.by_age()
    }

    /// Keeps a tick: adds it to the totals, and writes it with them and the sessions in one transaction. When that is not
    /// possible everything stays in memory and the next call tries again.
    pub fn commit(&mut self, commit: &Commit<'_>) -> Kept {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.sessions.advance(commit.sessions, commit.tick.end.wall_ns);
        let forgotten = {
            let mut totals = self.shared.totals();
            totals.fold(seq, commit.tick, commit.table);
            totals.crowded_out()
        };
        self.shared.status().series_forgotten = forgotten;
        if seq.is_multiple_of(TIDY_EVERY) {
            self.sessions.forget();
        }
        if self.disk.is_none() {
            if seq.is_multiple_of(TIDY_EVERY) {
                let mut totals = self.shared.totals();
                totals.forget(seq, seq);
                totals.written();
                self.sessions.written();
            }
            return Kept::InMemory;
        }
        self.enqueue(seq, commit);
        let written = self.write(seq);
        self.note(written)
    }

    fn enqueue(&mut self, seq: u64, commit: &Commit<'_>) {
        match self.encoder.encode(commit.tick, commit.table, &self.shared.totals()) {
            Ok(blob) => self.waiting.push_back(Row::new(seq, commit.tick, blob)),
            Err(error) => {
                tracing::error!(%error, "a tick cannot be encoded");
                self.shared.status().ticks_lost += 1;
            }
        }
        let Some(disk) = &self.disk else { return };
        let room = disk.options.database_bytes() / WAITING_SHARE;
        let mut bytes: u64 = self.waiting.iter().map(Row::bytes).sum();
        while self.waiting.len() > MAX_WAITING || bytes > room {
            bytes -= self.waiting.pop_front().map_or(bytes, |row| row.bytes());
            self.shared.status().ticks_lost += 1;
        }
    }

    fn write(&mut self, seq: u64) -> Result<u64, Failure> {
        let Some(disk) = &mut self.disk else { return Ok(0) };
        if disk.file.is_none() && seq.is_multiple_of(RETRY_EVERY) {
            match disk.peeked.map(|next| File::reopen(&disk.options, next)) {
                Some(Ok(file)) => (disk.file, disk.peeked) = (Some(file), None),
                Some(Err(Failure::Damaged(reason))) => return self.begin_anew(&reason),
                Some(Err(failure)) => return Err(failure),
                None => {
                    disk.file = Some(File::create(&disk.options, self.shared.status().since_wall_ns)?);
                    self.shared.totals().all_unwritten();
                    self.sessions.all_unwritten();
                }
            }
        }
        let Some(file) = &mut disk.file else { return Err(Failure::Trouble("no journal could be made".into())) };
        // After an outage more comes at once than the room that is left to a tick.
        let growth = self.shared.totals().growth();
        if seq.is_multiple_of(TIDY_EVERY) || file.has_grown(growth) || self.waiting.len() > 1 {
            let oldest = file.tidy(self.waiting.iter().map(Row::bytes).sum::<u64>().saturating_add(growth))?;
            self.shared.totals().forget(oldest.unwrap_or(seq), seq);
        }
        failpoint::pass(Point::TransactionDue);
        let writing = Writing::of(&self.shared.totals(), &self.sessions);
        match file.write(&writing, &self.waiting) {
            Ok(()) => Ok(file.bytes()),
            Err(Failure::Damaged(reason)) => self.begin_anew(&reason),
            Err(failure) => Err(failure),
        }
    }

    /// Sets a damaged file aside. Memory knows everything that must not be lost, so a new one can take over at once.
    fn begin_anew(&mut self, reason: &str) -> Result<u64, Failure> {
        let Some(disk) = &mut self.disk else { return Ok(0) };
        tracing::error!(path = %disk.options.path.display(), reason, "journal damaged");
        disk.file = None;
        place::set_aside(&disk.options, "corrupt").map_err(Failure::Trouble)?;
        disk.peeked = None;
        let file = disk.file.insert(File::create(&disk.options, self.shared.status().since_wall_ns)?);
        self.shared.totals().all_unwritten();
        self.sessions.all_unwritten();
        file.write(&Writing::of(&self.shared.totals(), &self.sessions), &self.waiting)?;
        Ok(file.bytes())
    }

    fn note(&mut self, written: Result<u64, Failure>) -> Kept {
        let Some(disk) = &self.disk else { return Kept::InMemory };
        let path = disk.options.path.clone();
        let mut status = self.shared.status();
        match written {
            Ok(bytes) => {
                if let Place::Failing { .. } = status.place {
                    tracing::info!(path = %path.display(), "journal on disk again");
                }
                status.place = Place::Disk(path);
                status.bytes = bytes;
                drop(status);
                self.waiting.clear();
                self.shared.totals().written();
                self.sessions.written();
                Kept::OnDisk
            }
            Err(failure) => {
                let at_risk = match &status.place {
                    Place::Failing { ticks_at_risk, .. } => *ticks_at_risk,
                    _ => 0,
                };
                // An attempt that was not made has nothing new to say.
                let reason = match (&status.place, disk.file.is_none()) {
                    (Place::Failing { reason, .. }, true) => reason.clone(),
                    _ => failure.to_string(),
                };
                if at_risk == 0 {
                    tracing::warn!(path = %path.display(), reason, "journal in memory until the disk takes it");
                }
                status.place = Place::Failing { path, reason, ticks_at_risk: at_risk + 1 };
                Kept::InMemory
            }
        }
    }
}
