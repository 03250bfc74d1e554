//! The socket to the agent. Used by the flusher's thread only; nothing here is on the recording path.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use perfwatch_wire::message::{self, Ack, AgentMessage, ClientMessage, ErrorCode, Hello, Welcome, agent_message};
use perfwatch_wire::{FrameReader, agree, encode};
use prost::Message as _;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::fork;

/// How long a handshake may take. An agent answers in well under a millisecond; a stale listener never does.
const HANDSHAKE: Duration = Duration::from_millis(500);
/// How long one flush may take to be written, should the agent not read.
const WRITE: Duration = Duration::from_secs(1);

/// What an attempt to reach an agent came to.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Nobody answers there.
    Absent,
    /// The socket is not for us.
    Denied,
    /// The agent said no.
    Told(message::Error),
}

/// What the agent said, if anything.
#[derive(Debug)]
pub(crate) enum Heard {
    Ack(Ack),
    /// The agent is about to close.
    Error(message::Error),
    /// Nothing yet.
    Nothing,
    /// The connection is over.
    Closed,
}

/// An established connection, past its handshake.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Option<UnixStream>,
    reader: FrameReader,
    pub(crate) path: PathBuf,
    pub(crate) welcome: Welcome,
}

impl Connection {
    /// Connects to one socket and shakes hands.
    pub(crate) fn open(path: &Path, hello: &Hello) -> Result<Self, Refusal> {
        let stream = dial(path).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => Refusal::Denied,
            _ => Refusal::Absent,
        })?;
        let mut connection = Self {
            stream: Some(stream),
            reader: FrameReader::new(),
            path: path.to_owned(),
            welcome: Welcome::default(),
        };
        if connection.send(&encode(&ClientMessage::from(hello.clone()))).is_err() {
            return Err(Refusal::Absent);
        }
        match connection.hear_message(HANDSHAKE) {
            Ok(Some(agent_message::Body::Welcome(welcome))) => {
                if agree(welcome.protocol, 0) != Some(welcome.protocol) {
                    let message = format!("the agent wants to speak protocol {}: update the SDK", welcome.protocol);
                    return Err(Refusal::Told(message::Error { code: ErrorCode::Protocol as u32, message }));
                }
                connection.welcome = welcome;
                Ok(connection)
            }
            Ok(Some(agent_message::Body::Error(error))) => Err(Refusal::Told(error)),
            _ => Err(Refusal::Absent),
        }
    }

    /// Writes one framed message.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        stream.set_write_timeout(Some(WRITE))?;
        stream.write_all(bytes)
    }

    /// The agent's next word, waiting for it at most `wait`.
    pub(crate) fn hear(&mut self, wait: Duration) -> Heard {
        match self.hear_message(wait) {
            Ok(Some(agent_message::Body::Ack(ack))) => Heard::Ack(ack),
            Ok(Some(agent_message::Body::Error(error))) => Heard::Error(error),
            Ok(None) => Heard::Nothing,
            Ok(Some(agent_message::Body::Welcome(_))) | Err(_) => Heard::Closed,
        }
    }

    fn hear_message(&mut self, wait: Duration) -> io::Result<Option<agent_message::Body>> {
        let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        let mut buffer = [0; 4096];
        loop {
            match self.reader.next() {
                Ok(Some(frame)) => {
                    let message = AgentMessage::decode(frame).map_err(|_| ErrorKind::InvalidData)?;
                    match message.body {
                        Some(body) => return Ok(Some(body)),
                        None => continue, // From a newer agent: not for us.
                    }
                }
                Ok(None) => {}
                Err(_) => return Err(ErrorKind::InvalidData.into()),
            }
            stream.set_nonblocking(wait.is_zero())?;
            if !wait.is_zero() {
                stream.set_read_timeout(Some(wait))?;
            }
            let read = stream.read(&mut buffer);
            stream.set_nonblocking(false)?;
            match read {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.reader.push(&buffer[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            let inside = fork::enter();
            fork::forget_socket(stream.as_raw_fd(), &inside);
            drop(stream); // Inside the gate: a fork sees the descriptor either remembered or closed.
        }
    }
}

/// Connects without ever leaving a descriptor behind in the child of a fork.
fn dial(path: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let inside = fork::enter();
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    fork::remember_socket(socket.as_raw_fd(), &inside);
    drop(inside);
    // Connecting blocks while the listener's queue is full; the flusher can wait, but not for ever.
    let stream = UnixStream::from(socket);
    stream.set_write_timeout(Some(HANDSHAKE))?;
    match connect(&stream, &address) {
        Ok(()) => Ok(stream),
        Err(error) => {
            let inside = fork::enter();
            fork::forget_socket(stream.as_raw_fd(), &inside);
            drop(stream);
            drop(inside);
            Err(error.into())
        }
    }
}
