//! What weaving does to a trace, as data: kept in the journal, so that a trace that goes out again goes out the same.

use bytes::Bytes;

use super::SpanId;
use crate::wire::{
    Malformed,
    field::{self, WireType, delimited_len, put_delimited_head, put_varint, varint_len},
    layout::Layout,
};

/// What becomes of the spans of a trace. The empty plan leaves them as they came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Spans with another parent, in order.
    pub parents: Vec<NewParent>,
    /// The added spans, as an `ExportTraceServiceRequest`.
    pub added: Bytes,
    /// How many those are.
    pub added_spans: u64,
}

/// A received span with another parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewParent {
    /// Number of the span, counted through all fragments of the trace in their order.
    pub span: u32,
    /// `None`: it becomes a root.
    pub parent: Option<SpanId>,
}

/// Bytes that are no plan. They were written by another version, or are damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No protobuf message.
    #[error("the plan of a trace can't be read: {0}")]
    Malformed(#[from] Malformed),
    /// A field that no plan of this version has: to apply the rest of it would be a guess.
    #[error("the plan of a trace has field {0}, which this version does not know")]
    Field(u32),
    /// Numbers of spans must rise and fit.
    #[error("the plan of a trace names its spans out of order")]
    Order,
}

/// The fields of the message: the new parents, packed; the added spans' bytes; their number.
const PARENTS: u32 = 1;
const ADDED: u32 = 2;
const ADDED_SPANS: u32 = 3;
/// A root.
const NO_PARENT: [u8; 8] = [0; 8];

impl Plan {
    /// Nothing changes.
    pub fn is_empty(&self) -> bool {
        self.parents.is_empty() && self.added.is_empty()
    }

    /// The ids of the added spans.
    pub fn added_ids(&self) -> Vec<SpanId> {
        // We wrote them: this can't fail.
        let added = Layout::trusted(&self.added);
        added
            .map(|added| added.spans.iter().filter_map(|span| span.id).collect())
            .unwrap_or_default()
    }

    /// The plan as a protobuf message: field 1 has for each new parent the distance to the span before as a varint and
    /// eight bytes of parent, all zero for a root; field 3 the number of added spans; field 2, the last, those spans.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        Front::new(self).put(&mut out);
        out.extend_from_slice(&self.added);
        out
    }

    /// Appends the same message as a field of another one, but for the added spans, which have to follow; the number is below
    /// 16. The empty plan is left out.
    pub fn put_front(&self, out: &mut Vec<u8>, number: u8) {
        let front = Front::new(self);
        let len = front.len() + self.added.len();
        if len > 0 {
            put_delimited_head(out, number, len);
            front.put(out);
        }
    }

    /// Reads what [`Self::encode`] wrote. The added spans stay a part of `bytes`.
    pub fn decode(bytes: &Bytes) -> Result<Self, PlanError> {
        let mut plan = Self::default();
        let mut at = 0;
        while at < bytes.len() {
            match field::key(bytes, &mut at)? {
                (PARENTS, WireType::Delimited) => {
                    let packed = field::delimited(bytes, &mut at)?;
                    plan.parents = unpacked_parents(bytes.get(packed).unwrap_or_default())?;
                }
                (ADDED, WireType::Delimited) => {
                    plan.added = bytes.slice(field::delimited(bytes, &mut at)?);
                }
                (ADDED_SPANS, WireType::Varint) => {
                    plan.added_spans = field::varint(bytes, &mut at)?;
                }
                (number, _) => return Err(PlanError::Field(number)),
            }
        }
        Ok(plan)
    }

    fn packed_parents(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.parents.len() * 10);
        let mut before = 0;
        for NewParent { span, parent } in &self.parents {
            put_varint(&mut out, usize::try_from(span.wrapping_sub(before)).unwrap_or(0));
            out.extend(parent.map_or(NO_PARENT, SpanId::to_wire));
            before = *span;
        }
        out
    }
}

/// A plan on its way into bytes: all that stands before its added spans.
struct Front {
    parents: Vec<u8>,
    added_spans: usize,
    added_len: usize,
}

impl Front {
    fn new(plan: &Plan) -> Self {
        Self {
            parents: plan.packed_parents(),
            added_len: plan.added.len(),
            added_spans: usize::try_from(plan.added_spans).unwrap_or(usize::MAX),
        }
    }

