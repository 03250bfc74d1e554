//! The place of a journal: its folder, its lock, and what must be moved out of its way.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::JournalOptions;

/// Files that are set aside and kept; a disk that keeps damaging them must not be filled by them.
const KEPT_ASIDE: usize = 3;

/// The right to write a journal, held until dropped. Agents that serve different runtime folders share one state folder.
#[derive(Debug)]
pub(super) struct Lock {
    _file: fs::File,
}

impl Lock {
    /// Makes the folder where it is missing and takes hold of the journal in it; else why not.
    pub(super) fn take(journal: &Path) -> Result<Self, String> {
        if let Some(folder) = journal.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        }
        let path = beside(journal, ".lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(|error| format!("cannot open {}: {error}", path.display()))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err("another agent writes this journal".to_owned()),
            Err(error) => Err(format!("cannot lock {}: {}", path.display(), io::Error::from(error))),
        }
    }
}

/// Makes the file before `SQLite` does, readable by its owner alone; the files beside it take over its mode.
pub(super) fn prepare(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// Whether a file lies there that never was a journal, and is not ours to set aside. Where a journal is written its lock stays
/// beside it, whatever becomes of the journal; a header of zeros is what a crash of the machine makes of one.
pub fn holds_something_else(path: &Path) -> bool {
    let mut head = Vec::new();
    // Nothing else is opened: a pipe would wait for its other end.
    let read = path.is_file() && File::open(path).and_then(|file| file.take(100).read_to_end(&mut head)).is_ok();
    let is_database = head.starts_with(b"SQLite format 3\0");
    read && !is_database && head.iter().any(|byte| *byte != 0) && !beside(path, ".lock").exists()
}

/// Whether somebody removed the journal: what is written to one that is open is nowhere then.
pub(super) fn is_gone(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Whether something was written there.
pub(super) fn holds_anything(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|about| about.len() > 0)
}

/// Whether a write-ahead log was left beside it: what is in the log is not in the database yet.
pub(super) fn has_log(path: &Path) -> bool {
    holds_anything(&beside(path, "-wal"))
}

/// The path as part of a `file:` address.
pub(crate) fn escaped(path: &Path) -> String {
    let mut address = String::new();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => address.push(char::from(*byte)),
            other => address.push_str(&format!("%{other:02X}")),
        }
    }
    address
}

/// The path with something after its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Renames the journal and what belongs to it, and says where it is now. `why` becomes part of the name.
pub(super) fn set_aside(options: &JournalOptions, why: &str) -> Result<PathBuf, String> {
    let path = options.path.as_path();
    let numbered = |number: u32| beside(path, &format!(".{why}-{}-{number}", options.now_wall_ns / 1_000_000_000));
    let target = (1..1_000).map(numbered).find(|target| !target.exists()).unwrap_or_else(|| numbered(0));
    for part in ["", "-wal", "-shm"] {
        match fs::rename(beside(path, part), beside(&target, part)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Left in place it would be taken for the new journal's.
            Err(error) => return Err(format!("cannot move {} away: {error}", beside(path, part).display())),
        }
    }
    tracing::warn!(journal = %path.display(), moved_to = %target.display(), why, "journal set aside");
    drop_oldest_aside(path);
    Ok(target)
}

fn drop_oldest_aside(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else { return };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(entries) = fs::read_dir(folder) else { return };
    let aside = |found: &str| {
        let kind = found.strip_prefix(name).unwrap_or_default();
        (kind.starts_with(".corrupt-") || kind.starts_with(".newer-"))
            && !found.ends_with("-wal")
            && !found.ends_with("-shm")
    };
    let mut found: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(aside))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    found.sort();
    let excess = found.len().saturating_sub(KEPT_ASIDE);
    for (_, old) in &found[..excess] {
        tracing::warn!(path = %old.display(), "journal that was set aside is deleted: there are newer ones");
        for path in [old.clone(), beside(old, "-wal"), beside(old, "-shm")] {
            let _ = fs::remove_file(path);
        }
    }
}
