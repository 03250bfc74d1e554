//! What systemd is told of the agent (`sd_notify`): that it is ready, that it lives, that it reloads, that it stops.
//!
//! Without `$NOTIFY_SOCKET` all of this does nothing.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

/// Tells the service manager. One that does not listen is no reason to stop measuring.
fn tell(states: &[NotifyState<'_>]) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return };
    // A line break inside a state would begin another one.
    let lines: Vec<_> = states.iter().map(|state| state.to_string().replace(['\n', '\r'], " ")).collect();
    if let Err(error) = send(&socket, &lines.join("\n")) {
        tracing::warn!(%error, "service manager not told");
    }
}

/// To a path, or to a name that begins with `@` and has no file. A manager that does not read is not waited for.
fn send(socket: &OsStr, message: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.send_to_addr(message.as_bytes(), &address).map(drop)
}

/// The agent measures and serves.
pub(crate) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// What `systemctl status` shows.
pub(crate) fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// The agent reads its configuration anew; [`ready`] ends that. systemd waits for it by this time.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "service manager not told of the reload"),
    }
}

/// The agent stops, and takes the time that this needs.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The agent lives.
pub(crate) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often [`alive`] is to be told: twice in the time that `WatchdogSec=` gives. `None` where nobody watches.
pub(crate) fn watchdog() -> Option<Duration> {
    let within = sd_notify::watchdog_enabled()?;
    Some((within / 2).max(Duration::from_millis(100)))
}
