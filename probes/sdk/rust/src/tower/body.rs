//! The body of a response, which ends the call with its last byte.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;

use super::Life;
use super::outcome::Outcome;

pin_project! {
    /// A response's body that ends its call.
    #[derive(Debug)]
    pub struct Body<B> {
        #[pin]
        inner: B,
        life: Option<Life>,
        outcome: Outcome,
    }
}

impl<B> Body<B> {
    pub(super) fn new(inner: B, life: Option<Life>, outcome: Outcome) -> Self {
        Self { inner, life, outcome }
    }
}

impl<B: http_body::Body> http_body::Body for Body<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(context));
        match &frame {
            Some(Err(_)) => *this.outcome = Outcome::Failed("body".into()),
            Some(Ok(frame)) => {
                if let Some(status) = frame.trailers_ref().and_then(Outcome::of_grpc) {
                    *this.outcome = status;
                }
            }
            None => {}
        }
        // Whoever writes the response need not ask again once the end is in sight.
        if (!matches!(frame, Some(Ok(_))) || this.inner.is_end_stream())
            && let Some(life) = this.life.take()
        {
            life.end(this.outcome);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
