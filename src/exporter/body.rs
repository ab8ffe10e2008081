//! What a request is: pieces as they are, or written and compressed anew.

use std::{
    collections::VecDeque,
    io::{self, Write as _},
    iter,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{BufMut as _, Bytes};
use flate2::write::GzEncoder;
use http_body::{Body, Frame, SizeHint};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use super::Compression;
use crate::wire::{Encoding, Spliced, json};

/// A request in pieces: concatenating messages is protobuf's own way to merge them.
pub(super) type Pieces = Arc<[Spliced]>;

/// Gathered at a time: so much is still in the core's cache when the connection takes it, and the memory for it is there
/// from the chunk before. A request of megabytes put together at once is neither.
const CHUNK_BYTES: usize = 64 * 1024;

/// Pieces one after the other, gathered as the connection takes them; large ones are not copied.
#[derive(Debug)]
pub(super) struct PiecesBody {
    pieces: Pieces,
    next: usize,
    /// Stands before the pieces.
    prefix: Option<[u8; PREFIX_BYTES]>,
    /// Stretches of a large piece.
    large: VecDeque<Bytes>,
    left_bytes: usize,
}

/// What gRPC puts before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// The prefix of a message of so many bytes; `None` for 4 GiB and more.
fn grpc_prefix(bytes: usize, is_compressed: bool) -> Option<[u8; PREFIX_BYTES]> {
    let [a, b, c, d] = u32::try_from(bytes).ok()?.to_be_bytes();
    Some([u8::from(is_compressed), a, b, c, d])
}

impl PiecesBody {
    pub(super) fn new(pieces: Pieces) -> Self {
        let left_bytes = bytes_of(&pieces);
        Self { pieces, next: 0, prefix: None, large: VecDeque::new(), left_bytes }
    }

    /// The same as a message of gRPC; `None` if it is too large for one.
    pub(super) fn grpc(pieces: Pieces, is_compressed: bool) -> Option<Self> {
        let body = Self::new(pieces);
        let prefix = grpc_prefix(body.left_bytes, is_compressed)?;
        let left_bytes = body.left_bytes + PREFIX_BYTES;
        Some(Self { prefix: Some(prefix), left_bytes, ..body })
    }

    fn next_chunk(&mut self) -> Option<Bytes> {
        if let Some(stretch) = self.large.pop_front() {
            return Some(stretch);
        }
        let mut bytes = self.prefix.map_or(0, |prefix| prefix.len());
        let rest = self.pieces.get(self.next..).unwrap_or_default();
        let small = rest.iter().take_while(|piece| {
            let fits = bytes < CHUNK_BYTES && piece.len() < CHUNK_BYTES;
            bytes += if fits { piece.len() } else { 0 };
            fits
        });
        let count = small.count();
        if bytes == 0 && count == 0 {
            let large = rest.first()?;
            let mut stretches = Vec::new();
            large.put_into(&mut stretches);
            self.large.extend(stretches);
            self.next += 1;
            return self.next_chunk();
        }
        // Exactly as much: a buffer that grows is copied again and again.
        let mut chunk = Vec::with_capacity(bytes);
        if let Some(prefix) = self.prefix.take() {
            chunk.put_slice(&prefix);
        }
        let gathered = rest.iter().take(count).flat_map(Spliced::stretches);
        gathered.for_each(|stretch| chunk.put_slice(stretch));
        self.next += count;
        Some(chunk.into())
    }
}

fn bytes_of(pieces: &Pieces) -> usize {
    pieces.iter().map(Spliced::len).sum()
}

impl Body for PiecesBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        // An empty frame says nothing.
        let chunk = iter::from_fn(|| self.next_chunk()).find(|chunk| !chunk.is_empty());
        let Some(chunk) = chunk else { return Poll::Ready(None) };
        self.left_bytes = self.left_bytes.saturating_sub(chunk.len());
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left_bytes == 0
    }

    /// Exact, so that the request has its Content-Length; gRPC has none.
    fn size_hint(&self) -> SizeHint {
        if self.prefix.is_some() {
            return SizeHint::default();
        }
        SizeHint::with_exact(u64::try_from(self.left_bytes).unwrap_or(u64::MAX))
    }
}

