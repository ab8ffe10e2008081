//! Request → fragments: one validated pass over the wire bytes, nothing decoded.

use std::{collections::HashMap, ops::Range, sync::Arc};

use bytes::Bytes;

use super::{
    Fragment, TraceId,
    fragment::{OVERHEAD_BYTES, Rejected, Split, SplitError},
    sharing::{self, Sharing},
};
use crate::wire::{
    Census, Spliced, Splices,
    layout::Layout,
    splice::{self, Picked, Run},
};

/// A request that was scanned, before anything of it was copied.
#[derive(Debug)]
pub struct Scanned {
    request: Bytes,
    layout: Layout,
    /// Trace by trace.
    members: Vec<Member>,
    /// In the order in which they first appear.
    traces: Vec<Trace>,
    /// Of all traces, one after the other.
    runs: Vec<Run>,
    sharing: Sharing,
    rejected: Rejected,
}

/// A span and the number of its trace.
#[derive(Debug)]
struct Member {
    trace: usize,
    span: usize,
}

impl Picked for Member {
    fn span(&self) -> usize {
        self.span
    }
}

/// What a fragment will be made of.
#[derive(Debug)]
struct Trace {
    id: TraceId,
    members: Range<usize>,
    runs: Range<usize>,
    /// Bytes of the fragment that are not shared.
    own_len: usize,
    /// The list of those that are.
    shares: Option<usize>,
}

/// Memory that scanning a request takes until its fragments are made, in bytes.
pub fn index_bytes(census: Census) -> u64 {
    // Of each trace's id, and of a map of them, half of which is empty at the worst.
    let ids = 4 * size_of::<(TraceId, usize)>();
    let of_span =
        size_of::<Member>() + size_of::<Trace>() + size_of::<Run>() + ids + sharing::SPAN_BYTES;
    let of_headers = (census.resources + census.scopes) * sharing::HEADER_BYTES;
    let sum = Layout::bytes_of(census) + census.spans * of_span + of_headers;
    u64::try_from(sum).unwrap_or(u64::MAX)
}

/// Scans and checks a request; see [`Scanned::fragments`].
pub fn scan(request: Bytes) -> Result<Scanned, SplitError> {
    let census = Census::of(&request)?;
    scan_counted(request, census)
}

/// The same for a request that was counted before.
pub fn scan_counted(request: Bytes, census: Census) -> Result<Scanned, SplitError> {
    let layout = Layout::validated_with(&request, census)?;
    let (ids, members, rejected) = by_trace(&layout);
    let (mut traces, mut runs) = (Vec::with_capacity(ids.len()), Vec::with_capacity(ids.len()));
    let mut next = 0;
    for (id, own) in ids.into_iter().zip(members.chunk_by(|one, next| one.trace == next.trace)) {
        let (member, run) = (next, runs.len());
        splice::plan(&layout, own, &mut runs);
        next += own.len();
        let (members, runs) = (member..next, run..runs.len());
        traces.push(Trace { id, members, runs, own_len: 0, shares: None });
    }
    let mut sharing = Sharing::of(&layout, &runs);
    for trace in &mut traces {
        let runs = runs.get(trace.runs.clone()).unwrap_or_default();
        (trace.own_len, trace.shares) = sharing.add(&layout, runs);
    }
    Ok(Scanned { request, layout, members, traces, runs, sharing, rejected })
}

/// The traces in the order in which they first appear, and the good spans, trace by trace.
fn by_trace(layout: &Layout) -> (Vec<TraceId>, Vec<Member>, Rejected) {
    let mut rejected = Rejected::default();
    let mut ids = Vec::new();
    let mut members = Vec::with_capacity(layout.spans.len());
    // Growing would hash each id again. The standard hasher: senders choose the ids.
    let mut numbers: HashMap<TraceId, usize> = HashMap::with_capacity(layout.spans.len());
    let mut last = None;
    for (span, entry) in layout.spans.iter().enumerate() {
        let Some(id) = entry.trace_id else {
            rejected.trace_id += 1;
            continue;
        };
        if entry.id.is_none() {
            rejected.span_id += 1;
            continue;
        }
        if entry.has_odd_id {
            rejected.other_id += 1;
            continue;
        }
        // Neighbours are mostly of one trace.
        let trace = match last {
            Some((last, trace)) if last == id => trace,
            _ => *numbers.entry(id).or_insert_with(|| {
                ids.push(id);
                ids.len() - 1
            }),
        };
        last = Some((id, trace));
        members.push(Member { trace, span });
    }
    // Stable: a trace's spans stay in wire order. Costs next to nothing for traces that are in one piece already.
    members.sort_by_key(|member| member.trace);
    (ids, members, rejected)
}

/// Scans a request and makes its fragments.
pub fn split(request: Bytes) -> Result<Split, SplitError> {
    Ok(scan(request)?.fragments())
}

/// The one fragment in bytes that were a fragment's before, and whose spans they are: checked when they came, so that they
/// are not again. `None` when they are no fragment.
pub fn written(bytes: Spliced) -> Option<(TraceId, Fragment)> {
    let (mut trace, mut spans, mut is_one) = (None, 0, true);
    let read = bytes.for_each_span(|_, span| {
        spans += 1;
        is_one &= span.id.is_some() && *trace.get_or_insert(span.trace_id) == span.trace_id;
    });
    read.ok().filter(|()| is_one)?;
    Some((trace??, Fragment { bytes, spans, place: None, spilled_len: 0 }))
}

impl Scanned {
    /// Spans that will be in the fragments.
    pub fn spans(&self) -> u64 {
        u64::try_from(self.members.len()).unwrap_or(u64::MAX)
    }

    /// The traces in it.
    pub fn trace_ids(&self) -> impl Iterator<Item = TraceId> {
        self.traces.iter().map(|trace| trace.id)
    }

    /// Memory that the fragments will hold. A very large resource is repeated for each trace below it, so that this can
    /// be many times the size of the request.
    pub fn fragment_bytes(&self) -> u64 {
        let shares = self.sharing.share_bytes(&self.layout);
        let share = |list| shares.get(list).copied().unwrap_or(0);
        let fragment =
            |trace: &Trace| trace.own_len + trace.shares.map_or(0, share) + OVERHEAD_BYTES;
        let sum: usize = self.traces.iter().map(fragment).sum();
        u64::try_from(sum).unwrap_or(u64::MAX)
    }

    /// One fragment per trace.
    pub fn fragments(self) -> Split {
        let splices = self.sharing.splices(&self.request, &self.layout);
        let fragments = self.traces.iter().map(|trace| (trace.id, self.fragment(trace, &splices)));
        Split { fragments: fragments.collect(), rejected: self.rejected }
    }

    /// A trace's own copy of all that is not shared.
    fn fragment(&self, trace: &Trace, splices: &[Arc<Splices>]) -> Fragment {
        let members = self.members.get(trace.members.clone()).unwrap_or_default();
        let runs = self.runs.get(trace.runs.clone()).unwrap_or_default();
        // Exactly as many as were announced: what is held is accounted for.
        let mut bytes = Vec::with_capacity(trace.own_len);
        let from = (&*self.request, &self.layout);
        splice::write(&mut bytes, from, members, runs, |header| self.sharing.has(header));
        let splices = trace.shares.and_then(|list| splices.get(list)).cloned();
        // A request is below 4 GiB.
        let spans = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let bytes = Spliced::new(bytes.into(), splices);
        Fragment { bytes, spans, place: None, spilled_len: 0 }
    }
}
