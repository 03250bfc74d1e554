//! Framing: each message is preceded by its length as a protobuf varint.

use prost::Message;

use crate::limits::MAX_MESSAGE;

/// Why a stream of frames cannot be read on. The connection is lost: nothing marks where the next frame would begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The announced length exceeds the limit.
    #[error("a message of {length} bytes exceeds the limit of {limit}")]
    Oversized {
        /// Announced length in bytes.
        length: u64,
        /// Allowed length in bytes.
        limit: usize,
    },
    /// The length prefix is no varint.
    #[error("the length in front of a message is not a varint")]
    BadLength,
}

/// Bytes that a reader keeps for the next frame. Larger than nearly every flush; what a larger one took is given back.
const KEEP: usize = 64 << 10;

/// Encodes a message with its length in front.
pub fn encode(message: &impl Message) -> Vec<u8> {
    message.encode_length_delimited_to_vec()
}

/// Cuts a byte stream into frames.
///
/// Bytes go in with [`push`](Self::push), in pieces of any size; whole frames come out of [`next`](Self::next), without
/// their length. It holds at most one frame and the piece pushed last; an announced length is checked before its body
/// is awaited, so a hostile length costs no memory. Once a large frame was read, its memory is given back.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    read: usize,
}

impl FrameReader {
    /// An empty reader.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes over bytes from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.let_go();
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` until more bytes come.
    ///
    /// # Errors
    /// A length that is no varint or exceeds 1 MiB.
    #[allow(clippy::should_implement_trait, reason = "frames borrow the reader, which an Iterator cannot express")]
    pub fn next(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let Some((length, prefix)) = length_prefix(&self.buffer[self.read..])? else {
            self.let_go();
            return Ok(None);
        };
        if length > MAX_MESSAGE as u64 {
            return Err(FrameError::Oversized { length, limit: MAX_MESSAGE });
        }
        let start = self.read + prefix;
        let end = start + length as usize;
        if end > self.buffer.len() {
            self.let_go();
            return Ok(None);
        }
        self.read = end;
        Ok(Some(&self.buffer[start..end]))
    }

    /// Forgets the frames that were read.
    fn let_go(&mut self) {
        if self.read > 0 {
            self.buffer.drain(..self.read);
            self.read = 0;
            self.buffer.shrink_to(KEEP);
        }
    }

    /// Whether the stream stopped inside a frame.
    pub fn is_mid_frame(&self) -> bool {
        self.read < self.buffer.len()
    }
}

/// The varint at the start of `bytes` and its own length, or `None` when it is not complete.
fn length_prefix(bytes: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
    let mut length = 0u64;
    for (position, byte) in bytes.iter().enumerate() {
        // Five groups of 7 bits hold any length near the limit; a longer prefix is noise.
        if position == 5 {
            return Err(FrameError::BadLength);
        }
        length |= u64::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return Ok(Some((length, position + 1)));
        }
    }
    if bytes.len() > 4 { Err(FrameError::BadLength) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Ack, AgentMessage};

    #[test]
    fn frames_survive_any_cut() {
        let one = encode(&AgentMessage::from(Ack { seq: 300, durable_seq: None }));
        let mut stream = one.clone();
        stream.extend_from_slice(&one);
        for cut in 0..=stream.len() {
            let mut reader = FrameReader::new();
            let mut frames = 0;
            for piece in [&stream[..cut], &stream[cut..]] {
                reader.push(piece);
                while let Some(frame) = reader.next().expect("well-formed") {
                    assert_eq!(frame, &one[1..]);
                    frames += 1;
                }
            }
            assert_eq!(frames, 2, "cut at {cut}");
            assert!(!reader.is_mid_frame());
        }
    }

    #[test]
    fn a_hostile_length_is_refused_before_its_body() {
        let mut reader = FrameReader::new();
        reader.push(&[0x81, 0x80, 0x40]); // 1 MiB + 1
        assert_eq!(reader.next(), Err(FrameError::Oversized { length: (1 << 20) + 1, limit: 1 << 20 }));
        let mut reader = FrameReader::new();
        reader.push(&[0xff; 5]);
        assert_eq!(reader.next(), Err(FrameError::BadLength));
    }

    #[test]
    fn a_frame_of_exactly_the_limit_passes() {
        let mut reader = FrameReader::new();
        reader.push(&[0x80, 0x80, 0x40]);
        assert_eq!(reader.next(), Ok(None));
        reader.push(&vec![7; 1 << 20]);
        assert_eq!(reader.next().expect("allowed").map(<[u8]>::len), Some(1 << 20));
        assert_eq!(reader.next(), Ok(None));
        assert!(reader.buffer.capacity() <= KEEP, "its memory is given back");
    }
}
