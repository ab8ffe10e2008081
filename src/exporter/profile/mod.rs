//! Backends' limits on traces and attributes: what has to go, so that the rest is taken. Pure.

use std::{
    borrow::Cow,
    cmp::Reverse,
    collections::{HashMap, HashSet},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, any_value::Value},
    trace::v1::{ScopeSpans, Span},
};
use prost::Message;

use super::Profile;
use crate::{
    trace::{Piece, SpanId},
    wire::layout::Layout,
};

/// What a backend takes, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    pub(super) trace: usize,
    pub(super) attribute: usize,
}

/// Tempo's `max_bytes_per_trace` and `max_attribute_bytes`, at their defaults.
const TEMPO: Allowance = Allowance { trace: 5_000_000, attribute: 2048 };

/// What was done to a trace so that it fits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fitted {
    pub(super) trimmed_spans: u64,
    pub(super) cut_attributes: u64,
}

impl Profile {
    /// The pieces of a trace as this backend will have them.
    pub(super) fn fit(self, pieces: &[Piece]) -> (Cow<'_, [Piece]>, Fitted) {
        match self {
            Self::None => (Cow::Borrowed(pieces), Fitted::default()),
            Self::Tempo => fit(pieces, TEMPO),
        }
    }
}

/// Only added spans change: long attributes are cut, and while the trace is too large network spans are left out.
pub(super) fn fit(pieces: &[Piece], allowed: Allowance) -> (Cow<'_, [Piece]>, Fitted) {
    let bytes: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
    let is_too_large = bytes > allowed.trace;
    let has_added = |piece: &Piece| piece.app_spans == 0 && piece.added_spans > 0;
    let may_change =
        |piece: &Piece| has_added(piece) && (is_too_large || may_have_long(piece, allowed));
    if !pieces.iter().any(may_change) {
        return (Cow::Borrowed(pieces), Fitted::default());
    }
    let mut fitted = Fitted::default();
    let mut added: Vec<(usize, ExportTraceServiceRequest)> = Vec::new();
    for (index, piece) in pieces.iter().enumerate().filter(|(_, piece)| has_added(piece)) {
        // Our own bytes: decoding can't fail, and if it did the piece would go as it is.
        if let Ok(mut request) = ExportTraceServiceRequest::decode(piece.bytes.to_bytes()) {
            fitted.cut_attributes += cut_attributes(&mut request, allowed.attribute);
            added.push((index, request));
        }
    }
    let others: Vec<&Piece> = pieces.iter().filter(|piece| !has_added(piece)).collect();
    let other_bytes: usize = others.iter().map(|piece| piece.bytes.len()).sum();
    let added_bytes: usize = added.iter().map(|(_, request)| request.encoded_len()).sum();
    let excess = (other_bytes + added_bytes).saturating_sub(allowed.trace);
    if excess > 0 {
        fitted.trimmed_spans = trim(&mut added, excess, &parents(&others));
    }
    let mut out = pieces.to_vec();
    for (index, request) in added {
        if let Some(piece) = out.get_mut(index) {
            piece.added_spans = count(scopes(&request).map(|scope| scope.spans.len()).sum());
            piece.bytes = request.encode_to_vec().into();
        }
    }
    out.retain(|piece| piece.app_spans + piece.added_spans > 0);
    (Cow::Owned(out), fitted)
}

/// A span or header that is not longer than an attribute may be holds none that is.
fn may_have_long(piece: &Piece, allowed: Allowance) -> bool {
    let layout = Layout::trusted(&piece.bytes.to_bytes()).unwrap_or_default();
    layout.spans.iter().any(|span| span.body.len() > allowed.attribute)
}

/// Spans that the spans of these pieces hang below.
fn parents(pieces: &[&Piece]) -> HashSet<SpanId> {
    let layouts =
        pieces.iter().map(|piece| Layout::trusted(&piece.bytes.to_bytes()).unwrap_or_default());
    layouts.flat_map(|layout| layout.spans).filter_map(|span| span.parent).collect()
}

/// Cuts texts of added spans; their resources are those of the processes they were seen in, and stay.
fn cut_attributes(request: &mut ExportTraceServiceRequest, bytes_max: usize) -> u64 {
    let spans = scopes_mut(request).flat_map(|scope| &mut scope.spans);
    let attributes = spans.flat_map(|span| &mut span.attributes);
    let mut cut = 0;
    for value in attributes.filter_map(|attribute| attribute.value.as_mut()) {
        if let AnyValue { value: Some(Value::StringValue(text)), .. } = value
            && text.len() > bytes_max
        {
            text.truncate(text.floor_char_boundary(bytes_max));
            cut += 1;
        }
    }
    cut
}

