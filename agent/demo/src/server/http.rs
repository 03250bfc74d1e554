//! As much HTTP/1.1 as the demo's server needs: keep-alive, pipelining, bodies with a length, limits on everything.

use std::fmt::Write as _;

/// Bytes of request line and headers; a client that sends more is refused.
const MAX_HEAD: usize = 8 << 10;
/// Bytes of body; a client that sends more is refused.
pub(crate) const MAX_BODY: usize = 64 << 10;
/// Bytes of one request, head and body: what a connection's buffer may hold before it must parse.
pub(crate) const MAX_REQUEST: usize = MAX_HEAD + MAX_BODY;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// `POST /v1/classify`
    Classify,
    /// `GET /healthz`
    Health,
    /// `GET /stats`
    Stats,
    /// Anything else, with the status that says why not.
    Refused(Status),
}

/// The statuses this server answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Ok,
    BadRequest,
    NotFound,
    TooLarge,
    HeadersTooLarge,
    NotImplemented,
    Busy,
    Failed,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::TooLarge => "413 Content Too Large",
            Self::HeadersTooLarge => "431 Request Header Fields Too Large",
            Self::NotImplemented => "501 Not Implemented",
            Self::Busy => "503 Service Unavailable",
            Self::Failed => "500 Internal Server Error",
        }
    }
}

/// The outcome of looking at a connection's buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// Not a whole request yet.
    Incomplete,
    /// A whole request: `body` is where its body lies, and the next one begins at `body.end`.
    Request { route: Route, body: std::ops::Range<usize>, keep_alive: bool },
    /// Not HTTP, or beyond a limit: answer and close, because the next request's start is unknown.
    Broken(Status),
}

/// Looks for one request at the start of `buffer`.
pub(crate) fn parse(buffer: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let head = match request.parse(buffer) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if buffer.len() < MAX_HEAD => return Parsed::Incomplete,
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Parsed::Broken(Status::HeadersTooLarge);
        }
        Err(_) => return Parsed::Broken(Status::BadRequest),
    };
    let mut length = None;
    let mut keep_alive = request.version == Some(1);
    for header in request.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let value = std::str::from_utf8(header.value).ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
            let Some(value) = value.and_then(|value| value.parse::<usize>().ok()) else {
                return Parsed::Broken(Status::BadRequest);
            };
            // Two lengths that differ are how requests are smuggled past a proxy.
            if length.is_some_and(|other| other != value) {
                return Parsed::Broken(Status::BadRequest);
            }
            length = Some(value);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Parsed::Broken(Status::NotImplemented);
        } else if header.name.eq_ignore_ascii_case("connection") {
            keep_alive = !header.value.eq_ignore_ascii_case(b"close")
                && (keep_alive || header.value.eq_ignore_ascii_case(b"keep-alive"));
        }
    }
    let length = length.unwrap_or(0);
    if length > MAX_BODY {
        return Parsed::Broken(Status::TooLarge);
    }
    if buffer.len() < head + length {
        return Parsed::Incomplete;
    }
    let route = match (request.method, request.path) {
        (Some("POST"), Some("/v1/classify")) => Route::Classify,
        (Some("GET"), Some("/healthz")) => Route::Health,
        (Some("GET"), Some("/stats")) => Route::Stats,
        _ => Route::Refused(Status::NotFound),
    };
    Parsed::Request { route, body: head..head + length, keep_alive }
}

/// A whole response with a JSON body.
pub(crate) fn response(status: Status, body: &str, keep_alive: bool) -> Vec<u8> {
    let mut out = String::with_capacity(128 + body.len());
    let connection = if keep_alive { "keep-alive" } else { "close" };
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "HTTP/1.1 {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: {connection}\r\n\r\n{body}",
        status.line(),
        body.len(),
    );
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipelined_requests_are_told_apart() {
        let one = b"POST /v1/classify HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
        let both = [&one[..], b"GET /stats HTTP/1.1\r\nconnection: close\r\n\r\n"].concat();
        let Parsed::Request { route, body, keep_alive } = parse(&both) else { panic!("not parsed") };
        assert_eq!((route, &both[body.clone()], keep_alive), (Route::Classify, &b"abc"[..], true));
        let rest = &both[body.end..];
        let expected = Parsed::Request { route: Route::Stats, body: rest.len()..rest.len(), keep_alive: false };
        assert_eq!(parse(rest), expected);
    }

    #[test]
    fn a_request_is_incomplete_until_its_last_byte() {
        let request = b"POST /v1/classify HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
        for end in 0..request.len() {
            assert_eq!(parse(&request[..end]), Parsed::Incomplete, "{end} bytes");
        }
    }

    #[test]
    fn what_cannot_be_served_is_refused_with_its_status() {
        let endless = vec![b'a'; MAX_HEAD];
        let refused: [(&[u8], Status); 6] = [
            (b"\x16\x03\x01 not http", Status::BadRequest),
            (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", Status::BadRequest),
            (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", Status::BadRequest),
            (b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", Status::TooLarge),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", Status::NotImplemented),
            (&endless, Status::HeadersTooLarge),
        ];
        for (bytes, status) in refused {
            assert_eq!(parse(bytes), Parsed::Broken(status));
        }
        let Parsed::Request { route, .. } = parse(b"GET /etc/passwd HTTP/1.1\r\n\r\n") else { panic!("not parsed") };
        assert_eq!(route, Route::Refused(Status::NotFound));
    }

    #[test]
    fn http_1_0_closes_unless_asked_not_to() {
        let keep = |bytes: &[u8]| matches!(parse(bytes), Parsed::Request { keep_alive: true, .. });
        assert!(!keep(b"GET /healthz HTTP/1.0\r\n\r\n"));
        assert!(keep(b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
        assert!(keep(b"GET /healthz HTTP/1.1\r\n\r\n"));
    }
}
