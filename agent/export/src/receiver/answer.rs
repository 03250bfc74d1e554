//! How a request is answered.

use std::time::Duration;

/// How a request is answered, in either protocol.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Taken.
    Accept,
    /// Taken, but for some items.
    Partial {
        /// How many were not.
        rejected: i64,
        /// Why.
        message: String,
    },
    /// 503 or `UNAVAILABLE`, with `Retry-After` or `RetryInfo` if a time is given.
    Busy(Option<Duration>),
    /// 400 or `INVALID_ARGUMENT`.
    Refuse(String),
    /// This HTTP status; `INTERNAL` over gRPC.
    Status(u16),
    /// The connection is closed without an answer; `INTERNAL` over gRPC, which shares its connection.
    Close,
    /// Taken, but the answer is lost: the connection is closed, or `UNAVAILABLE` over gRPC.
    Lose,
    /// This gRPC code, with `RetryInfo` if a time is given; 500 over HTTP.
    Code(i32, Option<Duration>),
    /// Another answer, later.
    After(Duration, Box<Answer>),
}

impl Answer {
    /// Waits if told to, and gives the answer then due.
    pub(super) async fn due(self) -> Self {
        let mut answer = self;
        while let Self::After(wait, then) = answer {
            tokio::time::sleep(wait).await;
            answer = *then;
        }
        answer
    }
}
