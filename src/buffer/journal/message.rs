//! What the handles ask of the writer.

use std::ops::Range;

use bytes::Bytes;

use super::{
    body::{Body, Plain},
    error::AppendError,
    format::heads,
};
use crate::{trace::Place, wire::Spliced};

/// One thing to do, in the order of the asking.
#[derive(Debug)]
pub(super) enum Message {
    Append(Append),
    /// A destination does not need these parts any more, and of those in `last` it was the last one that did.
    Done {
        destination: usize,
        numbers: Vec<Range<u64>>,
        last: Vec<Place>,
    },
    /// A segment can be deleted.
    Reclaim,
    /// Nothing comes after this.
    Close,
}

/// Bytes to keep.
#[derive(Debug)]
pub(super) enum Append {
    Spans { meta: Bytes, body: Body, then: Then<Kept> },
    Plans(Vec<PlanToWrite>),
}

/// A plan, and the parts that it is about.
#[derive(Debug)]
pub(super) struct PlanToWrite {
    pub(super) covers: heads::Covers,
    pub(super) plan: Plain,
    pub(super) then: Then<Place>,
}

/// Parts that are in the journal now.
#[derive(Debug)]
pub struct Kept {
    /// Where they are.
    pub places: Vec<Place>,
    /// They themselves, as they were given.
    pub parts: Vec<Spliced>,
}

/// A plan so small that it is written on a full disk, too: without added spans, so much for each part it covers and in
/// all.
const SMALL_PLAN_PART_BYTES: usize = 32;
const SMALL_PLAN_BYTES: usize = 2048;

impl Append {
    /// Bytes on disk, nearly: for bounds, not for offsets.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Spans { meta, body, .. } => meta.len() as u64 + body.bytes(),
            Self::Plans(plans) => plans.iter().map(PlanToWrite::bytes).sum(),
        }
    }

    /// Nothing is kept, for this reason.
    pub(super) fn fail(self, error: &AppendError) {
        match self {
            Self::Spans { then, .. } => then.call(Err(error.clone())),
            Self::Plans(plans) => {
                for plan in plans {
                    plan.then.call(Err(error.clone()));
                }
            }
        }
    }

    /// How many answers are waited for.
    pub(super) fn answers(&self) -> u64 {
        match self {
            Self::Spans { .. } => 1,
            Self::Plans(plans) => plans.len() as u64,
        }
    }
}

impl PlanToWrite {
    fn bytes(&self) -> u64 {
        (self.plan.len() + self.covers.places.len() * 24) as u64
    }

    /// Written on a full disk, too.
    pub(super) fn is_small(&self) -> bool {
        let small = SMALL_PLAN_BYTES + self.covers.places.len() * SMALL_PLAN_PART_BYTES;
        self.plan.len() <= small
    }
}

type Call<T> = Box<dyn FnOnce(Result<T, AppendError>) + Send>;

/// The appender's callback. It is called once, whatever happens: also if the writer ends.
pub(super) struct Then<T>(Option<Call<T>>);

impl<T> Then<T> {
    pub(super) fn new(call: impl FnOnce(Result<T, AppendError>) + Send + 'static) -> Self {
        Self(Some(Box::new(call)))
    }

    pub(super) fn call(mut self, outcome: Result<T, AppendError>) {
        if let Some(call) = self.0.take() {
            call(outcome);
        }
    }
}

impl<T> Drop for Then<T> {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call(Err(AppendError::Closed));
        }
    }
}

impl<T> std::fmt::Debug for Then<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Then")
    }
}
