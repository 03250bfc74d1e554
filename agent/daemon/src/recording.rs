//! A range of what an agent holds, as a file that can be replayed.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use perfwatch_model::{SeriesTable, Tick};
use perfwatch_store::{Archive, ArchiveError, Commit, Journal, JournalOptions, Kept, NoShipper, Place, When};

use crate::history::History;
use crate::replay::WARM_UP;

/// Why there is no recording.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The journal cannot be read, or the file cannot be written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// Nothing was measured in that time, or it is no longer held.
    #[error("nothing is held of that time; {0}")]
    Nothing(String),
    /// The file cannot be written.
    #[error("{path} cannot be written: {why}")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
}

/// Copies the newest of a journal, whose agent may run or not, into a new file.
///
/// # Errors
/// There is nothing, or the journal cannot be read, or the file cannot be written.
pub fn take(journal: &Path, newest: Duration, to_file: &Path) -> Result<(), RecordError> {
    of_journal(journal, to_file, Asked::Newest(u64::try_from(newest.as_nanos()).unwrap_or(u64::MAX)))
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The newest of everything: so many nanoseconds, whatever the wall clock did in them.
    Newest(u64),
    /// What ended from one time to another, both in nanoseconds since 1970.
    Between(u64, u64),
}

/// Copies ticks out of a journal, and with them what warms the rules up. A time that came twice, because the wall clock was
/// set back, is meant as it came last.
///
/// # Errors
/// There are none, or the journal cannot be read, or the file cannot be written.
pub(crate) fn of_journal(journal: &Path, to_file: &Path, asked: Asked) -> Result<(), RecordError> {
    let archive = Archive::open(journal)?;
    let found = match asked {
        Asked::Newest(ns) => archive.newest(ns)?,
        Asked::Between(from, to) => archive.within(from, to)?,
    };
    let Some((first, last)) = found else {
        let held = archive.span()?.map_or_else(
            || "the journal holds no ticks yet".to_owned(),
            |span| {
                let [first, last] = [span.first, span.last].map(|end| crate::time::rfc3339(end.wall_ns));
                format!("the journal goes from {first} to {last}")
            },
        );
        return Err(RecordError::Nothing(held));
    };
    archive.copy_shown_from(archive.before(first, WARM_UP)?, last, first, to_file)?;
    Ok(())
}

/// Writes ticks that are held in memory.
///
/// # Errors
/// There are none, or the file cannot be written.
pub(crate) fn of_memory(ticks: &[Arc<Tick>], table: &SeriesTable, to_file: &Path) -> Result<(), RecordError> {
    let Some(first) = ticks.first() else {
        return Err(RecordError::Nothing("an agent without a journal holds two minutes".to_owned()));
    };
    let unwritable = |why: String| RecordError::Unwritable { path: to_file.to_owned(), why };
    let options = JournalOptions {
        path: to_file.to_owned(),
        cap_bytes: u64::MAX / 4,
        boot: String::new(),
        keep_s: perfwatch_store::DEFAULT_KEEP_S,
        keep_minutes_s: perfwatch_store::DEFAULT_KEEP_MINUTES_S,
        now_wall_ns: first.end.wall_ns,
    };
    let mut journal = Journal::open(options);
    if let Place::Refused { reason, .. } | Place::Failing { reason, .. } = journal.reader().status().place {
        return Err(unwritable(reason));
    }
    for tick in ticks {
        if journal
            .commit(&Commit { tick, table, sessions: &[], ledgers: &[], findings: &[], judged: false }, &mut NoShipper)
            != Kept::OnDisk
        {
            return Err(unwritable(journal.reader().status().place.to_string()));
        }
    }
    Ok(())
}

/// A folder for one file on its way to whoever asked for it. It goes with this.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

/// What such folders are called, after what they lie beside.
const BESIDE: &str = ".recording-";

impl Folder {
    /// A new one, for its owner alone, beside what has this path.
    ///
    /// # Errors
    /// None can be made there.
    pub(crate) fn beside(path: &Path) -> std::io::Result<Self> {
        // Its name is not a secret: where somebody else took it, as is possible in /tmp, the next is tried.
        for number in 0..100 {
            let mut name = path.as_os_str().to_owned();
            name.push(format!("{BESIDE}{}-{number}", std::process::id()));
            match std::fs::DirBuilder::new().mode(0o700).create(&name) {
                Ok(()) => return Ok(Self(PathBuf::from(name))),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(std::io::ErrorKind::AlreadyExists.into())
    }

    /// Where the file belongs.
    pub(crate) fn file(&self) -> PathBuf {
        self.0.join("recording")
    }

    /// Removes those that an agent which was killed left beside its journal; only who holds the journal may.
    pub(crate) fn remove_left_beside(journal: &Path) {
        let (Some(folder), Some(name)) = (journal.parent(), journal.file_name()) else { return };
        let mut name = name.to_owned();
        name.push(BESIDE);
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(name.as_encoded_bytes()) {
                let removed = std::fs::remove_dir_all(entry.path());
                tracing::info!(path = %entry.path().display(), ok = removed.is_ok(), "an unfinished recording is removed");
            }
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl History {
    /// Everything that memory holds of it.
    pub(crate) fn held(&self, asked: Asked) -> (Vec<Arc<Tick>>, Arc<SeriesTable>) {
        match asked {
            Asked::Between(from, to) => self.view(from as f64 / 1e9, to as f64 / 1e9),
            Asked::Newest(ns) => {
                let (mut ticks, table) = self.view(0.0, f64::INFINITY);
                let when = |(at, tick): (usize, &Arc<Tick>)| When { seq: at as u64, end: tick.end, dt_ns: tick.dt_ns };
                let mut within = perfwatch_store::newest(ns);
                let newest = ticks.iter().enumerate().rev().map(when).take_while(|tick| within(*tick)).count();
                ticks.drain(..ticks.len() - newest);
                (ticks, table)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_agent_left_of_a_recording_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let journal = path("journal.db");
        let unfinished = Folder::beside(&journal).expect("made");
        std::fs::write(unfinished.file(), "half").expect("written");
        let second = Folder::beside(&journal).expect("made beside the first");
        assert_ne!(second.file(), unfinished.file());
        std::mem::forget((unfinished, second));
        for name in ["journal.db", "journal.db.lock", "other.db.recording-1-0"] {
            std::fs::write(path(name), "").expect("written");
        }
        Folder::remove_left_beside(&journal);
        let mut left: Vec<_> =
            std::fs::read_dir(folder.path()).expect("a folder").flatten().map(|e| e.file_name()).collect();
        left.sort();
        assert_eq!(left, ["journal.db", "journal.db.lock", "other.db.recording-1-0"]);
    }
}
