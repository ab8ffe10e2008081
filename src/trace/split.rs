//! Request → fragments: one validated pass over the wire bytes, nothing decoded.

use std::collections::HashMap;

use bytes::Bytes;

use super::{
    Fragment, Origin, SpanRef, TraceId, TraceKey,
    fragment::{OVERHEAD_BYTES, Rejected, Split, SplitError},
};
use crate::wire::{
    layout::{Layout, SpanEntry},
    splice::{self, Pick},
};

/// A request of one trace from this size on is shared instead of copied; below it the receiver's read buffer, which
/// it would pin, may be much larger than the request.
const SHARED_BYTES_MIN: usize = 16 * 1024;

/// A request that was scanned, before anything of it was copied.
#[derive(Debug)]
pub struct Scanned {
    request: Bytes,
    layout: Layout,
    /// Indices of spans, by trace.
    traces: Vec<(TraceId, Vec<usize>)>,
    rejected: Rejected,
}

/// Scans and checks a request; see [`Scanned::fragments`].
pub fn scan(request: Bytes) -> Result<Scanned, SplitError> {
    let layout = Layout::validated(&request)?;
    let mut rejected = Rejected::default();
    let mut traces: Vec<(TraceId, Vec<usize>)> = Vec::new();
    let mut numbers: HashMap<TraceId, usize> = HashMap::new();
    let mut last = None;
    for (index, span) in layout.spans.iter().enumerate() {
        let Some(trace_id) = span.trace_id else {
            rejected.trace_id += 1;
            continue;
        };
        if span.id.is_none() {
            rejected.span_id += 1;
            continue;
        }
        // Neighbours are mostly of one trace.
        let number = match last {
            Some((id, number)) if id == trace_id => number,
            _ => *numbers.entry(trace_id).or_insert_with(|| {
                traces.push((trace_id, Vec::new()));
                traces.len() - 1
            }),
        };
        last = Some((trace_id, number));
        if let Some((_, spans)) = traces.get_mut(number) {
            spans.push(index);
        }
    }
    Ok(Scanned { request, layout, traces, rejected })
}

/// Scans a request and makes its fragments.
pub fn split(origin: &Origin, request: Bytes) -> Result<Split, SplitError> {
    Ok(scan(request)?.fragments(origin))
}

impl Scanned {
    /// Spans that will be in the fragments.
    pub fn spans(&self) -> u64 {
        self.traces.iter().map(|(_, spans)| u64::try_from(spans.len()).unwrap_or(u64::MAX)).sum()
    }

    /// The traces in it.
    pub fn trace_ids(&self) -> impl Iterator<Item = TraceId> {
        self.traces.iter().map(|(id, _)| *id)
    }

    /// Memory that the fragments will hold. A resource is repeated for each trace below it, so that this can be many
    /// times the size of the request.
    pub fn fragment_bytes(&self) -> u64 {
        let bytes = |spans: &Vec<usize>| {
            let picks = whole(spans);
            let wire = splice::emitted_len(&self.layout, &picks);
            wire + spans.len() * size_of::<SpanRef>() + OVERHEAD_BYTES
        };
        let sum: usize = self.traces.iter().map(|(_, spans)| bytes(spans)).sum();
        u64::try_from(sum).unwrap_or(u64::MAX)
    }

    /// One fragment per trace.
    pub fn fragments(self, origin: &Origin) -> Split {
        let shared = self.traces.len() == 1
            && self.rejected.spans() == 0
            && !self.layout.has_unknown_fields
            && self.request.len() >= SHARED_BYTES_MIN;
        let fragments = self.traces.iter().map(|(id, spans)| {
            let key = TraceKey { origin: origin.clone(), id: *id };
            if shared {
                fragment(key, self.request.clone(), &self.layout)
            } else {
                let bytes = splice::emit(&self.request, &self.layout, &whole(spans));
                copied(key, Bytes::from(bytes))
            }
        });
        Split { fragments: fragments.collect(), rejected: self.rejected }
    }
}

fn whole(spans: &[usize]) -> Vec<Pick> {
    spans.iter().map(|&span| Pick { span, patch: None }).collect()
}

/// The copy is laid out anew: scanning it again costs less than keeping two sets of offsets right.
fn copied(key: TraceKey, bytes: Bytes) -> Fragment {
    let layout = Layout::trusted(&bytes).unwrap_or_default();
    fragment(key, bytes, &layout)
}

fn fragment(key: TraceKey, bytes: Bytes, layout: &Layout) -> Fragment {
    // Exactly as many as were announced: what is held is accounted for.
    let mut spans = Vec::with_capacity(layout.spans.len());
    spans.extend(layout.spans.iter().filter_map(|span| span_ref(layout, span)));
    Fragment { key, bytes, spans, place: None }
}

/// `None` can't be for spans that passed the scan: they have an id, and a request is below 4 GiB.
fn span_ref(layout: &Layout, span: &SpanEntry) -> Option<SpanRef> {
    Some(SpanRef {
        offset: u32::try_from(span.body.start).ok()?,
        len: u32::try_from(span.body.len()).ok()?,
        resource: u32::try_from(layout.resource_of(span.scope)).ok()?,
        id: span.id?,
        parent: span.parent,
        kind: span.kind,
        start_ns: span.start_ns,
        end_ns: span.end_ns,
    })
}
