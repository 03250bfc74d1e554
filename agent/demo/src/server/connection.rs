//! One client connection: responses leave in the order in which their requests came, whoever finishes first.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use perfwatch_model::Stage;
use perfwatch_sdk::Request;

/// A client that does not take a response for this long is disconnected: one stalled client must not hold up the
/// thread that answers all the others.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// A response on its way out.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The whole response.
    pub(crate) bytes: Vec<u8>,
    /// The request it answers, where it is one that is measured.
    pub(crate) request: Option<Request>,
    /// True if the request succeeded.
    pub(crate) ok: bool,
    /// True if the connection ends with it.
    pub(crate) close: bool,
}

#[derive(Debug, Default)]
struct Outbox {
    next: u64,
    early: BTreeMap<u64, Reply>,
    closed: bool,
}

/// The writing half of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    outbox: Mutex<Outbox>,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Self { stream, outbox: Mutex::default() })
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends the response to request number `sequence` of this connection as soon as all before it are sent.
    pub(crate) fn reply(&self, sequence: u64, reply: Reply) {
        let mut outbox = self.outbox.lock().unwrap_or_else(PoisonError::into_inner);
        if outbox.closed {
            return;
        }
        outbox.early.insert(sequence, reply);
        loop {
            let next = outbox.next;
            let Some(mut reply) = outbox.early.remove(&next) else { return };
            outbox.next += 1;
            if let Some(request) = &mut reply.request {
                request.enter(Stage::Send);
            }
            let sent = (&self.stream).write_all(&reply.bytes).is_ok();
            match (reply.request, sent && reply.ok) {
                (Some(request), true) => request.finish(),
                // Without a client to take it, or without a result: not a success, whatever was computed.
                (Some(request), false) => request.fail(),
                (None, _) => {}
            }
            if reply.close || !sent {
                outbox.closed = true;
                outbox.early.clear();
                // Already closed by the other side: then there is nothing left to close.
                let _ = self.stream.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    fn reply(text: &str, close: bool) -> Reply {
        Reply { bytes: text.as_bytes().to_vec(), request: None, ok: true, close }
    }

    #[test]
    fn responses_leave_in_the_order_of_their_requests() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let connection = Connection::new(listener.accept().unwrap().0).unwrap();
        connection.reply(2, reply("c", true));
        connection.reply(1, reply("b", false));
        connection.reply(0, reply("a", false));
        connection.reply(3, reply("after the end", false));
        let mut got = String::new();
        client.read_to_string(&mut got).unwrap();
        assert_eq!(got, "abc");
    }
}