/// A network span that may be left out.
struct Candidate {
    /// In the middle of a chain: spans of its kind above it and below it.
    is_middle: bool,
    bytes: usize,
    id: SpanId,
}

/// Leaves out network spans until so many bytes are saved: those in the middle of chains first, large ones before
/// small ones. What hung below them hangs below what they hung below. Roots stay, for nothing is above them, and so do
/// spans with a child outside of `added`: received spans are not touched.
fn trim(
    added: &mut [(usize, ExportTraceServiceRequest)],
    excess: usize,
    parents_outside: &HashSet<SpanId>,
) -> u64 {
    let mut candidates = candidates(added, parents_outside);
    candidates
        .sort_by_key(|candidate| (!candidate.is_middle, Reverse(candidate.bytes), candidate.id));
    let mut saved = 0;
    let needed = candidates.iter().take_while(|candidate| {
        let goes_on = saved < excess;
        saved += candidate.bytes;
        goes_on
    });
    let gone: HashSet<SpanId> = needed.map(|candidate| candidate.id).collect();
    let above = parents_of(added, &gone);
    for scope in added.iter_mut().flat_map(|(_, request)| scopes_mut(request)) {
        scope.spans.retain(|span| !id(span).is_some_and(|id| gone.contains(&id)));
        for span in &mut scope.spans {
            rehang(span, &above);
        }
    }
    for (_, request) in added {
        for resource in &mut request.resource_spans {
            resource.scope_spans.retain(|scope| !scope.spans.is_empty());
        }
        request.resource_spans.retain(|resource| !resource.scope_spans.is_empty());
    }
    count(gone.len())
}

fn candidates(
    added: &[(usize, ExportTraceServiceRequest)],
    parents_outside: &HashSet<SpanId>,
) -> Vec<Candidate> {
    let all = || added.iter().flat_map(|(_, request)| scopes(request));
    let network: HashSet<SpanId> = all()
        .filter(|scope| is_network(scope))
        .flat_map(|scope| &scope.spans)
        .filter_map(id)
        .collect();
    // Of each span: has children of its kind, and no others.
    let mut children: HashMap<SpanId, bool> = HashMap::new();
    for span in all().flat_map(|scope| &scope.spans) {
        if let Some(parent) = parent(span) {
            let alike = id(span).is_some_and(|id| network.contains(&id));
            *children.entry(parent).or_insert(true) &= alike;
        }
    }
    let candidate = |span: &Span| {
        let (id, parent) = (id(span)?, parent(span)?);
        let is_middle = network.contains(&parent) && children.get(&id) == Some(&true);
        (!parents_outside.contains(&id)).then(|| Candidate {
            is_middle,
            bytes: span.encoded_len(),
            id,
        })
    };
    all()
        .filter(|scope| is_network(scope))
        .flat_map(|scope| &scope.spans)
        .filter_map(candidate)
        .collect()
}

/// The parents of the spans that go.
fn parents_of(
    added: &[(usize, ExportTraceServiceRequest)],
    gone: &HashSet<SpanId>,
) -> HashMap<SpanId, SpanId> {
    let spans =
        added.iter().flat_map(|(_, request)| scopes(request)).flat_map(|scope| &scope.spans);
    let pair = |span: &Span| Some((id(span)?, parent(span)?));
    spans.filter_map(pair).filter(|(id, _)| gone.contains(id)).collect()
}

fn rehang(span: &mut Span, above: &HashMap<SpanId, SpanId>) {
    let Some(mut parent) = parent(span) else { return };
    // Weaving makes no cycle; the bound is for spans that it did not make.
    for _ in 0..above.len() {
        match above.get(&parent) {
            Some(next) => parent = *next,
            None => break,
        }
    }
    if span.parent_span_id != parent.to_wire() {
        span.parent_span_id = parent.to_wire().to_vec();
    }
}

fn is_network(scope: &ScopeSpans) -> bool {
    scope.scope.as_ref().is_some_and(|scope| scope.name == "tracestitch.network")
}

fn scopes(request: &ExportTraceServiceRequest) -> impl Iterator<Item = &ScopeSpans> {
    request.resource_spans.iter().flat_map(|resource| &resource.scope_spans)
}

fn scopes_mut(request: &mut ExportTraceServiceRequest) -> impl Iterator<Item = &mut ScopeSpans> {
    request.resource_spans.iter_mut().flat_map(|resource| &mut resource.scope_spans)
}

fn id(span: &Span) -> Option<SpanId> {
    SpanId::from_wire(&span.span_id)
}

fn parent(span: &Span) -> Option<SpanId> {
    SpanId::from_wire(&span.parent_span_id)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
