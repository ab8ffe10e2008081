//! The spans to add, written as a request.

use std::borrow::Cow;

use foldhash::{HashMap, HashSet};

use super::{
    Config, NetworkKind, SystemKind,
    attributes::{Place, SpanWriter},
    masking::Texts,
    network::Line,
    resource::{Resource, Resources},
};
use crate::{
    trace::{Found, Fragment, SpanId, TraceId},
    wire::{
        attributes::put_text,
        field::{self, WireType, delimited_len, put_delimited_head},
    },
};

/// The spans to add, and what they are made of.
pub(super) struct Added<'a> {
    pub(super) trace_id: TraceId,
    pub(super) fragments: &'a [Fragment],
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
        let (mut system, mut network) = (0, 0);
        let mut writer = SpanWriter::new(
            self.trace_id,
            self.found.truncated,
            self.kinds(),
            &self.config.masking,
        );
        let mut groups = Groups::default();
        for (index, (found, id)) in self.found.spans.iter().zip(self.ids).enumerate() {
            if self.line.kept.get(index) != Some(&true) {
                continue;
            }
            let parent = self.line.found_parents.get(index).copied().flatten();
            let (flags, trace_state) = self.context(parent, &contexts);
            let span = writer.write(*id, Place { parent, flags, trace_state }, found);
            let is_network = !found.point.is_process();
            *(if is_network { &mut network } else { &mut system }) += 1;
            groups.add(resources.of(found, *id, parent), is_network, span);
        }
        Encoded { bytes: groups.encode(resources), system, network, texts: writer.texts() }
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
                Some(Context::App { flags, trace_state }) => return (*flags, trace_state),
                Some(Context::Found(above)) => parent = *above,
                None => break,
            }
        }
        (0, "")
    }

    fn contexts(&self) -> HashMap<SpanId, Context<'_>> {
        let above: HashSet<SpanId> = self.line.found_parents.iter().copied().flatten().collect();
        let found = self.ids.iter().zip(&self.line.found_parents);
        let mut contexts: HashMap<SpanId, Context<'_>> = HashMap::default();
        contexts.reserve(self.ids.len() + above.len());
        contexts.extend(found.map(|(id, parent)| (*id, Context::Found(*parent))));
        for fragment in self.fragments {
            for span in fragment.span_refs().iter().filter(|span| above.contains(&span.id)) {
                let start = usize::try_from(span.offset).unwrap_or(usize::MAX);
                let len = usize::try_from(span.len).unwrap_or(usize::MAX);
                let body = start..start.saturating_add(len);
                let body = fragment.bytes.own().get(body).unwrap_or_default();
                contexts.insert(span.id, Context::of(body));
            }
        }
        contexts
    }
}

/// What a span passes on to the spans below it.
enum Context<'a> {
    App { flags: u32, trace_state: Cow<'a, str> },
    Found(Option<SpanId>),
}

impl<'a> Context<'a> {
    fn of(span: &'a [u8]) -> Self {
        let (mut flags, mut trace_state) = (0, Cow::default());
        for (number, wire, value) in field::fields(span) {
            match (number, wire) {
                (3, WireType::Delimited) => trace_state = String::from_utf8_lossy(value),
                (16, WireType::Fixed32) => flags = field::fixed32(value, &mut 0).unwrap_or(0),
                _ => {}
            }
        }
        Self::App { flags, trace_state }
    }
}

/// The spans of each resource and scope.
#[derive(Default)]
struct Groups<'a> {
    numbers: HashMap<(Resource<'a>, bool), usize>,
    all: Vec<Group<'a>>,
}

struct Group<'a> {
    resource: Resource<'a>,
    is_network: bool,
    /// As in a `ScopeSpans`.
    spans: Vec<u8>,
}

/// Room for two or three spans at first.
const SPANS_BYTES: usize = 2048;

/// Field numbers: resource spans of a request, scope spans and their parts.
const RESOURCE_SPANS: u8 = 1;
const SCOPE_SPANS: u8 = 2;
const SCOPE: u8 = 1;
const SPANS: u8 = 2;
const SCOPE_SCHEMA_URL: u8 = 3;

impl<'a> Groups<'a> {
    fn add(&mut self, resource: Resource<'a>, is_network: bool, span: &[u8]) {
        let all = &mut self.all;
        let number = *self.numbers.entry((resource.clone(), is_network)).or_insert_with(|| {
            all.push(Group { resource, is_network, spans: Vec::with_capacity(SPANS_BYTES) });
            all.len() - 1
        });
        if let Some(group) = all.get_mut(number) {
            put_delimited_head(&mut group.spans, SPANS, span.len());
            group.spans.extend_from_slice(span);
        }
    }

    /// In a fixed order: the same input gives the same bytes.
    fn encode(self, resources: &Resources<'_>) -> Vec<u8> {
        let headed = self.all.into_iter().map(|group| (resources.header(&group.resource), group));
        let mut groups: Vec<_> = headed.collect();
        groups.sort_by(|(one, group), (other, second)| {
            (one, group.is_network).cmp(&(other, second.is_network))
        });
        let len = groups.iter().map(|(header, group)| header.len() + group.spans.len() + 200).sum();
        let mut out = Vec::with_capacity(len);
        for (header, Group { is_network, spans, .. }) in groups {
            let scope = scope(is_network);
            let scope_spans_len =
                delimited_len(scope.len()) + spans.len() + delimited_len(SCHEMA_URL.len());
            put_delimited_head(
                &mut out,
                RESOURCE_SPANS,
                header.len() + delimited_len(scope_spans_len),
            );
            out.extend(header);
            put_delimited_head(&mut out, SCOPE_SPANS, scope_spans_len);
            put_delimited_head(&mut out, SCOPE, scope.len());
            out.extend(scope);
            out.extend(spans);
            put_text(&mut out, SCOPE_SCHEMA_URL, SCHEMA_URL);
        }
        out
    }
}

/// An `InstrumentationScope`.
fn scope(is_network: bool) -> Vec<u8> {
    let name = if is_network { "tracestitch.network" } else { "tracestitch.system" };
    let mut out = Vec::with_capacity(40);
    put_text(&mut out, 1, name);
    put_text(&mut out, 2, env!("CARGO_PKG_VERSION"));
    out
}
