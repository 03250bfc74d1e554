//! The probe socket's protocol: bytes in, types out.
//!
//! A model server that links the SDK and the agent beside it exchange the messages of `perfwatch.proto`, each preceded by its
//! length. This crate holds the types ([`message`]), the framing ([`frame`]), the rules a peer must keep ([`limits`],
//! [`validate`]), the sparse histogram encoding ([`sparse`]) and the list of places where the socket may be
//! ([`runtime_dir`]). It owns no socket and does no I/O: the caller does.

pub mod frame;
pub mod limits;
pub mod message;
pub mod runtime_dir;
pub mod sparse;
pub mod validate;

pub use frame::{FrameError, FrameReader, encode};
pub use message::{AgentMessage, ClientMessage};

/// The version of `perfwatch.proto` that this crate speaks.
pub const PROTOCOL: u32 = 1;

/// The protocol's specification, as published.
pub const PROTO: &str = include_str!("../perfwatch.proto");