    fn len(&self) -> usize {
        let some = |len: usize, field: usize| if len > 0 { field } else { 0 };
        some(self.parents.len(), delimited_len(self.parents.len()))
            + some(self.added_spans, 1 + varint_len(self.added_spans))
            + some(self.added_len, delimited_len(self.added_len) - self.added_len)
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.reserve(self.len());
        if !self.parents.is_empty() {
            put_delimited_head(out, 1, self.parents.len());
            out.extend_from_slice(&self.parents);
        }
        if self.added_spans > 0 {
            out.push(3 << 3);
            put_varint(out, self.added_spans);
        }
        if self.added_len > 0 {
            put_delimited_head(out, 2, self.added_len);
        }
    }
}

fn unpacked_parents(packed: &[u8]) -> Result<Vec<NewParent>, PlanError> {
    let mut parents: Vec<NewParent> = Vec::with_capacity(packed.len() / 9);
    let mut at = 0;
    while at < packed.len() {
        let distance = u32::try_from(field::varint(packed, &mut at)?);
        let before = parents.last().map(|last| last.span);
        let span = distance.ok().and_then(|distance| before.unwrap_or(0).checked_add(distance));
        let span = span.filter(|span| before.is_none_or(|before| *span > before));
        let parent = packed.get(at..).and_then(<[u8]>::first_chunk::<8>);
        let parent = parent.ok_or(Malformed::Truncated)?;
        at += parent.len();
        parents.push(NewParent {
            span: span.ok_or(PlanError::Order)?,
            parent: SpanId::from_wire(parent),
        });
    }
    Ok(parents)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;

    fn any_plan() -> impl Strategy<Value = Plan> {
        let parents = vec((any::<u32>(), option::of(1..=u64::MAX)), 0..20);
        (parents, vec(any::<u8>(), 0..50), any::<u64>()).prop_map(|(mut parents, added, count)| {
            parents.sort_unstable();
            parents.dedup_by_key(|(span, _)| *span);
            let parents = parents.into_iter().map(|(span, parent)| NewParent {
                span,
                parent: parent.and_then(SpanId::from_number),
            });
            Plan { parents: parents.collect(), added: added.into(), added_spans: count }
        })
    }

    proptest! {
        #[test]
        fn a_plan_is_read_as_it_was_written(plan in any_plan()) {
            let encoded = plan.encode();
            let mut field = Vec::new();
            plan.put_front(&mut field, 4);
            field.extend_from_slice(&plan.added);
            let values: Vec<_> = field::values(&field, 4).collect();
            prop_assert_eq!(values.concat(), encoded.as_slice());
            prop_assert_eq!(values.is_empty(), plan == Plan::default());
            prop_assert_eq!(Plan::decode(&encoded.into()), Ok(plan));
        }

        #[test]
        fn hostile_bytes_are_refused_or_are_a_plan(
            plan in any_plan(),
            cuts in vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 0..4),
        ) {
            let mut bytes = plan.encode();
            for (index, byte, remove) in cuts {
                if bytes.is_empty() || !remove {
                    bytes.insert(index.index(bytes.len() + 1), byte);
                } else {
                    bytes.remove(index.index(bytes.len()));
                }
            }
            if let Ok(read) = Plan::decode(&bytes.into()) {
                let spans: Vec<u32> = read.parents.iter().map(|new| new.span).collect();
                prop_assert!(spans.is_sorted_by(|one, next| one < next));
                prop_assert_eq!(Plan::decode(&read.encode().into()), Ok(read));
            }
        }

        #[test]
        fn any_bytes_are_refused_or_are_a_plan(bytes in vec(any::<u8>(), 0..60)) {
            if let Ok(read) = Plan::decode(&bytes.into()) {
                prop_assert_eq!(Plan::decode(&read.encode().into()), Ok(read));
            }
        }
    }

    #[test]
    fn what_is_no_plan_says_why() {
        let check = |bytes: &[u8], error| {
            assert_eq!(Plan::decode(&Bytes::copy_from_slice(bytes)), Err(error));
        };
        check(&[0x22, 0], PlanError::Field(4));
        check(&[0x0a, 3, 1, 2, 3], PlanError::Malformed(Malformed::Truncated));
        let twice = [0x0a, 18, 5, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        check(&twice, PlanError::Order);
        assert_eq!(Plan::decode(&Bytes::new()), Ok(Plan::default()));
    }
}
