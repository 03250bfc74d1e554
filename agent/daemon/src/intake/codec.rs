//! Protobuf over gRPC, with a look at a message before it is decoded.

use std::marker::PhantomData;

use bytes::Buf as _;
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use super::bulk;

/// Answers `E` to requests `D`.
#[derive(Debug)]
pub(super) struct Checked<E, D>(PhantomData<(E, D)>);

impl<E, D> Default for Checked<E, D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E: Message + 'static, D: Message + Default + 'static> Codec for Checked<E, D> {
    type Encode = E;
    type Decode = D;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::default()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl<E: Message, D> Encoder for Checked<E, D> {
    type Item = E;
    type Error = Status;

    fn encode(&mut self, item: E, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(into).map_err(|error| Status::internal(error.to_string()))
    }
}

impl<E, D: Message + Default> Decoder for Checked<E, D> {
    type Item = D;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<D>, Status> {
        let message = from.copy_to_bytes(from.remaining());
        if bulk::is_too_much(&message) {
            return Err(Status::invalid_argument(bulk::TOO_MANY));
        }
        let decoded = D::decode(message);
        decoded.map(Some).map_err(|error| Status::invalid_argument(format!("not an OTLP message: {error}")))
    }
}
