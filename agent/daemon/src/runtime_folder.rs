//! The folder of the sockets: which one, whose it is, and what lies in it.
//!
//! An agent holds a folder by a lock on `agent.lock` for as long as it lives; the kernel drops the lock with the process,
//! so whatever socket lies in a folder whose lock was free is a leftover.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use perfwatch_wire::runtime_dir::{Candidate, LOCK_FILE, Origin, candidates};
use rustix::fs::FlockOperation;

use crate::agent::Role;
use crate::config::{Config, SocketMode};
use crate::error::Error;

/// The group that may use the sockets, where it exists.
const GROUP: &str = "perfwatch";

/// A folder that this agent holds.
#[derive(Debug)]
pub(crate) struct RuntimeFolder {
    path: PathBuf,
    sockets: Vec<PathBuf>,
    _lock: File,
}

impl RuntimeFolder {
    /// Takes hold of the folder that the role asks for.
    ///
    /// A service takes the first candidate that it can use and fails when another agent has it: two services beside each
    /// other would split the servers between them by accident. An agent inside a command takes the first one that is free.
    pub(crate) fn claim(role: &Role, config: &Config) -> Result<Self, Error> {
        let uid = rustix::process::geteuid().as_raw();
        let candidates = match (role, &config.settings.runtime_dir) {
            (Role::Private(folder) | Role::Guest(folder), _) | (_, Some(folder)) => {
                vec![Candidate { path: folder.clone(), origin: Origin::Named }]
            }
            _ => candidates(|name| config.environment().get(name), uid),
        };
        Self::claim_of(&candidates, role, uid)
    }

    fn claim_of(candidates: &[Candidate], role: &Role, uid: u32) -> Result<Self, Error> {
        let mut refusal = None;
        for candidate in candidates {
            match Self::hold(candidate, uid) {
                Ok(folder) => return Ok(folder),
                Err(error @ Error::Taken { .. }) if *role == Role::Service => return Err(error),
                Err(error) => {
                    tracing::debug!(folder = %candidate.path.display(), %error, "runtime folder not used");
                    // The last candidate is the one that should always work, so its reason is the one to report.
                    refusal = Some(error);
                }
            }
        }
        Err(refusal.expect("there is always a candidate"))
    }

    fn hold(candidate: &Candidate, uid: u32) -> Result<Self, Error> {
        let path = candidate.path.as_path();
        let unusable = |source| Error::Folder { folder: path.to_owned(), source };
        prepare(candidate, uid)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path.join(LOCK_FILE))
            .map_err(unusable)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let pid = lock.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(Error::Taken { folder: path.to_owned(), pid });
            }
            Err(error) => return Err(unusable(error.into())),
        }
        let pid = std::process::id();
        let written = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| writeln!(lock, "{pid}"));
        written.map_err(unusable)?;
        Ok(Self { path: path.to_owned(), sockets: Vec::new(), _lock: lock })
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Listens on a socket in the folder; a leftover is removed first.
    pub(crate) fn listen(&mut self, name: &str, mode: SocketMode) -> Result<UnixListener, Error> {
        let socket = self.path.join(name);
        remove_leftover(&socket)?;
        let failed = |source| Error::Bind { socket: socket.clone(), source };
        let listener = UnixListener::bind(&socket).map_err(failed)?;
        self.sockets.push(socket.clone());
        share_with_group(&socket);
        std::fs::set_permissions(&socket, PermissionsExt::from_mode(mode.0)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(listener)
    }
}

/// The lock file stays: removing it would let two agents lock two files of the same name.
impl Drop for RuntimeFolder {
    fn drop(&mut self) {
        for socket in &self.sockets {
            if let Err(error) = std::fs::remove_file(socket) {
                tracing::debug!(socket = %socket.display(), %error, "socket not removed");
            }
        }
    }
}

/// Makes the folder where that is ours to do, and checks what must be checked.
fn prepare(candidate: &Candidate, uid: u32) -> Result<(), Error> {
    let path = candidate.path.as_path();
    let mode = match candidate.origin {
        // Model servers of other users reach the sockets through these; the sockets' own mode decides who may.
        Origin::Named | Origin::System => 0o755,
        Origin::User | Origin::Shared => 0o700,
    };
    match std::fs::DirBuilder::new().mode(mode).recursive(candidate.origin == Origin::Named).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(Error::Folder { folder: path.to_owned(), source }),
    }
    let about = std::fs::symlink_metadata(path).map_err(|source| Error::Folder { folder: path.to_owned(), source })?;
    if candidate.origin == Origin::Shared {
        // Anybody can make a folder in /tmp, and whoever owns it can put another socket in our place.
        let reason = if !about.is_dir() {
            Some("it is not a folder".to_owned())
        } else if about.uid() != uid {
            Some(format!("it belongs to user {}, not to {uid}", about.uid()))
        } else if about.mode() & 0o077 != 0 {
            Some(format!("its mode is {:04o}, not 0700", about.mode() & 0o7777))
        } else {
            None
        };
        if let Some(reason) = reason {
            return Err(Error::Unsafe { folder: path.to_owned(), reason });
        }
    }
    Ok(())
}

