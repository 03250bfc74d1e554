//! As much of an HTTP client as a load generator needs.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A server that does not answer for this long is gone; under the worst overload here an answer takes seconds.
const TIMEOUT: Duration = Duration::from_secs(30);
/// A response larger than this is none of our server's.
const MAX_RESPONSE: usize = 64 << 10;

/// A response found in a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: std::ops::Range<usize>,
}

/// Looks for one response at the start of `buffer`; `None` until it is whole.
pub(super) fn parse(buffer: &[u8]) -> io::Result<Option<Response>> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut headers = [httparse::EMPTY_HEADER; 16];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(buffer) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if buffer.len() < MAX_RESPONSE => return Ok(None),
        _ => return Err(invalid("the server answered something other than HTTP")),
    };
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok());
    let length =
        length.filter(|length| *length <= MAX_RESPONSE).ok_or_else(|| invalid("a response without a length"))?;
    let status = response.code.unwrap_or(0);
    Ok((buffer.len() >= head + length).then_some(Response { status, body: head..head + length }))
}

/// One connection, one request at a time.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends a whole request, waits for its response, and returns status and body.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        self.stream.write_all(request)?;
        loop {
            if let Some(response) = parse(&self.buffer)? {
                let body = self.buffer[response.body.clone()].to_vec();
                self.buffer.drain(..response.body.end);
                return Ok((response.status, body));
            }
            let mut part = [0; 2_048];
            match self.stream.read(&mut part)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                got => self.buffer.extend_from_slice(&part[..got]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipelined_responses_are_told_apart_and_garbage_is_an_error() {
        let both = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n";
        let first = parse(both).unwrap().unwrap();
        assert_eq!((first.status, &both[first.body.clone()]), (200, &b"ok"[..]));
        assert_eq!(parse(&both[first.body.end..]).unwrap().unwrap().status, 503);
        assert_eq!(parse(&both[..20]).unwrap(), None);
        assert!(parse(b"SSH-2.0-OpenSSH\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
