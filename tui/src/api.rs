//! A client of the agent's local API: HTTP over its UNIX socket.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use perfwatch_model::Snapshot;
use perfwatch_model::snapshot::SCHEMA_VERSION;
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

/// An agent that answers at all answers within this; it only copies what it has.
const ANSWER: Duration = Duration::from_secs(5);
/// A stream with nothing on it for this long is dead: snapshots come each second, at most each minute.
const SILENCE: Duration = Duration::from_secs(90);
/// A larger snapshot than this is not one of ours; 1,000 servers with 16 stages each need 4 MiB.
const MAX_SNAPSHOT: usize = 32 << 20;

/// Why the agent could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// There is no socket.
    #[error("no perfwatch agent at {socket}; start one with `perfwatch agent`", socket = .0.display())]
    NoAgent(PathBuf),
    /// There is a socket that nobody listens on.
    #[error("the perfwatch agent at {socket} is gone (connection refused); start it again with `perfwatch agent`", socket = .0.display())]
    Refused(PathBuf),
    /// The socket belongs to somebody else.
    #[error("no permission to open {socket}; join its group, or start the agent with --socket-mode 0666", socket = .0.display())]
    Denied(PathBuf),
    /// Something else went wrong on the way.
    #[error("cannot reach the perfwatch agent at {socket}: {source}", socket = .socket.display())]
    Io {
        /// The socket.
        socket: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// It accepted and then said nothing.
    #[error("the perfwatch agent at {socket} does not answer; is it stopped? `perfwatch doctor` tells more", socket = .0.display())]
    Silent(PathBuf),
    /// Whoever listens there is not perfwatch.
    #[error("what listens at {socket} is not a perfwatch agent: {why}", socket = .socket.display())]
    NotOurs {
        /// The socket.
        socket: PathBuf,
        /// What gave it away.
        why: String,
    },
    /// It is an agent of another time.
    #[error("the agent at {socket} speaks snapshot schema {theirs}, this perfwatch {SCHEMA_VERSION}; update the older one", socket = .socket.display())]
    Version {
        /// The socket.
        socket: PathBuf,
        /// Its schema version.
        theirs: u32,
    },
    /// It answered that it cannot.
    #[error("the agent at {socket} answered {status}: {body}", socket = .socket.display())]
    Status {
        /// The socket.
        socket: PathBuf,
        /// HTTP status.
        status: u16,
        /// What it said.
        body: String,
    },
    /// It ended the stream.
    #[error("the agent at {socket} closed the connection", socket = .0.display())]
    Closed(PathBuf),
}

impl ApiError {
    /// The reason in a few words, for a header line.
    pub fn brief(&self) -> String {
        match self {
            Self::NoAgent(_) => "no agent".to_owned(),
            Self::Refused(_) => "agent is gone".to_owned(),
            Self::Denied(_) => "no permission".to_owned(),
            Self::Io { source, .. } => source.to_string(),
            Self::Silent(_) => "agent is silent".to_owned(),
            Self::NotOurs { .. } => "not a perfwatch agent".to_owned(),
            Self::Version { theirs, .. } => format!("agent speaks schema {theirs}"),
            Self::Status { status, .. } => format!("agent answered {status}"),
            Self::Closed(_) => "agent closed the connection".to_owned(),
        }
    }
}

/// Asks the agent behind `socket` for what it knows now. Blocks for at most about 5 s; may be called from anywhere,
/// async code included (it uses a thread of its own).
pub fn snapshot(socket: &Path) -> Result<Snapshot, ApiError> {
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| runtime()?.block_on(fetch(socket)));
        asking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Writes what the agent behind `socket` answers to `GET path` into `out`, however long it is. May be called from anywhere.
pub fn download(socket: &Path, path: &str, out: &mut (dyn io::Write + Send)) -> Result<(), ApiError> {
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            runtime()?.block_on(async {
                // An agent copies a long recording before it answers.
                let mut lines = match timeout(DOWNLOAD, request(socket, path)).await {
                    Ok(answer) => answer?,
                    Err(_) => return Err(ApiError::Silent(socket.to_owned())),
                };
                while lines.more().await? {
                    let io = |source| ApiError::Io { socket: socket.to_owned(), source };
                    out.write_all(&std::mem::take(&mut lines.buffer)).map_err(io)?;
                }
                Ok(())
            })
        });
        asking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What an agent answered that was asked to do something.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// JSON, from an agent that knows the path.
    pub body: Vec<u8>,
}

/// Asks the agent behind `socket` to do what `path` stands for, and waits for no longer than that may take. Any status is an
/// answer. May be called from anywhere.
pub fn post(socket: &Path, path: &str, patience: Duration) -> Result<Answer, ApiError> {
    let asked = async {
        let (status, mut lines) = send(socket, Method::POST, path).await?;
        Ok(Answer { status: status.as_u16(), body: lines.all().await? })
    };
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let answered = runtime()?.block_on(async { timeout(patience, asked).await });
            answered.unwrap_or_else(|_| Err(ApiError::Silent(socket.to_owned())))
        });
        asking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// How long an agent may prepare a long answer.
const DOWNLOAD: Duration = Duration::from_mins(2);

