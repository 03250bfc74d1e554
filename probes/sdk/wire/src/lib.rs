//! The probe socket's protocol: bytes in, types out.
//!
//! A model server that links the SDK and the agent beside it exchange the messages of `perfwatch.proto`, each preceded by its
//! length. This crate holds the types ([`message`]), the framing ([`frame`]), the rules a peer must keep ([`limits`],
//! [`validate`]), the sparse histogram encoding ([`sparse`]) and the list of places where the socket may be
//! ([`runtime_dir`]). It owns no socket and does no I/O: the caller does.
//!
//! Three things hold it to the specification: a test compares [`message`] with `perfwatch.proto` field by field, [`vectors`]
//! are the bytes that must leave and be understood, and `probes/sdk/wire/fuzz/run.sh` throws other bytes at the decoder for a
//! minute (it needs `cargo-fuzz` and a nightly toolchain).

pub mod frame;
pub mod limits;
pub mod message;
pub mod runtime_dir;
pub mod sparse;
pub mod validate;
pub mod vectors;

pub use frame::{FrameError, FrameReader, encode};
pub use message::{AgentMessage, ClientMessage};

/// The newest version of `perfwatch.proto` that this crate speaks.
pub const PROTOCOL: u32 = 1;
/// The oldest version that this crate still speaks.
pub const OLDEST_PROTOCOL: u32 = 1;

/// The newest protocol version that both a client (`oldest` to `newest`) and this crate speak; `None` when there is none.
///
/// A client that names no oldest version (0) speaks only its newest.
pub fn agree(newest: u32, oldest: u32) -> Option<u32> {
    let oldest = if oldest == 0 { newest } else { oldest };
    let common = newest.min(PROTOCOL);
    (common >= oldest.max(OLDEST_PROTOCOL)).then_some(common)
}

/// The protocol's specification, as published.
pub const PROTO: &str = include_str!("../perfwatch.proto");

#[cfg(test)]
mod tests {
    use super::{OLDEST_PROTOCOL, PROTOCOL, agree};

    #[test]
    fn the_newest_common_version_is_agreed_on() {
        assert_eq!(agree(PROTOCOL, 0), Some(PROTOCOL));
        assert_eq!(agree(PROTOCOL + 4, OLDEST_PROTOCOL), Some(PROTOCOL), "a newer client that still speaks ours");
        assert_eq!(agree(PROTOCOL + 4, 0), None, "a newer client that does not");
        assert_eq!(agree(PROTOCOL + 4, PROTOCOL + 1), None);
        assert_eq!(agree(OLDEST_PROTOCOL - 1, 0), None, "a client from before");
        assert_eq!(agree(0, PROTOCOL), None, "a range that runs backward");
    }
}
