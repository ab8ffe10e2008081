//! Writing requests out of the pieces of other requests: all enclosing lengths are recomputed, all other bytes stay.

use std::ops::Range;

use super::{
    Malformed, SpanId,
    field::{self, WireType, delimited_len, put_delimited_head},
    layout::Layout,
};

/// The attribute that keeps the parent a span came with.
pub const ORIGINAL_PARENT: &str = "tracestitch.original_parent_span_id";

/// A span to write: its index in the layout, and what changes in it.
pub struct Pick {
    /// Index in [`Layout::spans`].
    pub span: usize,
    /// `None`: as it came.
    pub patch: Option<Patch>,
}

/// A span message with another parent: parts that stay, and fields that follow them.
pub struct Patch {
    kept: Vec<Range<usize>>,
    appended: Vec<u8>,
}

impl Patch {
    /// Replaces `parent_span_id` and keeps the former one in the attribute [`ORIGINAL_PARENT`] (empty for a root).
    pub fn reparent(
        request: &[u8],
        body: Range<usize>,
        former: Option<SpanId>,
        parent: Option<SpanId>,
    ) -> Result<Self, Malformed> {
        let mut kept: Vec<Range<usize>> = Vec::with_capacity(2);
        let (bytes, mut at) = (request.get(..body.end).ok_or(Malformed::Truncated)?, body.start);
        while at < bytes.len() {
            let start = at;
            let (number, wire) = field::key(bytes, &mut at)?;
            field::skip(bytes, &mut at, number, wire, field::DEPTH_MAX)?;
            if (number, wire) == (4, WireType::Delimited) {
                continue;
            }
            match kept.last_mut() {
                Some(last) if last.end == start => last.end = at,
                _ => kept.push(start..at),
            }
        }
        let mut appended = Vec::with_capacity(80);
        if let Some(parent) = parent {
            put_delimited_head(&mut appended, 4, 8);
            appended.extend(parent.to_wire());
        }
        put_attribute(
            &mut appended,
            ORIGINAL_PARENT,
            &former.map_or_else(String::new, |id| id.to_string()),
        );
        Ok(Self { kept, appended })
    }

    fn len(&self) -> usize {
        self.kept.iter().map(Range::len).sum::<usize>() + self.appended.len()
    }
}

/// Appends a string attribute to a span message (Span.attributes is field 9).
fn put_attribute(out: &mut Vec<u8>, key: &str, value: &str) {
    let any_len = delimited_len(value.len());
    put_delimited_head(out, 9, delimited_len(key.len()) + delimited_len(any_len));
    put_delimited_head(out, 1, key.len());
    out.extend(key.as_bytes());
    put_delimited_head(out, 2, any_len);
    put_delimited_head(out, 1, value.len());
    out.extend(value.as_bytes());
}

/// Bytes that [`emit`] will write for these picks.
pub fn emitted_len(layout: &Layout, picks: &[Pick]) -> usize {
    groups(layout, picks).map(|group| delimited_len(resource_len(layout, picks, &group))).sum()
}

/// Writes the picked spans, each under its own resource and scope, as an `ExportTraceServiceRequest`.
///
/// Picks must be in wire order; neighbours that share a resource or scope share its header.
pub fn emit(request: &[u8], layout: &Layout, picks: &[Pick]) -> Vec<u8> {
    let mut out = Vec::with_capacity(emitted_len(layout, picks));
    for group in groups(layout, picks) {
        put_delimited_head(&mut out, 1, resource_len(layout, picks, &group));
        put_pieces(&mut out, request, layout.resource_header(group.resource));
        for scope in scopes(layout, picks, group.picks.clone()) {
            put_delimited_head(&mut out, 2, scope_len(layout, picks, &scope));
            put_pieces(&mut out, request, layout.scope_header(scope.scope));
            for pick in picks.get(scope.picks).unwrap_or_default() {
                put_span(&mut out, request, layout, pick);
            }
        }
    }
    out
}

struct ResourceGroup {
    resource: usize,
    picks: Range<usize>,
}

struct ScopeGroup {
    scope: usize,
    picks: Range<usize>,
}

