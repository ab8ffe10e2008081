//! Received spans as a tree: one node per span id.

use std::cell::{LazyCell, OnceCell};

use foldhash::{HashMap, HashSet};

use super::{Few, cycle, interval::Interval, lists::Lists};
use crate::trace::{AppSpan, SpanId, SpanKind};

/// All received spans, ordered by span id.
pub(super) struct Apps {
    nodes: Vec<Node>,
    places: HashMap<SpanId, usize>,
    children: Vec<Few>,
    /// See [`Self::local_root`]; worked out once, if somebody asks.
    local_roots: OnceCell<Vec<usize>>,
    /// Parents that some span names and nobody is.
    absent: HashSet<SpanId>,
}

/// Found spans' places by id, put together only if somebody asks.
type Places<F> = LazyCell<HashMap<SpanId, usize>, F>;

/// The spans that share an id. The earliest speaks for its copies.
pub(super) struct Node {
    pub(super) id: SpanId,
    pub(super) parent: Option<SpanId>,
    pub(super) kind: SpanKind,
    /// Processes are numbered from 0 without gaps.
    pub(super) process: usize,
    pub(super) time: Interval,
    /// On a cycle of parents as it came.
    pub(super) is_looped: bool,
    /// The parents that are here, of all copies: places of received spans, then, for spans that were woven before,
    /// places of found ones, which are counted on from there.
    pub(super) parents: Few,
    /// The same, of the copies that name another parent than the earliest.
    pub(super) parents_of_others: Few,
}

impl Apps {
    pub(super) fn new(
        spans: &[AppSpan],
        found: &Places<impl FnOnce() -> HashMap<SpanId, usize>>,
    ) -> Self {
        let nodes = nodes(spans);
        let places = nodes.iter().enumerate().map(|(place, node)| (node.id, place)).collect();
        let mut apps = Self {
            children: vec![Few::new(); nodes.len()],
            nodes,
            places,
            local_roots: OnceCell::new(),
            absent: HashSet::default(),
        };
        apps.join(spans, found);
        apps.mark_loops();
        apps
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn node(&self, place: usize) -> &Node {
        &self.nodes[place]
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate()
    }

    pub(super) fn place(&self, id: SpanId) -> Option<usize> {
        self.places.get(&id).copied()
    }

    /// Named as a parent by some span, but not here.
    pub(super) fn is_absent_parent(&self, id: SpanId) -> bool {
        self.absent.contains(&id)
    }

    /// The parent's place, if it is here.
    pub(super) fn parent(&self, place: usize) -> Option<usize> {
        self.place(self.nodes[place].parent?)
    }

    /// The topmost span of the same process above a span, itself perhaps. SERVER and CONSUMER are tops.
    pub(super) fn local_root(&self, place: usize) -> usize {
        self.local_roots.get_or_init(|| self.find_local_roots())[place]
    }

    fn find_local_roots(&self) -> Vec<usize> {
        let mut roots = vec![None; self.len()];
        let mut way = Vec::new();
        for start in 0..self.len() {
            let mut at = start;
            let root = loop {
                if let Some(root) = roots[at] {
                    break root;
                }
                // Until it is known: a way that comes back here has no top.
                roots[at] = Some(at);
                way.push(at);
                match self.parent(at) {
                    Some(parent) if self.is_local_step(parent, at) => at = parent,
                    _ => break at,
                }
            };
            for place in way.drain(..) {
                roots[place] = Some(root);
            }
        }
        roots.into_iter().flatten().collect()
    }

    /// A span and what hangs below it in the same process, not crossing SERVER and CONSUMER spans.
    pub(super) fn local_tree(&self, top: usize) -> impl Iterator<Item = usize> {
        let mut waiting = vec![top];
        std::iter::from_fn(move || {
            let next = waiting.pop()?;
            // A span has one parent here, so a loop can only lead back to the top.
            let below = self.children[next].iter().copied();
            waiting.extend(below.filter(|&child| child != top && self.is_local_step(next, child)));
            Some(next)
        })
    }

    fn is_local_step(&self, parent: usize, child: usize) -> bool {
        let [parent, child] = [parent, child].map(|place| &self.nodes[place]);
        !child.kind.is_callee() && parent.process == child.process
    }

    /// Fills in what needs all places: parents, children, absent parents.
    fn join(&mut self, spans: &[AppSpan], found: &Places<impl FnOnce() -> HashMap<SpanId, usize>>) {
        // Mostly there are none: then each span has one parent, and nothing to be compared.
        let has_copies = spans.len() > self.len();
        let mut known = HashSet::default();
        for span in spans {
            let (Some(child), Some(parent)) = (self.place(span.id), span.parent) else { continue };
            let woven_before = || found.get(&parent).map(|row| self.len() + row);
            let Some(place) = self.place(parent).or_else(woven_before) else {
                self.absent.insert(parent);
                continue;
            };
            if !has_copies || known.insert((child, place)) {
                self.nodes[child].add_parent(parent, place);
            }
        }
        for place in 0..self.len() {
            if let Some(parent) = self.parent(place) {
                self.children[parent].push(place);
            }
        }
    }

    fn mark_loops(&mut self) {
        let mut parents = Lists::default();
        for node in &self.nodes {
            parents.push(node.parents.iter().copied().filter(|&parent| parent < self.len()));
        }
        let loops = cycle::loops(&parents);
        for (node, in_loop) in self.nodes.iter_mut().zip(loops) {
            node.is_looped = in_loop.is_some();
        }
    }
}

fn nodes(spans: &[AppSpan]) -> Vec<Node> {
    let mut spans: Vec<_> = spans.iter().collect();
    spans.sort_by_key(|span| {
        (span.id, span.start_ns, span.end_ns, span.parent, span.kind.to_wire(), span.process)
    });
    spans.dedup_by_key(|span| span.id);
    let mut processes: Vec<_> = spans.iter().map(|span| span.process).collect();
    processes.sort_unstable();
    processes.dedup();
    let number = |span: &AppSpan| processes.partition_point(|process| *process < span.process);
    spans.into_iter().map(|span| Node::new(span, number(span))).collect()
}

impl Node {
    fn new(span: &AppSpan, process: usize) -> Self {
        Self {
            id: span.id,
            parent: span.parent,
            kind: span.kind,
            process,
            time: Interval::new(span.start_ns.into(), span.end_ns.into()),
            is_looped: false,
            parents: Few::new(),
            parents_of_others: Few::new(),
        }
    }

    /// One that it does not have yet.
    fn add_parent(&mut self, id: SpanId, place: usize) {
        self.parents.push(place);
        if self.parent != Some(id) {
            self.parents_of_others.push(place);
        }
    }
}
