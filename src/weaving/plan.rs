//! What is to become of a trace: the parents of its spans, and the spans to add.

use std::collections::HashSet;

use super::{
    Config, Woven,
    added::Added,
    count, identity,
    lineage::lineage,
    network::{Line, line},
    resource::{Processes, Resources},
};
use crate::{
    trace::{AppSpan, Found, Fragment, NewParent, Plan, SpanId, TraceId},
    wire::layout::Layout,
};

/// Decides over a trace and what was found.
pub fn plan(
    trace_id: TraceId,
    fragments: &[Fragment],
    found: &Found,
    config: &Config,
) -> (Plan, Woven) {
    let mut processes = Processes::default();
    let app = app_spans(fragments, &mut processes);
    let taken: HashSet<SpanId> = app.iter().map(|span| span.id).collect();
    let ids = identity::identities(&found.spans, |id| taken.contains(&id));
    let lineage = lineage(&app, found, &ids);
    let line =
        line(config.network_spans, lineage.app_parents, lineage.found_parents, &found.spans, &ids);
    let new_parents = new_parents(&app, &line);
    let resources =
        Resources::new(&processes, &app, &new_parents, &found.spans, &ids, &line.found_parents);
    let added = Added { trace_id, fragments, found, ids: &ids, line: &line, config };
    let (bytes, system, network) = added.encode(&resources);
    let parents = changes(&app, &new_parents);
    let woven = Woven {
        system,
        network,
        omitted: count(line.kept.iter().filter(|kept| !**kept).count()),
        reparented: count(parents.len()),
    };
    (Plan { parents, added: bytes.into(), added_spans: system + network }, woven)
}

/// The spans whose parent is another one now.
fn changes(app: &[AppSpan], new_parents: &[Option<SpanId>]) -> Vec<NewParent> {
    let spans = app.iter().zip(new_parents).zip(0..);
    spans
        .filter(|((span, parent), _)| span.parent != **parent)
        .map(|((_, parent), span)| NewParent { span, parent: *parent })
        .collect()
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