pub(crate) fn runtime() -> Result<Runtime, ApiError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| ApiError::Io { socket: PathBuf::new(), source })
}

async fn fetch(socket: &Path) -> Result<Snapshot, ApiError> {
    let mut lines = open(socket, "/v1/snapshot").await?;
    match timeout(ANSWER, lines.all()).await {
        Ok(body) => parse(socket, &body?),
        Err(_) => Err(ApiError::Silent(socket.to_owned())),
    }
}

/// Opens the stream of snapshots.
pub(crate) async fn stream(socket: &Path) -> Result<Lines, ApiError> {
    open(socket, "/v1/stream").await
}

async fn open(socket: &Path, path: &str) -> Result<Lines, ApiError> {
    match timeout(ANSWER, request(socket, path)).await {
        Ok(answer) => answer,
        Err(_) => Err(ApiError::Silent(socket.to_owned())),
    }
}

async fn request(socket: &Path, path: &str) -> Result<Lines, ApiError> {
    let (status, mut lines) = send(socket, Method::GET, path).await?;
    if status == StatusCode::OK {
        return Ok(lines);
    }
    if status == StatusCode::NOT_FOUND {
        return Err(ApiError::NotOurs { socket: socket.to_owned(), why: format!("it has no {path}") });
    }
    let body = String::from_utf8_lossy(&lines.all().await?).trim().to_owned();
    Err(ApiError::Status { socket: socket.to_owned(), status: status.as_u16(), body })
}

/// The status of the answer, and its body as it comes.
async fn send(socket: &Path, method: Method, path: &str) -> Result<(StatusCode, Lines), ApiError> {
    let stream = UnixStream::connect(socket).await.map_err(|source| connect_error(socket, source))?;
    let not_ours = |why: &dyn std::fmt::Display| ApiError::NotOurs { socket: socket.to_owned(), why: why.to_string() };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| not_ours(&error))?;
    // Lives as long as the body; ends by itself when either side closes.
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", "perfwatch").body(Empty::<Bytes>::new());
    let request = request.map_err(|error| not_ours(&error))?;
    let answer = sender.send_request(request).await.map_err(|error| not_ours(&error))?;
    let status = answer.status();
    let lines = Lines { socket: socket.to_owned(), body: answer.into_body(), buffer: Vec::new(), searched: 0 };
    Ok((status, lines))
}

fn connect_error(socket: &Path, source: io::Error) -> ApiError {
    let socket = socket.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound => ApiError::NoAgent(socket),
        io::ErrorKind::ConnectionRefused => ApiError::Refused(socket),
        io::ErrorKind::PermissionDenied => ApiError::Denied(socket),
        _ => ApiError::Io { socket, source },
    }
}

/// A body that is read line by line. No more than one snapshot is held.
pub(crate) struct Lines {
    socket: PathBuf,
    body: Incoming,
    buffer: Vec<u8>,
    searched: usize,
}

impl Lines {
    /// The next snapshot; empty lines are only signs of life.
    pub(crate) async fn next(&mut self) -> Result<Snapshot, ApiError> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + at + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                self.searched = 0;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return parse(&self.socket, &line);
            }
            self.searched = self.buffer.len();
            match timeout(SILENCE, self.more()).await {
                Ok(more) => {
                    if !more? {
                        return Err(ApiError::Closed(self.socket.clone()));
                    }
                }
                Err(_) => return Err(ApiError::Silent(self.socket.clone())),
            }
        }
    }

    async fn all(&mut self) -> Result<Vec<u8>, ApiError> {
        while self.more().await? {}
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Reads on; false at the end.
    async fn more(&mut self) -> Result<bool, ApiError> {
        let Some(frame) = self.body.frame().await else { return Ok(false) };
        let Ok(frame) = frame else { return Err(ApiError::Closed(self.socket.clone())) };
        if let Some(data) = frame.data_ref() {
            if self.buffer.len() + data.len() > MAX_SNAPSHOT {
                let why = format!("its answer is longer than {} MiB", MAX_SNAPSHOT >> 20);
                return Err(ApiError::NotOurs { socket: self.socket.clone(), why });
            }
            self.buffer.extend_from_slice(data);
        }
        Ok(true)
    }
}

/// The one field that may be read before the version is known.
#[derive(Deserialize)]
struct Versioned {
    schema_version: u32,
}

fn parse(socket: &Path, json: &[u8]) -> Result<Snapshot, ApiError> {
    let not_ours = |error: serde_json::Error| ApiError::NotOurs { socket: socket.to_owned(), why: error.to_string() };
    match serde_json::from_slice(json) {
        Ok(snapshot) => check(socket, snapshot),
        Err(error) => match serde_json::from_slice::<Versioned>(json) {
            Ok(version) if version.schema_version != SCHEMA_VERSION => {
                Err(ApiError::Version { socket: socket.to_owned(), theirs: version.schema_version })
            }
            _ => Err(not_ours(error)),
        },
    }
}

fn check(socket: &Path, snapshot: Snapshot) -> Result<Snapshot, ApiError> {
    if snapshot.schema_version == SCHEMA_VERSION {
        Ok(snapshot)
    } else {
        Err(ApiError::Version { socket: socket.to_owned(), theirs: snapshot.schema_version })
    }
}
