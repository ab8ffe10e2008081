//! What went out can't be taken back: a new edge that would close a ring with it gives way.

use foldhash::{HashMap, HashSet};

use super::{lineage::rings, network::Line};
use crate::trace::{AppSpan, Sent, SpanId};

/// After so many rounds all edges of a ring that can give way do. Real traces have none.
const ROUNDS_MAX: usize = 8;

/// How an edge gives way, gently first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// A received span goes back to the parent it came with.
    Restore,
    /// An added span becomes a root.
    Uproot,
    /// A received span becomes a root.
    Cut,
}

/// Takes back edges of this part, until no ring is left but of received spans that came in one. `app` has the spans that
/// went out, then the new ones; `line` says in `kept` which found spans are new.
pub(super) fn untangle(sent: &Sent, app: &[AppSpan], line: &mut Line, ids: &[SpanId]) {
    for round in 0.. {
        let knots = Graph::new(sent, app, line, ids).knots(sent, app, line, ids);
        let Some(gentlest) = knots.iter().map(|(way, _)| *way).min() else { return };
        for (way, place) in knots {
            if way == gentlest || round >= ROUNDS_MAX {
                give_way(way, place, app, line);
            }
        }
    }
}

fn give_way(way: Way, place: usize, app: &[AppSpan], line: &mut Line) {
    let (parents, parent) = match way {
        Way::Restore => (&mut line.app_parents, app.get(place).and_then(|span| span.parent)),
        Way::Uproot => (&mut line.found_parents, None),
        Way::Cut => (&mut line.app_parents, None),
    };
    if let Some(slot) = parents.get_mut(place) {
        *slot = parent;
    }
}

/// Spans by number: those that share an id are one, with all their parents.
struct Graph {
    numbers: HashMap<SpanId, usize>,
    /// Ring of each; `None` off all rings, and for rings that all came in.
    rings: Vec<Option<usize>>,
}

impl Graph {
    fn new(sent: &Sent, app: &[AppSpan], line: &Line, ids: &[SpanId]) -> Self {
        let came = app.iter().map(|span| (span.id, span.parent));
        let old_spans = sent.spans().iter().map(|span| (span.id, span.parent));
        let old_rows = sent.rows().iter().map(|row| (row.id, row.parent));
        let new_spans = app.iter().zip(&line.app_parents).skip(sent.spans().len());
        let new_spans = new_spans.map(|(span, parent)| (span.id, *parent));
        let new_rows = ids.iter().zip(&line.found_parents).zip(&line.kept);
        let new_rows = new_rows.filter(|(_, kept)| **kept).map(|((id, parent), _)| (*id, *parent));
        let edges: Vec<_> = old_spans.chain(old_rows).chain(new_spans).chain(new_rows).collect();
        let mut numbers = HashMap::default();
        for (id, _) in &edges {
            let next = numbers.len();
            numbers.entry(*id).or_insert(next);
        }
        let came = rings(&parents(came, &numbers));
        let mut rings = rings(&parents(edges.into_iter(), &numbers));
        let mut is_new: HashMap<usize, bool> = HashMap::default();
        for (ring, came) in rings.iter().zip(&came) {
            if let Some(ring) = ring {
                *is_new.entry(*ring).or_default() |= came.is_none();
            }
        }
        for ring in &mut rings {
            *ring = ring.filter(|ring| is_new.get(ring) == Some(&true));
        }
        Self { numbers, rings }
    }

    /// Edges of this part that lie on a ring: how each gives way, and its place.
    fn knots(
        &self,
        sent: &Sent,
        app: &[AppSpan],
        line: &Line,
        ids: &[SpanId],
    ) -> Vec<(Way, usize)> {
        let apps = app.iter().zip(&line.app_parents).enumerate().skip(sent.spans().len());
        let apps = apps.filter(|(_, (span, parent))| self.is_on_ring(span.id, **parent)).map(
            |(place, (span, parent))| {
                (if span.parent == *parent { Way::Cut } else { Way::Restore }, place)
            },
        );
        let rows = ids.iter().zip(&line.found_parents).zip(&line.kept).enumerate();
        let rows = rows
            .filter(|(_, ((id, parent), kept))| **kept && self.is_on_ring(**id, **parent))
            .map(|(place, _)| (Way::Uproot, place));
        apps.chain(rows).collect()
    }

    fn is_on_ring(&self, id: SpanId, parent: Option<SpanId>) -> bool {
        let ring = |id: SpanId| self.rings.get(*self.numbers.get(&id)?).copied().flatten();
        ring(id).is_some() && parent.and_then(ring) == ring(id)
    }
}

fn parents(
    edges: impl Iterator<Item = (SpanId, Option<SpanId>)>,
    numbers: &HashMap<SpanId, usize>,
) -> Vec<Vec<usize>> {
    let mut parents = vec![Vec::new(); numbers.len()];
    let mut known = HashSet::default();
    for (id, parent) in edges {
        let parent = parent.and_then(|parent| numbers.get(&parent));
        if let (Some(number), Some(parent)) = (numbers.get(&id), parent)
            && known.insert((*number, *parent))
            && let Some(own) = parents.get_mut(*number)
        {
            own.push(*parent);
        }
    }
    parents
}
