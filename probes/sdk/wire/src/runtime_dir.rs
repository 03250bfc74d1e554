//! Where the sockets may be. The agent, the SDK and the terminal all take the list from here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// File name of the probe socket inside the runtime folder.
pub const PROBE_SOCKET: &str = "probe.sock";
/// File name of the local API's socket inside the runtime folder.
pub const API_SOCKET: &str = "api.sock";
/// File name of the lock that says which agent holds the folder.
pub const LOCK_FILE: &str = "agent.lock";

/// How a folder came to be a candidate; an agent treats them differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `PERFWATCH_RUNTIME_DIR` names it: it is the only candidate.
    Named,
    /// `/run/perfwatch`, made by the packaging; used by an agent that may write there.
    System,
    /// `$XDG_RUNTIME_DIR/perfwatch`.
    User,
    /// `/tmp/perfwatch-$UID`: anybody can create it first, so its owner and mode must be checked (0700, ours).
    Shared,
}

/// One folder that may hold the sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The folder.
    pub path: PathBuf,
    /// Why it is a candidate.
    pub origin: Origin,
}

impl Candidate {
    /// The probe socket in this folder.
    pub fn probe_socket(&self) -> PathBuf {
        self.path.join(PROBE_SOCKET)
    }

    /// The local API's socket in this folder.
    pub fn api_socket(&self) -> PathBuf {
        self.path.join(API_SOCKET)
    }
}

/// The folders in the order in which they are tried.
///
/// `environment` looks up one variable; `uid` is the effective user id. `PERFWATCH_RUNTIME_DIR` excludes the others: who
/// names a folder does not want to end up in another. A relative `XDG_RUNTIME_DIR` is ignored, as its specification asks.
pub fn candidates(environment: impl Fn(&str) -> Option<OsString>, uid: u32) -> Vec<Candidate> {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = set("PERFWATCH_RUNTIME_DIR") {
        return vec![Candidate { path, origin: Origin::Named }];
    }
    let mut folders = vec![Candidate { path: "/run/perfwatch".into(), origin: Origin::System }];
    if let Some(base) = set("XDG_RUNTIME_DIR").filter(|base| base.is_absolute()) {
        folders.push(Candidate { path: base.join("perfwatch"), origin: Origin::User });
    }
    folders.push(Candidate { path: Path::new("/tmp").join(format!("perfwatch-{uid}")), origin: Origin::Shared });
    folders
}

/// The probe sockets a client tries, in order: `PERFWATCH_SOCKET` alone when set, else one in each candidate folder.
pub fn probe_sockets(environment: impl Fn(&str) -> Option<OsString>, uid: u32) -> Vec<PathBuf> {
    if let Some(path) = environment("PERFWATCH_SOCKET").filter(|value| !value.is_empty()) {
        return vec![path.into()];
    }
    candidates(environment, uid).iter().map(Candidate::probe_socket).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment<'a>(set: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        move |name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
    }

    #[test]
    fn without_any_variable_the_system_folder_comes_first() {
        let sockets = probe_sockets(environment(&[("XDG_RUNTIME_DIR", "/run/user/7")]), 7);
        let wanted = ["/run/perfwatch/probe.sock", "/run/user/7/perfwatch/probe.sock", "/tmp/perfwatch-7/probe.sock"];
        assert_eq!(sockets, wanted.map(PathBuf::from));
    }

    #[test]
    fn a_named_folder_or_socket_excludes_the_others() {
        let folder = environment(&[("PERFWATCH_RUNTIME_DIR", "/x")]);
        assert_eq!(probe_sockets(folder, 7), [PathBuf::from("/x/probe.sock")]);
        let socket = environment(&[("PERFWATCH_RUNTIME_DIR", "/x"), ("PERFWATCH_SOCKET", "/y.sock")]);
        assert_eq!(probe_sockets(socket, 7), [PathBuf::from("/y.sock")]);
    }

    #[test]
    fn empty_and_relative_values_count_as_unset() {
        let odd = environment(&[("PERFWATCH_RUNTIME_DIR", ""), ("XDG_RUNTIME_DIR", "relative")]);
        assert_eq!(candidates(odd, 0).len(), 2);
    }
}
