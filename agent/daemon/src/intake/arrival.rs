//! Messages on their way in. Senders may be slow or stop half-way: what waits for them is their own connection, and the bytes
//! that are there already, of which each listener holds so many.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _};
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::codegen::Body;

/// Bytes of messages that one listener holds until they are taken in: four of the largest, or thousands of the usual size.
const MAX_BYTES: usize = 16 << 20;
/// After how long a sender may come again that found no room.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// How much a listener holds.
#[derive(Debug)]
pub(super) struct Hold {
    room: Semaphore,
}

/// A message that is there, packed as it came. Its room is free again once this is dropped.
#[derive(Debug)]
pub(super) struct Arrived<'a> {
    pub(super) bytes: Vec<u8>,
    pub(super) room: SemaphorePermit<'a>,
}

/// Why a message did not come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missed {
    /// It is larger than it may be.
    TooLarge,
    /// The connection broke, or broke its protocol.
    Broken,
    /// Others fill the listener at the moment.
    NoRoom,
}

impl Default for Hold {
    fn default() -> Self {
        Self::of(MAX_BYTES)
    }
}

impl Hold {
    fn of(bytes: usize) -> Self {
        Self { room: Semaphore::new(bytes) }
    }

    /// Waits until a message of at most `limit` bytes is there, taking room only for what came of it.
    pub(super) async fn receive<B: Body>(&self, body: B, limit: usize) -> Result<Arrived<'_>, Missed> {
        let take = |bytes: usize| {
            let bytes = u32::try_from(bytes).map_err(|_| Missed::TooLarge)?;
            self.room.try_acquire_many(bytes).map_err(|_| Missed::NoRoom)
        };
        let mut body = pin!(body);
        let mut arrived = Arrived { bytes: Vec::new(), room: take(0)? };
        while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
            // What is no data are trailers, in which nobody sends anything.
            let Ok(data) = frame.map_err(|_| Missed::Broken)?.into_data() else { continue };
            if data.remaining() > limit - arrived.bytes.len() {
                return Err(Missed::TooLarge);
            }
            arrived.room.merge(take(data.remaining())?);
            arrived.bytes.put(data);
        }
        Ok(arrived)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body;
    use std::convert::Infallible;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    #[tokio::test]
    async fn who_stops_half_way_holds_what_came_and_nothing_for_what_did_not() {
        let hold = Hold::of(10);
        let (slow, chunks) = mpsc::channel::<Result<&'static str, Infallible>>(1);
        let mut stalled = Box::pin(hold.receive(body::Body::from_stream(ReceiverStream::new(chunks)), 100));
        let mut go_on = async || {
            tokio::select! {
                biased;
                arrived = &mut stalled => Some(arrived.map(|arrived| arrived.bytes)),
                () = std::future::ready(()) => None,
            }
        };
        assert_eq!(go_on().await, None);
        assert_eq!(hold.receive(body::Body::from("0123456789"), 100).await.expect("it holds nothing").bytes.len(), 10);
        slow.send(Ok("01234567")).await.expect("it waits");
        assert_eq!(go_on().await, None);
        assert_eq!(hold.receive(body::Body::from("0123"), 100).await.expect_err("full"), Missed::NoRoom);
        assert_eq!(hold.receive(body::Body::from("01"), 100).await.expect("that much fits").bytes, b"01");
        drop(slow);
        assert_eq!(go_on().await, Some(Ok(b"01234567".to_vec())));
        assert!(hold.receive(body::Body::from("0123456789"), 100).await.is_ok(), "its room is free again");
    }

    #[tokio::test]
    async fn a_message_is_as_large_as_it_may_be_and_no_larger() {
        let hold = Hold::default();
        assert!(hold.receive(body::Body::from("0123"), 4).await.is_ok());
        assert_eq!(hold.receive(body::Body::from("01234"), 4).await.expect_err("5 of 4"), Missed::TooLarge);
    }
}
