//! The slowest requests of a tick, over all workers of a server.

use std::cmp::Reverse;

use perfwatch_model::Stage;
use perfwatch_model::tick::{MAX_SLOW, SlowRequest};
use perfwatch_wire::message;

/// A slow request from the wire, checked on arrival.
pub(super) fn request(told: &message::SlowRequest) -> SlowRequest {
    let mut stage_ns = [0; Stage::COUNT];
    for entry in &told.stages {
        stage_ns[entry.stage as usize] += entry.ns;
    }
    SlowRequest {
        end_ns: told.end_ns,
        duration_ns: told.duration_ns,
        stage_ns,
        trace_id: told.trace_id.as_slice().try_into().ok(),
        error: (!told.error.is_empty()).then(|| told.error.as_str().into()),
        prompt_tokens: told.prompt_tokens,
        generated_tokens: told.generated_tokens,
        first_token_ns: told.first_token_ns,
    }
}

/// Keeps as many as a tick holds, the slowest first. What ended before the tick began takes no place of what ended in it.
pub(super) fn keep_slowest(requests: &mut Vec<SlowRequest>, start_ns: u64) {
    requests.sort_by_key(|request| (request.end_ns <= start_ns, Reverse(request.duration_ns)));
    requests.truncate(MAX_SLOW);
    requests.sort_by_key(|request| Reverse(request.duration_ns));
}
