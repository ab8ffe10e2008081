//! A plan carried out: the same plan on the same fragments gives the same bytes, today and after a restart.

use crate::{
    trace::{Fragment, NewParent, Piece, Plan},
    wire::{
        layout::Layout,
        splice::{self, Patch, Pick},
    },
};

/// The trace's pieces: each fragment with its new parents, and one piece of added spans.
pub fn apply(fragments: &[Fragment], plan: &Plan) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(fragments.len() + 1);
    let (mut rest, mut first) = (plan.parents.as_slice(), 0);
    for fragment in fragments {
        let next = first + number(fragment.spans);
        let (own, others) = rest.split_at(rest.partition_point(|new| number(new.span) < next));
        pieces.push(reparented(fragment, first, own));
        (rest, first) = (others, next);
    }
    if !plan.added.is_empty() {
        let bytes = plan.added.clone().into();
        pieces.push(Piece { bytes, app_spans: 0, added_spans: plan.added_spans });
    }
    pieces
}

/// What the empty plan makes of fragments, without a second look at their bytes.
pub fn unchanged(fragments: Vec<Fragment>) -> Vec<Piece> {
    let piece = |Fragment { bytes, spans, .. }| Piece {
        bytes,
        app_spans: u64::from(spans),
        added_spans: 0,
    };
    fragments.into_iter().map(piece).collect()
}

fn number(span: u32) -> usize {
    usize::try_from(span).unwrap_or(usize::MAX)
}

/// A fragment with these parents, the number of its first span being `first`; the same bytes when none is new.
fn reparented(fragment: &Fragment, first: usize, parents: &[NewParent]) -> Piece {
    let app_spans = u64::from(fragment.spans);
    if parents.is_empty() {
        return Piece { bytes: fragment.bytes.clone(), app_spans, added_spans: 0 };
    }
    // The bytes were scanned before: this can't fail.
    let bytes = fragment.bytes.to_bytes();
    let layout = Layout::trusted(&bytes).unwrap_or_default();
    let mut parents = parents.iter().peekable();
    let mut picks = Vec::with_capacity(layout.spans.len());
    for (span, entry) in layout.spans.iter().enumerate() {
        let new = parents.next_if(|new| number(new.span) == first + span);
        let patch = new.and_then(|new| {
            let body = entry.body.clone();
            Patch::reparent(&bytes, body, entry.parent, new.parent).ok()
        });
        picks.push(Pick { span, patch });
    }
    let bytes = splice::emit(&bytes, &layout, &picks);
    Piece { bytes: bytes.into(), app_spans, added_spans: 0 }
}
