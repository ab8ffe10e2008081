//! The edges decided so far, each with the rule that made it.

use super::{Evidence, Few, Lineage, row::Parent};
use crate::trace::{AppSpan, SpanId};

/// Which rule made an edge, from the most to the least certain. When edges go round, the least certain ones give way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rule {
    /// W1: inside a call.
    Call,
    /// W2: a request passed on.
    Hop,
    /// W3: the span id in the header.
    Header,
    /// W4: a call and the span that answers it.
    Server,
    /// W5: a local root and the call it answers.
    Root,
    /// W6: a call without header.
    Headerless,
    /// W7: what the backend says.
    Backend,
}

/// New parents, by places of spans.
pub(super) struct Tree {
    rows: Vec<Option<(Parent, Rule)>>,
    apps: Vec<Option<(usize, Rule)>>,
    /// Row → the received spans that were hung below it.
    apps_below: Vec<Few>,
}

impl Tree {
    /// Only the edges inside calls.
    pub(super) fn new(evidence: &Evidence<'_>) -> Self {
        let above = (0..evidence.rows.len()).map(|row| evidence.calls.above(row));
        Self {
            rows: above.map(|above| above.map(|above| (Parent::Row(above), Rule::Call))).collect(),
            apps: vec![None; evidence.apps.len()],
            apps_below: vec![Few::new(); evidence.rows.len()],
        }
    }

    /// What a found span hangs below; `None` as long as no rule knew.
    pub(super) fn row(&self, row: usize) -> Option<(Parent, Rule)> {
        self.rows[row]
    }

    /// The found span that a received span was hung below.
    pub(super) fn app(&self, app: usize) -> Option<(usize, Rule)> {
        self.apps[app]
    }

    pub(super) fn apps_below(&self, row: usize) -> &[usize] {
        &self.apps_below[row]
    }

    /// The call that a call passes on (rule W2).
    pub(super) fn front(&self, evidence: &Evidence<'_>, head: usize) -> Option<usize> {
        match self.rows[head] {
            Some((Parent::Row(row), Rule::Hop)) => Some(evidence.calls.of_row(row)),
            _ => None,
        }
    }

    pub(super) fn hang_row(&mut self, row: usize, parent: Parent, rule: Rule) {
        self.rows[row] = Some((parent, rule));
    }

    pub(super) fn hang_app(&mut self, app: usize, row: usize, rule: Rule) {
        self.apps[app] = Some((row, rule));
        self.apps_below[row].push(app);
    }

    /// A received span keeps the parent it came with.
    pub(super) fn restore_app(&mut self, app: usize) {
        self.apps[app] = None;
    }

    /// The tree in span ids. Copies of a received span are woven alike.
    pub(super) fn lineage(
        &self,
        evidence: &Evidence<'_>,
        app: &[AppSpan],
        ids: &[SpanId],
    ) -> Lineage {
        let rows = evidence.rows.original_order();
        // Indexed by place, so that `Parent::Row` can be looked up.
        let mut id_of_row = vec![None; rows.len()];
        for (&row, &id) in rows.iter().zip(ids) {
            id_of_row[row] = Some(id);
        }
        let new_parent = |span: &AppSpan| {
            let place = evidence.apps.place(span.id)?;
            let (row, _) = self.apps[place]?;
            (evidence.apps.node(place).parent == span.parent).then_some(id_of_row[row]?)
        };
        let parent = |row: usize| match self.rows[row]?.0 {
            Parent::Root => None,
            Parent::Row(above) => id_of_row[above],
            Parent::App(app) => Some(evidence.apps.node(app).id),
            Parent::Absent(id) => Some(id),
        };
        Lineage {
            app_parents: app.iter().map(|span| new_parent(span).or(span.parent)).collect(),
            found_parents: rows.iter().map(|&row| parent(row)).collect(),
            calls: rows.iter().map(|&row| evidence.calls.of_row(row)).collect(),
            is_unclaimed: (0..evidence.calls.len())
                .map(|call| is_unclaimed(evidence, call))
                .collect(),
        }
    }
}

fn is_unclaimed(evidence: &Evidence<'_>, call: usize) -> bool {
    let group = evidence.calls.group_of(call);
    group.is_some_and(|group| {
        group.app.is_none() && group.span_id.is_some_and(|id| !evidence.apps.is_absent_parent(id))
    })
}
