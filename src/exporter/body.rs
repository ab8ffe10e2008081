//! What a request over HTTP is: pieces as they are, or written and compressed anew.

use std::{
    io::{self, Write as _},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http_body::{Body, Frame, SizeHint};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use super::Compression;
use crate::wire::{Encoding, Pieces, json};

/// Pieces one after the other, none of them copied.
#[derive(Debug)]
pub(super) struct PiecesBody {
    pieces: std::vec::IntoIter<Bytes>,
    left_bytes: u64,
}

impl PiecesBody {
    pub(super) fn new(pieces: Pieces) -> Self {
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        let left_bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        Self { pieces: pieces.into_iter(), left_bytes }
    }
}

impl Body for PiecesBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(piece) = self.pieces.next() else { return Poll::Ready(None) };
        self.left_bytes -= u64::try_from(piece.len()).unwrap_or(self.left_bytes);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left_bytes == 0
    }

    /// Exact, so that the request has its Content-Length.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left_bytes)
    }
}

/// Pieces in another form. Costs CPU time.
pub(super) fn written(
    pieces: Pieces,
    encoding: Encoding,
    compression: Compression,
) -> io::Result<Vec<u8>> {
    let pieces = match encoding {
        Encoding::Protobuf => pieces,
        Encoding::Json => vec![in_json(&pieces)?],
    };
    compressed(&pieces, compression)
}

fn in_json(pieces: &Pieces) -> io::Result<Bytes> {
    let request = ExportTraceServiceRequest::decode(pieces.concat().as_slice());
    Ok(json::text(&request.map_err(io::Error::other)?).into())
}

fn compressed(pieces: &Pieces, compression: Compression) -> io::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(pieces.concat()),
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
            pieces.iter().try_for_each(|piece| encoder.write_all(piece))?;
            encoder.finish()
        }
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(Vec::new(), zstd::DEFAULT_COMPRESSION_LEVEL)?;
            pieces.iter().try_for_each(|piece| encoder.write_all(piece))?;
            encoder.finish()
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn pieces() -> Pieces {
        vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"c")]
    }

    #[tokio::test]
    async fn pieces_are_a_body_of_known_length() {
        let body = PiecesBody::new(pieces());
        assert_eq!(body.size_hint().exact(), Some(3));
        assert_eq!(body.collect().await.unwrap().to_bytes().as_ref(), b"abc");
        assert!(PiecesBody::new(Vec::new()).is_end_stream());
    }

    #[test]
    fn what_is_compressed_comes_back() {
        let gzip = written(pieces(), Encoding::Protobuf, Compression::Gzip).unwrap();
        let mut back = Vec::new();
        io::Read::read_to_end(&mut flate2::read::GzDecoder::new(gzip.as_slice()), &mut back)
            .unwrap();
        assert_eq!(back, b"abc");
        let zstd = written(pieces(), Encoding::Protobuf, Compression::Zstd).unwrap();
        assert_eq!(zstd::decode_all(zstd.as_slice()).unwrap(), b"abc");
        assert!(written(pieces(), Encoding::Json, Compression::None).is_err());
        let json = written(Vec::new(), Encoding::Json, Compression::None).unwrap();
        assert_eq!(json, b"{}");
    }
}
