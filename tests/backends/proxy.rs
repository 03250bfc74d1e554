//! A proxy in front of a real backend that fails as it is told, and keeps everything that it was sent.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::Duration;

use crate::http;
use crate::wire::{self, Point};

/// How often a thread looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(20);

/// How long an agent of these tests waits for an answer.
pub(crate) const PATIENCE_MS: u64 = 2_000;

/// What befalls requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// They reach the backend, and its answer comes back.
    None,
    /// Nobody listens.
    Down,
    /// This status and these headers (each ending in CR LF), and the backend never sees it.
    Status(u16, &'static str),
    /// The connection closes in the middle of the request.
    CutRequest,
    /// The backend has it; the connection closes in the middle of its answer.
    CutAnswer,
    /// The backend has it; no byte of its answer comes back.
    NoAnswer,
    /// The backend has it; its answer comes back so many milliseconds later.
    SlowAnswer(u64),
    /// The backend never sees it, and nothing is said for so many milliseconds.
    Stall(u64),
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The backend answered this.
    Backend(u16),
    /// The backend answered this, and the agent never heard it or no longer listened.
    Unheard(u16),
    /// The proxy answered this in its place.
    Proxy(u16),
    /// It never reached the backend.
    Lost,
}

struct Arrived {
    body: Vec<u8>,
    gzip: bool,
    fate: Fate,
}

struct State {
    fault: Fault,
    /// Goes up with each change of the fault: connections of the time before close.
    era: u64,
    arrived: Vec<Arrived>,
    ended: bool,
}

/// The proxy; it ends when dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    /// In front of `backend`, without a fault.
    pub(crate) fn before(backend: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(Mutex::new(State { fault: Fault::None, era: 0, arrived: Vec::new(), ended: false }));
        let shared = Arc::clone(&state);
        spawn(move || listen(listener, backend, &shared));
        Self { address, state }
    }

    /// From now on this befalls every request, those under way included.
    pub(crate) fn set(&self, fault: Fault) {
        let mut state = self.state.lock().expect("no panic inside");
        state.fault = fault;
        state.era += 1;
    }

    /// How many requests came, whatever became of them.
    pub(crate) fn arrived(&self) -> usize {
        self.state.lock().expect("no panic inside").arrived.len()
    }

    /// Every point that came, in order, and what became of its request.
    pub(crate) fn points(&self) -> Vec<(Fate, Vec<Point>)> {
        let state = self.state.lock().expect("no panic inside");
        let decoded = state.arrived.iter().map(|request| {
            let message = wire::decode(&request.body, request.gzip).expect("what an agent sends is OTLP");
            (request.fate, wire::points(&message))
        });
        decoded.collect()
    }

    /// The points that the backend took.
    pub(crate) fn taken(&self) -> Vec<Point> {
        let taken = |fate| matches!(fate, Fate::Backend(200..=299) | Fate::Unheard(200..=299));
        self.points().into_iter().filter(|(fate, _)| taken(*fate)).flat_map(|(_, points)| points).collect()
    }

    /// The resource of the newest request.
    pub(crate) fn resource(&self) -> Option<wire::Attributes> {
        let state = self.state.lock().expect("no panic inside");
        let newest = state.arrived.last()?;
        let message = wire::decode(&newest.body, newest.gzip)?;
        Some(wire::attributes(&message.resource_metrics.first()?.resource.as_ref()?.attributes))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.state.lock().expect("no panic inside");
        state.ended = true;
        state.era += 1;
    }
}

