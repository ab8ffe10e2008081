//! Request → fragments: one validated pass over the wire bytes, nothing decoded.

use std::{collections::HashMap, ops::Range, sync::Arc};

use bytes::Bytes;

use super::{
    Fragment, Origin, SpanRef, TraceId, TraceKey,
    fragment::{OVERHEAD_BYTES, Rejected, Split, SplitError},
};
use crate::wire::{
    Census, Shared, Spliced,
    layout::{Layout, SpanEntry},
    splice::{self, Picked, Run},
};

/// A request of one trace from this size on is shared instead of copied; below it the receiver's read buffer, which
/// it would pin, may be much larger than the request.
const SHARED_BYTES_MIN: usize = 16 * 1024;

/// Headers of resources from so many bytes on are shared by all fragments of a request that have them …
const SHARED_HEADER_BYTES_MIN: usize = 64;
/// … up to so many: what is shared stays until the last one is gone, which is charged with its own part only.
const SHARED_HEADER_BYTES_MAX: usize = 4 * 1024;

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
    /// By resource: how often its header is shared; 0 where each has a copy.
    sharing: Vec<usize>,
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
    /// What it is charged with for those that are.
    shared_len: usize,
}

/// Memory that scanning a request takes until its fragments are made, in bytes.
pub fn index_bytes(census: Census) -> u64 {
    // Of each trace's id, and of a map of them, half of which is empty at the worst.
    let ids = 4 * size_of::<(TraceId, usize)>();
    let of_span = size_of::<Member>() + size_of::<Trace>() + size_of::<Run>() + ids;
    let of_resource = size_of::<usize>() + size_of::<Option<Arc<Shared>>>();
    let sum = Layout::bytes_of(census) + census.spans * of_span + census.resources * of_resource;
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
        let len = splice::plan(&layout, own, &mut runs);
        next += own.len();
        let (members, runs) = (member..next, run..runs.len());
        traces.push(Trace { id, members, runs, own_len: len, shared_len: 0 });
    }
    let mut scanned =
        Scanned { request, layout, members, traces, runs, sharing: Vec::new(), rejected };
    scanned.share();
    Ok(scanned)
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
pub fn split(origin: &Origin, request: Bytes) -> Result<Split, SplitError> {
    Ok(scan(request)?.fragments(origin))
}

/// The one fragment in bytes that were a fragment's before: checked when they came, so that they are not again. `None`
/// when they are no fragment.
pub fn written(origin: &Origin, bytes: Bytes) -> Option<Fragment> {
    let layout = Layout::trusted(&bytes).ok()?;
    let id = layout.spans.first()?.trace_id?;
    if layout.spans.iter().any(|span| span.trace_id != Some(id) || span.id.is_none()) {
        return None;
    }
    let spans = whole(&layout);
    let key = TraceKey { origin: origin.clone(), id };
    Some(Fragment { key, bytes: bytes.into(), spans, place: None })
}

