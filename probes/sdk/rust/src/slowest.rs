//! The slowest requests since the last flush, each with where its time went.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use perfwatch_model::Stage;
use perfwatch_model::tick::MAX_SLOW;
use perfwatch_wire::message::{SlowRequest, StageTime};

use crate::errors::{Kind, Kinds};
use crate::fork::{self, Pass};
use crate::histogram::lock;

/// How often an ending request knocks at the gate; inside, somebody else stays for microseconds at most.
const KNOCKS: usize = 256;

/// One request that ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) end_ns: u64,
    pub(crate) duration_ns: u64,
    pub(crate) stage_ns: [u64; Stage::COUNT],
    pub(crate) trace_id: Option<[u8; 16]>,
    pub(crate) error: Option<Kind>,
    pub(crate) prompt_tokens: u64,
    pub(crate) generated_tokens: u64,
    pub(crate) first_token_ns: Option<u64>,
}

impl Sample {
    /// As the protocol writes it.
    pub(crate) fn message(&self, kinds: &Kinds) -> SlowRequest {
        let stages = self.stage_ns.iter().enumerate().filter(|(_, ns)| **ns > 0);
        SlowRequest {
            end_ns: self.end_ns,
            duration_ns: self.duration_ns,
            stages: stages.map(|(at, ns)| StageTime { stage: at as u32, ns: *ns }).collect(),
            trace_id: self.trace_id.map(Vec::from).unwrap_or_default(),
            error: self.error.map(|kind| kinds.name(kind).to_owned()).unwrap_or_default(),
            prompt_tokens: self.prompt_tokens,
            generated_tokens: self.generated_tokens,
            first_token_ns: self.first_token_ns,
        }
    }
}

/// The [`MAX_SLOW`] slowest of an interval. Nearly every request only compares its duration with the fastest one kept.
pub(crate) struct Slowest {
    floor: AtomicU64,
    kept: Mutex<Vec<Sample>>,
}

impl Slowest {
    pub(crate) fn new() -> Self {
        Self { floor: AtomicU64::new(0), kept: Mutex::new(Vec::with_capacity(MAX_SLOW)) }
    }

    /// Keeps a request that is slower than the fastest one kept.
    #[inline]
    pub(crate) fn offer(&self, duration_ns: u64, sample: impl FnOnce() -> Sample) {
        if duration_ns > self.floor.load(Relaxed) {
            self.keep(sample());
        }
    }

    /// Never waits: a sample for which the gate stays closed is left out.
    #[cold]
    fn keep(&self, sample: Sample) {
        let pass = (0..KNOCKS).find_map(|_| {
            std::hint::spin_loop();
            fork::try_enter()
        });
        let Some(_inside) = pass else { return };
        let mut kept = lock(&self.kept);
        if kept.len() < MAX_SLOW {
            kept.push(sample);
        } else if let Some(fastest) = kept.iter_mut().min_by_key(|kept| kept.duration_ns)
            && fastest.duration_ns < sample.duration_ns
        {
            *fastest = sample;
        }
        if kept.len() == MAX_SLOW {
            self.floor.store(kept.iter().map(|kept| kept.duration_ns).min().unwrap_or(0), Relaxed);
        }
    }

    /// Takes out what was kept; the next interval begins.
    pub(crate) fn take(&self, _inside: &Pass) -> Vec<Sample> {
        let taken = lock(&self.kept).drain(..).collect();
        self.floor.store(0, Relaxed);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(duration_ns: u64) -> Sample {
        Sample {
            end_ns: 0,
            duration_ns,
            stage_ns: [0; Stage::COUNT],
            trace_id: None,
            error: None,
            prompt_tokens: 0,
            generated_tokens: 0,
            first_token_ns: None,
        }
    }

    #[test]
    fn the_slowest_are_kept_whatever_their_order() {
        let slowest = Slowest::new();
        for at in 0..1_000 {
            let duration = at * 7_919 % 1_000;
            slowest.offer(duration, || sample(duration));
        }
        let mut kept: Vec<u64> = slowest.take(&fork::enter()).iter().map(|sample| sample.duration_ns).collect();
        kept.sort_unstable();
        assert_eq!(kept, (992..1_000).collect::<Vec<_>>());
        slowest.offer(1, || sample(1));
        assert_eq!(slowest.take(&fork::enter()).len(), 1, "each interval begins anew");
    }
}
