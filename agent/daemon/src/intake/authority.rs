//! Lets gRPC's C core (Python, C++, Ruby, PHP) in over a UNIX socket.
//!
//! It names the socket's path as the `:authority` of its requests, percent-encoded: `run%2Fperfwatch%2Fotlp.sock`. RFC 9113
//! has no such authority, and `h2` resets the stream (`PROTOCOL_ERROR`) before any handler could be asked; the sender, vLLM
//! for one, has no setting for it. Nobody here reads the authority, so each `%` in it becomes a `-` on its way in: as long
//! as before, so no frame and no entry of the header table changes its size. C core sends the value as plain octets; a
//! Huffman-coded one is left as it is.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// Octets that a client sends before its first frame.
const PREFACE: usize = 24;
const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Octets of the priority in a HEADERS frame.
const PRIORITY_OCTETS: usize = 5;
/// `:authority` in HPACK's static table. C core spells the name out all the same.
const AUTHORITY: u8 = 1;
const AUTHORITY_NAME: &[u8] = b":authority";

/// A connection on which every authority can be read.
#[derive(Debug)]
pub(super) struct Corrected<T> {
    io: T,
    frames: Frames,
}

impl<T> Corrected<T> {
    pub(super) fn new(io: T) -> Self {
        Self { io, frames: Frames { at: At::Skip(PREFACE), block: Block::default() } }
    }
}

impl<T: Connected> Connected for Corrected<T> {
    type ConnectInfo = T::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.io.connect_info()
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Corrected<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(context, into);
        self.frames.correct(&mut into.filled_mut()[before..]);
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Corrected<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// Where in the stream of frames the next octet is; a read may end anywhere.
#[derive(Debug)]
struct Frames {
    at: At,
    block: Block,
}

#[derive(Debug)]
enum At {
    /// In something of no interest, with so many octets left.
    Skip(usize),
    /// In a frame's header, of which so many octets are here.
    Header([u8; FRAME_HEADER], usize),
    /// At the octet that says how much of these octets is padding at their end.
    PadLength { left: usize, skip: usize },
    /// Before or in a piece of a header block, then padding.
    Block { skip: usize, left: usize, padding: usize },
}

impl Frames {
    fn correct(&mut self, mut octets: &mut [u8]) {
        while let Some(first) = octets.first().copied() {
            let taken = match &mut self.at {
                At::Skip(0) | At::Block { skip: 0, left: 0, padding: 0 } => {
                    self.at = At::Header([0; FRAME_HEADER], 0);
                    0
                }
                At::Skip(left) => take(left, octets),
                At::Header(header, have) => {
                    header[*have] = first;
                    *have += 1;
                    if *have == FRAME_HEADER {
                        let header = *header;
                        self.at = self.begin(header);
                    }
                    1
                }
                At::PadLength { left, skip } => {
                    let padding = usize::from(first).min(*left - 1 - *skip);
                    self.at = At::Block { skip: *skip, left: *left - 1 - *skip - padding, padding };
                    1
                }
                At::Block { skip, left: 0, padding } if *skip == 0 => take(padding, octets),
                At::Block { skip, .. } if *skip > 0 => take(skip, octets),
                At::Block { left, .. } => {
                    let piece = (*left).min(octets.len());
                    octets[..piece].iter_mut().for_each(|octet| self.block.correct(octet));
                    take(left, octets)
                }
            };
            octets = &mut octets[taken..];
        }
    }

    /// What follows a frame's header.
    fn begin(&mut self, header: [u8; FRAME_HEADER]) -> At {
        let [high, middle, low, kind, flags, ..] = header;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        match kind {
            HEADERS => {
                self.block = Block::default();
                let skip = if flags & PRIORITY == 0 { 0 } else { PRIORITY_OCTETS };
                let padded = flags & PADDED != 0;
                // Shorter than its own flags say: h2 ends the connection.
                if length < skip + usize::from(padded) {
                    At::Skip(length)
                } else if padded {
                    At::PadLength { left: length, skip }
                } else {
                    At::Block { skip, left: length - skip, padding: 0 }
                }
            }
            CONTINUATION => At::Block { skip: 0, left: length, padding: 0 },
            _ => At::Skip(length),
        }
    }
}

/// Takes off what these octets fulfil of what is left.
fn take(left: &mut usize, octets: &[u8]) -> usize {
    let taken = (*left).min(octets.len());
    *left -= taken;
    taken
}

/// Where in a header block (HPACK, RFC 7541) the next octet is. The tables need not be kept: an authority that they hold came
/// as a literal first.
#[derive(Clone, Copy, Debug, Default)]
enum Block {
    /// At the first octet of a field.
    #[default]
    Field,
    /// In an index of several octets; a literal's value may follow.
    Index { literal: bool },
    /// At the first octet of a string: a literal's name, or its value.
    String(Part),
    /// In a length of several octets.
    Length { part: Part, length: u64, shift: u32 },
    /// In a string with so many octets left.
    Octets { part: Part, left: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    /// A name, of which so many octets are those of `:authority`; `None` once one is not.
    Name(Option<usize>),
    Value,
    Authority,
}

impl Part {
    const NAME: Self = Self::Name(Some(0));

    /// The same with Huffman-coded octets, which say nothing here.
    fn coded(self) -> Self {
        match self {
            Self::Name(_) => Self::Name(None),
            Self::Value | Self::Authority => Self::Value,
        }
    }

    fn after(self) -> Block {
        match self {
            Self::Name(Some(alike)) if alike == AUTHORITY_NAME.len() => Block::String(Self::Authority),
            Self::Name(_) => Block::String(Self::Value),
            Self::Value | Self::Authority => Block::Field,
        }
    }

