//! Unpacks a body while it comes, into room that is taken before: the only place here that does, for every protocol.
//! All of a body is used: members behind the first, too, and what is behind the last is an error. What was answered with
//! OK and not read would be lost.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status, write::MultiGzDecoder};
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_error_name};

use super::{coding::Coding, door::DoorError, held::Held, room::Room};

/// Of a compressed body at a time: it becomes a few MB at most with gzip, then others have their turn.
const PIECE_BYTES: usize = 4 * 1024;
/// Of the unpacked body at a time.
const STEP_BYTES: usize = 16 * 1024;
/// What unpacking by inflate takes: its window, its tables, a buffer.
const INFLATE_BYTES: u64 = 96 * 1024;
/// Windows of 32 MiB, which only the slowest levels have. It is more than RFC 9659 asks for (8 MB).
const ZSTD_WINDOW_LOG_MAX: u32 = 25;

/// See the module.
pub(super) enum Unpacker {
    Plain(Room),
    Gzip(Box<MultiGzDecoder<Room>>),
    Stepwise(Stepwise),
}

impl Unpacker {
    pub(super) fn new(coding: Coding, mut room: Room) -> Result<Self, DoorError> {
        let decoder = match coding {
            Coding::Identity => return Ok(Self::Plain(room)),
            Coding::Gzip => {
                room.beside(INFLATE_BYTES)?;
                return Ok(Self::Gzip(Box::new(MultiGzDecoder::new(room))));
            }
            Coding::Deflate => {
                room.beside(INFLATE_BYTES)?;
                Decoder::Deflate(Decompress::new(true))
            }
            Coding::Zstd => Decoder::Zstd(zstd()?),
        };
        Ok(Self::Stepwise(Stepwise { decoder, is_whole: false, room }))
    }

    /// Takes the next bytes.
    pub(super) async fn take(&mut self, data: Bytes) -> Result<(), DoorError> {
        if let Self::Plain(room) = self {
            return room.put_piece(data);
        }
        for piece in data.chunks(PIECE_BYTES) {
            self.unpack(piece)?;
            tokio::task::consume_budget().await;
        }
        Ok(())
    }

    fn unpack(&mut self, piece: &[u8]) -> Result<(), DoorError> {
        match self {
            Self::Plain(room) => room.put(piece),
            Self::Gzip(decoder) => {
                decoder.write_all(piece).map_err(|error| decoder.get_mut().why(&error))
            }
            Self::Stepwise(stepwise) => stepwise.unpack(piece),
        }
    }

    /// The whole body with its memory, if this was the whole body.
    pub(super) fn end(self) -> Result<(Bytes, Held), DoorError> {
        let room = match self {
            Self::Plain(room) | Self::Stepwise(Stepwise { is_whole: true, room, .. }) => room,
            Self::Gzip(mut decoder) => {
                decoder.try_finish().map_err(|error| decoder.get_mut().why(&error))?;
                decoder.finish().map_err(|error| DoorError::Body(error.to_string()))?
            }
            Self::Stepwise(_) => return Err(corrupt("its compressed data ends too early")),
        };
        Ok(room.end())
    }
}

fn corrupt(what: &str) -> DoorError {
    DoorError::Body(what.to_owned())
}

fn zstd() -> Result<DCtx<'static>, DoorError> {
    let mut context = DCtx::create();
    let set = context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX));
    set.map_err(|code| corrupt(get_error_name(code)))?;
    Ok(context)
}

enum Decoder {
    Deflate(Decompress),
    Zstd(DCtx<'static>),
}

/// What a step did.
struct Step {
    read: usize,
    written: usize,
    /// What was begun is whole.
    is_whole: bool,
}

impl Decoder {
    fn step(&mut self, data: &[u8], out: &mut [u8]) -> Result<Step, DoorError> {
        match self {
            Self::Deflate(inflate) => {
                let (read, written) = (inflate.total_in(), inflate.total_out());
                let status = inflate.decompress(data, out, FlushDecompress::None);
                let status = status.map_err(|error| DoorError::Body(error.to_string()))?;
                // Both are at most the lengths of slices.
                let since = |now: u64, then: u64| usize::try_from(now - then).unwrap_or(0);
                Ok(Step {
                    read: since(inflate.total_in(), read),
                    written: since(inflate.total_out(), written),
                    is_whole: matches!(status, Status::StreamEnd),
                })
            }
            Self::Zstd(context) => {
                let (mut data, mut out) = (InBuffer::around(data), OutBuffer::around(out));
                let left = context.decompress_stream(&mut out, &mut data);
                let left = left.map_err(|code| corrupt(get_error_name(code)))?;
                Ok(Step { read: data.pos(), written: out.pos(), is_whole: left == 0 })
            }
        }
    }

    /// Memory it holds, where that is for the sender to say.
    fn bytes(&self) -> Option<u64> {
        match self {
            Self::Deflate(_) => None,
            Self::Zstd(context) => u64::try_from(context.sizeof()).ok(),
        }
    }

