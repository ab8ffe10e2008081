//! How far the clocks of applications are from those of agents.

use std::collections::BTreeSet;

use super::{
    Evidence,
    call::Group,
    interval::{Interval, Nanoseconds},
    row::{Parent, Row},
    server,
    tree::Tree,
};
use crate::trace::{ObservationPoint, SpanKind};

/// Per process, what its clock is ahead of its agent's, and which instances it was seen as.
///
/// A call's middle is the same for the span that makes it, for its rows and for the span that answers it. So the
/// middles of a span and of a row that certainly belong together tell the difference; the median of all such pairs
/// of a process is taken.
pub(super) struct Clocks {
    of_process: Vec<Option<Nanoseconds>>,
    /// For processes without a pair: the median of those seen by the same agent.
    of_agent: Vec<Option<Nanoseconds>>,
    /// Process → the instances it was seen as.
    instances: Vec<BTreeSet<u64>>,
}

/// Evidence by process and by agent, as it is collected.
struct Pairs {
    /// Process → twice the distances of the middles: halves would be lost.
    apart_doubled: Vec<Vec<Nanoseconds>>,
    /// Agent → the processes it has seen.
    processes: Vec<BTreeSet<usize>>,
    instances: Vec<BTreeSet<u64>>,
}

impl Clocks {
    /// From the edges of W3, and from calls that only one SERVER span can have answered.
    pub(super) fn new(evidence: &Evidence<'_>, tree: &Tree) -> Self {
        let mut pairs = Pairs::new(evidence);
        for group in evidence.calls.groups() {
            pairs.extend(evidence, caller(evidence, tree, group));
        }
        pairs.extend(evidence, server::Groups::new(evidence, tree).certain(evidence));
        let of_process: Vec<_> = pairs
            .apart_doubled
            .into_iter()
            .map(|apart| median(apart).map(|doubled| doubled / 2))
            .collect();
        let of_agent = |seen: &BTreeSet<usize>| {
            median(seen.iter().filter_map(|&process| of_process[process]).collect())
        };
        Self {
            of_agent: pairs.processes.iter().map(of_agent).collect(),
            of_process,
            instances: pairs.instances,
        }
    }

    /// A received span's times by the clock of the agent that saw a row.
    pub(super) fn time(&self, evidence: &Evidence<'_>, app: usize, row: &Row<'_>) -> Interval {
        let node = evidence.apps.node(app);
        node.time - self.of_process[node.process].or(self.of_agent[row.agent]).unwrap_or(0)
    }

    /// Each instance with each process that was seen as it.
    pub(super) fn seen(&self) -> impl Iterator<Item = (u64, usize)> {
        let of_process = self.instances.iter().enumerate();
        of_process.flat_map(|(process, instances)| instances.iter().map(move |&one| (one, process)))
    }

    /// The process was seen as this instance.
    fn confirms(&self, process: usize, instance_id: u64) -> bool {
        instance_id != 0 && self.instances[process].contains(&instance_id)
    }

    /// The process was seen as other instances, and never as this one.
    pub(super) fn contradicts(&self, process: usize, instance_id: u64) -> bool {
        instance_id != 0
            && !self.instances[process].is_empty()
            && !self.confirms(process, instance_id)
    }
}

impl Pairs {
    fn new(evidence: &Evidence<'_>) -> Self {
        let processes = evidence.apps.nodes().map(|(_, node)| node.process + 1).max().unwrap_or(0);
        let agents = evidence.rows.iter().map(|(_, row)| row.agent + 1).max().unwrap_or(0);
        Self {
            apart_doubled: vec![Vec::new(); processes],
            processes: vec![BTreeSet::new(); agents],
            instances: vec![BTreeSet::new(); processes],
        }
    }

    /// Takes in spans and rows that show the same thing.
    fn extend(&mut self, evidence: &Evidence<'_>, pairs: impl IntoIterator<Item = (usize, usize)>) {
        for (app, row) in pairs {
            let (node, row) = (evidence.apps.node(app), evidence.rows.row(row));
            if row.is_session() {
                self.apart_doubled[node.process].push(node.time.middles_apart_doubled(row.time));
                self.processes[row.agent].insert(node.process);
            }
            if row.span.instance_id != 0 {
                self.instances[node.process].insert(row.span.instance_id);
            }
        }
    }
}

/// A CLIENT span and the head of its only call.
fn caller(evidence: &Evidence<'_>, tree: &Tree, group: &Group) -> Option<(usize, usize)> {
    let app = group.app.filter(|&app| evidence.apps.node(app).kind == SpanKind::Client)?;
    let heads = group.calls.iter().map(|&call| evidence.calls.call(call).head);
    let mut own =
        heads.filter(|&head| tree.row(head).is_some_and(|(parent, _)| parent == Parent::App(app)));
    let head = own.next().filter(|_| own.next().is_none())?;
    let is_near = matches!(
        evidence.rows.row(head).span.point,
        ObservationPoint::ClientProcess | ObservationPoint::ClientNic
    );
    is_near.then_some((app, head))
}

/// `None` of none; of an even number the mean of the two in the middle.
fn median(mut numbers: Vec<Nanoseconds>) -> Option<Nanoseconds> {
    numbers.sort_unstable();
    let upper = *numbers.get(numbers.len() / 2)?;
    let lower = *numbers.get((numbers.len() - 1) / 2)?;
    Some(lower.midpoint(upper))
}
