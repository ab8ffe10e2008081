//! [`Spliced`]: a message that shares its large repeated stretches with other messages.
//!
//! An SDK's request names its resource once for hundreds of spans of many traces, and a scope for tens. A trace's own
//! message needs them, too, and with two spans below them they are as large as a span.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

/// Bytes that stand in many messages, held once.
#[derive(Debug)]
pub struct Shared {
    bytes: Bytes,
    digest: OnceLock<u64>,
}

/// What shared bytes cost beside themselves.
const OVERHEAD_BYTES: usize = 128;
/// A message is charged with one part in so many of them at least.
const LAST_SHARE: usize = 16;

impl Shared {
    /// A copy of these pieces.
    pub fn new<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Arc<Self> {
        let mut bytes = Vec::new();
        pieces.for_each(|piece| bytes.extend_from_slice(piece));
        Arc::new(Self { bytes: bytes.into_boxed_slice().into(), digest: OnceLock::new() })
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

/// What a shared stretch is the header of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Resource spans.
    Resource,
    /// Scope spans.
    Scope,
}

/// A shared stretch, and where it belongs.
#[derive(Debug, Clone)]
pub struct Splice {
    /// It stands before the own byte with this number.
    pub at: u32,
    /// What it is the header of.
    pub level: Level,
    /// The bytes.
    pub shared: Arc<Shared>,
}

/// What is spliced into a message, ascending. The list itself is shared by the messages that have the same in the same
/// places.
#[derive(Debug)]
pub struct Splices {
    all: Box<[Splice]>,
    len: usize,
    share_bytes: usize,
}

impl Splices {
    /// A list for messages of which each is charged with so many bytes for all that it shares.
    pub fn new(all: impl IntoIterator<Item = Splice>, share_bytes: usize) -> Arc<Self> {
        let all: Box<[Splice]> = all.into_iter().collect();
        let len = all.iter().map(|splice| splice.shared.bytes.len()).sum();
        Arc::new(Self { all, len, share_bytes })
    }

    /// What each of so many messages is charged with for a list of so many.
    pub fn list_share_bytes(splices: usize, messages: usize) -> usize {
        (size_of::<Self>() + splices * size_of::<Splice>()).div_ceil(messages.max(1))
    }
}

/// Own bytes, with shared ones spliced in at some places.
#[derive(Debug, Clone, Default)]
pub struct Spliced {
    own: Bytes,
    splices: Option<Arc<Splices>>,
}

impl Spliced {
    /// Own bytes with these spliced in.
    pub fn new(own: Bytes, splices: Option<Arc<Splices>>) -> Self {
        Self { own, splices }
    }

    /// The own bytes, and what is spliced into them.
    pub fn into_parts(self) -> (Bytes, Option<Arc<Splices>>) {
        (self.own, self.splices)
    }

    /// Bytes of the whole message.
    pub fn len(&self) -> usize {
        self.own.len() + self.splices.as_ref().map_or(0, |splices| splices.len)
    }

    /// No message.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory that the message is charged with.
    pub fn held_bytes(&self) -> usize {
        self.own.len() + self.splices.as_ref().map_or(0, |splices| splices.share_bytes)
    }

    /// What is not shared. Spans lie in it whole: places in it are where they are.
    pub fn own(&self) -> &Bytes {
        &self.own
    }

    /// The shared headers of this level, in order.
    pub fn shared(&self, level: Level) -> impl Iterator<Item = &Arc<Shared>> {
        self.splices()
            .iter()
            .filter(move |splice| splice.level == level)
            .map(|splice| &splice.shared)
    }

    /// The message, stretch by stretch.
    pub fn stretches(&self) -> impl Iterator<Item = &[u8]> {
        let mut from = 0;
        let before = self.splices().iter().flat_map(move |splice| {
            let own = self.own.get(from..splice.at()).unwrap_or_default();
            from = splice.at();
            [own, splice.shared.bytes()]
        });
        let last = self.splices().last().map_or(0, Splice::at);
        before.chain(std::iter::once(self.own.get(last..).unwrap_or_default()))
    }

    /// The same without a copy, for those who keep it.
    pub fn put_into(&self, pieces: &mut Vec<Bytes>) {
        let mut from = 0;
        for splice in self.splices() {
            let at = splice.at().min(self.own.len());
            pieces.push(self.own.slice(from.min(at)..at));
            pieces.push(splice.shared.bytes.clone());
            from = at;
        }
        pieces.push(self.own.slice(from..));
    }

    /// The message in one piece: a copy, if anything is shared.
    pub fn to_bytes(&self) -> Bytes {
        if self.splices.is_none() {
            return self.own.clone();
        }
        let mut out = Vec::with_capacity(self.len());
        self.stretches().for_each(|stretch| out.extend_from_slice(stretch));
        out.into()
    }

    /// What is spliced in, ascending. Of messages that have the same list it is the same slice.
    pub fn splices(&self) -> &[Splice] {
        self.splices.as_deref().map_or(&[], |splices| &splices.all)
    }
}

impl Splice {
    pub(super) fn at(&self) -> usize {
        usize::try_from(self.at).unwrap_or(usize::MAX)
    }
}

impl From<Bytes> for Spliced {
    fn from(own: Bytes) -> Self {
        Self { own, splices: None }
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
            let splices = splices.iter().map(|(at, bytes)| {
                let shared = Shared::new([bytes.as_slice()].into_iter());
                Splice { at: *at, level: Level::Resource, shared }
            });
            let spliced = Spliced::new(own.into(), Some(Splices::new(splices, 0)));
            let mut pieces = Vec::new();
            spliced.put_into(&mut pieces);
            prop_assert_eq!(pieces.concat(), expected.clone());
            prop_assert_eq!(spliced.stretches().collect::<Vec<_>>().concat(), expected.clone());
            prop_assert_eq!(spliced.len(), expected.len());
            prop_assert_eq!(spliced.is_empty(), expected.is_empty());
            prop_assert_eq!(spliced.to_bytes(), expected);
        }
    }
}
