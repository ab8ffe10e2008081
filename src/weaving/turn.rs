//! A trace may go out in parts: which found span goes out with which.

use std::collections::{HashMap, HashSet};

use super::{NetworkSpans, lineage::Lineage};
use crate::trace::{FoundSpan, Sent, SpanId};

/// When a found span goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// With an earlier part.
    Before,
    /// With this part.
    Now,
    /// With a later part, whose spans may show where it belongs.
    Later,
    /// Left out by configuration.
    Omitted,
    /// Left out: what earlier parts added is not known in full any more, and no row may go out twice.
    Never,
}

impl Turn {
    /// Others can hang below it.
    pub(super) fn is_in_trace(self) -> bool {
        matches!(self, Self::Before | Self::Now)
    }
}

/// The turn of each found span, in their order.
pub(super) fn turns(
    sent: &Sent,
    more: bool,
    network_spans: NetworkSpans,
    lineage: &Lineage,
    found: &[FoundSpan],
    ids: &[SpanId],
) -> Vec<Turn> {
    let before: HashSet<SpanId> = sent.rows().iter().map(|row| row.id).collect();
    let before: Vec<bool> = ids.iter().map(|id| before.contains(id)).collect();
    let waits = if more { waiting(lineage, ids, &before) } else { vec![false; ids.len()] };
    let turn = |((span, is_before), waits): ((&FoundSpan, bool), bool)| match () {
        () if is_before => Turn::Before,
        () if network_spans == NetworkSpans::Off && !span.point.is_process() => Turn::Omitted,
        () if waits => Turn::Later,
        () if sent.has_forgotten_rows() => Turn::Never,
        () => Turn::Now,
    };
    found.iter().zip(before.iter().copied()).zip(waits).map(turn).collect()
}

/// Whether each found span waits for spans that are not here yet: its call's span id is that of nobody, or it hangs
/// below such a call.
fn waiting(lineage: &Lineage, ids: &[SpanId], before: &[bool]) -> Vec<bool> {
    let places: HashMap<SpanId, usize> = ids.iter().copied().zip(0..).collect();
    let is_unclaimed = |place: usize| {
        let call = lineage.calls.get(place).and_then(|call| lineage.is_unclaimed.get(*call));
        call.copied().unwrap_or(false)
    };
    let above = |place: usize| {
        let parent = lineage.found_parents.get(place).copied().flatten()?;
        places.get(&parent).copied()
    };
    let mut waits: Vec<Option<bool>> = before
        .iter()
        .enumerate()
        .map(|(place, before)| match (*before, is_unclaimed(place)) {
            (true, _) => Some(false),
            (false, true) => Some(true),
            (false, false) => None,
        })
        .collect();
    let mut way = Vec::new();
    for start in 0..waits.len() {
        let mut next = Some(start);
        // Lineage makes no cycles; the bound is for whoever changes it.
        let answer = loop {
            let Some(place) = next.filter(|_| way.len() <= before.len()) else { break false };
            if let Some(known) = waits.get(place).copied().flatten() {
                break known;
            }
            way.push(place);
            next = above(place);
        };
        for place in way.drain(..) {
            if let Some(waits) = waits.get_mut(place) {
                *waits = Some(answer);
            }
        }
    }
    waits.into_iter().map(|waits| waits.unwrap_or(false)).collect()
}
