//! How much may wait for the tick: in all, and of one peer.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of flushes, as they came, that wait at once: 30 KiB from each of a thousand processes, where a flush has two. They
/// are up to six times as large in memory. Beyond, sockets are not read until a tick has closed, and the SDKs keep their data.
const IN_ALL: u32 = 32 << 20;
/// Flushes of one peer that wait at once. An SDK has one under way; the rest is for one that connects anew.
const OF_ONE: usize = 4;
/// What one permit stands for.
const UNIT: u32 = 1 << 10;

/// Room for flushes that no tick has taken yet.
#[derive(Clone, Debug)]
pub(super) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new((IN_ALL / UNIT) as usize)))
    }
}

/// One peer's share of it.
#[derive(Debug)]
pub(super) struct Share {
    all: Room,
    own: Arc<Semaphore>,
}

/// A place for one flush; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    _permits: [OwnedSemaphorePermit; 2],
}

impl Room {
    pub(super) fn share(&self) -> Share {
        Share { all: self.clone(), own: Arc::new(Semaphore::new(OF_ONE)) }
    }
}

impl Share {
    /// Waits for a place for a flush of so many bytes, at most a message's. `None` never comes: nobody closes the room.
    pub(super) async fn place(&self, bytes: usize) -> Option<Place> {
        let own = Arc::clone(&self.own).acquire_owned().await.ok()?;
        let units = (bytes as u32).div_ceil(UNIT).clamp(1, IN_ALL / UNIT);
        let all = Arc::clone(&self.all.0).acquire_many_owned(units).await.ok()?;
        Some(Place { _permits: [own, all] })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    async fn waits(share: &Share, bytes: usize) -> bool {
        timeout(Duration::from_millis(20), share.place(bytes)).await.is_err()
    }

    #[tokio::test]
    async fn one_peer_has_few_places_and_all_together_so_many_bytes() {
        let room = Room::default();
        let share = room.share();
        let mut places = Vec::new();
        for _ in 0..OF_ONE {
            places.push(share.place(100).await);
        }
        assert!(waits(&share, 1).await, "the peer has its share");
        places.pop();
        assert!(!waits(&share, 1).await);
        let large = room.share().place(IN_ALL as usize - 100 * UNIT as usize).await;
        assert!(large.is_some());
        assert!(
            waits(&room.share(), 98 * UNIT as usize).await,
            "three small ones and a large one are all there is room for"
        );
        assert!(!waits(&room.share(), 97 * UNIT as usize).await);
        drop(large);
        assert!(!waits(&room.share(), 1 << 20).await);
    }
}
