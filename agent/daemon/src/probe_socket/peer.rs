//! Who is at the other end.

use std::path::Path;

use perfwatch_probes::ns::{ResolveError, find_pid};
use perfwatch_probes::redact;
use perfwatch_wire::limits::SESSION_BYTES;
use perfwatch_wire::message::Hello;

/// What the kernel says about the peer's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Process id as the agent sees it; `None` when the process lives in a PID namespace the agent cannot see.
    pub pid: Option<u32>,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
}

/// A session of a server process, past its handshake.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// The session's id.
    pub session: [u8; SESSION_BYTES],
    /// The handshake, its texts made printable: they will be shown on terminals.
    pub hello: Hello,
    /// What the kernel says; `None` where it does not.
    pub credentials: Option<Credentials>,
    /// Process id as the agent sees it: the kernel's word, else found by what the peer calls itself.
    pub pid: Option<u32>,
}

/// Looks for the peer's process by the pids that it knows itself by and by its control group. For a peer whose PID
/// namespace is not the agent's: there the kernel names no pid. Reads all of `proc`.
pub(super) fn find(proc: &Path, hello: &Hello) -> Result<u32, ResolveError> {
    let control_group = (!hello.cgroup.is_empty()).then_some(hello.cgroup.as_str());
    find_pid(proc, &hello.pids, hello.start_ticks, control_group)
}

impl Peer {
    /// From a handshake that [`perfwatch_wire::validate::hello`] has passed.
    ///
    /// # Panics
    /// When the session id does not have 16 bytes, which that check refuses.
    pub fn new(mut hello: Hello, credentials: Option<Credentials>) -> Self {
        let mut session = [0; SESSION_BYTES];
        session.copy_from_slice(&hello.session);
        for text in [&mut hello.sdk, &mut hello.service, &mut hello.instance, &mut hello.executable] {
            clean(text);
        }
        hello.devices.iter_mut().for_each(clean);
        for entry in &mut hello.config {
            clean(&mut entry.key);
            entry.value = redact::value(&entry.key, &entry.value);
        }
        let pid = credentials.and_then(|known| known.pid);
        Self { session, hello, credentials, pid }
    }
}

/// Escapes what is not printable: nothing from outside may command a terminal or hide in a name. Hides what looks like a
/// secret: names and kinds of errors go to screens, disks and backends, and an error likes to quote the URL that failed.
pub(super) fn clean(text: &mut String) {
    *text = redact::text(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(pids: Vec<u32>, cgroup: String) -> Hello {
        Hello { pids, cgroup, ..Hello::default() }
    }

    #[test]
    fn a_process_in_another_pid_namespace_is_found_by_what_it_calls_itself() {
        let proc = Path::new("/proc");
        let own = std::process::id();
        let cgroup = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        assert!(matches!(find(proc, &hello(vec![own], cgroup)), Ok(pid) if pid == own));
        assert!(find(proc, &hello(vec![u32::MAX], String::new())).is_err());
        assert!(find(proc, &hello(Vec::new(), String::new())).is_err(), "nothing to go by");
    }
}
