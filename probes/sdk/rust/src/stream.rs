//! A stream of tokens that records itself.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use pin_project_lite::pin_project;

use crate::request::Request;

pin_project! {
    /// The stream that [`Request::stream`] returns.
    #[must_use = "a stream does nothing until it is polled"]
    #[derive(Debug)]
    pub struct Tokens<S> {
        #[pin]
        inner: S,
        life: Life,
    }
}

/// Ends the request when the stream goes away before its end: its client did.
#[derive(Debug)]
struct Life(Option<Request>);

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(request) = self.0.take() {
            request.cancel();
        }
    }
}

impl Request {
    /// Follows a stream in which each item is one step with one token: records the time to the first and between the
    /// others, [finishes](Self::finish) the request at its end, [fails](Self::fail) it with the first error, and
    /// [cancels](Self::cancel) it when the stream is dropped before.
    pub fn stream<S, T, E>(self, stream: S) -> Tokens<S>
    where
        S: Stream<Item = Result<T, E>>,
    {
        Tokens { inner: stream, life: Life(Some(self)) }
    }
}

impl<S, T, E> Stream for Tokens<S>
where
    S: Stream<Item = Result<T, E>>,
{
    type Item = Result<T, E>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        let item = ready!(this.inner.poll_next(context));
        match &item {
            Some(Ok(_)) => {
                if let Some(request) = &mut this.life.0 {
                    request.token();
                }
            }
            Some(Err(_)) => {
                if let Some(request) = this.life.0.take() {
                    request.fail();
                }
            }
            None => {
                if let Some(request) = this.life.0.take() {
                    request.finish();
                }
            }
        }
        Poll::Ready(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}
