//! One request's life, from arrival to its end.

use std::fmt;

use perfwatch_model::Stage;

use crate::activity::{Counter, Step};
use crate::core::Core;
use crate::exclusive::Stripe;
use crate::{fork, local};

/// A request that is inside the server.
///
/// It is in exactly one stage at any instant, from `other` at its beginning. The guard may move to another thread: begin
/// it where the request arrives, end it where the response leaves. Ended by [`finish`](Self::finish) or
/// [`fail`](Self::fail); a guard that is dropped before counts as *abandoned*, apart from both.
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
}

impl Request {
    /// A request that records nothing.
    pub(crate) const fn inert() -> Self {
        Self { live: None }
    }

    pub(crate) fn begin(core: &'static Core) -> Self {
        if !core.is_current() && !core.revive() {
            return Self::inert();
        }
        let now = core.clock.now();
        let stripe = core.exclusive.stripe(local::ordinal());
        let stage = Stage::Other;
        core.step(Step { from: None, to: Some(stage), counter: Some(Counter::Started), second: None }, now);
        core.exclusive.change(stripe, None, Some(stage.state()), now);
        let spent = [0; Stage::COUNT];
        Self {
            live: Some(Live { core, stripe, generation: fork::generation(), stage, began: now, entered: now, spent }),
        }
    }

    /// Goes to another stage, and so out of the present one.
    pub fn enter(&mut self, stage: Stage) {
        let Some(live) = self.live.as_mut().filter(|live| live.is_ours() && live.stage != stage) else { return };
        let now = live.core.clock.now();
        live.core.step(Step { from: Some(live.stage), to: Some(stage), counter: None, second: None }, now);
        live.core.exclusive.change(live.stripe, Some(live.stage.state()), Some(stage.state()), now);
        live.spend(now);
        live.stage = stage;
    }

    /// The stage it is in; `None` when recording is disabled.
    pub fn stage(&self) -> Option<Stage> {
        self.live.as_ref().map(|live| live.stage)
    }

    /// Ends it well.
    pub fn finish(mut self) {
        self.end(Counter::Completed);
    }

    /// Ends it with an error.
    pub fn fail(mut self) {
        self.end(Counter::Failed);
    }

    fn end(&mut self, outcome: Counter) {
        let Some(mut live) = self.live.take().filter(Live::is_ours) else { return };
        let now = live.core.clock.now();
        live.core.step(Step { from: Some(live.stage), to: None, counter: Some(outcome), second: None }, now);
        live.core.exclusive.change(live.stripe, Some(live.stage.state()), None, now);
        if matches!(outcome, Counter::Abandoned) {
            return;
        }
        live.spend(now);
        live.core.request_duration.record(now.saturating_sub(live.began));
        for (series, spent) in live.core.stage_duration.iter().zip(live.spent) {
            if spent > 0 {
                series.record(spent);
            }
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
}

impl Drop for Request {
    fn drop(&mut self) {
        self.end(Counter::Abandoned);
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("stage", &self.stage()).finish_non_exhaustive()
    }
}
