//! Whatever a peer sends is framed, decoded and checked without a panic; what passes the checks is safe to merge.
//!
//! `probes/sdk/wire/fuzz/run.sh` runs it for a minute.

#![no_main]

use libfuzzer_sys::fuzz_target;
use perfwatch_wire::limits::MAX_SERIES;
use perfwatch_wire::message::client_message::Body;
use perfwatch_wire::{AgentMessage, ClientMessage, FrameReader, encode, sparse, validate};
use prost::Message as _;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = FrameReader::new();
    // In two pieces: a frame may be cut anywhere.
    let (first, second) = bytes.split_at(bytes.len() / 2);
    for piece in [first, second] {
        reader.push(piece);
        while let Ok(Some(frame)) = reader.next() {
            decode(frame);
        }
    }
    decode(bytes);
});

fn decode(frame: &[u8]) {
    let _ = AgentMessage::decode(frame);
    let Ok(message) = ClientMessage::decode(frame) else { return };
    match &message.body {
        Some(Body::Hello(hello)) => {
            let _ = validate::hello(hello);
        }
        Some(Body::Flush(flush)) if validate::flush(flush).is_ok() => {
            for histogram in flush.histograms.iter().take(MAX_SERIES) {
                let pairs: Vec<_> = sparse::pairs(histogram).collect();
                assert!(pairs.windows(2).all(|pair| pair[0].0 < pair[1].0), "buckets ascend");
                assert!(pairs.iter().all(|(_, count)| *count > 0), "no bucket is empty");
            }
        }
        _ => {}
    }
    // What was understood can be said, and is understood the same.
    let said = encode(&message);
    let mut reader = FrameReader::new();
    reader.push(&said);
    if let Ok(Some(again)) = reader.next() {
        assert_eq!(ClientMessage::decode(again).as_ref(), Ok(&message));
    }
}
