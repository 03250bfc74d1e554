//! The journal: what must survive the agent.

mod file;
mod load;
mod minutes;
mod place;
mod reader;
mod retention;
pub(crate) mod schema;
mod sessions;
mod status;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use perfwatch_model::{Finding, SeriesTable, Tick};

use crate::codec::Encoder;
use crate::entities::Entities;
use crate::failpoint::{self, Point};
use crate::judged::{Judged, LedgerOf};
use crate::outbox::{Parcel, Restored, Shipper};
use crate::totals::Totals;
use file::{Failure, File};
use load::Loaded;
use place::Lock;
use reader::Shared;
use sessions::Sessions;
use writing::{Row, Writing};

pub use file::MIN_CAP;
pub(crate) use load::{pack, unpack};
pub use place::holds_something_else;
pub(crate) use place::{beside, escaped};
pub use reader::Reader;
pub use sessions::{Progress, SESSION_BYTES};
pub use status::{Place, Status};
pub(crate) use writing::exact;

/// Ticks that wait for a disk that does not take them. Two minutes, as the ring holds; totals wait for as long as it takes.
const MAX_WAITING: usize = 120;
/// Of the database, what they may take: a lump that is larger could never be written.
const WAITING_SHARE: u64 = 4;
/// Ticks between two looks at the size of the file and at what can be forgotten.
const TIDY_EVERY: u64 = 60;
/// Ticks between two attempts to make a file where none could be made.
const RETRY_EVERY: u64 = 5;

/// How long every tick stays by default: a day.
pub const DEFAULT_KEEP_S: u64 = 86_400;
/// How long the minutes stay by default: a week.
pub const DEFAULT_KEEP_MINUTES_S: u64 = 604_800;

/// Where a journal lies and how large it may grow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// The database. Its folder is made when it is missing.
    pub path: PathBuf,
    /// Most bytes on disk, at least [`MIN_CAP`]; the oldest ticks go first.
    pub cap_bytes: u64,
    /// Seconds of which every tick stays, as far as the cap allows.
    pub keep_s: u64,
    /// Seconds of which the minutes stay.
    pub keep_minutes_s: u64,
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
    /// Where the time went, as the diagnosis says.
    pub ledgers: &'a [LedgerOf],
    /// What stands found.
    pub findings: &'a [Finding],
    /// True when these two are what the diagnosis made of this very tick: whoever judges it again must come to the same.
    pub judged: bool,
}

/// Where a tick was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In the journal: it survives the agent.
    OnDisk,
    /// In memory only.
    InMemory,
}

