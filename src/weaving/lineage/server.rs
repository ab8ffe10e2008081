//! Rule W4: which span answered which call.

use std::collections::BTreeMap;

use foldhash::HashSet;

use super::{
    Evidence, Few,
    clock::Clocks,
    interval::{Interval, Nanoseconds, TOLERANCE_NS},
    row::Row,
    tree::{Rule, Tree},
};
use crate::trace::{SpanId, SpanKind};

/// A call and its answer start at most so far apart.
const APART_NS_MAX: Nanoseconds = 3_000_000_000;
/// A span longer than the call it answers is so much worse than one that starts late.
const OVERLONG: Nanoseconds = 10;
/// Pairs to weigh against each other, per span id. Real groups have a few; beyond, only neighbours in time are paired.
const PAIRS_MAX: usize = 1_000_000;
/// So many neighbours.
const NEIGHBOURS: usize = 64;

/// Hangs SERVER and CONSUMER spans below the calls they answer (DeepFlow contract, rule W4).
pub(super) fn weave(evidence: &Evidence<'_>, clocks: &Clocks, tree: &mut Tree) {
    let groups = Groups::new(evidence, tree);
    for group in groups.0.values() {
        pair(evidence, clocks, group, tree);
        hang_leftovers(evidence, clocks, group, tree);
    }
    trust_backend(evidence, clocks, tree);
}

/// By the span id of the caller: who may have answered, and what there was to answer.
pub(super) struct Groups(BTreeMap<SpanId, Group>);

#[derive(Default)]
struct Group {
    /// SERVER and CONSUMER spans whose parent is the caller.
    apps: Few,
    /// Last rows of calls that nobody passed on.
    tails: Few,
    /// Last rows of calls that somebody passed on.
    passed_on: Few,
}

impl Groups {
    pub(super) fn new(evidence: &Evidence<'_>, tree: &Tree) -> Self {
        let mut groups = BTreeMap::<_, Group>::new();
        for (app, node) in evidence.apps.nodes() {
            if let (Some(caller), true, false) =
                (node.parent, node.kind.is_callee(), node.is_looped)
            {
                groups.entry(caller).or_default().apps.push(app);
            }
        }
        let is_passed_on = passed_on(evidence, tree);
        for group in evidence.calls.groups() {
            let Some(answers) = group.span_id.and_then(|id| groups.get_mut(&id)) else {
                continue;
            };
            for &call in &group.calls {
                let tail = evidence.calls.call(call).tail;
                if is_passed_on[call] {
                    answers.passed_on.push(tail);
                } else {
                    answers.tails.push(tail);
                }
            }
        }
        Self(groups)
    }

    /// SERVER spans and the rows they certainly answer: there is only one of each.
    pub(super) fn certain(&self, evidence: &Evidence<'_>) -> impl Iterator<Item = (usize, usize)> {
        self.0.values().filter_map(|group| match (&group.apps[..], &group.tails[..]) {
            (&[app], &[tail]) => {
                let row = evidence.rows.row(tail);
                let kind = evidence.apps.node(app).kind;
                let is_certain =
                    kind == SpanKind::Server && !row.is_client_side() && is_answerable(kind, row);
                is_certain.then_some((app, tail))
            }
            _ => None,
        })
    }
}

/// Call → whether a call of the same group hangs below it.
fn passed_on(evidence: &Evidence<'_>, tree: &Tree) -> Vec<bool> {
    let mut passed_on = vec![false; evidence.calls.len()];
    for (_, call) in evidence.calls.iter() {
        if let Some(front) = tree.front(evidence, call.head)
            && call.group.is_some()
            && evidence.calls.call(front).group == call.group
        {
            passed_on[front] = true;
        }
    }
    passed_on
}

/// One to one, the cheapest pair first.
fn pair(evidence: &Evidence<'_>, clocks: &Clocks, group: &Group, tree: &mut Tree) {
    let is_one_of_each = group.apps.len() == 1 && group.tails.len() == 1;
    let mut pairs = Vec::new();
    let tails = Near::new(evidence, &group.tails, group.apps.len());
    for &app in &group.apps {
        for tail in tails.of(evidence, clocks, app) {
            let row = evidence.rows.row(tail);
            let time = clocks.time(evidence, app, row);
            let node = evidence.apps.node(app);
            let contradicts =
                !row.is_client_side() && clocks.contradicts(node.process, row.span.instance_id);
            if fits(node.kind, time, row) && (is_one_of_each || !contradicts) {
                pairs.push((cost(time, row), app, tail));
            }
        }
    }
    pairs.sort_unstable();
    let mut taken = HashSet::default();
    for (_, app, tail) in pairs {
        if tree.app(app).is_none() && taken.insert(tail) {
            tree.hang_app(app, tail, Rule::Server);
        }
    }
}