fn groups<'a>(layout: &'a Layout, picks: &'a [Pick]) -> impl Iterator<Item = ResourceGroup> + 'a {
    let resource_at = move |pick: usize| layout.resource_of(scope_at(layout, picks, pick));
    runs(0..picks.len(), resource_at).map(|(resource, picks)| ResourceGroup { resource, picks })
}

fn scopes<'a>(
    layout: &'a Layout,
    picks: &'a [Pick],
    within: Range<usize>,
) -> impl Iterator<Item = ScopeGroup> + 'a {
    runs(within, move |pick| scope_at(layout, picks, pick))
        .map(|(scope, picks)| ScopeGroup { scope, picks })
}

fn scope_at(layout: &Layout, picks: &[Pick], pick: usize) -> usize {
    picks.get(pick).and_then(|pick| layout.spans.get(pick.span)).map_or(0, |span| span.scope)
}

/// Runs of equal keys.
fn runs(
    mut rest: Range<usize>,
    key: impl Fn(usize) -> usize,
) -> impl Iterator<Item = (usize, Range<usize>)> {
    std::iter::from_fn(move || {
        let first = rest.next()?;
        let value = key(first);
        while !rest.is_empty() && key(rest.start) == value {
            rest.start += 1;
        }
        Some((value, first..rest.start))
    })
}

fn resource_len(layout: &Layout, picks: &[Pick], group: &ResourceGroup) -> usize {
    let scopes = scopes(layout, picks, group.picks.clone());
    let inner: usize = scopes.map(|scope| delimited_len(scope_len(layout, picks, &scope))).sum();
    layout.resource_header_len(group.resource) + inner
}

fn scope_len(layout: &Layout, picks: &[Pick], group: &ScopeGroup) -> usize {
    let spans = picks.get(group.picks.clone()).unwrap_or_default();
    let inner: usize = spans.iter().map(|pick| delimited_len(span_len(layout, pick))).sum();
    layout.scope_header_len(group.scope) + inner
}

fn span_len(layout: &Layout, pick: &Pick) -> usize {
    match &pick.patch {
        Some(patch) => patch.len(),
        None => layout.spans.get(pick.span).map_or(0, |span| span.body.len()),
    }
}

fn put_span(out: &mut Vec<u8>, request: &[u8], layout: &Layout, pick: &Pick) {
    put_delimited_head(out, 2, span_len(layout, pick));
    if let Some(patch) = &pick.patch {
        put_pieces(out, request, &patch.kept);
        out.extend(&patch.appended);
    } else {
        let body = layout.spans.get(pick.span).map(|span| span.body.clone());
        out.extend(body.and_then(|body| request.get(body)).unwrap_or_default());
    }
}

fn put_pieces(out: &mut Vec<u8>, request: &[u8], pieces: &[Range<usize>]) {
    for piece in pieces {
        out.extend(request.get(piece.clone()).unwrap_or_default());
    }
}

/// Key and length of a span, or of a resource and a scope.
const LENGTHS_MAX: usize = 24;

/// Cuts a request into several of at most `bytes_max` each, as far as single spans allow; gives the spans in each.
pub fn cut(request: &[u8], bytes_max: usize) -> Result<Vec<(Vec<u8>, usize)>, Malformed> {
    let layout = Layout::trusted(request)?;
    let mut parts = Vec::new();
    let mut picks: Vec<Pick> = Vec::new();
    let mut len = 0;
    for (index, span) in layout.spans.iter().enumerate() {
        let headers = layout.scope_header_len(span.scope)
            + layout.resource_header_len(layout.resource_of(span.scope))
            + LENGTHS_MAX;
        // Neighbours of one scope share its headers.
        let shares =
            picks.last().is_some_and(|_| scope_at(&layout, &picks, picks.len() - 1) == span.scope);
        let mut cost = span.body.len() + LENGTHS_MAX + if shares { 0 } else { headers };
        if len + cost > bytes_max && !picks.is_empty() {
            parts.push((emit(request, &layout, &picks), picks.len()));
            picks.clear();
            len = 0;
            cost = span.body.len() + LENGTHS_MAX + headers;
        }
        picks.push(Pick { span: index, patch: None });
        len += cost;
    }
    if !picks.is_empty() {
        parts.push((emit(request, &layout, &picks), picks.len()));
    }
    Ok(parts)
}