    /// There may be another one behind the first.
    fn has_members(&self) -> bool {
        matches!(self, Self::Zstd(_))
    }
}

/// Unpacks through a buffer of its own.
pub(super) struct Stepwise {
    decoder: Decoder,
    is_whole: bool,
    room: Room,
}

impl Stepwise {
    fn unpack(&mut self, mut data: &[u8]) -> Result<(), DoorError> {
        let mut out = [0; STEP_BYTES];
        let mut written = out.len();
        // A full buffer may not have been all.
        while !data.is_empty() || (written == out.len() && !self.is_whole) {
            if self.is_whole && !self.decoder.has_members() {
                return Err(corrupt("something is behind its compressed data"));
            }
            let had_data = !data.is_empty();
            let step = self.decoder.step(data, &mut out)?;
            if had_data && step.read == 0 && step.written == 0 {
                return Err(corrupt("its compressed data is corrupt"));
            }
            // A window that is not used yet is not in memory yet.
            if let Some(bytes) = self.decoder.bytes() {
                self.room.beside(bytes)?;
            }
            written = step.written;
            self.room.put(out.get(..written).unwrap_or_default())?;
            data = data.get(step.read..).unwrap_or_default();
            self.is_whole = step.is_whole;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flate2::{Compression, write};

    use super::*;
    use crate::memory::{Budget, Stage};

    const CODINGS: [Coding; 3] = [Coding::Gzip, Coding::Deflate, Coding::Zstd];

    fn packed(coding: Coding, body: &[u8]) -> Vec<u8> {
        match coding {
            Coding::Identity => body.to_vec(),
            Coding::Gzip => {
                let mut encoder = write::GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(body).unwrap();
                encoder.finish().unwrap()
            }
            Coding::Deflate => {
                let mut encoder = write::ZlibEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(body).unwrap();
                encoder.finish().unwrap()
            }
            Coding::Zstd => zstd::encode_all(body, 1).unwrap(),
        }
    }

    async fn unpacked(
        budget: &Arc<Budget>,
        coding: Coding,
        data: &[u8],
        piece: usize,
    ) -> Result<Bytes, DoorError> {
        let held = budget.reserve(Stage::Receiving, 0).unwrap();
        let mut unpacker = Unpacker::new(coding, Room::new(held.into(), 1 << 20, None))?;
        for piece in data.chunks(piece) {
            unpacker.take(Bytes::copy_from_slice(piece)).await?;
        }
        unpacker.end().map(|(bytes, _)| bytes)
    }

    /// Some lengths are those of buffers.
    fn bodies() -> Vec<Vec<u8>> {
        let text = |len: usize| (0..len).map(|i| u8::try_from(i * i % 251).unwrap()).collect();
        let mut bodies: Vec<Vec<u8>> =
            [0, 1, 100, STEP_BYTES, 2 * STEP_BYTES, 100_000].map(text).to_vec();
        bodies.push(vec![0; STEP_BYTES]);
        bodies.push(vec![0; 1 << 20]);
        bodies
    }

    #[tokio::test]
    async fn it_comes_back_however_it_comes() {
        let budget = Budget::new(1 << 30);
        for (body, coding) in bodies().iter().flat_map(|body| CODINGS.map(|c| (body, c))) {
            let packed = packed(coding, body);
            for piece in [1, 7, 5000, 1 << 20] {
                let back = unpacked(&budget, coding, &packed, piece).await.unwrap();
                assert!(back == body, "{coding:?} {} {piece}", body.len());
            }
        }
        assert_eq!(budget.used_bytes(), 0);
    }

    #[tokio::test]
    async fn all_members_are_one_body() {
        let budget = Budget::new(1 << 30);
        for coding in [Coding::Gzip, Coding::Zstd] {
            let both = [packed(coding, b"first"), packed(coding, b""), packed(coding, b", second")];
            for piece in [1, 10, 1000] {
                let back = unpacked(&budget, coding, &both.concat(), piece).await.unwrap();
                assert_eq!(back.as_ref(), b"first, second", "{coding:?} {piece}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_not_all_of_it_or_more_is_an_error() {
        let budget = Budget::new(1 << 30);
        for coding in CODINGS {
            let whole = packed(coding, b"some text, some text");
            for len in 0..whole.len() {
                let cut = unpacked(&budget, coding, &whole[..len], 3).await;
                assert!(matches!(cut, Err(DoorError::Body(_))), "{coding:?} {len}");
            }
            for piece in [1, 1000] {
                let more = unpacked(&budget, coding, &[&whole, &b"more"[..]].concat(), piece).await;
                assert!(matches!(more, Err(DoorError::Body(_))), "{coding:?} {piece}");
            }
        }
        let two = packed(Coding::Deflate, b"a").repeat(2);
        assert!(unpacked(&budget, Coding::Deflate, &two, 1000).await.is_err());
    }

    #[tokio::test]
    async fn a_window_counts_and_has_a_limit() {
        let with_window = |log| {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(log).unwrap();
            encoder.write_all(b"text").unwrap();
            encoder.flush().unwrap();
            encoder.finish().unwrap()
        };
        let small = Budget::new(16 << 20);
        let answer = unpacked(&small, Coding::Zstd, &with_window(24), 1000).await;
        assert!(matches!(answer, Err(DoorError::TooLarge(_))), "{answer:?}");
        let large = Budget::new(1 << 30);
        assert!(unpacked(&large, Coding::Zstd, &with_window(24), 1000).await.is_ok());
        let answer = unpacked(&large, Coding::Zstd, &with_window(27), 1000).await;
        assert!(matches!(answer, Err(DoorError::Body(_))), "{answer:?}");
    }
}