fn remove_leftover(socket: &Path) -> Result<(), Error> {
    let Ok(about) = std::fs::symlink_metadata(socket) else { return Ok(()) };
    if !about.file_type().is_socket() {
        return Err(Error::NotASocket { path: socket.to_owned() });
    }
    if UnixStream::connect(socket).is_ok() {
        return Err(Error::SocketInUse { socket: socket.to_owned() });
    }
    std::fs::remove_file(socket).map_err(|source| Error::Bind { socket: socket.to_owned(), source })
}

/// Gives the socket to the group `perfwatch`, where there is one and we may.
fn share_with_group(socket: &Path) {
    let Ok(groups) = std::fs::read_to_string("/etc/group") else { return };
    let id = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(GROUP)).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    let Some(id) = id else { return };
    if let Err(error) = std::os::unix::fs::chown(socket, None, Some(id)) {
        tracing::warn!(group = GROUP, socket = %socket.display(), %error, "socket stays with the agent's own group");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(base: &Path) -> Vec<Candidate> {
        ["one", "two"].map(|name| Candidate { path: base.join(name), origin: Origin::User }).to_vec()
    }

    fn uid() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn an_agent_inside_a_command_takes_the_next_folder_where_a_service_gives_up() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let candidates = candidates(base.path());
        let service = RuntimeFolder::claim_of(&candidates, &Role::Service, uid()).expect("free");
        assert_eq!(service.path(), base.path().join("one"));
        let error = RuntimeFolder::claim_of(&candidates, &Role::Service, uid()).expect_err("taken");
        let words = format!("another agent (pid {}) serves {}", std::process::id(), service.path().display());
        assert_eq!(error.to_string(), words);
        let inside = RuntimeFolder::claim_of(&candidates, &Role::InProcess, uid()).expect("the next is free");
        assert_eq!(inside.path(), base.path().join("two"));
        drop(service);
        let again = RuntimeFolder::claim_of(&candidates, &Role::Service, uid()).expect("free again");
        assert_eq!(again.path(), base.path().join("one"));
    }

    #[test]
    fn a_folder_that_anybody_could_have_made_is_checked() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let shared = Candidate { path: base.path().join("perfwatch-0"), origin: Origin::Shared };
        let ours = RuntimeFolder::hold(&shared, uid()).expect("made by us");
        let mode = std::fs::metadata(ours.path()).expect("it exists").permissions().mode();
        assert_eq!(mode & 0o7777, 0o700);
        drop(ours);
        let refusal = |uid| RuntimeFolder::hold(&shared, uid).expect_err("unsafe").to_string();
        let ours = uid();
        assert!(refusal(ours + 1).ends_with(&format!("it belongs to user {ours}, not to {}", ours + 1)));
        std::fs::set_permissions(&shared.path, PermissionsExt::from_mode(0o755)).expect("ours");
        assert!(refusal(ours).ends_with("its mode is 0755, not 0700"));
        std::fs::remove_dir_all(&shared.path).expect("ours");
        std::os::unix::fs::symlink("/tmp", &shared.path).expect("a free name");
        assert!(refusal(ours).ends_with("it is not a folder"));
    }

    #[test]
    fn sockets_get_their_mode_and_go_with_the_folder() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let mut folder = RuntimeFolder::hold(&candidates(base.path())[0], uid()).expect("free");
        let socket = folder.path().join("api.sock");
        drop(UnixListener::bind(&socket).expect("a leftover of an agent that was killed"));
        folder.listen("api.sock", SocketMode(0o640)).expect("the leftover is removed");
        let mode = std::fs::metadata(&socket).expect("it exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        drop(folder);
        assert!(!socket.exists());
    }

    #[test]
    fn what_is_no_leftover_is_left_alone() {
        let base = tempfile::tempdir().expect("a temporary folder");
        let mut folder = RuntimeFolder::hold(&candidates(base.path())[0], uid()).expect("free");
        let (socket, file) = (folder.path().join("a.sock"), folder.path().join("b.sock"));
        let _other = UnixListener::bind(&socket).expect("free");
        std::fs::write(&file, "notes").expect("writable");
        let error = folder.listen("a.sock", SocketMode::DEFAULT).expect_err("in use");
        assert_eq!(error.to_string(), format!("another program listens on {}", socket.display()));
        let error = folder.listen("b.sock", SocketMode::DEFAULT).expect_err("a file");
        assert_eq!(error.to_string(), format!("{} exists and is not a socket", file.display()));
        assert!(socket.exists() && file.exists());
    }
}
