//! Joins process sets and network sets at their ends, strongest evidence first, in the steps of the service.

use std::collections::HashMap;

use super::{
    Signal,
    network::NetworkSet,
    node::{APP, Forest, Node, X_REQUEST},
};

/// The loose ends.
pub(super) struct Ends {
    /// Tops of process sets.
    pub process_roots: Vec<usize>,
    /// Spans of process sets that have no child inside them.
    pub process_leaves: Vec<usize>,
    /// Last rows of network sets.
    pub network_leaves: Vec<usize>,
    /// First rows of network sets.
    pub network_roots: Vec<usize>,
}

impl Ends {
    /// The ends of these sets.
    pub(super) fn new(
        (process_roots, process_leaves): (Vec<usize>, Vec<usize>),
        sets: &[NetworkSet],
    ) -> Self {
        Self {
            process_roots,
            process_leaves,
            network_leaves: sets.iter().filter_map(|set| set.spans.last().copied()).collect(),
            network_roots: sets.iter().filter_map(|set| set.spans.first().copied()).collect(),
        }
    }

    /// Hangs every end that finds its other half.
    pub(super) fn join(&self, forest: &mut Forest) {
        self.requests_below_processes(forest);
        self.processes_below_requests(forest);
        self.processes_below_processes(forest);
        self.app_spans_below_app_spans(forest);
        self.requests_below_requests(forest);
    }

    /// Step 1: head of a request below the process that sent it.
    fn requests_below_processes(&self, forest: &mut Forest) {
        for &parent in &self.process_leaves {
            // A call is one request.
            if forest.row(parent).point.starts_with('c')
                && !forest.nodes[parent].children.is_empty()
            {
                continue;
            }
            for child in related(forest, parent, APP) {
                let (above, below) = (&forest.nodes[parent], &forest.nodes[child]);
                let fits = below.is_network_root && is_free(forest, parent, child);
                let same_id =
                    !above.row.span_id.is_empty() && above.row.span_id == below.row.span_id;
                if fits && same_id && (is_app(above) || takes_longer(above, below, false)) {
                    forest.hang(child, parent);
                }
            }
        }
    }

    /// Step 2: a process below the request that reached it.
    fn processes_below_requests(&self, forest: &mut Forest) {
        // The service compares with what step 1 looked at last, so the tail that is also the last process leaf is
        // left out: with only a server's spans posted they end below the `c-p` (contract section 4, a3).
        let stale = self.process_leaves.last().copied();
        for &parent in &self.network_leaves {
            if forest.row(parent).point.starts_with('s')
                && !forest.nodes[parent].children.is_empty()
            {
                continue;
            }
            if stale == Some(parent) {
                continue;
            }
            for child in related(forest, parent, APP) {
                let (above, below) = (&forest.nodes[parent], &forest.nodes[child]);
                if !below.is_process_root || !is_free(forest, parent, child) {
                    continue;
                }
                let fits = is_app(below) || takes_longer(above, below, true);
                if fits && is_called_by(above, below) {
                    forest.hang(child, parent);
                }
            }
        }
    }

    /// Step 3: a process below another, nothing seen between them.
    fn processes_below_processes(&self, forest: &mut Forest) {
        for &parent in &self.process_leaves {
            for child in related(forest, parent, APP) {
                let (above, below) = (&forest.nodes[parent], &forest.nodes[child]);
                if !below.is_process_root || !is_free(forest, parent, child) {
                    continue;
                }
                let fits = is_app(above) || is_app(below) || takes_longer(above, below, true);
                if fits && is_called_by(above, below) {
                    forest.hang(child, parent);
                }
            }
        }
    }

    /// Step 4: app spans below app spans of another process.
    fn app_spans_below_app_spans(&self, forest: &mut Forest) {
        for &child in &self.process_roots {
            for parent in related(forest, child, APP) {
                let (above, below) = (&forest.nodes[parent], &forest.nodes[child]);
                let named = !below.row.parent_span_id.is_empty()
                    && below.row.parent_span_id == above.row.span_id;
                if is_app(above) && named && above.covers(below) && is_free(forest, parent, child) {
                    forest.hang(child, parent);
                }
            }
        }
    }

    /// Step 5: a request below another that passed it on. Of several the shortest that is long enough.
    fn requests_below_requests(&self, forest: &mut Forest) {
        let mut parents: HashMap<usize, usize> = HashMap::new();
        let mut found: Vec<usize> = Vec::new();
        for &parent in &self.network_leaves {
            for child in related(forest, parent, APP | X_REQUEST) {
                let (above, below) = (&forest.nodes[parent], &forest.nodes[child]);
                let fits = below.is_network_root && is_free(forest, parent, child);
                let begins_before = above.row.agent_id != below.row.agent_id
                    || above.row.start_us <= below.row.start_us;
                let longer = above.row.duration_us() >= below.row.duration_us();
                if !(fits && (is_app(below) || begins_before) && passed_on(above, below) && longer)
                {
                    continue;
                }
                let known = parents.get(&child).copied();
                let better = known
                    .is_none_or(|known| forest.row(known).duration_us() > above.row.duration_us());
                if known.is_none() {
                    found.push(child);
                }
                if better {
                    parents.insert(child, parent);
                }
            }
            self.same_stream(forest, parent);
        }
        for child in found {
            forest.hang(child, parents[&child]);
        }
    }

    /// Frames of one HTTP/2 stream, known by its number.
    fn same_stream(&self, forest: &mut Forest, parent: usize) {
        let above = forest.row(parent);
        let Some(stream) =
            above.request_id.filter(|id| *id != 0 && matches!(above.protocol, 21 | 41))
        else {
            return;
        };
        for &child in &self.network_roots {
            let (above, below) = (forest.row(parent), forest.row(child));
            let same = below.request_id == Some(stream) && below.protocol == above.protocol;
            let fits = below.duration_us() <= above.duration_us();
            if child != parent && same && fits && is_free(forest, parent, child) {
                forest.hang(child, parent);
            }
        }
    }
}

fn related(forest: &Forest, index: usize, relation: u8) -> Vec<usize> {
    let relatives = forest.related[index].iter();
    relatives.filter(|(_, relations)| relations & relation != 0).map(|(other, _)| *other).collect()
}

fn is_free(forest: &Forest, parent: usize, child: usize) -> bool {
    forest.nodes[child].parent.is_none() && !forest.same_set(parent, child)
}

fn is_app(node: &Node) -> bool {
    node.row.signal == Signal::Otel
}

/// Long enough to contain the other; by one host's clock it also has to lie around it.
fn takes_longer(above: &Node, below: &Node, lost_counts: bool) -> bool {
    let same_host = above.row.agent_id == below.row.agent_id;
    let no_measure =
        if lost_counts { above.row.duration_us() == 0 } else { below.row.duration_us() == 0 };
    (!same_host || above.covers(below))
        && (no_measure || above.row.duration_us() >= below.row.duration_us())
}

/// Rows below rows carry the same span id; app spans name their caller's.
fn is_called_by(above: &Node, below: &Node) -> bool {
    if above.row.span_id.is_empty() {
        return false;
    }
    let id = if is_app(below) { &below.row.parent_span_id } else { &below.row.span_id };
    *id == above.row.span_id
}

fn passed_on(above: &Node, below: &Node) -> bool {
    let same = |one: &str, other: &str| !one.is_empty() && one == other;
    let ([above_in, above_out], [below_in, below_out]) =
        (&above.row.x_request_ids, &below.row.x_request_ids);
    same(above_out, below_in)
        || same(above_in, below_in)
        || same(above_out, below_out)
        || same(&above.row.span_id, &below.row.span_id)
}
