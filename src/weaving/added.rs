//! The spans to add, written as a request.

use std::{borrow::Cow, cell::OnceCell};

use foldhash::HashMap;

use super::{
    Config, NetworkKind, SystemKind,
    attributes::{Place, SpanWriter},
    count,
    masking::Texts,
    network::Line,
    resource::{Resource, Resources},
};
use crate::{
    trace::{Found, SpanId, TraceId},
    wire::{
        attributes::put_text,
        field::{self, WireType, delimited_len, put_delimited_head},
    },
};

/// The spans to add, and what they are made of.
pub(super) struct Added<'a> {
    pub(super) trace_id: TraceId,
    /// The received spans, and their messages.
    pub(super) received: &'a [(SpanId, &'a [u8])],
    pub(super) found: &'a Found,
    pub(super) ids: &'a [SpanId],
    pub(super) line: &'a Line,
    pub(super) config: &'a Config,
}

/// An `ExportTraceServiceRequest`, and what is in it.
pub(super) struct Encoded {
    pub(super) bytes: Vec<u8>,
    /// System spans.
    pub(super) system: u64,
    /// Network spans.
    pub(super) network: u64,
    pub(super) texts: Texts,
}

const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

impl Added<'_> {
    /// All of them, below their resources.
    pub(super) fn encode(&self, resources: &Resources<'_>) -> Encoded {
        let contexts = self.contexts();
        let mut writer = SpanWriter::new(
            self.trace_id,
            self.found.truncated,
            self.kinds(),
            &self.config.masking,
        );
        let groups = self.groups(resources);
        let rows: usize = groups.iter().map(|group| group.rows.len()).sum();
        // All spans one after the other, and where those of each group end: their lengths stand before them.
        let mut spans = Vec::with_capacity(rows * SPAN_BYTES);
        let mut ends = Vec::with_capacity(groups.len());
        for group in &groups {
            for &row in &group.rows {
                self.put(row, &contexts, &mut writer, &mut spans);
            }
            ends.push(spans.len());
        }
        let of_network = groups.iter().filter(|group| group.is_network);
        let network = of_network.map(|group| group.rows.len()).sum();
        Encoded {
            bytes: encode(&groups, &ends, &spans),
            system: count(rows - network),
            network: count(network),
            texts: writer.texts(),
        }
    }

    /// Appends a span.
    fn put(
        &self,
        row: usize,
        contexts: &HashMap<SpanId, Context<'_>>,
        writer: &mut SpanWriter<'_>,
        out: &mut Vec<u8>,
    ) {
        let (Some(found), Some(id)) = (self.found.spans.get(row), self.ids.get(row)) else {
            return;
        };
        let parent = self.parent(row);
        let (flags, trace_state) = self.context(parent, contexts);
        writer.put(out, SPANS, *id, Place { parent, flags, trace_state }, found);
    }

    fn parent(&self, row: usize) -> Option<SpanId> {
        self.line.found_parents.get(row).copied().flatten()
    }

    /// In a fixed order: the same input gives the same bytes.
    fn groups(&self, resources: &Resources<'_>) -> Vec<Group> {
        let mut numbers: HashMap<(Resource<'_>, bool), usize> = HashMap::default();
        let mut groups: Vec<Group> = Vec::new();
        let rows = self.found.spans.iter().zip(self.ids).zip(&self.line.kept).enumerate();
        for (row, ((found, id), _)) in rows.filter(|(_, (_, kept))| **kept) {
            let resource = resources.of(found, *id, row);
            let is_network = !found.point.is_process();
            let number = *numbers.entry((resource, is_network)).or_insert_with_key(|key| {
                let header = resources.header(&key.0);
                groups.push(Group { header, is_network, rows: Vec::with_capacity(ROWS_FEW) });
                groups.len() - 1
            });
            if let Some(group) = groups.get_mut(number) {
                group.rows.push(row);
            }
        }
        groups.sort_by(|one, other| {
            (&one.header, one.is_network).cmp(&(&other.header, other.is_network))
        });
        groups
    }

    fn kinds(&self) -> (SystemKind, SystemKind) {
        let network = match self.config.network_kind {
            NetworkKind::Internal => SystemKind::Internal,
            NetworkKind::Span => SystemKind::Span,
        };
        (self.config.system_kind, network)
    }

    /// Flags and trace state of the nearest received span above.
    fn context<'c>(
        &self,
        mut parent: Option<SpanId>,
        contexts: &'c HashMap<SpanId, Context<'_>>,
    ) -> (u32, &'c str) {
        for _ in 0..=self.ids.len() {
            match parent.and_then(|id| contexts.get(&id)) {
                Some(Context::Received { body, passed_on }) => {
                    let passed_on = passed_on.get_or_init(|| PassedOn::of(body));
                    return (passed_on.flags, &passed_on.trace_state);
                }
                Some(Context::Found(above)) => parent = *above,
                None => break,
            }
        }
        (0, "")
    }

    fn contexts(&self) -> HashMap<SpanId, Context<'_>> {
        let found = self.ids.iter().zip(&self.line.found_parents);
        let mut contexts: HashMap<SpanId, Context<'_>> = HashMap::default();
        contexts.reserve(self.ids.len() + self.received.len());
        contexts.extend(found.map(|(id, parent)| (*id, Context::Found(*parent))));
        let received = self.received.iter();
        contexts.extend(
            received
                .map(|(id, body)| (*id, Context::Received { body, passed_on: OnceCell::new() })),
        );
        contexts
    }
}

