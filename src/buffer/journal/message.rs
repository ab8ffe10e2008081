//! What the handles ask of the writer.

use std::ops::Range;

use bytes::Bytes;

use super::{error::AppendError, format::heads};
use crate::{trace::Place, wire::Spliced};

/// One thing to do, in the order of the asking.
#[derive(Debug)]
pub(super) enum Message {
    Append(Append),
    /// A destination does not need these parts any more.
    Done {
        destination: usize,
        numbers: Vec<Range<u64>>,
    },
    /// A segment can be deleted.
    Reclaim,
    /// Nothing comes after this.
    Close,
}

/// Bytes to keep.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) what: What,
    pub(super) then: Then,
}

/// What they are.
#[derive(Debug)]
pub(super) enum What {
    Spans { meta: Bytes, parts: Vec<Spliced> },
    Plan { covers: heads::Covers, plan: Bytes },
}

/// A plan so small that it is written on a full disk, too: without added spans, so much for each part it covers and in
/// all.
const SMALL_PLAN_PART_BYTES: usize = 32;
const SMALL_PLAN_BYTES: usize = 2048;

impl What {
    /// Written on a full disk, too.
    pub(super) fn is_small_plan(&self) -> bool {
        match self {
            Self::Spans { .. } => false,
            Self::Plan { covers, plan } => {
                plan.len() <= SMALL_PLAN_BYTES + covers.places.len() * SMALL_PLAN_PART_BYTES
            }
        }
    }

    /// Bytes on disk, nearly: for bounds, not for offsets.
    pub(super) fn bytes(&self) -> u64 {
        let bytes = match self {
            Self::Spans { meta, parts } => {
                meta.len() + parts.iter().map(|part| part.len() + 10).sum::<usize>()
            }
            Self::Plan { covers, plan } => plan.len() + covers.places.len() * 24,
        };
        bytes as u64
    }
}

type Call = Box<dyn FnOnce(Result<&[Place], AppendError>) + Send>;

/// The appender's callback. It is called once, whatever happens: also if the writer ends.
pub(super) struct Then(Option<Call>);

impl Then {
    pub(super) fn new(call: impl FnOnce(Result<&[Place], AppendError>) + Send + 'static) -> Self {
        Self(Some(Box::new(call)))
    }

    pub(super) fn call(mut self, outcome: Result<&[Place], AppendError>) {
        if let Some(call) = self.0.take() {
            call(outcome);
        }
    }
}

impl Drop for Then {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call(Err(AppendError::Closed));
        }
    }
}

impl std::fmt::Debug for Then {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Then")
    }
}
