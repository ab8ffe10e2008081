//! Rule W3: the span id in a request's header is the caller's.

use super::{
    Evidence,
    row::Parent,
    tree::{Rule, Tree},
};

/// Hangs calls below the spans whose ids they carry (DeepFlow contract, rule W3).
///
/// A span that we do not hold is taken as well if a received span names it: it may still come, and what the backend
/// says instead is a guess.
pub(super) fn weave(evidence: &Evidence<'_>, tree: &mut Tree) {
    for group in evidence.calls.groups() {
        let absent = group.span_id.filter(|&id| evidence.apps.is_absent_parent(id));
        let Some(parent) = group.app.map(Parent::App).or_else(|| absent.map(Parent::Absent)) else {
            continue;
        };
        for &call in &group.calls {
            let head = evidence.calls.call(call).head;
            if tree.row(head).is_none() {
                tree.hang_row(head, parent, Rule::Header);
            }
        }
    }
}
