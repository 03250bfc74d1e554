//! What the model servers of the scripts do: they wait where a real one would work, and tell the SDK what they would be doing.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use perfwatch_sdk::{Request, Server, Stage};

/// What a server spends its time with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// A language model that generates: many streams at a time, most of their life in decode.
    Decode,
    /// A language model that reads long prompts, for so many times as long as it could.
    Prefill {
        /// By what the GPU is slower: held down, or shared.
        slower: f64,
    },
    /// One tokeniser that all requests go through, before a small model.
    Tokenise,
}

impl Load {
    /// Runs for so long.
    pub(crate) fn run(self, server: &Server, time: Duration) {
        let end = Instant::now() + time;
        let streams = match self {
            Self::Decode => 24,
            Self::Prefill { .. } => 6,
            Self::Tokenise => 8,
        };
        let tokeniser = Mutex::new(());
        let gpu = Mutex::new(());
        std::thread::scope(|scope| {
            for stream in 0..streams {
                let (tokeniser, gpu) = (&tokeniser, &gpu);
                scope.spawn(move || {
                    // Real streams do not work in step.
                    std::thread::sleep(Duration::from_millis(stream * 73));
                    let mut random = Random(stream + 1);
                    while Instant::now() < end {
                        self.request(server, &mut random, tokeniser, gpu);
                    }
                });
            }
        });
    }

    fn request(self, server: &Server, random: &mut Random, tokeniser: &Mutex<()>, gpu: &Mutex<()>) {
        let ms = |ms: u64| std::thread::sleep(Duration::from_millis(ms));
        let mut request = server.request();
        request.enter(Stage::Queue);
        match self {
            Self::Decode => {
                ms(random.below(6));
                request.prompt_tokens(300 + random.below(400));
                request.enter(Stage::Preprocess);
                ms(1);
                request.enter(Stage::Prefill);
                ms(20 + random.below(20));
                let tokens = 60 + random.below(60);
                stream(&mut request, tokens, || ms(24 + random.below(3)));
            }
            Self::Prefill { slower } => {
                let slowed = |ms: u64| (ms as f64 * slower) as u64;
                ms(random.below(30));
                request.prompt_tokens(12_000 + random.below(8_000));
                request.enter(Stage::Preprocess);
                ms(3);
                request.enter(Stage::Prefill);
                ms(slowed(500 + random.below(400)));
                stream(&mut request, 4, || ms(slowed(30)));
            }
            Self::Tokenise => {
                {
                    let _one_at_a_time = tokeniser.lock().expect("nobody panics");
                    request.enter(Stage::Preprocess);
                    ms(32 + random.below(16));
                }
                request.enter(Stage::BatchWait);
                let _busy = gpu.lock().expect("nobody panics");
                request.enter(Stage::Compute);
                server.dispatch(1, 1);
                ms(8);
            }
        }
        request.enter(Stage::Send);
        ms(1);
        request.finish();
    }
}

/// Generates so many tokens after the first.
fn stream(request: &mut Request, tokens: u64, mut wait: impl FnMut()) {
    request.enter(Stage::Decode);
    request.first_token();
    for _ in 0..tokens {
        wait();
        request.token();
    }
}

/// Xorshift is random enough to spread them.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