/// What a span passes on to the spans below it.
enum Context<'a> {
    Received {
        body: &'a [u8],
        /// Read once, and of few.
        passed_on: OnceCell<PassedOn<'a>>,
    },
    Found(Option<SpanId>),
}

struct PassedOn<'a> {
    flags: u32,
    trace_state: Cow<'a, str>,
}

impl<'a> PassedOn<'a> {
    fn of(span: &'a [u8]) -> Self {
        let (mut flags, mut trace_state) = (0, Cow::default());
        for (number, wire, value) in field::fields(span) {
            match (number, wire) {
                (3, WireType::Delimited) => trace_state = String::from_utf8_lossy(value),
                (16, WireType::Fixed32) => flags = field::fixed32(value, &mut 0).unwrap_or(0),
                _ => {}
            }
        }
        Self { flags, trace_state }
    }
}

/// The spans of a resource and scope.
struct Group {
    /// Of the resource.
    header: Vec<u8>,
    is_network: bool,
    rows: Vec<usize>,
}

/// Room for so many rows in a group at first, and for each span.
const ROWS_FEW: usize = 8;
const SPAN_BYTES: usize = 1280;

/// Field numbers: resource spans of a request, scope spans and their parts.
const RESOURCE_SPANS: u8 = 1;
const SCOPE_SPANS: u8 = 2;
const SCOPE: u8 = 1;
const SPANS: u8 = 2;
const SCOPE_SCHEMA_URL: u8 = 3;

/// A request of these groups; `spans` are those of all of them, which end at `ends`.
fn encode(groups: &[Group], ends: &[usize], spans: &[u8]) -> Vec<u8> {
    let heads = groups.iter().map(|group| group.header.len() + HEADS_BYTES).sum::<usize>();
    let mut out = Vec::with_capacity(heads + spans.len());
    let scopes = [false, true].map(scope);
    let mut start = 0;
    for (Group { header, is_network, .. }, end) in groups.iter().zip(ends) {
        let scope = &scopes[usize::from(*is_network)];
        let spans = spans.get(start..*end).unwrap_or_default();
        start = *end;
        let scope_spans_len =
            delimited_len(scope.len()) + spans.len() + delimited_len(SCHEMA_URL.len());
        put_delimited_head(&mut out, RESOURCE_SPANS, header.len() + delimited_len(scope_spans_len));
        out.extend_from_slice(header);
        put_delimited_head(&mut out, SCOPE_SPANS, scope_spans_len);
        put_delimited_head(&mut out, SCOPE, scope.len());
        out.extend_from_slice(scope);
        out.extend_from_slice(spans);
        put_text(&mut out, SCOPE_SCHEMA_URL, SCHEMA_URL);
    }
    out
}

/// What a group takes beside its header and its spans.
const HEADS_BYTES: usize = 200;

/// An `InstrumentationScope`.
fn scope(is_network: bool) -> Vec<u8> {
    let name = if is_network { "tracestitch.network" } else { "tracestitch.system" };
    let mut out = Vec::with_capacity(40);
    put_text(&mut out, 1, name);
    put_text(&mut out, 2, env!("CARGO_PKG_VERSION"));
    out
}
