//! Who called whom: the parents of found spans, and the new parents of received ones (DeepFlow contract, section 6).
//!
//! The backend is trusted inside a call, i.e. for one request seen at several points. What lies between calls is
//! decided here, by rules of decreasing certainty. Read `lineage` below for their order, then one file each.
//!
//! Pure and total: the same evidence gives the same tree, in whatever order it came, and no input is refused.
#![allow(
    clippy::indexing_slicing,
    reason = "indices here are places in tables that Evidence made, or are checked there"
)]

mod app;
mod call;
mod clock;
mod cycle;
mod header;
mod headerless;
mod hop;
mod instance;
mod interval;
mod lists;
mod rest;
mod root;
mod row;
mod server;
mod thread;
mod tree;

use std::cell::LazyCell;

use smallvec::SmallVec;

use self::{app::Apps, call::Calls, clock::Clocks, row::Rows, thread::Threads, tree::Tree};
use crate::trace::{AppSpan, Found, SpanId};

/// The parents of all spans of an enriched trace (DeepFlow contract, section 6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// The parent of each received span, in the order given: a found span's id, or as it came.
    pub app_parents: Vec<Option<SpanId>>,
    /// The parent of each found span, in the order given.
    pub found_parents: Vec<Option<SpanId>>,
    /// The number of the call (rule W1) of each found span, in the order given.
    pub calls: Vec<usize>,
    /// By that number: the call's header has the id of a span that nobody is and nobody names.
    pub is_unclaimed: Vec<bool>,
}

/// Weaves found spans and received spans into one tree (DeepFlow contract, rules W1 to W7).
///
/// `ids[i]` is the span id given to `found.spans[i]`; all of them differ from each other and from those of `app`.
/// No cycle and no absent parent is made that the received spans did not have; received spans in cycles keep their
/// parents.
pub fn lineage(app: &[AppSpan], found: &Found, ids: &[SpanId]) -> Lineage {
    let evidence = Evidence::new(app, found, ids);
    let mut tree = Tree::new(&evidence);
    hop::weave(&evidence, &mut tree);
    header::weave(&evidence, &mut tree);
    let clocks = Clocks::new(&evidence, &tree);
    server::weave(&evidence, &clocks, &mut tree);
    let heirs = root::weave(&evidence, &clocks, &mut tree);
    headerless::weave(&evidence, &clocks, &mut tree);
    rest::weave(&evidence, &mut tree);
    cycle::cut(&evidence, &mut tree);
    root::bequeath(&heirs, &mut tree);
    tree.lineage(&evidence, app, ids)
}

/// Place → the ring it is on: places from which one can go up and come back, numbered. `None` off all rings.
pub(super) fn rings(parents: &[Vec<usize>]) -> Vec<Option<usize>> {
    let mut all = lists::Lists::default();
    for parents in parents {
        all.push(parents.iter().copied());
    }
    cycle::loops(&all)
}

/// Places, mostly none or one: of children, parents, calls of a thread.
type Few = SmallVec<[usize; 2]>;

/// All that is known before the first decision.
struct Evidence<'a> {
    rows: Rows<'a>,
    apps: Apps,
    calls: Calls,
    threads: Threads,
}

impl<'a> Evidence<'a> {
    fn new(app: &[AppSpan], found: &'a Found, ids: &[SpanId]) -> Self {
        let order = row::in_order(found);
        let places = row::places(&order);
        let place_of = || ids.iter().copied().zip(places.iter().copied()).collect();
        // Only spans that were woven before hang below found ones, as they come.
        let apps = Apps::new(app, &LazyCell::new(place_of));
        let rows = Rows::new(found, &order, places, &apps);
        let calls = Calls::new(&rows, &apps);
        let threads = Threads::new(&rows, &calls);
        Self { rows, apps, calls, threads }
    }
}

#[cfg(test)]
mod tests;
