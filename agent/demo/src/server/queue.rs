//! The server's queues: first in, first out, with a batch taken in one go.
//!
//! A queue has no bound of its own: admission bounds all requests in the server together (see [`super::front`]), so a
//! request once accepted is never refused half-way.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::now;

#[derive(Debug)]
struct Inner<T> {
    items: VecDeque<(Instant, T)>,
    closed: bool,
}

/// A queue between threads.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    inner: Mutex<Inner<T>>,
    changed: Condvar,
}

/// What a batch was formed from.
#[derive(Debug)]
pub(crate) struct Batch<T> {
    /// The items, oldest first; never empty.
    pub(crate) items: Vec<T>,
    /// How many were waiting when the batch was formed, those in it included.
    pub(crate) ready: usize,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self { inner: Mutex::new(Inner { items: VecDeque::new(), closed: false }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // A thread that panicked between two whole operations left the queue whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an item; on a closed queue it is dropped.
    pub(crate) fn push(&self, item: T) {
        let mut inner = self.lock();
        if !inner.closed {
            inner.items.push_back((now(), item));
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Takes the oldest item, waiting for one; `None` once the queue is closed.
    pub(crate) fn pop(&self) -> Option<T> {
        let mut inner = self.lock();
        loop {
            if let Some((_, item)) = inner.items.pop_front() {
                return Some(item);
            }
            if inner.closed {
                return None;
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes up to `max` items as soon as `max` wait or the oldest has waited `max_wait`; `None` once closed.
    ///
    /// The wait counts from the oldest item's arrival, so a batch that formed while the last one was computed leaves at
    /// once. Meant for one consumer.
    pub(crate) fn pop_batch(&self, max: usize, max_wait: Duration) -> Option<Batch<T>> {
        let mut inner = self.lock();
        loop {
            let Some((arrived, _)) = inner.items.front() else {
                if inner.closed {
                    return None;
                }
                inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = max_wait.saturating_sub(arrived.elapsed());
            let ready = inner.items.len();
            if ready >= max || left.is_zero() {
                let items = inner.items.drain(..ready.min(max)).map(|(_, item)| item).collect();
                return Some(Batch { items, ready });
            }
            inner = self.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lets waiting threads go and drops what waits: an end under overload must not take as long as the backlog.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        let left = std::mem::take(&mut inner.items);
        drop(inner);
        self.changed.notify_all();
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    const LONG: Duration = Duration::from_mins(10);

    #[test]
    fn a_full_batch_leaves_at_once_and_counts_those_left_behind() {
        let queue = Queue::new();
        for item in 0..11 {
            queue.push(item);
        }
        let batch = queue.pop_batch(8, LONG).unwrap();
        assert_eq!((batch.items, batch.ready), ((0..8).collect(), 11));
        let batch = queue.pop_batch(8, Duration::ZERO).unwrap();
        assert_eq!((batch.items, batch.ready), (vec![8, 9, 10], 3));
    }

    #[test]
    fn a_lone_item_leaves_when_its_wait_is_over() {
        let queue = Queue::new();
        queue.push(1);
        let batch = queue.pop_batch(8, Duration::from_millis(1)).unwrap();
        assert_eq!((batch.items, batch.ready), (vec![1], 1));
    }

    #[test]
    fn a_waiting_batch_takes_what_arrives_meanwhile() {
        let queue = Arc::new(Queue::new());
        queue.push(0);
        let pusher = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || (1..4).for_each(|item| queue.push(item)))
        };
        // Its wait would outlast any test: only the fourth item can complete it.
        assert_eq!(queue.pop_batch(4, LONG).unwrap().items, [0, 1, 2, 3]);
        pusher.join().unwrap();
    }

    #[test]
    fn closing_drops_what_is_left_and_lets_everybody_go() {
        let queue = Arc::new(Queue::new());
        let waiting = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || queue.pop_batch(8, LONG).is_none())
        };
        let item = Arc::new(());
        let full = Queue::new();
        full.push(Arc::clone(&item));
        for queue in [&full, &Queue::new()] {
            queue.close();
            queue.push(Arc::clone(&item));
            assert!(queue.pop_batch(8, LONG).is_none());
            assert!(queue.pop().is_none());
        }
        assert_eq!(Arc::strong_count(&item), 1);
        queue.push(1);
        queue.close();
        // It got the item or found the queue closed, but it does not wait.
        waiting.join().unwrap();
    }
}
