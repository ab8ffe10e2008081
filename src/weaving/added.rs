//! The spans to add, written as a request.

use std::collections::{BTreeMap, HashMap, HashSet};

use opentelemetry_proto::tonic::{common::v1::InstrumentationScope, trace::v1::ScopeSpans};
use prost::Message;

use super::{
    Config, NetworkKind, SystemKind,
    attributes::{self, Place},
    network::Line,
    resource::Resources,
};
use crate::{
    trace::{Found, Fragment, SpanId, TraceId},
    wire::field::{self, WireType, put_delimited_head},
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

const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

impl Added<'_> {
    /// An `ExportTraceServiceRequest`, and how many system and network spans are in it.
    pub(super) fn encode(&self, resources: &Resources<'_>) -> (Vec<u8>, u64, u64) {
        let contexts = self.contexts();
        let (mut system, mut network) = (0, 0);
        // By resource and scope, in a fixed order: the same input gives the same bytes.
        let mut groups: BTreeMap<(Vec<u8>, bool), ScopeSpans> = BTreeMap::new();
        let spans = self.found.spans.iter().zip(self.ids).enumerate();
        for (index, (found, id)) in spans {
            if self.line.kept.get(index) != Some(&true) {
                continue;
            }
            let parent = self.line.found_parents.get(index).copied().flatten();
            let (flags, trace_state) = self.context(parent, &contexts);
            let place = Place { parent, flags, trace_state };
            let is_network = !found.point.is_process();
            *(if is_network { &mut network } else { &mut system }) += 1;
            let kinds = (
                self.config.system_kind,
                match self.config.network_kind {
                    NetworkKind::Internal => SystemKind::Internal,
                    NetworkKind::Span => SystemKind::Span,
                },
            );
            let span =
                attributes::span(self.trace_id, *id, place, found, self.found.truncated, kinds);
            let header = resources.header(found, *id, parent);
            let group = groups.entry((header, is_network)).or_insert_with(|| scope(is_network));
            group.spans.push(span);
        }
        let mut out = Vec::new();
        for ((header, _), scope) in groups {
            let scope = scope.encode_to_vec();
            put_delimited_head(&mut out, 1, header.len() + field::delimited_len(scope.len()));
            out.extend(header);
            put_delimited_head(&mut out, 2, scope.len());
            out.extend(scope);
        }
        (out, system, network)
    }

    /// Flags and trace state of the nearest received span above.
    fn context(
        &self,
        mut parent: Option<SpanId>,
        contexts: &HashMap<SpanId, Context>,
    ) -> (u32, String) {
        for _ in 0..=self.ids.len() {
            match parent.and_then(|id| contexts.get(&id)) {
                Some(Context::App { flags, trace_state }) => return (*flags, trace_state.clone()),
                Some(Context::Found(above)) => parent = *above,
                None => break,
            }
        }
        (0, String::new())
    }

    fn contexts(&self) -> HashMap<SpanId, Context> {
        let above: HashSet<SpanId> = self.line.found_parents.iter().copied().flatten().collect();
        let found = self.ids.iter().zip(&self.line.found_parents);
        let mut contexts: HashMap<SpanId, Context> =
            found.map(|(id, parent)| (*id, Context::Found(*parent))).collect();
        for fragment in self.fragments {
            for span in fragment.spans.iter().filter(|span| above.contains(&span.id)) {
                let start = usize::try_from(span.offset).unwrap_or(usize::MAX);
                let len = usize::try_from(span.len).unwrap_or(usize::MAX);
                let body = fragment.bytes.get(start..start.saturating_add(len)).unwrap_or_default();
                contexts.insert(span.id, Context::of(body));
            }
        }
        contexts
    }
}

/// What a span passes on to the spans below it.
enum Context {
    App { flags: u32, trace_state: String },
    Found(Option<SpanId>),
}

impl Context {
    fn of(span: &[u8]) -> Self {
        let (mut flags, mut trace_state) = (0, String::new());
        let mut at = 0;
        while at < span.len() {
            let Ok((number, wire)) = field::key(span, &mut at) else { break };
            let start = at;
            if field::skip(span, &mut at, number, wire, field::DEPTH_MAX).is_err() {
                break;
            }
            let mut start = start;
            match (number, wire) {
                (3, WireType::Delimited) => {
                    let range = field::delimited(span, &mut start).unwrap_or_default();
                    let text = span.get(range).unwrap_or_default();
                    trace_state = String::from_utf8_lossy(text).into_owned();
                }
                (16, WireType::Fixed32) => flags = field::fixed32(span, &mut start).unwrap_or(0),
                _ => {}
            }
        }
        Self::App { flags, trace_state }
    }
}

fn scope(is_network: bool) -> ScopeSpans {
    let name = if is_network { "tracestitch.network" } else { "tracestitch.system" };
    let scope = InstrumentationScope {
        name: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    ScopeSpans { scope: Some(scope), spans: Vec::new(), schema_url: SCHEMA_URL.to_owned() }
}
