//! Cycles: of parents as they came, and of parents as the rules made them.

use std::iter;

use foldhash::HashMap;

use super::{
    Evidence,
    lists::Lists,
    row::Parent,
    tree::{Rule, Tree},
};

/// Gives up edges of the rules until none of them is on a cycle, the least certain first (DeepFlow contract, rule W7).
/// Received spans fall back to the parent they came with, found spans to what the backend says, then to no parent.
pub(super) fn cut(evidence: &Evidence<'_>, tree: &mut Tree) {
    loop {
        let edges = edges_in_loops(evidence, tree);
        let mut weakest = HashMap::default();
        for &(ring, _, rule) in &edges {
            let rule_of_ring = weakest.entry(ring).or_insert(rule);
            *rule_of_ring = rule.max(*rule_of_ring);
        }
        if edges.is_empty() {
            return;
        }
        for (ring, child, rule) in edges {
            if weakest[&ring] == rule {
                give_up(evidence, tree, child, rule);
            }
        }
    }
}

/// (ring, child, rule) of all edges of the rules that lie on a cycle. Children are numbered as in `parents`.
fn edges_in_loops(evidence: &Evidence<'_>, tree: &Tree) -> Vec<(usize, usize, Rule)> {
    let parents = parents(evidence, tree);
    let rings = loops(&parents);
    let edges = (0..parents.len()).filter_map(|child| {
        let ring = rings[child]?;
        let rule = rule(evidence, tree, child)?;
        parents
            .of(child)
            .iter()
            .any(|&parent| rings[parent] == Some(ring))
            .then_some((ring, child, rule))
    });
    edges.collect()
}

/// Parents of all spans: first the received ones, then the found ones. A received span that a rule has hung anew
/// has also the parents of those of its copies that were not.
fn parents(evidence: &Evidence<'_>, tree: &Tree) -> Lists {
    let apps = evidence.apps.len();
    let mut parents = Lists::default();
    for (app, node) in evidence.apps.nodes() {
        match tree.app(app) {
            Some((row, _)) => {
                parents.push(node.parents_of_others.iter().copied().chain([apps + row]));
            }
            None => parents.push(node.parents.iter().copied()),
        }
    }
    for row in 0..evidence.rows.len() {
        parents.push(match tree.row(row) {
            Some((Parent::Row(above), _)) => Some(apps + above),
            Some((Parent::App(app), _)) => Some(app),
            _ => None,
        });
    }
    parents
}

/// The rule that made a span's edge; `None` for an edge that came with the span.
fn rule(evidence: &Evidence<'_>, tree: &Tree, child: usize) -> Option<Rule> {
    match child.checked_sub(evidence.apps.len()) {
        None => tree.app(child).map(|(_, rule)| rule),
        Some(row) => tree.row(row).map(|(_, rule)| rule),
    }
}

fn give_up(evidence: &Evidence<'_>, tree: &mut Tree, child: usize, rule: Rule) {
    match child.checked_sub(evidence.apps.len()) {
        None => tree.restore_app(child),
        Some(row) if matches!(rule, Rule::Call | Rule::Backend) => {
            tree.hang_row(row, Parent::Root, Rule::Backend);
        }
        Some(row) => tree.hang_row(row, evidence.rows.row(row).parent, Rule::Backend),
    }
}

/// The first place of each cycle in a table of single parents.
pub(super) fn firsts(parents: &[Option<usize>]) -> Vec<usize> {
    // Place → where the first way up that met it began, from 1.
    let mut met = vec![0; parents.len()];
    let mut firsts = Vec::new();
    for start in 0..parents.len() {
        let mut next = Some(start);
        while let Some(place) = next.filter(|&place| met[place] == 0) {
            met[place] = start + 1;
            next = parents[place];
        }
        // This way came back to itself.
        if let Some(entry) = next.filter(|&place| met[place] == start + 1) {
            let above = |&place: &usize| parents[place].filter(|&above| above != entry);
            firsts.extend(iter::successors(Some(entry), above).min());
        }
    }
    firsts
}

/// Place → the ring it is on: places from which one can go up and come back, numbered. `None` off all rings.
pub(super) fn loops(parents: &Lists) -> Vec<Option<usize>> {
    if is_forest(parents) {
        return vec![None; parents.len()];
    }
    let mut walk = Walk::new(parents);
    for place in 0..parents.len() {
        walk.start(place);
    }
    walk.rings
}

/// Each place has one parent at most, and no way up comes back: so it nearly always is, and that is seen quickly.
fn is_forest(parents: &Lists) -> bool {
    // Place → where the first way up that met it began, from 1.
    let mut met = vec![0; parents.len()];
    for start in 0..parents.len() {
        let mut next = Some(start);
        while let Some(place) = next.filter(|&place| met[place] == 0) {
            met[place] = start + 1;
            next = match parents.of(place) {
                [] => None,
                [parent] => Some(*parent),
                _ => return false,
            };
        }
        if next.is_some_and(|place| met[place] == start + 1) {
            return false;
        }
    }
    true
}

/// Tarjan's strongly connected components, with a stack of its own: chains may be as long as a trace.
struct Walk<'p> {
    parents: &'p Lists,
    /// Place → when it was first met, from 1.
    met: Vec<usize>,
    /// Place → the earliest met place that it can reach.
    reach: Vec<usize>,
    /// Met, but of no component yet.
    open: Vec<usize>,
    is_open: Vec<bool>,
    /// The way up to where the walk is: place, and how many of its parents were tried.
    way: Vec<(usize, usize)>,
    clock: usize,
    rings: Vec<Option<usize>>,
}

impl<'p> Walk<'p> {
    fn new(parents: &'p Lists) -> Self {
        let len = parents.len();
        Self {
            parents,
            met: vec![0; len],
            reach: vec![0; len],
            open: Vec::new(),
            is_open: vec![false; len],
            way: Vec::new(),
            clock: 0,
            rings: vec![None; len],
        }
    }

    fn start(&mut self, place: usize) {
        if self.met[place] == 0 {
            self.meet(place);
        }
        while let Some((place, tried)) = self.way.last().copied() {
            match self.parents.of(place).get(tried) {
                Some(&parent) => self.step(place, parent),
                None => self.leave(place),
            }
        }
    }

    fn meet(&mut self, place: usize) {
        self.clock += 1;
        self.met[place] = self.clock;
        self.reach[place] = self.clock;
        self.open.push(place);
        self.is_open[place] = true;
        self.way.push((place, 0));
    }

    fn step(&mut self, place: usize, parent: usize) {
        if let Some((_, tried)) = self.way.last_mut() {
            *tried += 1;
        }
        if self.met[parent] == 0 {
            self.meet(parent);
        } else if self.is_open[parent] {
            self.reach[place] = self.reach[place].min(self.met[parent]);
        }
    }

    fn leave(&mut self, place: usize) {
        self.way.pop();
        if let Some(&(below, _)) = self.way.last() {
            self.reach[below] = self.reach[below].min(self.reach[place]);
        }
        if self.reach[place] == self.met[place] {
            self.close(place);
        }
    }

    /// What was met since `place` is one component; a ring, unless it is a single place that is not its own parent.
    fn close(&mut self, place: usize) {
        let begin = self.open.iter().rposition(|&open| open == place).unwrap_or(0);
        let is_ring = self.open.len() - begin > 1 || self.parents.of(place).contains(&place);
        for member in self.open.drain(begin..) {
            self.is_open[member] = false;
            self.rings[member] = is_ring.then_some(place);
        }
    }
}
