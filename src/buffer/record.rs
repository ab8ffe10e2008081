//! What the journal's records say about traces: protobuf, so that later versions can add to it.

use bytes::Bytes;
use prost::Message;

use crate::trace::{Origin, Origins, Plan};

/// Beside the spans of one request.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SpansMeta {
    /// When it came, in microseconds since 1970.
    #[prost(fixed64, tag = "1")]
    pub(super) arrived_us: u64,
    #[prost(message, repeated, tag = "2")]
    pub(super) origin: Vec<Header>,
}

/// One of the headers that tell tenants apart.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Header {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// How a trace goes out: written before its first byte does, so that it goes out the same after a restart.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PlanRecord {
    #[prost(message, repeated, tag = "1")]
    pub(super) origin: Vec<Header>,
    /// The trace's parts by number, in the order the plan counts their spans in.
    #[prost(uint64, repeated, tag = "2")]
    pub(super) parts: Vec<u64>,
    /// Spans of each.
    #[prost(uint32, repeated, tag = "3")]
    pub(super) spans: Vec<u32>,
    /// [`Plan::encode`]
    #[prost(bytes = "bytes", tag = "4")]
    pub(super) plan: Bytes,
}

/// Of [`PlanRecord::plan`], the last field.
const PLAN: u8 = 4;

pub(super) fn headers(origin: &Origin) -> Vec<Header> {
    let values = origin.values().iter();
    values.map(|(name, value)| Header { name: name.clone(), value: value.clone() }).collect()
}

pub(super) fn origin(headers: Vec<Header>, origins: &Origins) -> Origin {
    origins.intern(headers.into_iter().map(|Header { name, value }| (name, value)).collect())
}

impl PlanRecord {
    /// The record with this plan, in two pieces: the second one are the plan's added spans, which are not copied.
    pub(super) fn encode_with(&self, plan: &Plan) -> [Bytes; 2] {
        let mut front = self.encode_to_vec();
        plan.put_front(&mut front, PLAN);
        [front.into(), plan.added.clone()]
    }

    /// The plan for the parts that are still readable: `is_there` by their number in `parts`.
    pub(super) fn plan_for(&self, is_there: impl Fn(usize) -> bool) -> Option<Plan> {
        let mut plan = Plan::decode(&self.plan).ok()?;
        // Spans of parts that are gone are no longer counted. Both lists rise: they are walked together.
        let mut parts = self.spans.iter().enumerate();
        let (mut start, mut end, mut gone, mut is_gone) = (0_u32, 0_u32, 0_u32, false);
        let mut kept = Vec::with_capacity(plan.parents.len());
        for mut parent in plan.parents {
            while parent.span >= end {
                let (part, &spans) = parts.next()?;
                if is_gone {
                    gone += end - start;
                }
                is_gone = !is_there(part);
                (start, end) = (end, end.checked_add(spans)?);
            }
            if !is_gone {
                parent.span -= gone;
                kept.push(parent);
            }
        }
        plan.parents = kept;
        Some(plan)
    }

    /// Spans of all parts.
    pub(super) fn all_spans(&self) -> u64 {
        self.spans.iter().map(|&spans| u64::from(spans)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{NewParent, SpanId};

    #[test]
    fn a_plan_still_fits_when_a_part_is_gone() {
        let parent = |span, id| NewParent { span, parent: SpanId::from_number(id) };
        let plan =
            Plan { parents: vec![parent(0, 1), parent(3, 2), parent(5, 3)], ..Plan::default() };
        let record = PlanRecord {
            origin: Vec::new(),
            parts: vec![7, 8, 9],
            spans: vec![2, 3, 2],
            plan: plan.encode().into(),
        };
        assert_eq!(record.plan_for(|_| true).as_ref(), Some(&plan));
        let rest = record.plan_for(|part| part != 1).expect("readable");
        assert_eq!(rest.parents, [parent(0, 1), parent(2, 3)]);
        assert_eq!(record.all_spans(), 7);
    }
}
