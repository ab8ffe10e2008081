//! Where things lie in an `ExportTraceServiceRequest`: one pass over the bytes, nothing decoded.

use std::ops::Range;

use super::{
    Census, Malformed, SpanId, SpanKind, TraceId,
    field::{self, DEPTH_MAX, WireType},
    schema::{self, LINK, RESOURCE, SCOPE, SPAN, enter},
};

/// The places of resource spans, scope spans and spans in a request's bytes.
#[derive(Debug, Default)]
pub struct Layout {
    /// In wire order.
    pub resources: Vec<ResourceEntry>,
    /// In wire order.
    pub scopes: Vec<ScopeEntry>,
    /// In wire order.
    pub spans: Vec<SpanEntry>,
    headers: Vec<Range<usize>>,
}

/// One `ResourceSpans`.
#[derive(Debug)]
pub struct ResourceEntry {
    header: Header,
}

/// One `ScopeSpans`.
#[derive(Debug)]
pub struct ScopeEntry {
    /// Index of its resource spans.
    pub resource: usize,
    header: Header,
}

/// All fields of a message but its children: resource or scope (every occurrence, for concatenating them is
/// protobuf's own merge), schema URL, unknown fields.
#[derive(Debug, Clone, Default)]
pub(super) struct Header {
    ranges: Range<usize>,
    pub(super) len: usize,
}

/// One span.
#[derive(Debug)]
pub struct SpanEntry {
    /// Index of its scope spans.
    pub scope: usize,
    /// The span message.
    pub body: Range<usize>,
    /// `None` when absent, of a wrong length, or zero.
    pub trace_id: Option<TraceId>,
    /// `None` when absent, of a wrong length, or zero.
    pub id: Option<SpanId>,
    /// `None` for a root and for a parent that is no id.
    pub parent: Option<SpanId>,
    /// The span's kind.
    pub kind: SpanKind,
    /// Nanoseconds since 1970.
    pub start_ns: u64,
    /// Nanoseconds since 1970.
    pub end_ns: u64,
    /// Some id in it, perhaps a link's or one that another one follows, has a length that is none of an id (trace.proto). Strict
    /// backends refuse a whole request for that. Told where the request is checked.
    pub has_odd_id: bool,
}

impl Layout {
    /// Scans and checks everything that prost would check, and what a strict backend would refuse.
    pub fn validated(request: &[u8]) -> Result<Self, Malformed> {
        Self::validated_with(request, Census::of(request)?)
    }

    /// The same for a request that was counted before.
    pub fn validated_with(request: &[u8], census: Census) -> Result<Self, Malformed> {
        Self::with_room_for(census).scan::<true>(request)
    }

    /// Scans bytes that were validated before.
    pub fn trusted(request: &[u8]) -> Result<Self, Malformed> {
        Self::default().scan::<false>(request)
    }

    /// Memory that this much takes, in bytes.
    pub fn bytes_of(census: Census) -> usize {
        let Census { resources, scopes, spans } = census;
        // Each may have fields of its parent's in front of it.
        let pieces = (resources + scopes + spans) * 2 * size_of::<Range<usize>>();
        resources * size_of::<ResourceEntry>()
            + scopes * size_of::<ScopeEntry>()
            + spans * size_of::<SpanEntry>()
            + pieces
    }

    fn with_room_for(census: Census) -> Self {
        Self {
            resources: Vec::with_capacity(census.resources),
            scopes: Vec::with_capacity(census.scopes),
            spans: Vec::with_capacity(census.spans),
            ..Self::default()
        }
    }

    /// The header fields of this resource spans entry, piece by piece.
    pub fn resource_header(&self, resource: usize) -> &[Range<usize>] {
        self.resources.get(resource).map_or(&[], |entry| self.pieces(&entry.header))
    }

    /// The header fields of this scope spans entry, piece by piece.
    pub fn scope_header(&self, scope: usize) -> &[Range<usize>] {
        self.scopes.get(scope).map_or(&[], |entry| self.pieces(&entry.header))
    }

