//! The requests that the load generator sends: made once, sent many times.

use std::fmt::Write as _;

use crate::rng::Rng;
use crate::server::{Question, text};

/// Different requests; enough that no two in a batch are usually alike.
const COUNT: usize = 256;
/// Words of a text: from a remark to a paragraph.
const WORDS: std::ops::RangeInclusive<u64> = 40..=100;

/// Ready-made requests, HTTP head included.
#[derive(Debug)]
pub struct Prompts {
    requests: Vec<Vec<u8>>,
}

impl Prompts {
    /// The requests of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x7465_7874);
        let request = |_| {
            let words = WORDS.start() + rng.below(WORDS.end() - WORDS.start() + 1);
            let question = Question { user: rng.below(1 << 40), text: text(&mut rng, words as usize).into() };
            let body = serde_json::to_string(&question).expect("a number and a text are always JSON");
            let mut request = String::new();
            // Writing to a string cannot fail.
            let _ = write!(
                request,
                "POST /v1/classify HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            request.into_bytes()
        };
        Self { requests: (0..COUNT).map(request).collect() }
    }

    /// The request with this number; they repeat after a while.
    pub fn request(&self, number: u64) -> &[u8] {
        &self.requests[number as usize % self.requests.len()]
    }
}
