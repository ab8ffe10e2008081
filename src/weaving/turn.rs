//! A trace may go out in parts: which found span goes out with which.

use foldhash::{HashMap, HashSet};

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

/// Where the way up from a found span ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum End {
    /// At a received span, at one that was named, or at what went out.
    InTrace,
    /// In a call whose span id is that of nobody.
    Unclaimed,
    /// At this found span, which hangs below nothing.
    Root(usize),
}

/// Whether each found span waits for spans that are not here yet: its call's span id is that of nobody, or it hangs
/// below such a call, or below nothing and no received span hangs below the same root.
fn waiting(lineage: &Lineage, ids: &[SpanId], before: &[bool]) -> Vec<bool> {
    let places: HashMap<SpanId, usize> = ids.iter().copied().zip(0..).collect();
    let ends = ends(lineage, &places, before);
    let end = |parent: &SpanId| places.get(parent).and_then(|place| ends.get(*place));
    let answered: HashSet<&End> = lineage.app_parents.iter().flatten().filter_map(end).collect();
    let waits = |end: &End| match end {
        End::InTrace => false,
        End::Unclaimed => true,
        End::Root(_) => !answered.contains(end),
    };
    ends.iter().map(waits).collect()
}

fn ends(lineage: &Lineage, places: &HashMap<SpanId, usize>, before: &[bool]) -> Vec<End> {
    let mut known: Vec<Option<End>> = vec![None; before.len()];
    let mut way = Vec::new();
    for start in 0..before.len() {
        let mut next = start;
        let end = loop {
            way.push(next);
            // Lineage makes no cycles; the bound is for whoever changes it.
            match step(lineage, places, before, next) {
                Step::Up(above) if way.len() <= before.len() => next = above,
                Step::Up(_) => break End::InTrace,
                Step::End(end) => break end,
            }
            if let Some(end) = known.get(next).copied().flatten() {
                break end;
            }
        };
        for place in way.drain(..) {
            if let Some(known) = known.get_mut(place) {
                *known = Some(end);
            }
        }
    }
    known.into_iter().map(|end| end.unwrap_or(End::InTrace)).collect()
}

enum Step {
    Up(usize),
    End(End),
}

fn step(lineage: &Lineage, places: &HashMap<SpanId, usize>, before: &[bool], place: usize) -> Step {
    let call = lineage.calls.get(place).and_then(|call| lineage.is_unclaimed.get(*call));
    let parent = lineage.found_parents.get(place).copied().flatten();
    match parent.map(|parent| places.get(&parent)) {
        _ if before.get(place) == Some(&true) => Step::End(End::InTrace),
        _ if call == Some(&true) => Step::End(End::Unclaimed),
        Some(Some(above)) => Step::Up(*above),
        Some(None) => Step::End(End::InTrace),
        None => Step::End(End::Root(place)),
    }
}
