//! One HTTP request at a time, blocking, over a plain socket: all that a test needs to ask a backend.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use perfwatch_tests::DEADLINE;

/// What a server said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends a request and reads the whole answer. HTTP/1.0, so that no server answers in chunks.
pub(crate) fn send(to: SocketAddr, method: &str, path: &str, headers: &str, body: &[u8]) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.0\r\nHost: {to}\r\nContent-Length: {length}\r\n{headers}\r\n");
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or_else(|| io::Error::other("closed without an answer"))?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok(Answer { status: status.ok_or_else(|| io::Error::other("no status"))?, body: answer.split_off(end + 4) })
}

pub(crate) fn get(from: SocketAddr, path: &str) -> io::Result<Answer> {
    send(from, "GET", path, "", b"")
}

/// A text as a value in a query.
pub(crate) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
