//! One request's life, from arrival to its end.

use std::fmt;

use perfwatch_model::Stage;

use crate::activity::{Counter, Step};
use crate::core::Core;
use crate::errors::Kind;
use crate::exclusive::Stripe;
use crate::slowest::Sample;
use crate::{fork, local};

/// A request that is inside the server.
///
/// It is in exactly one stage at any instant, from `other` at its beginning. The guard may move to another thread: begin
/// it where the request arrives, end it where the response leaves. It ends in one of four ways, counted apart:
/// [`finish`](Self::finish), [`fail`](Self::fail) (or [`fail_with`](Self::fail_with) a kind), [`cancel`](Self::cancel), and
/// *abandoned* when the guard is dropped without any of these. The first two record its duration and its time per stage.
#[must_use = "a request that is dropped counts as abandoned"]
pub struct Request {
    live: Option<Live>,
}

struct Live {
    core: &'static Core,
    stripe: &'static Stripe,
    generation: u32,
    stage: Stage,
    began: u64,
    entered: u64,
    spent: [u64; Stage::COUNT],
    first_token: Option<u64>,
    last_token: u64,
    prompt_tokens: u64,
    generated_tokens: u64,
    trace_id: Option<[u8; 16]>,
}

impl Request {
    /// A request that records nothing.
    pub(crate) const fn inert() -> Self {
        Self { live: None }
    }

    pub(crate) fn begin(core: &'static Core) -> Self {
        if !core.is_current() {
            core.revive();
        }
        let now = core.clock.now();
        let stripe = core.exclusive.stripe(local::ordinal());
        let stage = Stage::Other;
        core.step(Step { to: Some(stage), ..Step::count(Counter::Started, 1) }, now);
        core.exclusive.change(stripe, None, Some(stage.state()), now);
        Self {
            live: Some(Live {
                core,
                stripe,
                generation: fork::generation(),
                stage,
                began: now,
                entered: now,
                spent: [0; Stage::COUNT],
                first_token: None,
                last_token: 0,
                prompt_tokens: 0,
                generated_tokens: 0,
                trace_id: None,
            }),
        }
    }

    /// Goes to another stage, and so out of the present one.
    pub fn enter(&mut self, stage: Stage) {
        let Some(live) = self.live().filter(|live| live.stage != stage) else { return };
        let now = live.core.clock.now();
        live.core.step(Step { from: Some(live.stage), to: Some(stage), ..Step::default() }, now);
        live.core.exclusive.change(live.stripe, Some(live.stage.state()), Some(stage.state()), now);
        live.spend(now);
        live.stage = stage;
    }

    /// The stage it is in; `None` when recording is disabled.
    pub fn stage(&self) -> Option<Stage> {
        self.live.as_ref().map(|live| live.stage)
    }

    /// The first generated token is there: like [`token`](Self::token), but does nothing when there was one before.
    pub fn first_token(&mut self) {
        if self.live().is_some_and(|live| live.first_token.is_none()) {
            self.tokens(1);
        }
    }

    /// One more token was generated. The first one gives the time to first token (since the request's arrival), each later
    /// one the time since the one before, both in nanoseconds.
    pub fn token(&mut self) {
        self.tokens(1);
    }

    /// A step of the stream brought this many tokens: one time is recorded for the step, and all tokens are counted. A step
    /// of 0 tokens is none.
    pub fn tokens(&mut self, count: u32) {
        let Some(live) = self.live().filter(|_| count > 0) else { return };
        let now = live.core.clock.now();
        if live.first_token.is_some() {
            live.core.inter_token.record(now.saturating_sub(live.last_token));
        } else {
            let waited = now.saturating_sub(live.began);
            live.first_token = Some(waited);
            live.core.first_token.record(waited);
        }
        live.last_token = now;
        live.generated_tokens += u64::from(count);
        live.core.step(Step::count(Counter::GeneratedTokens, u64::from(count)), now);
    }

    /// Says how many tokens the prompt has. Said again, only what is more than before counts.
    pub fn prompt_tokens(&mut self, total: u64) {
        let Some(live) = self.live() else { return };
        let more = total.saturating_sub(live.prompt_tokens);
        live.prompt_tokens += more;
        live.count(Counter::PromptTokens, more);
    }

    /// Says how many tokens were generated in all, for servers that learn it at the end. What [`token`](Self::token) and
    /// [`tokens`](Self::tokens) counted already does not count twice.
    pub fn generated_tokens(&mut self, total: u64) {
        let Some(live) = self.live() else { return };
        let more = total.saturating_sub(live.generated_tokens);
        live.generated_tokens += more;
        live.count(Counter::GeneratedTokens, more);
    }

