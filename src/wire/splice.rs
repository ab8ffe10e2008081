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

/// What is written of a span: the span as it came for a plain index.
pub(crate) trait Picked {
    /// Index in [`Layout::spans`].
    fn span(&self) -> usize;

    /// What changes in it.
    fn patch(&self) -> Option<&Patch> {
        None
    }
}

impl Picked for Pick {
    fn span(&self) -> usize {
        self.span
    }

    fn patch(&self) -> Option<&Patch> {
        self.patch.as_ref()
    }
}

/// Neighbouring picks of one scope, with the lengths around them: worked out once, needed for the room that is asked
/// for and again for what is written.
#[derive(Debug)]
pub(crate) struct Run {
    scope: usize,
    resource: usize,
    picks: usize,
    /// Of the scope spans message.
    len: usize,
    /// Of the resource spans message, if one begins here.
    resource_len: Option<usize>,
}

/// A header that is written, by its index in the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    Resource(usize),
    Scope(usize),
}

impl Header {
    /// The fields, piece by piece.
    pub(crate) fn pieces(self, layout: &Layout) -> &[Range<usize>] {
        match self {
            Self::Resource(resource) => layout.resource_header(resource),
            Self::Scope(scope) => layout.scope_header(scope),
        }
    }

    /// Bytes of them.
    pub(crate) fn len(self, layout: &Layout) -> usize {
        match self {
            Self::Resource(resource) => layout.resource_header_len(resource),
            Self::Scope(scope) => layout.scope_header_len(scope),
        }
    }
}

impl Run {
    /// What is written before the run's spans: headers, each behind a key and a length of so many bytes; then the bytes of the
    /// spans.
    pub(crate) fn outline(
        &self,
        layout: &Layout,
    ) -> (impl Iterator<Item = (usize, Header)>, usize) {
        let scope = Header::Scope(self.scope);
        let resource =
            self.resource_len.map(|len| (head_len(len), Header::Resource(self.resource)));
        let headers = resource.into_iter().chain([(head_len(self.len), scope)]);
        (headers, self.len - scope.len(layout))
    }
}

/// Bytes of the key and length of so many bytes.
fn head_len(len: usize) -> usize {
    delimited_len(len) - len
}

/// Appends the runs of these picks; gives the bytes that [`write()`] will write for them.
pub(crate) fn plan(layout: &Layout, picks: &[impl Picked], runs: &mut Vec<Run>) -> usize {
    let first = runs.len();
    for pick in picks {
        let scope = layout.spans.get(pick.span()).map_or(0, |span| span.scope);
        let len = delimited_len(span_len(layout, pick));
        match runs.get_mut(first..).and_then(<[_]>::last_mut) {
            Some(run) if run.scope == scope => {
                run.picks += 1;
                run.len += len;
            }
            _ => {
                let resource = layout.resource_of(scope);
                let len = layout.scope_header_len(scope) + len;
                runs.push(Run { scope, resource, picks: 1, len, resource_len: None });
            }
        }
    }
    enclose(layout, runs.get_mut(first..).unwrap_or_default())
}

/// Gives each first run of a resource the resource's length; the sum of them with their heads.
fn enclose(layout: &Layout, runs: &mut [Run]) -> usize {
    let mut total = 0;
    for runs in runs.chunk_by_mut(|run, next| run.resource == next.resource) {
        let inner: usize = runs.iter().map(|run| delimited_len(run.len)).sum();
        if let Some(run) = runs.first_mut() {
            let len = layout.resource_header_len(run.resource) + inner;
            run.resource_len = Some(len);
            total += delimited_len(len);
        }
    }
    total
}

/// Writes picks that were planned. Headers that are elsewhere are left out.
pub(crate) fn write(
    out: &mut Vec<u8>,
    (request, layout): (&[u8], &Layout),
    mut picks: &[impl Picked],
    runs: &[Run],
    is_elsewhere: impl Fn(Header) -> bool,
) {
    let put_header = |out: &mut Vec<u8>, header: Header| {
        if !is_elsewhere(header) {
            put_pieces(out, request, header.pieces(layout));
        }
    };
    for run in runs {
        if let Some(len) = run.resource_len {
            put_delimited_head(out, 1, len);
            put_header(out, Header::Resource(run.resource));
        }
        put_delimited_head(out, 2, run.len);
        put_header(out, Header::Scope(run.scope));
        let (here, others) = picks.split_at_checked(run.picks).unwrap_or_default();
        for pick in here {
            put_delimited_head(out, 2, span_len(layout, pick));
            put_span(out, request, layout, pick);
        }
        picks = others;
    }
}

/// Bytes that [`emit`] will write for these picks.
pub fn emitted_len(layout: &Layout, picks: &[Pick]) -> usize {
    plan(layout, picks, &mut Vec::new())
}

/// Writes the picked spans, each under its own resource and scope, as an `ExportTraceServiceRequest`.
///
/// Picks must be in wire order; neighbours that share a resource or scope share its header.
pub fn emit(request: &[u8], layout: &Layout, picks: &[Pick]) -> Vec<u8> {
    let mut runs = Vec::new();
    let mut out = Vec::with_capacity(plan(layout, picks, &mut runs));
    write(&mut out, (request, layout), picks, &runs, |_| false);
    out
}

fn span_len(layout: &Layout, pick: &impl Picked) -> usize {
    match pick.patch() {
        Some(patch) => patch.len(),
        None => layout.spans.get(pick.span()).map_or(0, |span| span.body.len()),
    }
}

fn put_span(out: &mut Vec<u8>, request: &[u8], layout: &Layout, pick: &impl Picked) {
    if let Some(patch) = pick.patch() {
        put_pieces(out, request, &patch.kept);
        out.extend(&patch.appended);
    } else {
        let body = layout.spans.get(pick.span()).map(|span| span.body.clone());
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
        let last = picks.last().and_then(|pick| layout.spans.get(pick.span));
        let shares = last.is_some_and(|last| last.scope == span.scope);
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
