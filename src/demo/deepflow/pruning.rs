//! Leaves out trees that have nothing to do with what was posted.

use std::collections::{HashMap, HashSet};

use super::{network::CLOCK_OFFSET_US, node::Forest};

/// What one tree spans.
#[derive(Debug)]
struct Extent {
    start_us: i64,
    end_us: i64,
    trace_ids: HashSet<String>,
}

/// The spans of `order` whose tree overlaps in time with that of `first`, or shares a trace id with it.
pub(super) fn pruned(forest: &Forest, order: Vec<usize>, first: usize) -> Vec<usize> {
    if !order.contains(&first) {
        return order;
    }
    let mut extents: HashMap<usize, Extent> = HashMap::new();
    let roots: HashMap<usize, usize> =
        order.iter().map(|&span| (span, root_of(forest, span))).collect();
    for &span in &order {
        let row = forest.row(span);
        let extent = extents.entry(roots[&span]).or_insert_with(|| Extent {
            start_us: row.start_us,
            end_us: row.end_us,
            trace_ids: HashSet::new(),
        });
        extent.start_us = extent.start_us.min(row.start_us);
        extent.end_us = extent.end_us.max(row.end_us);
        extent.trace_ids.extend(row.trace_ids().map(str::to_owned));
    }
    let posted = &extents[&roots[&first]];
    let mut order = order;
    order.retain(|span| belongs(&extents[&roots[span]], posted));
    order
}

fn belongs(tree: &Extent, posted: &Extent) -> bool {
    let overlaps = tree.start_us.saturating_sub(CLOCK_OFFSET_US) <= posted.end_us
        && posted.start_us.saturating_sub(CLOCK_OFFSET_US) <= tree.end_us;
    overlaps || !tree.trace_ids.is_disjoint(&posted.trace_ids)
}

fn root_of(forest: &Forest, span: usize) -> usize {
    let mut root = span;
    while let Some(parent) = forest.nodes[root].parent {
        root = parent;
    }
    root
}