    /// Names the W3C trace that it belongs to, so that a slow request can be looked up. All zeros is none.
    pub fn trace_id(&mut self, id: [u8; 16]) {
        if let Some(live) = self.live() {
            live.trace_id = (id != [0; 16]).then_some(id);
        }
    }

    /// Takes the trace id out of a `traceparent` header; true when it is one.
    pub fn traceparent(&mut self, header: &str) -> bool {
        let id = parse_traceparent(header);
        id.inspect(|id| self.trace_id(*id)).is_some()
    }

    /// Ends it well.
    pub fn finish(mut self) {
        self.end(End::Completed);
    }

    /// Ends it with an error of kind `other`.
    pub fn fail(mut self) {
        self.end(End::Failed(Kind::OTHER));
    }

    /// Ends it with an error of this kind, as OpenTelemetry's `error.type`: a short name out of a small set, such as
    /// `timeout` or `503`, never a message. There is room for 15 names of at most 128 bytes; further ones count as `other`.
    pub fn fail_with(mut self, kind: &str) {
        let Some(live) = self.live() else { return };
        let kind = live.core.kinds.find(kind);
        self.end(End::Failed(kind));
    }

    /// Ends it because its client went away.
    pub fn cancel(mut self) {
        self.end(End::Cancelled);
    }

    fn live(&mut self) -> Option<&mut Live> {
        self.live.as_mut().filter(|live| live.is_ours())
    }

    fn end(&mut self, end: End) {
        let Some(mut live) = self.live.take().filter(Live::is_ours) else { return };
        let now = live.core.clock.now();
        live.core.step(Step { from: Some(live.stage), ..Step::count(end.counter(), 1) }, now);
        live.core.exclusive.change(live.stripe, Some(live.stage.state()), None, now);
        let error = match end {
            End::Completed => None,
            End::Failed(kind) => Some(kind),
            // How long it would have taken is not known.
            End::Cancelled | End::Abandoned => return,
        };
        live.spend(now);
        live.core.request_duration.record(now.saturating_sub(live.began));
        for (series, spent) in live.core.stage_duration.iter().zip(live.spent) {
            if spent > 0 {
                series.record(spent);
            }
        }
        let duration_ns = live.spent.iter().sum();
        live.core.slowest.offer(duration_ns, || Sample {
            end_ns: now,
            duration_ns,
            stage_ns: live.spent,
            trace_id: live.trace_id,
            error,
            prompt_tokens: live.prompt_tokens,
            generated_tokens: live.generated_tokens,
            first_token_ns: live.first_token,
        });
    }
}

/// How a request ends.
#[derive(Clone, Copy)]
enum End {
    Completed,
    Failed(Kind),
    Cancelled,
    Abandoned,
}

impl End {
    fn counter(self) -> Counter {
        match self {
            Self::Completed => Counter::Completed,
            Self::Failed(kind) => Counter::Failed(kind),
            Self::Cancelled => Counter::Cancelled,
            Self::Abandoned => Counter::Abandoned,
        }
    }
}

impl Live {
    /// False in the child of a fork: the request goes on in the parent, and is counted there.
    fn is_ours(&self) -> bool {
        self.generation == fork::generation()
    }

    fn spend(&mut self, now: u64) {
        self.spent[self.stage.index()] += now.saturating_sub(self.entered);
        self.entered = now;
    }

    fn count(&self, counter: Counter, by: u64) {
        if by > 0 {
            self.core.step(Step::count(counter, by), self.core.clock.now());
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.end(End::Abandoned);
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("stage", &self.stage()).finish_non_exhaustive()
    }
}

/// The trace id of a W3C `traceparent`: `version-traceid-parentid-flags` in lower-case hex.
fn parse_traceparent(header: &str) -> Option<[u8; 16]> {
    let mut parts = header.trim().split('-');
    let (version, id, parent) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next()?;
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    if !hex(version, 2) || version == "ff" || !hex(id, 32) || !hex(parent, 16) {
        return None;
    }
    let id = u128::from_str_radix(id, 16).ok().filter(|id| *id != 0)?;
    Some(id.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::parse_traceparent;

    #[test]
    fn a_traceparent_gives_its_trace_id_or_nothing() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(parse_traceparent(good).map(u128::from_be_bytes), Some(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c));
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01",
        ] {
            assert_eq!(parse_traceparent(bad), None, "{bad}");
        }
    }
}