/// Keeps ticks, totals and sessions. Owned by the one thread that writes.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    sessions: Sessions,
    entities: Entities,
    judged: Judged,
    /// What the last agent left for export, until somebody takes it.
    export: Restored,
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
        let status = Status {
            place,
            bytes: 0,
            since_wall_ns,
            seconds_since_wall_ns: None,
            minutes_since_wall_ns: None,
            ticks_lost: 0,
            series_forgotten: 0,
        };
        Self {
            shared: Shared::new(status),
            sessions: Sessions::default(),
            entities: Entities::default(),
            judged: Judged::default(),
            export: Restored::default(),
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
        if place::holds_something_else(&options.path) {
            return refused(options, "it is a file of something else".to_owned());
        }
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
        journal.entities = loaded.entities;
        journal.judged = loaded.judged;
        journal.export = loaded.export;
        *journal.shared.totals() = loaded.totals;
        journal.shared.totals().fit(options.database_bytes());
        {
            let oldest = file.as_ref().and_then(|file| file.oldest().ok()).unwrap_or_default();
            let mut status = journal.shared.status();
            status.bytes = file.as_ref().map_or(0, File::bytes);
            status.seconds_since_wall_ns = oldest.second.map(|(_, wall_ns)| wall_ns);
            status.minutes_since_wall_ns = oldest.minute.map(|(_, wall_ns)| wall_ns);
        }
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
    ///
    /// `shipper` sees the totals before and after the tick; what it answers goes into the same transaction.
    pub fn commit(&mut self, commit: &Commit<'_>, shipper: &mut dyn Shipper) -> Kept {
        let seq = self.next_seq;
        self.next_seq += 1;
        self.sessions.advance(commit.sessions, commit.tick.end.wall_ns);
        let forgotten = {
            let mut totals = self.shared.totals();
            shipper.before(commit.tick, commit.table, &totals);
            totals.fold(seq, commit.tick, commit.table);
            shipper.after(seq, commit.tick, commit.table, &totals);
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
            shipper.written();
            return Kept::InMemory;
        }
        self.enqueue(seq, commit);
        let written = self.write(seq, commit.table, shipper);
        let kept = self.note(written);
        if kept == Kept::OnDisk {
            shipper.written();
        }
        kept
    }

    /// Writes what a shipper still has when there is no further tick.
    pub fn write_export(&mut self, shipper: &mut dyn Shipper) {
        let Some(disk) = &mut self.disk else { return shipper.written() };
        let Some(file) = &mut disk.file else { return };
        // Totals and ticks that a failing disk did not take go along.
        let writing = Writing::of(&self.shared.totals(), &self.sessions, &self.entities, &self.judged);
        let written = file.write(&writing, &self.waiting, shipper.outgoing()).map(|()| file.bytes());
        if written.is_ok() {
            shipper.written();
        }
        self.note(written);
    }

    /// What a former agent left for export. Once: the caller keeps it.
    pub fn take_restored(&mut self) -> Restored {
        std::mem::take(&mut self.export)
    }

    /// Looks at the totals.
    pub fn with_totals<T>(&self, look: impl FnOnce(&Totals) -> T) -> T {
        look(&self.shared.totals())
    }

    /// Bytes that the database may have; no limit in memory.
    pub fn room(&self) -> u64 {
        self.disk.as_ref().map_or(u64::MAX, |disk| disk.options.database_bytes())
    }

    /// The oldest requests of a signal after number `after`: one if there is any, further ones up to so many bytes together.
    ///
    /// # Errors
    /// What the disk said.
    pub fn read_parcels(&self, signal: &str, after: u64, most_bytes: u64) -> Result<Vec<Parcel>, String> {
        let file = self.disk.as_ref().and_then(|disk| disk.file.as_ref());
        let Some(file) = file else { return Err("the journal is not open".to_owned()) };
        file.parcels(signal, after, most_bytes).map_err(|failure| failure.to_string())
    }

    fn enqueue(&mut self, seq: u64, commit: &Commit<'_>) {
        self.entities.look(commit.table);
        self.judged.take(seq, commit.tick.end.wall_ns, commit.ledgers, commit.findings);
        match self.encoder.encode(commit, &self.shared.totals()) {
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
        self.judged.leave_out(self.waiting.front().map_or(seq, Row::seq));
    }

    fn write(&mut self, seq: u64, table: &SeriesTable, shipper: &mut dyn Shipper) -> Result<u64, Failure> {
        let Some(disk) = &mut self.disk else { return Ok(0) };
        if disk.file.is_none() && seq.is_multiple_of(RETRY_EVERY) {
            match disk.peeked.map(|next| File::reopen(&disk.options, next)) {
                Some(Ok(file)) => (disk.file, disk.peeked) = (Some(file), None),
                Some(Err(Failure::Damaged(reason))) => return self.begin_anew(&reason, table, shipper),
                Some(Err(failure)) => return Err(failure),
                None => {
                    disk.file = Some(File::create(&disk.options, self.shared.status().since_wall_ns)?);
                    self.all_unwritten(table);
                    shipper.begun_anew();
                }
            }
        }
        let Some(disk) = &mut self.disk else { return Ok(0) };
        let Some(file) = &disk.file else { return Err(Failure::Trouble("no journal could be made".into())) };
        if seq.is_multiple_of(RETRY_EVERY) && place::is_gone(&disk.options.path) {
            return self.begin_anew("somebody removed it", table, shipper);
        }
        // After an outage more comes at once than the room that is left to a tick.
        let growth = self.shared.totals().growth() + self.judged.writing().bytes() + shipper.outgoing().bytes();
        if seq.is_multiple_of(TIDY_EVERY) || file.has_grown(growth) || self.waiting.len() > 1 {
            let waiting = self.waiting.iter().map(Row::bytes).sum::<u64>().saturating_add(growth);
            match self.tidy(seq, waiting, table) {
                Err(Failure::Damaged(reason)) => return self.begin_anew(&reason, table, shipper),
                tidied => tidied?,
            }
        }
        let Some(file) = self.disk.as_mut().and_then(|disk| disk.file.as_mut()) else { return Ok(0) };
        failpoint::pass(Point::TransactionDue);
        let writing = Writing::of(&self.shared.totals(), &self.sessions, &self.entities, &self.judged);
        match file.write(&writing, &self.waiting, shipper.outgoing()) {
            Ok(()) => Ok(file.bytes()),
            Err(Failure::Damaged(reason)) => self.begin_anew(&reason, table, shipper),
            Err(failure) => Err(failure),
        }
    }

    /// Sets a damaged file aside, or what is left of one that was removed. Memory knows everything that must not be lost, so a new one can take over at once.
    fn begin_anew(&mut self, reason: &str, table: &SeriesTable, shipper: &mut dyn Shipper) -> Result<u64, Failure> {
        let Some(disk) = &mut self.disk else { return Ok(0) };
        tracing::error!(path = %disk.options.path.display(), reason, "journal lost");
        disk.file = None;
        place::set_aside(&disk.options, "corrupt").map_err(Failure::Trouble)?;
        disk.peeked = None;
        shipper.begun_anew();
        disk.file = Some(File::create(&disk.options, self.shared.status().since_wall_ns)?);
        self.all_unwritten(table);
        let Some(file) = self.disk.as_mut().and_then(|disk| disk.file.as_mut()) else { return Ok(0) };
        let writing = Writing::of(&self.shared.totals(), &self.sessions, &self.entities, &self.judged);
        file.write(&writing, &self.waiting, shipper.outgoing())?;
        Ok(file.bytes())
    }

    /// The file is a new one.
    fn all_unwritten(&mut self, table: &SeriesTable) {
        self.shared.totals().all_unwritten();
        self.sessions.all_unwritten();
        self.judged.all_unwritten();
        self.entities.all_unwritten();
        self.entities.look(table);
    }

    /// Makes minutes, drops what is too much, and forgets what nothing in the file names any more.
    fn tidy(&mut self, seq: u64, waiting: u64, table: &SeriesTable) -> Result<(), Failure> {
        let Some(Disk { options, file: Some(file), .. }) = &mut self.disk else { return Ok(()) };
        // A disk without room has none for minutes either; making room comes first then.
        if self.waiting.len() <= 1 {
            let kinds = self.shared.totals().kinds();
            file.make_minutes(&kinds, &mut self.encoder)?;
        }
        let oldest = file.tidy(waiting, options)?;
        {
            let mut status = self.shared.status();
            status.seconds_since_wall_ns = oldest.second.map(|(_, wall_ns)| wall_ns);
            status.minutes_since_wall_ns = oldest.minute.map(|(_, wall_ns)| wall_ns);
        }
        let mut totals = self.shared.totals();
        totals.forget(oldest.second.map_or(seq, |(seq, _)| seq), seq);
        self.judged.forget(oldest.seq().unwrap_or(seq));
        if !totals.gone().is_empty() {
            self.entities.forget(&totals.entities(), table);
        }
        Ok(())
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
                self.entities.written();
                self.judged.written();
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
