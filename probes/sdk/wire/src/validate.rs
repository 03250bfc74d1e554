//! The protocol's rules beyond what protobuf itself enforces.

use crate::limits::{
    MAX_ENTRIES, MAX_ERRORS, MAX_NAME, MAX_PIDS, MAX_SERIES, MAX_SLOTS, MAX_SLOW, MAX_TEXT, SESSION_BYTES, STAGES,
    STATES, TRACE_BYTES,
};
use perfwatch_model::tick::SLOT_NS;

use crate::message::{Flush, Hello, Slot, SlowRequest};
use crate::sparse::{self, SparseError};

/// The first rule that a message breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A required text is empty, or a text is too long.
    #[error("`{0}` is empty or too long")]
    Text(&'static str),
    /// A list is too long.
    #[error("`{0}` has too many entries")]
    List(&'static str),
    /// The session id does not have 16 bytes.
    #[error("`session` must have {SESSION_BYTES} bytes")]
    Session,
    /// Sequence numbers start at 1.
    #[error("`seq` starts at 1")]
    Seq,
    /// The covered time is empty or runs backward.
    #[error("`end_ns` must be later than `start_ns`")]
    Time,
    /// A stage id outside the vocabulary.
    #[error("a stage id is above {}", STAGES - 1)]
    Stage,
    /// A slot's states do not sum to 100 ms, or slots do not ascend within the covered time.
    #[error("a slot does not sum to 100 ms or lies outside the flush")]
    Slot,
    /// A slow request's stages do not sum to its duration, or its trace id does not have 16 bytes.
    #[error("a slow request's stages do not sum to its duration, or its trace id is malformed")]
    Slow,
    /// A catch-up flush claims to replace flushes that come after itself.
    #[error("`covers_from` must be below `seq`")]
    Covers,
    /// A histogram breaks a rule.
    #[error(transparent)]
    Histogram(#[from] SparseError),
}

/// Checks a handshake.
///
/// # Errors
/// The first rule broken.
pub fn hello(hello: &Hello) -> Result<(), Invalid> {
    name("service", &hello.service)?;
    name("instance", &hello.instance)?;
    name("sdk", &hello.sdk)?;
    text("cgroup", &hello.cgroup)?;
    text("executable", &hello.executable)?;
    if hello.session.len() != SESSION_BYTES {
        return Err(Invalid::Session);
    }
    list("pids", hello.pids.len(), MAX_PIDS)?;
    list("devices", hello.devices.len(), MAX_ENTRIES)?;
    list("config", hello.config.len(), MAX_ENTRIES)?;
    for entry in &hello.config {
        name("config.key", &entry.key)?;
        text("config.value", &entry.value)?;
    }
    hello.devices.iter().try_for_each(|device| text("devices", device))
}

/// Checks a flush, except for the number of its histograms: that excess is dropped and counted, not refused.
///
/// # Errors
/// The first rule broken.
pub fn flush(flush: &Flush) -> Result<(), Invalid> {
    if flush.seq == 0 {
        return Err(Invalid::Seq);
    }
    if flush.end_ns <= flush.start_ns {
        return Err(Invalid::Time);
    }
    if flush.covers_from.is_some_and(|from| from >= flush.seq) {
        return Err(Invalid::Covers);
    }
    list("slots", flush.slots.len(), MAX_SLOTS)?;
    list("errors", flush.errors.len(), MAX_ERRORS)?;
    list("slow", flush.slow.len(), MAX_SLOW)?;
    flush.errors.iter().try_for_each(|error| name("errors.kind", &error.kind))?;
    flush.slow.iter().try_for_each(check_slow)?;
    if let Some(group) = &flush.control_group {
        text("control_group.cpus", &group.cpus)?;
    }
    list("in_flight", flush.in_flight.len(), STAGES)?;
    list("occupancy", flush.occupancy.len(), STAGES)?;
    list("stages", flush.stages.len(), STAGES)?;
    text("cpus_allowed", &flush.cpus_allowed)?;
    for stage in &flush.stages {
        self::stage(stage.stage)?;
        name("stages.name", &stage.name)?;
    }
    flush.in_flight.iter().try_for_each(|entry| stage(entry.stage))?;
    flush.occupancy.iter().try_for_each(|entry| stage(entry.stage))?;
    let mut last = None;
    for slot in &flush.slots {
        check_slot(slot, flush)?;
        if last.is_some_and(|last| slot.index <= last) {
            return Err(Invalid::Slot);
        }
        last = Some(slot.index);
    }
    for histogram in flush.histograms.iter().take(MAX_SERIES) {
        histogram.stage.map_or(Ok(()), stage)?;
        sparse::check(histogram)?;
    }
    Ok(())
}

fn check_slot(slot: &Slot, flush: &Flush) -> Result<(), Invalid> {
    list("slots.occupancy", slot.occupancy.len(), STAGES)?;
    slot.occupancy.iter().try_for_each(|entry| stage(entry.stage))?;
    let total = slot.state_ns.iter().try_fold(0u64, |sum, ns| sum.checked_add(*ns));
    let start = slot.index.checked_mul(SLOT_NS).ok_or(Invalid::Slot)?;
    let inside = start >= flush.start_ns && start.checked_add(SLOT_NS).is_some_and(|end| end <= flush.end_ns);
    if slot.state_ns.len() == STATES && total == Some(SLOT_NS) && inside { Ok(()) } else { Err(Invalid::Slot) }
}

fn check_slow(slow: &SlowRequest) -> Result<(), Invalid> {
    list("slow.stages", slow.stages.len(), STAGES)?;
    slow.stages.iter().try_for_each(|entry| stage(entry.stage))?;
    if slow.error.len() > MAX_NAME {
        return Err(Invalid::Text("slow.error"));
    }
    let total = slow.stages.iter().try_fold(0u64, |sum, entry| sum.checked_add(entry.ns));
    let traced = slow.trace_id.is_empty() || slow.trace_id.len() == TRACE_BYTES;
    if total == Some(slow.duration_ns) && traced { Ok(()) } else { Err(Invalid::Slow) }
}

fn stage(id: u32) -> Result<(), Invalid> {
    if (id as usize) < STAGES { Ok(()) } else { Err(Invalid::Stage) }
}

fn name(field: &'static str, value: &str) -> Result<(), Invalid> {
    if value.is_empty() || value.len() > MAX_NAME { Err(Invalid::Text(field)) } else { Ok(()) }
}

fn text(field: &'static str, value: &str) -> Result<(), Invalid> {
    if value.len() > MAX_TEXT { Err(Invalid::Text(field)) } else { Ok(()) }
}

fn list(field: &'static str, length: usize, limit: usize) -> Result<(), Invalid> {
    if length > limit { Err(Invalid::List(field)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::StageCount;

    fn good() -> Flush {
        let mut state_ns = vec![0; STATES];
        state_ns[0] = SLOT_NS;
        Flush {
            seq: 1,
            start_ns: 0,
            end_ns: 1_000_000_000,
            slots: vec![Slot { index: 3, state_ns, occupancy: vec![] }],
            ..Flush::default()
        }
    }

    #[test]
    fn a_slot_must_sum_and_lie_inside_its_flush() {
        assert_eq!(flush(&good()), Ok(()));
        let mut short = good();
        short.slots[0].state_ns[0] -= 1;
        assert_eq!(flush(&short), Err(Invalid::Slot));
        let mut outside = good();
        outside.slots[0].index = 10;
        assert_eq!(flush(&outside), Err(Invalid::Slot));
        let mut twice = good();
        twice.slots.push(twice.slots[0].clone());
        assert_eq!(flush(&twice), Err(Invalid::Slot));
        let mut huge = good();
        huge.slots[0].index = u64::MAX;
        assert_eq!(flush(&huge), Err(Invalid::Slot));
    }

    #[test]
    fn seq_time_and_stage_are_checked() {
        assert_eq!(flush(&Flush { seq: 0, ..good() }), Err(Invalid::Seq));
        assert_eq!(flush(&Flush { end_ns: 0, ..good() }), Err(Invalid::Time));
        let in_flight = vec![StageCount { stage: 16, count: 1 }];
        assert_eq!(flush(&Flush { in_flight, ..good() }), Err(Invalid::Stage));
    }

    #[test]
    fn a_slow_request_must_add_up() {
        use crate::message::{ErrorCount, StageTime};
        let slow = SlowRequest {
            end_ns: 5,
            duration_ns: 7,
            stages: vec![StageTime { stage: 0, ns: 3 }, StageTime { stage: 5, ns: 4 }],
            trace_id: vec![1; TRACE_BYTES],
            ..SlowRequest::default()
        };
        let with = |slow: SlowRequest| flush(&Flush { slow: vec![slow], ..good() });
        assert_eq!(with(slow.clone()), Ok(()));
        assert_eq!(with(SlowRequest { duration_ns: 8, ..slow.clone() }), Err(Invalid::Slow));
        assert_eq!(with(SlowRequest { trace_id: vec![1], ..slow }), Err(Invalid::Slow));
        let nameless = Flush { errors: vec![ErrorCount::default()], ..good() };
        assert_eq!(flush(&nameless), Err(Invalid::Text("errors.kind")));
        assert_eq!(flush(&Flush { covers_from: Some(1), ..good() }), Err(Invalid::Covers));
        assert_eq!(flush(&Flush { covers_from: Some(0), ..good() }), Ok(()));
    }

    #[test]
    fn a_nameless_or_sessionless_peer_is_refused() {
        let good = Hello {
            service: "demo".into(),
            instance: "1:2".into(),
            sdk: "test/1".into(),
            session: vec![0; SESSION_BYTES],
            ..Hello::default()
        };
        assert_eq!(hello(&good), Ok(()));
        assert_eq!(hello(&Hello { service: String::new(), ..good.clone() }), Err(Invalid::Text("service")));
        assert_eq!(hello(&Hello { session: vec![1], ..good.clone() }), Err(Invalid::Session));
        assert_eq!(hello(&Hello { pids: vec![1; 33], ..good }), Err(Invalid::List("pids")));
    }
}
