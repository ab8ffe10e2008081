//! Rule W6: calls that carry no header: databases, caches, DNS, plain HTTP.

use std::cell::{Cell, OnceCell};

use super::{
    Evidence,
    clock::Clocks,
    instance::Instances,
    interval::{Interval, Nanoseconds},
    row::{Parent, Row},
    tree::{Rule, Tree},
};

/// How far a call may stick out of the span that makes it.
const COVER_NS: Nanoseconds = 300_000;
/// Spans to weigh, for all calls of a trace together: 50,000 spans of one process with a thousand calls would take seconds.
/// Beyond, calls hang below the span that answers their server, which is above the right one; those without a server stay
/// where the backend has them.
const WEIGHED_MAX: usize = 4_000_000;

/// Hangs calls without header below the span, or else the row, that was at work (DeepFlow contract, rule W6).
pub(super) fn weave(evidence: &Evidence<'_>, clocks: &Clocks, tree: &mut Tree) {
    let left = Cell::new(WEIGHED_MAX);
    let search = Search { evidence, clocks, tree, instances: OnceCell::new(), left };
    let heads = evidence.calls.iter().map(|(_, call)| call.head);
    let parents: Vec<_> = heads.filter_map(|head| Some((head, search.parent(head)?))).collect();
    for (head, parent) in parents {
        tree.hang_row(head, parent, Rule::Headerless);
    }
}

struct Search<'e, 'a> {
    evidence: &'e Evidence<'a>,
    clocks: &'e Clocks,
    tree: &'e Tree,
    /// Put together if a call asks for it.
    instances: OnceCell<Instances>,
    /// Of [`WEIGHED_MAX`].
    left: Cell<usize>,
}

impl Search<'_, '_> {
    fn parent(&self, head: usize) -> Option<Parent> {
        match self.tree.row(head) {
            None => self.parent_of_headless(head),
            Some((Parent::Row(tail), Rule::Hop)) if self.is_between_groups(head, tail) => {
                Some(self.below_server(tail, head))
            }
            Some(_) => None,
        }
    }

    /// Rule W2 joined the two by a thread or an X-Request-ID, not by a header. So it was no proxy that passed a request
    /// on if a received span answers the first: that span made the second.
    fn is_between_groups(&self, head: usize, tail: usize) -> bool {
        let [behind, before] =
            [head, tail].map(|row| self.evidence.calls.call(self.evidence.calls.of_row(row)).group);
        (behind.is_none() || behind != before) && !self.tree.apps_below(tail).is_empty()
    }

    /// What the thread was answering; else what its other calls hang below; else what the backend says; else whoever
    /// of the same instance was at work.
    fn parent_of_headless(&self, head: usize) -> Option<Parent> {
        self.evidence
            .threads
            .server(head)
            .map(|server| self.below_server(server, head))
            .or_else(|| self.beside_neighbour(head))
            .or_else(|| self.below_backend_server(head))
            .or_else(|| self.in_instance(head))
    }

    /// Below the spans that answer the server's call, else below the server itself.
    fn below_server(&self, server: usize, head: usize) -> Parent {
        let answers = self.tree.apps_below(server);
        let spans = answers.iter().flat_map(|&answer| self.evidence.apps.local_tree(answer));
        self.smallest_cover(spans, head)
            .or_else(|| answers.iter().copied().min())
            .map_or(Parent::Row(server), Parent::App)
    }

    /// The thread's server was not seen, but another call of the thread has found its place.
    fn beside_neighbour(&self, head: usize) -> Option<Parent> {
        let below_app = |mate: usize| match self.tree.row(mate)?.0 {
            Parent::App(app) => Some(app),
            _ => None,
        };
        let below_row = |mate: usize| match self.tree.row(mate)? {
            (Parent::Row(row), Rule::Hop) if self.evidence.rows.is_inside(head, row) => Some(row),
            _ => None,
        };
        if let Some(app) = self.nearest_mate(head, below_app) {
            let root = self.evidence.apps.local_root(app);
            let spans = self.evidence.apps.local_tree(root);
            let cover = self.smallest_cover(spans, head);
            return Some(Parent::App(cover.unwrap_or(root)));
        }
        self.nearest_mate(head, below_row).map(|row| self.below_server(row, head))
    }

    /// What `wanted` says of the client row of the same thread that starts nearest, of those of which it says anything.
    fn nearest_mate(&self, head: usize, wanted: impl Fn(usize) -> Option<usize>) -> Option<usize> {
        let rows = &self.evidence.rows;
        let start = rows.row(head).time.start;
        let mates = self.evidence.threads.mates(head).iter().copied();
        mates
            .filter(|&mate| mate != head && rows.row(mate).is_client_process())
            .filter_map(|mate| {
                Some(((rows.row(mate).time.start - start).abs(), mate, wanted(mate)?))
            })
            .min()
            .map(|(_, _, parent)| parent)
    }

    fn below_backend_server(&self, head: usize) -> Option<Parent> {
        match self.evidence.rows.row(head).parent {
            Parent::Row(server) if !self.evidence.rows.row(server).is_client_side() => {
                Some(self.below_server(server, head))
            }
            _ => None,
        }
    }

    /// With no edge at all: the smallest span around it of a process that was seen as the call's own instance.
    fn in_instance(&self, head: usize) -> Option<Parent> {
        let row = self.evidence.rows.row(head);
        if row.parent != Parent::Root || !row.is_client_side() {
            return None;
        }
        let instances = self.instances.get_or_init(|| Instances::new(self.evidence, self.clocks));
        self.smallest_cover(instances.spans(row.span.instance_id), head).map(Parent::App)
    }

    /// The shortest of the spans that cover a row; `None` also when not all of them could be weighed.
    fn smallest_cover(&self, spans: impl Iterator<Item = usize>, head: usize) -> Option<usize> {
        let row = self.evidence.rows.row(head);
        let left = self.left.get();
        let mut weighed = 0;
        let covers = |&app: &usize| row.time.is_inside(self.time(app, row), COVER_NS);
        let spans = spans.take(left).inspect(|_| weighed += 1).filter(covers);
        let cover = spans.min_by_key(|&app| (self.evidence.apps.node(app).time.length(), app));
        self.left.set(left - weighed);
        cover.filter(|_| weighed < left)
    }

    fn time(&self, app: usize, row: &Row<'_>) -> Interval {
        self.clocks.time(self.evidence, app, row)
    }
}