/// Pieces in another form. Costs CPU time.
pub(super) fn written(
    pieces: &Pieces,
    encoding: Encoding,
    compression: Compression,
) -> io::Result<Vec<u8>> {
    match encoding {
        Encoding::Protobuf => compressed(stretches(pieces), compression),
        Encoding::Json => compressed(iter::once(&*in_json(pieces)?), compression),
    }
}

/// The whole request.
pub(super) fn decoded(pieces: &Pieces) -> Result<ExportTraceServiceRequest, prost::DecodeError> {
    let bytes: Vec<&[u8]> = stretches(pieces).collect();
    ExportTraceServiceRequest::decode(bytes.concat().as_slice())
}

fn stretches(pieces: &Pieces) -> impl Iterator<Item = &[u8]> {
    pieces.iter().flat_map(Spliced::stretches)
}

fn in_json(pieces: &Pieces) -> io::Result<Vec<u8>> {
    Ok(json::text(&decoded(pieces).map_err(io::Error::other)?))
}

fn compressed<'a>(
    mut stretches: impl Iterator<Item = &'a [u8]>,
    compression: Compression,
) -> io::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(stretches.collect::<Vec<_>>().concat()),
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
            stretches.try_for_each(|stretch| encoder.write_all(stretch))?;
            encoder.finish()
        }
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(Vec::new(), zstd::DEFAULT_COMPRESSION_LEVEL)?;
            stretches.try_for_each(|stretch| encoder.write_all(stretch))?;
            encoder.finish()
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn pieces() -> Pieces {
        [&b"ab"[..], b"", b"c"].map(|piece| piece.to_vec().into()).into()
    }

    async fn collected(body: PiecesBody) -> Bytes {
        body.collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn pieces_are_a_body_of_known_length() {
        let body = PiecesBody::new(pieces());
        assert_eq!(body.size_hint().exact(), Some(3));
        assert_eq!(collected(body).await.as_ref(), b"abc");
        assert!(PiecesBody::new(Pieces::default()).is_end_stream());
        assert_eq!(
            collected(PiecesBody::grpc(pieces(), false).unwrap()).await.as_ref(),
            b"\0\0\0\0\x03abc"
        );
        let empty = PiecesBody::grpc(Pieces::default(), false).unwrap();
        assert_eq!(empty.size_hint().exact(), None);
        assert_eq!(collected(empty).await.as_ref(), b"\0\0\0\0\0");
    }

    #[tokio::test]
    async fn small_pieces_are_gathered_and_large_ones_are_not_copied() {
        let sizes = [10_000, 60_000, 7, CHUNK_BYTES, 0, 200_000, 3];
        let piece = |(nth, size): (u8, usize)| Bytes::from(vec![nth; size]);
        let pieces: Vec<Bytes> = (0_u8..).zip(sizes).map(piece).collect();
        let given: Pieces = pieces.iter().cloned().map(Spliced::from).collect();
        let mut body = PiecesBody::new(given);
        let mut frames = Vec::new();
        while let Some(frame) = body.frame().await {
            frames.push(frame.unwrap().into_data().unwrap());
        }
        let lens: Vec<usize> = frames.iter().map(Bytes::len).collect();
        assert_eq!(lens, [70_000, 7, CHUNK_BYTES, 200_000, 3]);
        assert_eq!(frames.concat(), pieces.concat());
        assert_eq!(frames[3].as_ptr(), pieces[5].as_ptr());
        assert!(body.is_end_stream());
    }

    #[test]
    fn a_message_of_4_gib_is_none_of_grpc() {
        assert_eq!(grpc_prefix(258, true), Some([1, 0, 0, 1, 2]));
        assert_eq!(grpc_prefix(1 << 32, false), None);
    }

    #[test]
    fn what_is_compressed_comes_back() {
        let gzip = written(&pieces(), Encoding::Protobuf, Compression::Gzip).unwrap();
        let mut back = Vec::new();
        io::Read::read_to_end(&mut flate2::read::GzDecoder::new(gzip.as_slice()), &mut back)
            .unwrap();
        assert_eq!(back, b"abc");
        let zstd = written(&pieces(), Encoding::Protobuf, Compression::Zstd).unwrap();
        assert_eq!(zstd::decode_all(zstd.as_slice()).unwrap(), b"abc");
        assert!(written(&pieces(), Encoding::Json, Compression::None).is_err());
        let json = written(&Pieces::default(), Encoding::Json, Compression::None).unwrap();
        assert_eq!(json, b"{}");
    }
}