    fn octets(self, left: u64) -> Block {
        if left == 0 { self.after() } else { Block::Octets { part: self, left } }
    }
}

impl Block {
    fn correct(&mut self, octet: &mut u8) {
        let value = *octet;
        *self = match *self {
            Self::Field => Self::field(value),
            Self::Index { literal } if value & 0x80 != 0 => Self::Index { literal },
            Self::Index { literal } => {
                if literal {
                    Self::String(Part::Value)
                } else {
                    Self::Field
                }
            }
            Self::String(part) => {
                let part = if value & 0x80 == 0 { part } else { part.coded() };
                match value & 0x7f {
                    0x7f => Self::Length { part, length: 0x7f, shift: 0 },
                    length => part.octets(length.into()),
                }
            }
            Self::Length { part, length, shift } => {
                let more = u64::from(value & 0x7f).checked_shl(shift).unwrap_or(0);
                let length = length.saturating_add(more);
                if value & 0x80 != 0 {
                    Self::Length { part, length, shift: shift.saturating_add(7) }
                } else {
                    part.octets(length)
                }
            }
            Self::Octets { part, left } => {
                let part = match part {
                    Part::Name(Some(alike)) => {
                        Part::Name((AUTHORITY_NAME.get(alike) == Some(&value)).then(|| alike + 1))
                    }
                    other => other,
                };
                if part == Part::Authority && value == b'%' {
                    *octet = b'-';
                }
                part.octets(left - 1)
            }
        };
    }

    /// After the first octet of a field.
    fn field(value: u8) -> Self {
        let (index, most, literal) = match value {
            0x80.. => (value & 0x7f, 0x7f, false),
            0x40.. => (value & 0x3f, 0x3f, true),
            // The size of the table.
            0x20.. => (value & 0x1f, 0x1f, false),
            _ => (value & 0x0f, 0x0f, true),
        };
        match index {
            _ if index == most => Self::Index { literal },
            _ if !literal => Self::Field,
            0 => Self::String(Part::NAME),
            AUTHORITY => Self::String(Part::Authority),
            _ => Self::String(Part::Value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END_HEADERS: u8 = 0x4;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn literal(first: u8, value: &[u8]) -> Vec<u8> {
        let mut octets = vec![first];
        match u8::try_from(value.len()) {
            Ok(length @ ..0x7f) => octets.push(length),
            _ => octets.extend([0x7f, (value.len() - 0x7f) as u8 | 0x80, ((value.len() - 0x7f) >> 7) as u8]),
        }
        octets.extend(value);
        octets
    }

    fn spelled(name: &[u8], value: &[u8]) -> Vec<u8> {
        [literal(0x40, name), literal(0, value)[1..].to_vec()].concat()
    }

    /// A connection: what comes before and after must stay, `%` or not.
    fn connection(authority: &[u8]) -> Vec<u8> {
        let path = literal(0x44, b"/a%20path");
        let named = spelled(b"%", b"%");
        let indexed = [0x83, 0xff, 0x01, 0x3f, 0x01];
        let block = [
            &path[..],
            &indexed,
            &named,
            &literal(0x41, authority),
            &literal(0x7f, b"")[..1],
            &[0x00],
            &literal(0, b"%%")[1..],
        ]
        .concat();
        let (one, two) = block.split_at(path.len() + 7);
        let padded = [&[3], &[b'%'; 5][..], one, b"%%%"].concat();
        [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(0x4, 0, b"\x00\x02%%%%"),
            frame(HEADERS, PADDED | PRIORITY, &padded),
            frame(CONTINUATION, END_HEADERS, two),
            frame(0x0, 0, &[b'%'; 300]),
            frame(HEADERS, END_HEADERS, &literal(0x11, authority)),
            frame(HEADERS, END_HEADERS, &[]),
            frame(HEADERS, END_HEADERS, &spelled(b":authority", authority)),
            frame(HEADERS, END_HEADERS, &spelled(b":authorit", b"%")),
            frame(HEADERS, END_HEADERS, &spelled(b":authority2", b"%")),
            frame(HEADERS, END_HEADERS, &literal(0x01, authority)),
        ]
        .concat()
    }

    #[test]
    fn an_authority_loses_its_percent_signs_and_nothing_else_changes_wherever_reads_end() {
        for (sent, corrected) in [
            ("run%2Fperfwatch%2Fotlp.sock".to_owned(), "run-2Fperfwatch-2Fotlp.sock".to_owned()),
            ("%".repeat(200), "-".repeat(200)),
            ("localhost:4317".to_owned(), "localhost:4317".to_owned()),
            (String::new(), String::new()),
        ] {
            let (sent, corrected) = (connection(sent.as_bytes()), connection(corrected.as_bytes()));
            for length in (1..40).chain([sent.len()]) {
                let mut octets = sent.clone();
                let mut frames = Corrected::new(()).frames;
                octets.chunks_mut(length).for_each(|read| frames.correct(read));
                assert!(octets == corrected, "reads of {length}");
            }
        }
    }

    #[test]
    fn a_huffman_coded_authority_stays_as_it_is() {
        let mut field = literal(0x41, b"%%%");
        field[1] |= 0x80;
        let sent = [&[0; PREFACE][..], &frame(HEADERS, END_HEADERS, &field)].concat();
        let mut octets = sent.clone();
        Corrected::new(()).frames.correct(&mut octets);
        assert_eq!(octets, sent);
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_got_over(octets: Vec<u8>) {
            let mut sent = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &octets].concat();
            Corrected::new(()).frames.correct(&mut sent);
            for (sent, was) in sent[PREFACE..].iter().zip(octets) {
                proptest::prop_assert!(*sent == was || (was == b'%' && *sent == b'-'));
            }
        }
    }
}
