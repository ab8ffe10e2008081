//! [`Spliced`]: a message that shares its large repeated stretches with other messages.
//!
//! An SDK's request names its resource once for hundreds of spans of many traces. A trace's own message needs the
//! resource, too, and with two spans below it that is as large as they are.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

/// Bytes that stand in many messages, held once.
#[derive(Debug)]
pub struct Shared {
    bytes: Bytes,
    /// What of them each message is charged with.
    share_bytes: usize,
    digest: OnceLock<u64>,
}

/// What shared bytes cost beside themselves.
const OVERHEAD_BYTES: usize = 128;
/// A message is charged with one part in so many of them at least.
const LAST_SHARE: usize = 16;

impl Shared {
    /// A copy of these pieces, for so many messages.
    pub fn new<'a>(pieces: impl Iterator<Item = &'a [u8]>, messages: usize) -> Arc<Self> {
        let mut bytes = Vec::new();
        pieces.for_each(|piece| bytes.extend_from_slice(piece));
        let share_bytes = Self::share_bytes(bytes.len(), messages);
        Arc::new(Self { bytes: bytes.into(), share_bytes, digest: OnceLock::new() })
    }

    /// What each of so many messages is charged with for so many bytes.
    pub fn share_bytes(len: usize, messages: usize) -> usize {
        // The last one that is left holds all of it.
        (len + OVERHEAD_BYTES).div_ceil(messages.max(1)).max(len / LAST_SHARE)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Their digest by this function, of which there is only one in the program: worked out once for all messages.
    pub fn digest(&self, of: impl FnOnce(&[u8]) -> u64) -> u64 {
        *self.digest.get_or_init(|| of(&self.bytes))
    }
}

/// Own bytes, with shared ones spliced in at some places.
#[derive(Debug, Clone, Default)]
pub struct Spliced {
    own: Bytes,
    splices: Splices,
}

/// Shared bytes, each before the own byte with this number; ascending. Mostly it is one.
#[derive(Debug, Clone, Default)]
enum Splices {
    #[default]
    None,
    One(u32, Arc<Shared>),
    Many(Arc<Vec<(u32, Arc<Shared>)>>),
}

impl Spliced {
    /// Own bytes, with these before the own bytes with these numbers, which ascend.
    pub fn new(own: Bytes, splices: impl IntoIterator<Item = (u32, Arc<Shared>)>) -> Self {
        let mut all = splices.into_iter().peekable();
        let splices = match (all.next(), all.peek()) {
            (None, _) => Splices::None,
            (Some((at, shared)), None) => Splices::One(at, shared),
            (Some(first), Some(_)) => {
                Splices::Many(Arc::new(std::iter::once(first).chain(all).collect()))
            }
        };
        Self { own, splices }
    }

    /// Bytes of the whole message.
    pub fn len(&self) -> usize {
        self.own.len() + self.shared().map(|shared| shared.bytes.len()).sum::<usize>()
    }

    /// No message.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.shared().next().is_none()
    }

    /// Bytes of memory that the message is charged with.
    pub fn held_bytes(&self) -> usize {
        self.own.len() + self.shared().map(|shared| shared.share_bytes).sum::<usize>()
    }

    /// What is not shared. Spans lie in it whole: places in it are where they are.
    pub fn own(&self) -> &Bytes {
        &self.own
    }

    /// The shared stretches, in order.
    pub fn shared(&self) -> impl Iterator<Item = &Arc<Shared>> {
        self.splices.as_slice().map(|(_, shared)| shared)
    }

    /// The message, stretch by stretch.
    pub fn stretches(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        let before = self.splices.as_slice().flat_map(move |(at, shared)| {
            let own = self.own.get(from..at).unwrap_or_default();
            from = at;
            [own, shared.bytes()]
        });
        before.chain(std::iter::once(self.own.get(self.last_splice()..).unwrap_or_default()))
    }

    /// The same without a copy, for those who keep it.
    pub fn put_into(&self, pieces: &mut Vec<Bytes>) {
        let mut from = 0;
        for (at, shared) in self.splices.as_slice() {
            let at = at.min(self.own.len());
            pieces.push(self.own.slice(from.min(at)..at));
            pieces.push(shared.bytes.clone());
            from = at;
        }
        pieces.push(self.own.slice(from..));
    }

    /// The message in one piece: a copy, if anything is shared.
    pub fn to_bytes(&self) -> Bytes {
        if let Splices::None = self.splices {
            return self.own.clone();
        }
        let mut out = Vec::with_capacity(self.len());
        self.stretches().for_each(|stretch| out.extend_from_slice(stretch));
        out.into()
    }

    fn last_splice(&self) -> usize {
        self.splices.as_slice().last().map_or(0, |(at, _)| at)
    }
}

impl Splices {
    fn as_slice(&self) -> impl DoubleEndedIterator<Item = (usize, &Arc<Shared>)> {
        let (one, many) = match self {
            Self::None => (None, [].as_slice()),
            Self::One(at, shared) => (Some((at, shared)), [].as_slice()),
            Self::Many(all) => (None, all.as_slice()),
        };
        let all = one.into_iter().chain(many.iter().map(|(at, shared)| (at, shared)));
        all.map(|(at, shared)| (usize::try_from(*at).unwrap_or(usize::MAX), shared))
    }
}

impl From<Bytes> for Spliced {
    fn from(own: Bytes) -> Self {
        Self { own, splices: Splices::None }
    }
}

impl From<Vec<u8>> for Spliced {
    fn from(own: Vec<u8>) -> Self {
        Bytes::from(own).into()
    }
}

/// Two are the same message, however they are put together.
impl PartialEq for Spliced {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.to_bytes() == other.to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_message_that_was_spliced(
            own in proptest::collection::vec(any::<u8>(), 0..40),
            splices in proptest::collection::vec((0..40_u32, proptest::collection::vec(any::<u8>(), 0..9)), 0..4),
        ) {
            let len = u32::try_from(own.len()).expect("small");
            let mut splices: Vec<_> = splices.into_iter().map(|(at, bytes)| (at.min(len), bytes)).collect();
            splices.sort_by_key(|(at, _)| *at);
            let mut expected = own.clone();
            for (at, bytes) in splices.iter().rev() {
                let at = usize::try_from(*at).expect("small");
                drop(expected.splice(at..at, bytes.iter().copied()));
            }
            let shared = splices.iter().map(|(at, bytes)| (*at, Shared::new([bytes.as_slice()].into_iter(), 1)));
            let spliced = Spliced::new(own.into(), shared);
            let mut pieces = Vec::new();
            spliced.put_into(&mut pieces);
            prop_assert_eq!(pieces.concat(), expected.clone());
            prop_assert_eq!(spliced.stretches().collect::<Vec<_>>().concat(), expected.clone());
            prop_assert_eq!(spliced.len(), expected.len());
            prop_assert_eq!(spliced.is_empty(), expected.is_empty() && splices.is_empty());
            prop_assert_eq!(spliced.to_bytes(), expected);
        }
    }
}