    /// Bytes of a resource header.
    pub fn resource_header_len(&self, resource: usize) -> usize {
        self.resources.get(resource).map_or(0, |entry| entry.header.len)
    }

    /// Bytes of a scope header.
    pub fn scope_header_len(&self, scope: usize) -> usize {
        self.scopes.get(scope).map_or(0, |entry| entry.header.len)
    }

    /// Index of the resource spans that hold this scope.
    pub fn resource_of(&self, scope: usize) -> usize {
        self.scopes.get(scope).map_or(0, |entry| entry.resource)
    }

    fn pieces(&self, header: &Header) -> &[Range<usize>] {
        self.headers.get(header.ranges.clone()).unwrap_or_default()
    }

    fn scan<const CHECK: bool>(self, bytes: &[u8]) -> Result<Self, Malformed> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(Malformed::TooLarge);
        }
        let mut layout = self;
        let mut at = 0;
        while at < bytes.len() {
            match field::key(bytes, &mut at)? {
                (1, WireType::Delimited) => {
                    let range = field::delimited(bytes, &mut at)?;
                    layout.scan_resource::<CHECK>(bytes, range, enter(DEPTH_MAX)?)?;
                }
                (1, _) => return Err(Malformed::WireType),
                (number, wire) => field::skip(bytes, &mut at, number, wire, DEPTH_MAX)?,
            }
        }
        Ok(layout)
    }

    fn scan_resource<const CHECK: bool>(
        &mut self,
        bytes: &[u8],
        range: Range<usize>,
        depth: u32,
    ) -> Result<(), Malformed> {
        let resource = self.resources.len();
        self.resources.push(ResourceEntry { header: Header::default() });
        let mut header = Vec::new();
        let (bytes, mut at) = (bytes.get(..range.end).ok_or(Malformed::Truncated)?, range.start);
        while at < bytes.len() {
            let start = at;
            match field::key(bytes, &mut at)? {
                (1, WireType::Delimited) => {
                    let range = field::delimited(bytes, &mut at)?;
                    let depth = enter(depth)?;
                    if CHECK {
                        RESOURCE.check(bytes.get(range).unwrap_or_default(), depth)?;
                    }
                }
                (2, WireType::Delimited) => {
                    let range = field::delimited(bytes, &mut at)?;
                    self.scan_scope::<CHECK>(bytes, range, resource, enter(depth)?)?;
                    continue;
                }
                (3, WireType::Delimited) => {
                    let range = field::delimited(bytes, &mut at)?;
                    if CHECK {
                        schema::check_text(bytes.get(range).unwrap_or_default())?;
                    }
                }
                (1..=3, _) => return Err(Malformed::WireType),
                (number, wire) => field::skip(bytes, &mut at, number, wire, depth)?,
            }
            extend(&mut header, start..at);
        }
        let header = self.keep(header);
        if let Some(entry) = self.resources.get_mut(resource) {
            entry.header = header;
        }
        Ok(())
    }

    fn scan_scope<const CHECK: bool>(
        &mut self,
        bytes: &[u8],
        range: Range<usize>,
        resource: usize,
        depth: u32,
    ) -> Result<(), Malformed> {
        let scope = self.scopes.len();
        self.scopes.push(ScopeEntry { resource, header: Header::default() });
        let mut header = Vec::new();
        let (bytes, mut at) = (bytes.get(..range.end).ok_or(Malformed::Truncated)?, range.start);
        while at < bytes.len() {
            let start = at;
            match field::key(bytes, &mut at)? {
                (1, WireType::Delimited) => {
                    let range = field::delimited(bytes, &mut at)?;
                    let depth = enter(depth)?;
                    if CHECK {
                        SCOPE.check(bytes.get(range).unwrap_or_default(), depth)?;
                    }
                }
                (2, WireType::Delimited) => {
                    let range = field::delimited(bytes, &mut at)?;
                    self.spans.push(scan_span::<CHECK>(bytes, range, scope, enter(depth)?)?);
                    continue;
                }
                (3, WireType::Delimited) => {
                    let range = field::delimited(bytes, &mut at)?;
                    if CHECK {
                        schema::check_text(bytes.get(range).unwrap_or_default())?;
                    }
                }
                (1..=3, _) => return Err(Malformed::WireType),
                (number, wire) => field::skip(bytes, &mut at, number, wire, depth)?,
            }
            extend(&mut header, start..at);
        }
        let header = self.keep(header);
        if let Some(entry) = self.scopes.get_mut(scope) {
            entry.header = header;
        }
        Ok(())
    }

    fn keep(&mut self, ranges: Vec<Range<usize>>) -> Header {
        let first = self.headers.len();
        let len = ranges.iter().map(Range::len).sum();
        self.headers.extend(ranges);
        Header { ranges: first..self.headers.len(), len }
    }
}

