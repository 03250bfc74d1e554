//! Stages, units and states as C numbers them.

use perfwatch_sdk::{Stage, Status, Unit};

/// What a request is doing. A server's own stages have numbers too: see `perfwatch_server_stage`.
///
/// Functions take the number, so that a number from nowhere is a stage `other` rather than undefined behaviour.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum perfwatch_stage {
    /// Waiting to be taken up at all.
    PERFWATCH_QUEUE = 0,
    /// Decoding, tokenising, resizing: CPU work on the input.
    PERFWATCH_PREPROCESS = 1,
    /// Fetching features, embeddings or files that the model needs.
    PERFWATCH_DATA_LOAD = 2,
    /// Ready for the model, waiting for a batch to form or for its turn.
    PERFWATCH_BATCH_WAIT = 3,
    /// Copying between host and device.
    PERFWATCH_TRANSFER = 4,
    /// Inside the model.
    PERFWATCH_COMPUTE = 5,
    /// Inside the model, reading the prompt.
    PERFWATCH_PREFILL = 6,
    /// Inside the model, generating tokens.
    PERFWATCH_DECODE = 7,
    /// CPU work on the output.
    PERFWATCH_POSTPROCESS = 8,
    /// Writing the response to the client.
    PERFWATCH_SEND = 9,
    /// In the server, in no stage that it named. Every request begins here.
    PERFWATCH_OTHER = 10,
}

/// What the integers of a histogram are.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum perfwatch_unit {
    /// Time; record nanoseconds. Shown and exported in seconds.
    PERFWATCH_NANOSECONDS = 0,
    /// Bytes.
    PERFWATCH_BYTES = 1,
    /// Requests.
    PERFWATCH_REQUESTS = 2,
    /// Tokens.
    PERFWATCH_TOKENS = 3,
    /// Anything else that is counted. Also what an unknown number means.
    PERFWATCH_ITEMS = 4,
}

/// What became of the connection to the agent.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum perfwatch_status {
    /// `PERFWATCH_DISABLED` is set, or the handle is null: nothing is recorded.
    PERFWATCH_IS_DISABLED = 0,
    /// Started; no connection was tried yet.
    PERFWATCH_IS_STARTING = 1,
    /// An agent receives the flushes.
    PERFWATCH_IS_CONNECTED = 2,
    /// No agent listens at any candidate; totals wait for one.
    PERFWATCH_HAS_NO_AGENT = 3,
    /// A socket is there, but this process may not use it (group or mode).
    PERFWATCH_MAY_NOT_CONNECT = 4,
    /// The agent refused this server.
    PERFWATCH_IS_REFUSED = 5,
    /// The flusher thread could not be started; totals are kept but never sent.
    PERFWATCH_HAS_NO_THREAD = 6,
    /// The server was closed.
    PERFWATCH_IS_CLOSED = 7,
}

/// The stage with this number; `other` for a number that none has.
#[inline]
pub(crate) fn stage(number: u8) -> Stage {
    Stage::from_index(usize::from(number)).unwrap_or(Stage::Other)
}

pub(crate) fn unit(number: u8) -> Unit {
    match number {
        0 => Unit::Seconds,
        1 => Unit::Bytes,
        2 => Unit::Count("{request}"),
        3 => Unit::Count("{token}"),
        _ => Unit::Count("{item}"),
    }
}

pub(crate) fn status(status: &Status) -> perfwatch_status {
    match status {
        Status::Disabled => perfwatch_status::PERFWATCH_IS_DISABLED,
        Status::Starting => perfwatch_status::PERFWATCH_IS_STARTING,
        Status::Connected(_) => perfwatch_status::PERFWATCH_IS_CONNECTED,
        Status::NoAgent => perfwatch_status::PERFWATCH_HAS_NO_AGENT,
        Status::PermissionDenied(_) => perfwatch_status::PERFWATCH_MAY_NOT_CONNECT,
        Status::Refused(_) => perfwatch_status::PERFWATCH_IS_REFUSED,
        Status::NoThread(_) => perfwatch_status::PERFWATCH_HAS_NO_THREAD,
        Status::Closed => perfwatch_status::PERFWATCH_IS_CLOSED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c_numbers_the_stages_as_the_protocol_does() {
        let pairs = [
            (perfwatch_stage::PERFWATCH_QUEUE, Stage::Queue),
            (perfwatch_stage::PERFWATCH_PREPROCESS, Stage::Preprocess),
            (perfwatch_stage::PERFWATCH_DATA_LOAD, Stage::DataLoad),
            (perfwatch_stage::PERFWATCH_BATCH_WAIT, Stage::BatchWait),
            (perfwatch_stage::PERFWATCH_TRANSFER, Stage::Transfer),
            (perfwatch_stage::PERFWATCH_COMPUTE, Stage::Compute),
            (perfwatch_stage::PERFWATCH_PREFILL, Stage::Prefill),
            (perfwatch_stage::PERFWATCH_DECODE, Stage::Decode),
            (perfwatch_stage::PERFWATCH_POSTPROCESS, Stage::Postprocess),
            (perfwatch_stage::PERFWATCH_SEND, Stage::Send),
            (perfwatch_stage::PERFWATCH_OTHER, Stage::Other),
        ];
        for (ours, theirs) in pairs {
            assert_eq!(stage(ours as u8), theirs);
        }
        assert_eq!(pairs.len(), usize::from(Stage::FIRST_CUSTOM), "every built-in stage is listed");
        assert_eq!(stage(200), Stage::Other, "a number that no stage has");
    }

    #[test]
    fn c_numbers_the_units_as_documented() {
        assert_eq!(unit(perfwatch_unit::PERFWATCH_NANOSECONDS as u8), Unit::Seconds);
        assert_eq!(unit(perfwatch_unit::PERFWATCH_BYTES as u8), Unit::Bytes);
        assert_eq!(unit(perfwatch_unit::PERFWATCH_REQUESTS as u8), Unit::Count("{request}"));
        assert_eq!(unit(perfwatch_unit::PERFWATCH_TOKENS as u8), Unit::Count("{token}"));
        assert_eq!(unit(perfwatch_unit::PERFWATCH_ITEMS as u8), Unit::Count("{item}"));
        assert_eq!(unit(99), Unit::Count("{item}"));
    }
}