fn listen(first: TcpListener, backend: SocketAddr, shared: &Arc<Mutex<State>>) {
    let address = first.local_addr().expect("it is bound");
    let mut listener = Some(first);
    loop {
        let (fault, era, ended) = {
            let state = shared.lock().expect("no panic inside");
            (state.fault, state.era, state.ended)
        };
        if ended {
            return;
        }
        if fault == Fault::Down {
            // A listener that is gone refuses, one that does not accept only lets wait.
            listener = None;
            sleep(LOOK);
            continue;
        }
        // The port is ours again at once: std sets SO_REUSEADDR.
        let Some(open) = listener.take().or_else(|| TcpListener::bind(address).ok()) else {
            sleep(LOOK);
            continue;
        };
        open.set_nonblocking(true).expect("a socket");
        match open.accept() {
            Ok((stream, _)) => {
                let shared = Arc::clone(shared);
                spawn(move || {
                    // An error is the agent's end of the connection, or its end altogether.
                    let _ = serve(&stream, backend, &shared, era);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
            Err(_) => sleep(LOOK),
        }
        listener = Some(open);
    }
}

/// Answers the requests of one connection as long as the fault stays as it is.
fn serve(stream: &TcpStream, backend: SocketAddr, shared: &Mutex<State>, era: u64) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LOOK))?;
    let current = || {
        let state = shared.lock().expect("no panic inside");
        (state.era == era).then_some(state.fault)
    };
    let wait = |ms: u64| {
        let mut left = ms;
        while left > 0 && current().is_some() {
            sleep(LOOK);
            left = left.saturating_sub(20);
        }
    };
    let mut pending = Vec::new();
    while let Some(request) = read(stream, &mut pending, &current)? {
        let Some(fault) = current() else { return Ok(()) };
        let keep = |fate| {
            let (body, gzip) = (request.body.clone(), request.gzip);
            shared.lock().expect("no panic inside").arrived.push(Arrived { body, gzip, fate });
        };
        let mut out = stream;
        match fault {
            Fault::Down | Fault::CutRequest => {
                keep(Fate::Lost);
                return Ok(());
            }
            Fault::Stall(ms) => {
                keep(Fate::Lost);
                wait(ms);
                return Ok(());
            }
            Fault::Status(status, headers) => {
                keep(Fate::Proxy(status));
                let body = "told to";
                let length = body.len();
                write!(out, "HTTP/1.1 {status} Fault\r\nContent-Length: {length}\r\n{headers}\r\n{body}")?;
            }
            Fault::None | Fault::CutAnswer | Fault::NoAnswer | Fault::SlowAnswer(_) => {
                let answer = http::send(backend, "POST", &request.path, &request.headers, &request.body)?;
                let unheard = match fault {
                    Fault::CutAnswer | Fault::NoAnswer => true,
                    Fault::SlowAnswer(ms) => ms > PATIENCE_MS,
                    _ => false,
                };
                keep(if unheard { Fate::Unheard(answer.status) } else { Fate::Backend(answer.status) });
                let (status, length) = (answer.status, answer.body.len());
                let head = format!("HTTP/1.1 {status} Backend\r\nContent-Length: {length}\r\n\r\n");
                let whole = [head.as_bytes(), &answer.body].concat();
                match fault {
                    Fault::NoAnswer => return Ok(()),
                    // Inside the head: an answer without a body has no other middle.
                    Fault::CutAnswer => return out.write_all(&whole[..12]),
                    Fault::SlowAnswer(ms) => wait(ms),
                    _ => {}
                }
                out.write_all(&whole)?;
            }
        }
    }
    Ok(())
}

struct Request {
    path: String,
    /// Those that a backend must know.
    headers: String,
    gzip: bool,
    body: Vec<u8>,
}

/// The next request; `None` when there is none and the fault has changed, or the agent hung up.
fn read(
    mut stream: &TcpStream,
    pending: &mut Vec<u8>,
    current: &impl Fn() -> Option<Fault>,
) -> io::Result<Option<Request>> {
    let mut chunk = vec![0; 65_536];
    loop {
        if let Some(end) = pending.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&pending[..end]).into_owned();
            let header = |name: &str| {
                let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
                lines.clone().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
            };
            let length: usize = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
            // Half of the request is what this fault lets through.
            let needed = end + 4 + if current() == Some(Fault::CutRequest) { length / 2 } else { length };
            if pending.len() >= needed {
                let whole = (end + 4 + length).min(pending.len());
                let body = pending[end + 4..whole].to_vec();
                pending.drain(..whole);
                if body.len() < length {
                    return Ok(None);
                }
                let path = head.split(' ').nth(1).unwrap_or("/").to_owned();
                let headers = ["content-type", "content-encoding", "user-agent"];
                let headers = headers.iter().filter_map(|name| Some(format!("{name}: {}\r\n", header(name)?)));
                let gzip = header("content-encoding").is_some_and(|encoding| encoding == "gzip");
                return Ok(Some(Request { path, headers: headers.collect(), gzip, body }));
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(None),
            Ok(read) => pending.extend_from_slice(&chunk[..read]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if current().is_none() {
                    return Ok(None);
                }
            }
            Err(error) => return Err(error),
        }
    }
}