/// The rows that a span is weighed against: all, or in a group too big for that those that start about when it does.
struct Near {
    /// All of them, or those of each agent, by their start.
    lists: Vec<Few>,
    is_all: bool,
}

impl Near {
    fn new(evidence: &Evidence<'_>, rows: &Few, apps: usize) -> Self {
        if apps.saturating_mul(rows.len()) <= PAIRS_MAX {
            return Self { lists: vec![rows.clone()], is_all: true };
        }
        let mut of_agent = BTreeMap::<_, Few>::new();
        for &row in rows {
            of_agent.entry(evidence.rows.row(row).agent).or_default().push(row);
        }
        let mut lists: Vec<_> = of_agent.into_values().collect();
        for rows in &mut lists {
            rows.sort_unstable_by_key(|&row| (evidence.rows.row(row).time.start, row));
        }
        Self { lists, is_all: false }
    }

    fn of<'n>(
        &'n self,
        evidence: &'n Evidence<'_>,
        clocks: &'n Clocks,
        app: usize,
    ) -> impl Iterator<Item = usize> + 'n {
        let near = move |rows: &'n Few| self.near(evidence, clocks, app, rows);
        self.lists.iter().flat_map(near).copied()
    }

    fn near<'n>(
        &self,
        evidence: &Evidence<'_>,
        clocks: &Clocks,
        app: usize,
        rows: &'n [usize],
    ) -> &'n [usize] {
        // By one agent's clock a span has one time.
        let Some(&row) = rows.first().filter(|_| !self.is_all) else { return rows };
        let start = clocks.time(evidence, app, evidence.rows.row(row)).start;
        let later = rows.partition_point(|&row| evidence.rows.row(row).time.start < start);
        let last = rows.len().saturating_sub(NEIGHBOURS);
        let first = later.saturating_sub(NEIGHBOURS / 2).min(last);
        &rows[first..rows.len().min(first + NEIGHBOURS)]
    }
}

/// Spans left over that lie inside a call that was passed on: the last part of the way was not seen.
fn hang_leftovers(evidence: &Evidence<'_>, clocks: &Clocks, group: &Group, tree: &mut Tree) {
    let passed_on = Near::new(evidence, &group.passed_on, group.apps.len());
    for &app in &group.apps {
        let node = evidence.apps.node(app);
        if tree.app(app).is_some() || node.kind != SpanKind::Server {
            continue;
        }
        let is_around = |&tail: &usize| {
            let row = evidence.rows.row(tail);
            let time = clocks.time(evidence, app, row);
            fits(node.kind, time, row) && time.is_inside(row.reach, TOLERANCE_NS)
        };
        let around = passed_on.of(evidence, clocks, app).filter(is_around);
        if let Some(tail) =
            around.min_by_key(|&tail| (evidence.rows.row(tail).reach.length(), tail))
        {
            tree.hang_app(app, tail, Rule::Server);
        }
    }
}

/// Where the backend itself hung a span that found no call: v6.4 does, and its own copies of spans show it.
fn trust_backend(evidence: &Evidence<'_>, clocks: &Clocks, tree: &mut Tree) {
    for &(app, place) in &evidence.rows.app_edges {
        let (node, row) = (evidence.apps.node(app), evidence.rows.row(place));
        let is_open = node.kind.is_callee() && !node.is_looped && tree.app(app).is_none();
        let is_named = node.parent.is_none() || node.parent == evidence.calls.span_id(place);
        if is_open
            && is_named
            && !row.is_client_side()
            && fits(node.kind, clocks.time(evidence, app, row), row)
        {
            tree.hang_app(app, place, Rule::Server);
        }
    }
}

/// The limits on time and protocol.
fn fits(kind: SpanKind, time: Interval, row: &Row<'_>) -> bool {
    let apart = (time.start - row.time.start).abs();
    let is_near = apart <= APART_NS_MAX;
    is_near
        && is_answerable(kind, row)
        && (kind != SpanKind::Consumer || time.is_inside(row.time, 0))
}

/// Databases, queues and DNS are not answered by SERVER spans.
fn is_answerable(kind: SpanKind, row: &Row<'_>) -> bool {
    kind != SpanKind::Server || !(60..=121).contains(&row.span.protocol)
}

fn cost(time: Interval, row: &Row<'_>) -> Nanoseconds {
    let apart = (time.start - row.time.start).abs() + (time.end - row.time.end).abs();
    let overlong = (time.length() - row.time.length()).max(0);
    if row.has_response() { apart + OVERLONG * overlong } else { apart }
}
