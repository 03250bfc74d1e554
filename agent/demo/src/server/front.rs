//! The front: one thread that accepts, reads and parses for every connection, and admits or refuses each request.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use perfwatch_model::Stage;
use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fd::OwnedFd;
use rustix::net::RecvFlags;

use super::connection::{Connection, Reply};
use super::http::{self, Parsed, Route, Status};
use super::pipeline::{Job, Pipeline};

/// Connections held at once; more are closed on arrival. Each may buffer one request of 72 KiB.
const MAX_CONNECTIONS: usize = 512;
const LISTENER: u64 = 0;
const STOP: u64 = 1;

struct Client {
    connection: Arc<Connection>,
    buffer: Vec<u8>,
    requests: u64,
}

/// Everything the front thread waits on.
pub(super) struct Front {
    listener: TcpListener,
    epoll: OwnedFd,
    stop: Arc<OwnedFd>,
    pipeline: Arc<Pipeline>,
    max_pending: u64,
    clients: HashMap<u64, Client>,
    next_client: u64,
}

impl Front {
    /// Prepares to serve `listener`, feeding `pipeline` at most `max_pending` requests at a time.
    pub(super) fn new(listener: TcpListener, pipeline: Arc<Pipeline>, max_pending: u64) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        epoll::add(&epoll, &stop, epoll::EventData::new_u64(STOP), epoll::EventFlags::IN)?;
        let (stop, clients) = (Arc::new(stop), HashMap::new());
        Ok(Self { listener, epoll, stop, pipeline, max_pending, clients, next_client: STOP + 1 })
    }

    /// A handle that ends [`Front::run`] when eight bytes of 1 are written to it.
    pub(super) fn stopper(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.stop)
    }

    /// Serves until stopped.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(64);
        loop {
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    STOP => return Ok(()),
                    id => {
                        if !self.read(id) {
                            // Its requests in flight hold the connection until they are answered.
                            if let Some(client) = self.clients.remove(&id) {
                                let _ = epoll::delete(&self.epoll, client.connection.stream());
                            }
                        }
                    }
                }
            }
        }
    }

    fn accept(&mut self) {
        // Until nothing waits, or no descriptor is free: then the client waits in the backlog.
        while let Ok((stream, _)) = self.listener.accept() {
            if self.clients.len() >= MAX_CONNECTIONS {
                continue;
            }
            let id = self.next_client;
            self.next_client += 1;
            let Ok(connection) = Connection::new(stream) else { continue };
            let added = epoll::add(
                &self.epoll,
                connection.stream(),
                epoll::EventData::new_u64(id),
                epoll::EventFlags::IN | epoll::EventFlags::RDHUP,
            );
            if added.is_ok() {
                let connection = Arc::new(connection);
                self.clients.insert(id, Client { connection, buffer: Vec::with_capacity(4 << 10), requests: 0 });
            }
        }
    }

    /// Reads what has come and handles every whole request in it; false once the connection is done with.
    fn read(&mut self, id: u64) -> bool {
        let Some(client) = self.clients.get_mut(&id) else { return true };
        loop {
            if client.buffer.capacity() - client.buffer.len() < 1 << 10 {
                client.buffer.reserve(4 << 10);
            }
            let got =
                rustix::net::recv(client.connection.stream(), spare_capacity(&mut client.buffer), RecvFlags::DONTWAIT);
            match got {
                Ok((0, _)) => return false,
                Ok(_) => {}
                Err(rustix::io::Errno::AGAIN) => return true,
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return false,
            }
            let mut used = 0;
            let open = loop {
                match http::parse(&client.buffer[used..]) {
                    Parsed::Incomplete => break client.buffer.len() - used <= http::MAX_REQUEST,
                    Parsed::Request { route, body, keep_alive } => {
                        let (start, end) = (used + body.start, used + body.end);
                        let sequence = client.requests;
                        client.requests += 1;
                        let body = &client.buffer[start..end];
                        handle(&self.pipeline, self.max_pending, &client.connection, sequence, route, body, keep_alive);
                        used = end;
                        if !keep_alive {
                            break false;
                        }
                    }
                    Parsed::Broken(status) => {
                        answer(&client.connection, client.requests, status, "{}", false);
                        break false;
                    }
                }
            };
            client.buffer.drain(..used);
            if !open {
                return false;
            }
        }
    }
}

fn handle(
    pipeline: &Arc<Pipeline>,
    max_pending: u64,
    connection: &Arc<Connection>,
    sequence: u64,
    route: Route,
    body: &[u8],
    keep_alive: bool,
) {
    match route {
        Route::Health => answer(connection, sequence, Status::Ok, "{\"status\":\"ok\"}", keep_alive),
        Route::Stats => {
            let stats = serde_json::to_string(&pipeline.counters.stats()).expect("plain numbers are always JSON");
            answer(connection, sequence, Status::Ok, &stats, keep_alive);
        }
        Route::Refused(status) => answer(connection, sequence, status, "{\"error\":\"no such route\"}", keep_alive),
        Route::Classify => {
            let mut request = pipeline.server.request();
            let Some(ticket) = pipeline.counters.admit(max_pending) else {
                pipeline.counters.rejected.fetch_add(1, Relaxed);
                request.fail();
                answer(connection, sequence, Status::Busy, "{\"error\":\"the server is full\"}", keep_alive);
                return;
            };
            request.enter(Stage::Queue);
            let connection = Arc::clone(connection);
            pipeline.accept(Job::new(request, ticket, connection, sequence, body.to_vec(), keep_alive));
        }
    }
}

fn answer(connection: &Connection, sequence: u64, status: Status, body: &str, keep_alive: bool) {
    let bytes = http::response(status, body, keep_alive);
    connection.reply(sequence, Reply { bytes, request: None, ok: status == Status::Ok, close: !keep_alive });
}
