//! Reads a request: no slower than it must come, no more than there may be of it, and into memory that was taken before.

use std::{fmt::Display, time::Duration};

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt;

use super::{coding::Coding, door::DoorError, held::Held, room::Room, unpack::Unpacker};
use crate::{
    clock::{self, Instant},
    trace::TOO_SLOW,
};

/// Memory that a request has with its turn.
pub(super) const STEP_BYTES: u64 = 64 * 1024;

/// The next bytes of a request must come within this: it has a turn that others wait for.
const FRAME_WAIT: Duration = Duration::from_secs(10);

/// Bytes a second that a request must bring in the long run: a byte every nine seconds would hold a turn for ever.
const RATE_BYTES_MIN: u64 = 16 * 1024;

/// How fast a request must come.
#[derive(Debug)]
struct Pace(Instant);

impl Pace {
    /// When its next bytes are too late.
    fn late(&self, now: Instant, read_bytes: u64) -> Instant {
        let in_all = FRAME_WAIT + Duration::from_secs(read_bytes / RATE_BYTES_MIN);
        (now + FRAME_WAIT).min(self.0 + in_all)
    }
}

/// What can't be compressed gets longer by less than one part in so many.
const OVERHEAD_SHARE: u64 = 64;

fn with_overhead(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / OVERHEAD_SHARE + STEP_BYTES)
}

/// A body on its way.
struct Incoming<B> {
    body: B,
    pace: Pace,
    read_bytes: u64,
    /// Of what it may become.
    bytes_max: u64,
}

impl<B: Body<Data = Bytes, Error: Display> + Unpin> Incoming<B> {
    fn new(body: B, bytes_max: usize) -> Self {
        let bytes_max = u64::try_from(bytes_max).unwrap_or(u64::MAX);
        Self { body, pace: Pace(clock::now()), read_bytes: 0, bytes_max }
    }

    /// The next bytes; `None` at its end. Trailers are passed over: nothing that a sender says behind a body changes what
    /// its head said, where a gateway may have set headers.
    async fn next(&mut self) -> Result<Option<Bytes>, DoorError> {
        loop {
            let late = self.pace.late(clock::now(), self.read_bytes);
            let Ok(frame) = tokio::time::timeout_at(late, self.body.frame()).await else {
                return Err(TOO_SLOW.into());
            };
            let Some(frame) = frame else { return Ok(None) };
            // A sender that went away.
            let frame = frame.map_err(|error| DoorError::Body(error.to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            self.read_bytes += u64::try_from(data.len()).unwrap_or(u64::MAX);
            // Compressed data can go on without becoming anything.
            if self.read_bytes > with_overhead(self.bytes_max) {
                return Err(DoorError::TooLarge(self.bytes_max));
            }
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }
}

/// Reads a body that is the request.
pub(super) async fn whole<B>(
    body: B,
    coding: Coding,
    bytes_max: usize,
    held: Held,
) -> Result<(Bytes, Held), DoorError>
where
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    let announced = body.size_hint().exact().filter(|_| coding == Coding::Identity);
    let mut incoming = Incoming::new(body, bytes_max);
    let mut unpacker = Unpacker::new(coding, Room::new(held, bytes_max, announced))?;
    while let Some(data) = incoming.next().await? {
        unpacker.take(data).await?;
    }
    unpacker.end()
}

/// Reads a body that has one message of gRPC, which is the request ("gRPC over HTTP/2", Length-Prefixed-Message).
/// `coding` is for a message that says it is compressed.
pub(super) async fn message<B>(
    body: B,
    coding: Coding,
    bytes_max: usize,
    held: Held,
) -> Result<(Bytes, Held), DoorError>
where
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    let mut incoming = Incoming::new(body, bytes_max);
    let (prefix, mut data) = prefix(&mut incoming).await?;
    let [flag, len @ ..] = prefix;
    let coding = match (flag, coding) {
        (0, _) => Coding::Identity,
        (1, Coding::Identity) => {
            return Err(no_message("compressed, but no grpc-encoding says how"));
        }
        (1, coding) => coding,
        _ => return Err(no_message("flagged as neither compressed nor not")),
    };
    let mut left = u64::from(u32::from_be_bytes(len));
    let announced = Some(left).filter(|_| coding == Coding::Identity);
    if announced.unwrap_or(0) > incoming.bytes_max || left > with_overhead(incoming.bytes_max) {
        return Err(DoorError::TooLarge(incoming.bytes_max));
    }
    let mut unpacker = Unpacker::new(coding, Room::new(held, bytes_max, announced))?;
    loop {
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
        unpacker.take(data.split_to(part)).await?;
        left -= u64::try_from(part).unwrap_or(left);
        if !data.is_empty() {
            return Err(no_message("not alone: a call of OTLP has one"));
        }
        match incoming.next().await? {
            Some(next) => data = next,
            None if left == 0 => return unpacker.end(),
            None => return Err(no_message("shorter than it says")),
        }
    }
}

fn no_message(what: &str) -> DoorError {
    DoorError::Body(format!("its message is {what}"))
}

/// What comes before a message; and what was read behind it.
async fn prefix<B>(incoming: &mut Incoming<B>) -> Result<([u8; 5], Bytes), DoorError>
where
    B: Body<Data = Bytes, Error: Display> + Unpin,
{
    let (mut prefix, mut filled) = ([0; 5], 0);
    loop {
        let Some(mut data) = incoming.next().await? else {
            return Err(no_message("missing"));
        };
        let part = data.split_to(data.len().min(prefix.len() - filled));
        prefix[filled..filled + part.len()].copy_from_slice(&part);
        filled += part.len();
        if filled == prefix.len() {
            return Ok((prefix, data));
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;
    use crate::memory::{Budget, Stage};

    #[test]
    fn a_trickle_is_too_slow_and_a_slow_line_is_not() {
        let start = clock::now();
        let pace = Pace(start);
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(pace.late(start, 0), after(10));
        // A byte each nine seconds.
        assert_eq!(pace.late(after(9), 1), after(10));
        // 64 KiB a second.
        assert_eq!(pace.late(after(100), 100 * 64 * 1024), after(110));
        // A pause after a fast start.
        assert_eq!(pace.late(after(1), 4 * 1024 * 1024), after(11));
    }

    async fn read(body: &'static [u8]) -> Result<Bytes, DoorError> {
        let held = Budget::new(1 << 20).reserve(Stage::Receiving, 0).unwrap();
        let body = Full::new(Bytes::from_static(body));
        message(body, Coding::Identity, 100, held.into()).await.map(|(bytes, _)| bytes)
    }

    #[tokio::test]
    async fn a_call_has_one_whole_message() {
        assert_eq!(read(b"\0\0\0\0\x02ab").await.unwrap().as_ref(), b"ab");
        assert_eq!(read(b"\0\0\0\0\0").await.unwrap().as_ref(), b"");
        for body in [
            &b""[..],
            b"\0\0\0\0",
            b"\0\0\0\0\x02a",
            b"\0\0\0\0\x01ab",
            b"\0\0\0\0\x01a\0\0\0\0\x01b",
            b"\x01\0\0\0\x01a",
            b"\x02\0\0\0\x01a",
        ] {
            assert!(matches!(read(body).await, Err(DoorError::Body(_))), "{body:?}");
        }
        assert!(matches!(read(b"\0\0\0\0\x65").await, Err(DoorError::TooLarge(100))));
    }
}