/// Neighbouring fields become one piece.
fn extend(pieces: &mut Vec<Range<usize>>, next: Range<usize>) {
    match pieces.last_mut() {
        Some(last) if last.end == next.start => last.end = next.end,
        _ => pieces.push(next),
    }
}

/// Of a repeated singular field the last one counts, as in every protobuf decoder.
pub(super) fn scan_span<const CHECK: bool>(
    bytes: &[u8],
    body: Range<usize>,
    scope: usize,
    depth: u32,
) -> Result<SpanEntry, Malformed> {
    let mut span = SpanEntry {
        scope,
        body: body.clone(),
        trace_id: None,
        id: None,
        parent: None,
        kind: SpanKind::Unspecified,
        start_ns: 0,
        end_ns: 0,
        has_odd_id: false,
    };
    let (bytes, mut at) = (bytes.get(..body.end).ok_or(Malformed::Truncated)?, body.start);
    while at < bytes.len() {
        match field::key(bytes, &mut at)? {
            (1, WireType::Delimited) => {
                let id = value(bytes, &mut at)?;
                span.trace_id = TraceId::from_wire(id);
                span.has_odd_id |= is_odd::<16>(id);
            }
            (number @ (2 | 4), WireType::Delimited) => {
                let id = value(bytes, &mut at)?;
                let place = if number == 2 { &mut span.id } else { &mut span.parent };
                *place = SpanId::from_wire(id);
                span.has_odd_id |= is_odd::<8>(id);
            }
            (6, WireType::Varint) => {
                // Enums are 32 bits wide: what is above is cut, as prost does.
                let number = field::varint(bytes, &mut at)? & u64::from(u32::MAX);
                span.kind = SpanKind::from_wire(number);
            }
            (7, WireType::Fixed64) => span.start_ns = field::fixed64(bytes, &mut at)?,
            (8, WireType::Fixed64) => span.end_ns = field::fixed64(bytes, &mut at)?,
            (9, WireType::Delimited) if CHECK => {
                schema::check_attribute(value(bytes, &mut at)?, enter(depth)?)?;
            }
            (13, WireType::Delimited) if CHECK => {
                let link = value(bytes, &mut at)?;
                LINK.check(link, enter(depth)?)?;
                span.has_odd_id |= has_odd_id(link);
            }
            (number, wire) if CHECK => {
                SPAN.check_value(bytes, &mut at, number, wire, depth)?;
            }
            (number, wire) => field::skip(bytes, &mut at, number, wire, depth)?,
        }
    }
    Ok(span)
}

/// Neither absent nor an id.
#[inline]
fn is_odd<const LEN: usize>(id: &[u8]) -> bool {
    id.len() != LEN && !id.is_empty()
}

/// Of a link that was checked.
fn has_odd_id(link: &[u8]) -> bool {
    field::fields(link).any(|(number, wire, id)| match (number, wire) {
        (1, WireType::Delimited) => is_odd::<16>(id),
        (2, WireType::Delimited) => is_odd::<8>(id),
        _ => false,
    })
}

#[inline]
fn value<'a>(bytes: &'a [u8], at: &mut usize) -> Result<&'a [u8], Malformed> {
    let range = field::delimited(bytes, at)?;
    bytes.get(range).ok_or(Malformed::Truncated)
}
