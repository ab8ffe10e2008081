//! Rule W5: a process whose request carried no header begins a trace of its own; the thread of the calls it makes
//! leads back to the request.

use super::{
    Evidence,
    clock::Clocks,
    interval::TOLERANCE_NS,
    row::Parent,
    tree::{Rule, Tree},
};
use crate::trace::SpanId;

/// A row, and the absent parent that a received span named before it was hung below that row.
pub(super) struct Heir {
    row: usize,
    absent: SpanId,
}

/// Hangs local roots below the calls they answer (DeepFlow contract, rule W5).
pub(super) fn weave(evidence: &Evidence<'_>, clocks: &Clocks, tree: &mut Tree) -> Vec<Heir> {
    let mut heirs = Vec::new();
    for (root, server) in roots(evidence, clocks, tree) {
        if tree.app(root).is_none() {
            tree.hang_app(root, server, Rule::Root);
            heirs
                .extend(evidence.apps.node(root).parent.map(|absent| Heir { row: server, absent }));
        }
    }
    heirs
}

/// Hands absent parents on to the tops of what lies in front of the roots that named them, so that no link that an
/// SDK made is lost (DeepFlow contract, rule W5).
pub(super) fn bequeath(heirs: &[Heir], tree: &mut Tree) {
    for heir in heirs {
        let mut top = heir.row;
        while let Some(Parent::Row(above)) = tree.row(top).map(|(parent, _)| parent) {
            top = above;
        }
        if matches!(tree.row(top), None | Some((Parent::Root, _))) {
            tree.hang_row(top, Parent::Absent(heir.absent), Rule::Root);
        }
    }
}

/// Local roots and the server rows whose threads made their calls; the shortest server first.
fn roots(evidence: &Evidence<'_>, clocks: &Clocks, tree: &Tree) -> Vec<(usize, usize)> {
    let mut roots = Vec::new();
    for (_, call) in evidence.calls.iter() {
        let Some((Parent::App(caller), Rule::Header)) = tree.row(call.head) else {
            continue;
        };
        let Some(server) = evidence.threads.server(call.head) else {
            continue;
        };
        let root = evidence.apps.local_root(caller);
        if tree.apps_below(server).is_empty() && is_root_of(evidence, clocks, root, server) {
            roots.push((evidence.rows.row(server).reach.length(), root, server));
        }
    }
    roots.sort_unstable();
    roots.into_iter().map(|(_, root, server)| (root, server)).collect()
}

fn is_root_of(evidence: &Evidence<'_>, clocks: &Clocks, root: usize, server: usize) -> bool {
    let (node, row) = (evidence.apps.node(root), evidence.rows.row(server));
    let is_open = match node.parent {
        None => true,
        Some(parent) => node.kind.is_callee() && evidence.apps.is_absent_parent(parent),
    };
    let time = clocks.time(evidence, root, row);
    is_open
        && !node.is_looped
        && time.length() <= row.reach.length()
        && time.starts_inside(row.reach, TOLERANCE_NS)
}
