//! Rule W7: what no other rule knew.

use super::{
    Evidence,
    tree::{Rule, Tree},
};

/// Keeps the backend's own edges for what has no parent yet (DeepFlow contract, rule W7).
pub(super) fn weave(evidence: &Evidence<'_>, tree: &mut Tree) {
    for (place, row) in evidence.rows.iter() {
        if tree.row(place).is_none() {
            tree.hang_row(place, row.parent, Rule::Backend);
        }
    }
}