/// The spans of a request that is one fragment.
fn whole(layout: &Layout) -> Vec<SpanRef> {
    let mut spans = Vec::with_capacity(layout.spans.len());
    spans.extend(
        layout
            .spans
            .iter()
            .filter_map(|span| span_ref(span, span.body.start, layout.resource_of(span.scope))),
    );
    spans
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
        let fragment = |trace: &Trace| trace.own_len + trace.shared_len + OVERHEAD_BYTES;
        let fragments: usize = self.traces.iter().map(fragment).sum();
        let sum = fragments + self.members.len() * size_of::<SpanRef>();
        u64::try_from(sum).unwrap_or(u64::MAX)
    }

    /// One fragment per trace.
    pub fn fragments(self, origin: &Origin) -> Split {
        let is_whole = self.traces.len() == 1
            && self.rejected.spans() == 0
            && !self.layout.has_unknown_fields
            && self.request.len() >= SHARED_BYTES_MIN;
        let headers: Vec<_> = (0..self.sharing.len()).map(|number| self.shared(number)).collect();
        // Empty again after each fragment.
        let mut splices = Vec::new();
        let fragments = self.traces.iter().map(|trace| {
            let (bytes, spans) = if is_whole {
                (self.request.clone().into(), whole(&self.layout))
            } else {
                self.copied(trace, &headers, &mut splices)
            };
            let key = TraceKey { origin: origin.clone(), id: trace.id };
            Fragment { key, bytes, spans, place: None }
        });
        Split { fragments: fragments.collect(), rejected: self.rejected }
    }

    /// Finds out which headers are shared, and what of each fragment that leaves to be its own.
    fn share(&mut self) {
        self.sharing.resize(self.layout.resources.len(), 0);
        for resource in self.runs.iter().filter_map(Run::resource) {
            if let Some(times) = self.sharing.get_mut(resource) {
                *times += 1;
            }
        }
        for (resource, times) in self.sharing.iter_mut().enumerate() {
            let len = self.layout.resource_header_len(resource);
            if *times < 2 || !(SHARED_HEADER_BYTES_MIN..=SHARED_HEADER_BYTES_MAX).contains(&len) {
                *times = 0;
            }
        }
        for trace in &mut self.traces {
            let runs = self.runs.get(trace.runs.clone()).unwrap_or_default();
            for resource in runs.iter().filter_map(Run::resource) {
                let times = self.sharing.get(resource).copied().unwrap_or(0);
                if times > 0 {
                    let len = self.layout.resource_header_len(resource);
                    trace.own_len = trace.own_len.saturating_sub(len);
                    trace.shared_len += Shared::share_bytes(len, times);
                }
            }
        }
    }

    /// The header of a resource, if it is shared.
    fn shared(&self, resource: usize) -> Option<Arc<Shared>> {
        let times = self.sharing.get(resource).copied().filter(|times| *times > 0)?;
        let pieces = self.layout.resource_header(resource).iter();
        let pieces = pieces.filter_map(|piece| self.request.get(piece.clone()));
        Some(Shared::new(pieces, times))
    }

    /// A trace's own copy of all that is not shared.
    fn copied(
        &self,
        trace: &Trace,
        headers: &[Option<Arc<Shared>>],
        splices: &mut Vec<(u32, Arc<Shared>)>,
    ) -> (Spliced, Vec<SpanRef>) {
        let members = self.members.get(trace.members.clone()).unwrap_or_default();
        let runs = self.runs.get(trace.runs.clone()).unwrap_or_default();
        // Exactly as many as were announced: what is held is accounted for.
        let mut bytes = Vec::with_capacity(trace.own_len);
        let mut spans = Vec::with_capacity(members.len());
        let from = (&*self.request, &self.layout);
        let put_resource = |out: &mut Vec<u8>, resource| match headers.get(resource) {
            Some(Some(header)) => {
                // A request is below 4 GiB.
                let at = u32::try_from(out.len()).unwrap_or(u32::MAX);
                splices.push((at, Arc::clone(header)));
            }
            _ => splice::put_pieces(out, &self.request, self.layout.resource_header(resource)),
        };
        splice::write(&mut bytes, from, members, runs, put_resource, |span, offset, resource| {
            let entry = self.layout.spans.get(span);
            spans.extend(entry.and_then(|span| span_ref(span, offset, resource)));
        });
        (Spliced::new(bytes.into(), splices.drain(..)), spans)
    }
}

/// `None` can't be for spans that passed the scan: they have an id, and a request is below 4 GiB.
fn span_ref(span: &SpanEntry, offset: usize, resource: usize) -> Option<SpanRef> {
    Some(SpanRef {
        offset: u32::try_from(offset).ok()?,
        len: u32::try_from(span.body.len()).ok()?,
        resource: u32::try_from(resource).ok()?,
        id: span.id?,
        parent: span.parent,
        kind: span.kind,
        start_ns: span.start_ns,
        end_ns: span.end_ns,
    })
}
