//! Trace and answer become one trace. Pure and total: no I/O, no clock, no error.
//!
//! DeepFlow's releases since v6.5 do not attach what they found to the spans that were posted; [`mod@lineage`] does.

mod attributes;
pub mod identity;
pub mod lineage;
mod network;
mod protocol;
mod resource;

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use opentelemetry_proto::tonic::{common::v1::InstrumentationScope, trace::v1::ScopeSpans};
use prost::Message;
use serde::{Deserialize, Serialize};

use self::{
    attributes::Place,
    lineage::lineage,
    network::{Line, line},
    resource::{Processes, Resources},
};
use crate::{
    trace::{
        Answer, AppSpan, EnrichedTrace, Found, Fragment, Piece, QuietTrace, SpanId, SpanRef,
        TraceId,
    },
    wire::{
        field::{self, WireType, put_delimited_head},
        layout::Layout,
        splice::{self, Patch, Pick},
    },
};

/// How found spans become part of a trace.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// inline: on the line between client and server, the full way of a request. beside: a branch of its own below
    /// the client's process, so that client and server stay neighbours for service graphs. off: left out.
    pub network_spans: NetworkSpans,
    /// Kind of process spans. span: CLIENT and SERVER. internal: INTERNAL, so that span metrics count a call once.
    pub system_kind: SystemKind,
    /// Kind of network spans. internal: INTERNAL. span: CLIENT and SERVER by side.
    pub network_kind: NetworkKind,
}

/// Where network spans go.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum NetworkSpans {
    /// On the line.
    #[default]
    Inline,
    /// A branch of their own.
    Beside,
    /// Left out.
    Off,
}

/// Span kind of process spans.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum SystemKind {
    /// CLIENT or SERVER.
    #[default]
    Span,
    /// INTERNAL.
    Internal,
}

/// Span kind of network spans.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum NetworkKind {
    /// INTERNAL: a call has one client and one server, not seven.
    #[default]
    Internal,
    /// CLIENT or SERVER by side.
    Span,
}

/// What weaving did to a trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Woven {
    /// Process spans added.
    pub system: u64,
    /// Network spans added.
    pub network: u64,
    /// Network spans left out by configuration.
    pub omitted: u64,
    /// Received spans with a new parent.
    pub reparented: u64,
}

/// Joins a trace with what was found. Without an answer the trace goes on as it came.
pub fn weave(trace: QuietTrace, answer: Answer, config: &Config) -> (EnrichedTrace, Woven) {
    let QuietTrace { key, fragments, lease, .. } = trace;
    let (pieces, woven) = match answer {
        Answer::Found(found) => pieces(key.id, &fragments, &found, config),
        Answer::Skipped(_) => (fragments.iter().map(unchanged).collect(), Woven::default()),
    };
    (EnrichedTrace { key, pieces, lease }, woven)
}

fn unchanged(fragment: &Fragment) -> Piece {
    Piece { bytes: fragment.bytes.clone(), app_spans: count(fragment.spans.len()), added_spans: 0 }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// The trace's pieces: each fragment with its new parents, and one piece of added spans.
pub fn pieces(
    trace_id: TraceId,
    fragments: &[Fragment],
    found: &Found,
    config: &Config,
) -> (Vec<Piece>, Woven) {
    let mut processes = Processes::default();
    let app = app_spans(fragments, &mut processes);
    let taken: std::collections::HashSet<SpanId> = app.iter().map(|span| span.id).collect();
    let ids = identity::identities(&found.spans, |id| taken.contains(&id));
    let lineage = lineage(&app, found, &ids);
    let line =
        line(config.network_spans, lineage.app_parents, lineage.found_parents, &found.spans, &ids);
    let new_parents = new_parents(&app, &line);
    let mut woven = Woven {
        reparented: count(
            app.iter().zip(&new_parents).filter(|(a, new)| a.parent != **new).count(),
        ),
        omitted: count(line.kept.iter().filter(|kept| !**kept).count()),
        ..Woven::default()
    };
    let mut pieces = Vec::with_capacity(fragments.len() + 1);
    let mut rest = new_parents.as_slice();
    for fragment in fragments {
        let (parents, others) = rest.split_at(fragment.spans.len().min(rest.len()));
        rest = others;
        pieces.push(reparented(fragment, parents));
    }
    let resources =
        Resources::new(&processes, &app, &new_parents, &found.spans, &ids, &line.found_parents);
    let added = Added { trace_id, fragments, found, ids: &ids, line: &line, config };
    let (bytes, system, network) = added.encode(&resources);
    (woven.system, woven.network) = (system, network);
    if system + network > 0 {
        pieces.push(Piece { bytes: bytes.into(), app_spans: 0, added_spans: system + network });
    }
    (pieces, woven)
}

/// With network spans left out a received span may have nothing above it any more: then it keeps what it came with.
fn new_parents(app: &[AppSpan], line: &Line) -> Vec<Option<SpanId>> {
    let parents = app.iter().zip(&line.app_parents);
    parents.map(|(span, parent)| parent.or(span.parent)).collect()
}

fn app_spans(fragments: &[Fragment], processes: &mut Processes) -> Vec<AppSpan> {
    let mut spans = Vec::new();
    for fragment in fragments {
        // The bytes were scanned before: this can't fail.
        let layout = Layout::trusted(&fragment.bytes).unwrap_or_default();
        let header = |resource| {
            let pieces = layout.resource_header(resource).iter();
            let pieces = pieces.filter_map(|piece| fragment.bytes.get(piece.clone()));
            pieces.collect::<Vec<_>>().concat()
        };
        let numbers: Vec<usize> = (0..layout.resources.len())
            .map(|resource| processes.number(header(resource)))
            .collect();
        spans.extend(fragment.spans.iter().map(|span| {
            let resource = usize::try_from(span.resource).unwrap_or(usize::MAX);
            AppSpan {
                id: span.id,
                parent: span.parent,
                kind: span.kind,
                start_ns: span.start_ns,
                end_ns: span.end_ns,
                process: numbers.get(resource).copied().unwrap_or(0),
            }
        }));
    }
    spans
}

/// A fragment with these parents; the same bytes when none is new.
fn reparented(fragment: &Fragment, parents: &[Option<SpanId>]) -> Piece {
    let changes = |(span, parent): (&SpanRef, &Option<SpanId>)| span.parent != *parent;
    if !fragment.spans.iter().zip(parents).any(changes) {
        return unchanged(fragment);
    }
    let layout = Layout::trusted(&fragment.bytes).unwrap_or_default();
    let picks: Vec<Pick> = layout
        .spans
        .iter()
        .zip(parents)
        .enumerate()
        .map(|(index, (span, parent))| Pick {
            span: index,
            patch: (span.parent != *parent)
                .then(|| {
                    Patch::reparent(&fragment.bytes, span.body.clone(), span.parent, *parent).ok()
                })
                .flatten(),
        })
        .collect();
    let bytes = splice::emit(&fragment.bytes, &layout, &picks);
    Piece { bytes: Bytes::from(bytes), ..unchanged(fragment) }
}

/// The spans to add, and what they are made of.
struct Added<'a> {
    trace_id: TraceId,
    fragments: &'a [Fragment],
    found: &'a Found,
    ids: &'a [SpanId],
    line: &'a Line,
    config: &'a Config,
}

const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

impl Added<'_> {
    /// An `ExportTraceServiceRequest`, and how many system and network spans are in it.
    fn encode(&self, resources: &Resources<'_>) -> (Vec<u8>, u64, u64) {
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
        let above: std::collections::HashSet<SpanId> =
            self.line.found_parents.iter().copied().flatten().collect();
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
