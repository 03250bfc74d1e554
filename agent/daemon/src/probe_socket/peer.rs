//! Who is at the other end.

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
            clean(&mut entry.value);
        }
        Self { session, hello, credentials }
    }
}

/// Escapes what is not printable: nothing from outside may command a terminal or hide in a name.
pub(super) fn clean(text: &mut String) {
    *text = perfwatch_model::printable(text.as_bytes());
}
