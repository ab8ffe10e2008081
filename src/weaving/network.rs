//! Where network spans go: on the line between two services, beside it, or nowhere.

use foldhash::HashMap;

use super::{NetworkSpans, lineage::Lineage};
use crate::trace::{FoundSpan, SpanId};

/// Parents of received and found spans, after the choice; `kept` says which found spans are in the trace.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) app_parents: Vec<Option<SpanId>>,
    pub(super) found_parents: Vec<Option<SpanId>>,
    pub(super) kept: Vec<bool>,
}

/// Applies the choice to the full chain that lineage made. `found` and `ids` are parallel to its `found_parents`.
pub(super) fn line(
    choice: NetworkSpans,
    lineage: &Lineage,
    found: &[FoundSpan],
    ids: &[SpanId],
) -> Line {
    let full = Line {
        app_parents: lineage.app_parents.clone(),
        found_parents: lineage.found_parents.clone(),
        kept: vec![true; found.len()],
    };
    match choice {
        NetworkSpans::Inline => full,
        NetworkSpans::Beside => beside(full, found, ids),
        NetworkSpans::Off => off(&full, found, ids),
    }
}

/// Everything that is no network span moves up to the nearest such span above it; the network spans stay where they
/// are, a chain of their own. Where nothing but network spans lies above, the chain is the only line there is.
fn beside(full: Line, found: &[FoundSpan], ids: &[SpanId]) -> Line {
    let above = Above::over_network(&full, found, ids);
    let moved = |parent: Option<SpanId>| above.nearest(parent).or(parent);
    let found_parents = full.found_parents.iter().zip(found);
    Line {
        app_parents: full.app_parents.iter().map(|parent| moved(*parent)).collect(),
        found_parents: found_parents
            .map(|(parent, span)| if span.point.is_process() { moved(*parent) } else { *parent })
            .collect(),
        kept: full.kept,
    }
}

/// As beside, and without the network spans. What had only network spans above it is a root then, or goes back to the
/// parent it came with, which the caller sees to by `None`.
fn off(full: &Line, found: &[FoundSpan], ids: &[SpanId]) -> Line {
    let above = Above::over_network(full, found, ids);
    let moved = |parent: &Option<SpanId>| above.nearest(*parent);
    Line {
        app_parents: full.app_parents.iter().map(moved).collect(),
        found_parents: full.found_parents.iter().map(moved).collect(),
        kept: found.iter().map(|span| span.point.is_process()).collect(),
    }
}

/// Parents of spans that are stepped over, by their ids.
pub(super) struct Above {
    over: HashMap<SpanId, Option<SpanId>>,
}

impl Above {
    /// Steps over these spans; each comes with its parent.
    pub(super) fn over(spans: impl Iterator<Item = (SpanId, Option<SpanId>)>) -> Self {
        Self { over: spans.collect() }
    }

    fn over_network(full: &Line, found: &[FoundSpan], ids: &[SpanId]) -> Self {
        let spans = ids.iter().zip(found).zip(&full.found_parents);
        let network = spans.filter(|((_, span), _)| !span.point.is_process());
        Self::over(network.map(|((id, _), parent)| (*id, *parent)))
    }

    /// The nearest parent that is not stepped over. Lineage makes no cycles; the bound is for whoever changes it.
    pub(super) fn nearest(&self, mut parent: Option<SpanId>) -> Option<SpanId> {
        for _ in 0..=self.over.len() {
            match parent.and_then(|id| self.over.get(&id)) {
                Some(next) => parent = *next,
                None => return parent,
            }
        }
        None
    }
}
