//! gRPC codecs over raw bytes: no message is decoded on the way in or encoded on the way out.

use bytes::{Buf, BufMut, Bytes};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// Messages as the bytes they are.
#[derive(Debug, Default, Clone, Copy)]
pub struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let len = source.remaining();
        Ok(Some(source.copy_to_bytes(len)))
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put(item);
        Ok(())
    }
}

/// A message in pieces: concatenating requests is protobuf's own way to merge them.
pub type Pieces = Vec<Bytes>;

/// Sends a message out of its pieces, takes the answer as bytes.
#[derive(Debug, Default, Clone, Copy)]
pub struct PiecesCodec;

impl Codec for PiecesCodec {
    type Encode = Pieces;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = RawCodec;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> RawCodec {
        RawCodec
    }
}

impl Encoder for PiecesCodec {
    type Item = Pieces;
    type Error = Status;

    fn encode(&mut self, pieces: Pieces, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        // At once: a buffer that grows by doubling is copied again and again, and half of it may stay empty.
        target.reserve(pieces.iter().map(Bytes::len).sum());
        for piece in pieces {
            target.put(piece);
        }
        Ok(())
    }
}
