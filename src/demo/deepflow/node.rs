//! [`Forest`]: the rows of one answer in order of their start, who is related to whom, and who hangs below whom.

use std::{
    collections::{BTreeSet, HashMap, HashSet, btree_set},
    hash::Hash,
};

use super::{Row, Signal, correction::Correction};
use crate::trace::Exchange;

/// Rows that share a TCP sequence number.
pub(super) const NETWORK: u8 = 1;
/// Rows that share an `X-Request-ID`.
pub(super) const X_REQUEST: u8 = 2;
/// Rows that share a thread of system calls.
pub(super) const SYSCALL: u8 = 4;
/// Spans that share a span id, or one names the other as parent.
pub(super) const APP: u8 = 8;

/// One span of the answer.
#[derive(Debug)]
pub(super) struct Node {
    /// What was seen; after a merge what the rows saw together.
    pub row: Row,
    /// The `_id` of every row behind it, the request's first.
    pub ids: Vec<u64>,
    /// What it hangs below.
    pub parent: Option<usize>,
    /// What hangs below it, in the order it was hung there.
    pub children: Vec<usize>,
    /// Its process set.
    pub process_set: Option<usize>,
    /// Its network set.
    pub network_set: Option<usize>,
    /// Top of its process set.
    pub is_process_root: bool,
    /// Head of its network set.
    pub is_network_root: bool,
}

/// All spans of one answer; a node's index is its place in the order of start times.
#[derive(Debug)]
pub(super) struct Forest {
    /// The spans.
    pub nodes: Vec<Node>,
    /// For each span its relatives and by what they are related.
    pub related: Vec<Vec<(usize, u8)>>,
    /// Clock differences, learnt from every edge between two agents.
    pub correction: Correction,
}

impl Forest {
    /// Rows in order, halves of one exchange merged, relations known, no edges yet.
    pub(super) fn new(mut rows: Vec<Row>) -> Self {
        rows.sort_by_key(|row| row.start_us);
        let mut nodes: Vec<Node> = Vec::with_capacity(rows.len());
        for row in rows {
            if !merge_response(&mut nodes, &row) {
                nodes.push(Node::new(row));
            }
        }
        let related = relations(&nodes);
        Self { nodes, related, correction: Correction::default() }
    }

    /// Hangs `child` below `parent`; an earlier parent is forgotten.
    pub(super) fn hang(&mut self, child: usize, parent: usize) {
        self.correction.learn(&self.nodes[child].row, &self.nodes[parent].row);
        if let Some(former) = self.nodes[child].parent {
            self.nodes[former].children.retain(|&other| other != child);
        }
        self.nodes[child].parent = Some(parent);
        self.nodes[parent].children.push(child);
    }

    /// What this span is in this answer.
    pub(super) fn row(&self, index: usize) -> &Row {
        &self.nodes[index].row
    }

    /// The two belong to one process or one network set, so no rule between sets may join them.
    pub(super) fn same_set(&self, one: usize, other: usize) -> bool {
        let (one, other) = (&self.nodes[one], &self.nodes[other]);
        let same = |one: Option<usize>, other| one.is_some() && one == other;
        same(one.network_set, other.network_set) || same(one.process_set, other.process_set)
    }

    /// Depth first, the latest first. Spans of a ring have no root and are lost, as in the service.
    pub(super) fn order(&self) -> Vec<usize> {
        let roots = (0..self.nodes.len()).filter(|&index| self.nodes[index].parent.is_none());
        let mut stack: Vec<usize> = roots.collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(index) = stack.pop() {
            order.push(index);
            stack.extend(&self.nodes[index].children);
        }
        order
    }
}

impl Node {
    fn new(row: Row) -> Self {
        Self {
            ids: vec![row.id],
            row,
            parent: None,
            children: Vec::new(),
            process_set: None,
            network_set: None,
            is_process_root: false,
            is_network_root: false,
        }
    }

    /// Seen in the client's process.
    pub(super) fn is_client_process(&self) -> bool {
        self.row.point == "c-p"
    }

    /// Seen in the server's process.
    pub(super) fn is_server_process(&self) -> bool {
        self.row.point == "s-p"
    }

    /// Its time contains the other's.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.row.start_us <= other.row.start_us && self.row.end_us >= other.row.end_us
    }
}

/// A response row is taken into the last request row of the same connection and agent.
fn merge_response(nodes: &mut [Node], row: &Row) -> bool {
    if row.exchange != Exchange::Response || row.is_async {
        return false;
    }
    let same_stream = |node: &&mut Node| {
        let other = &node.row;
        other.exchange == Exchange::Request
            && !other.is_async
            && other.agent_id == row.agent_id
            && other.flow_id == row.flow_id
            && other.request_id == row.request_id
            && other.protocol == row.protocol
            && (row.signal != Signal::Ebpf || other.capture_seqs[0] + 1 == row.capture_seqs[1])
    };
    let Some(request) = nodes.iter_mut().rev().find(same_stream) else {
        return false;
    };
    request.ids.push(row.id);
    let merged = &mut request.row;
    merged.exchange = Exchange::Session;
    merged.end_us = merged.end_us.max(row.end_us);
    merged.tcp_seqs[1] = row.tcp_seqs[1];
    merged.capture_seqs[1] = row.capture_seqs[1];
    merged.response_code = merged.response_code.or(row.response_code);
    if merged.syscall_ids[1] == 0 {
        merged.syscall_ids[1] = row.syscall_ids[1];
    }
    // A value that is there stays: so the status of the request row, "timeout", survives (contract section 5).
    if merged.response_status == 0 {
        merged.response_status = row.response_status;
    }
    for (kept, other) in [
        (&mut merged.response_exception, &row.response_exception),
        (&mut merged.x_request_ids[1], &row.x_request_ids[1]),
        (&mut merged.trace_id, &row.trace_id),
        (&mut merged.span_id, &row.span_id),
    ] {
        if kept.is_empty() {
            kept.clone_from(other);
        }
    }
    true
}

fn relations(nodes: &[Node]) -> Vec<Vec<(usize, u8)>> {
    let requests =
        grouped(nodes, |row| (row.exchange != Exchange::Response).then(|| row.tcp_seqs[0]));
    let responses =
        grouped(nodes, |row| (row.exchange != Exchange::Request).then(|| row.tcp_seqs[1]));
    let spans = grouped(nodes, |row| [row.span_id.clone(), row.parent_span_id.clone()]);
    let x_requests = grouped(nodes, |row| row.x_request_ids.clone());
    let syscalls = grouped(nodes, |row| row.syscall_ids);

    let mut related = vec![Vec::new(); nodes.len()];
    for (index, list) in related.iter_mut().enumerate() {
        let row = &nodes[index].row;
        for other in
            peers(&requests, &[row.tcp_seqs[0]]).chain(peers(&responses, &[row.tcp_seqs[1]]))
        {
            note(list, index, other, NETWORK, share_segment(row, &nodes[other].row));
        }
        let span_ids = [row.span_id.clone(), row.parent_span_id.clone()];
        for other in peers(&spans, &span_ids) {
            note(list, index, other, APP, share_span(row, &nodes[other].row));
        }
        for other in peers(&x_requests, &row.x_request_ids) {
            note(list, index, other, X_REQUEST, share_x_request(row, &nodes[other].row));
        }
        for other in peers(&syscalls, &row.syscall_ids) {
            note(list, index, other, SYSCALL, share_syscall(row, &nodes[other].row));
        }
    }
    related
}

/// Rows by a value they carry; the value that means "none" is left out.
fn grouped<V, L>(nodes: &[Node], values: impl Fn(&Row) -> L) -> HashMap<V, Vec<usize>>
where
    V: Default + Eq + Hash,
    L: IntoIterator<Item = V>,
{
    let mut groups: HashMap<V, Vec<usize>> = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        let values: HashSet<V> = values(&node.row).into_iter().collect();
        for value in values.into_iter().filter(|value| *value != V::default()) {
            groups.entry(value).or_default().push(index);
        }
    }
    groups
}

fn peers<V>(groups: &HashMap<V, Vec<usize>>, values: &[V]) -> btree_set::IntoIter<usize>
where
    V: Eq + Hash,
{
    let found = values.iter().filter_map(|value| groups.get(value));
    found.flatten().copied().collect::<BTreeSet<_>>().into_iter()
}

fn note(list: &mut Vec<(usize, u8)>, index: usize, other: usize, relation: u8, holds: bool) {
    if index == other || !holds {
        return;
    }
    match list.iter_mut().find(|(known, _)| *known == other) {
        Some((_, relations)) => *relations |= relation,
        None => list.push((other, relation)),
    }
}

fn share_segment(one: &Row, other: &Row) -> bool {
    one.signal != Signal::Otel && other.signal != Signal::Otel
}

fn share_span(one: &Row, other: &Row) -> bool {
    if one.span_id.is_empty()
        || !one.trace_ids().any(|id| other.trace_ids().any(|known| known == id))
    {
        return false;
    }
    one.span_id == other.span_id
        || one.span_id == other.parent_span_id
        || (!one.parent_span_id.is_empty() && one.parent_span_id == other.span_id)
}

/// What went in with the response of one is what came in with the request of the other: a gateway lies between.
fn share_x_request(one: &Row, other: &Row) -> bool {
    let crossed = |one: &String, other: &String| !one.is_empty() && one == other;
    crossed(&one.x_request_ids[0], &other.x_request_ids[1])
        || crossed(&one.x_request_ids[1], &other.x_request_ids[0])
}

fn share_syscall(one: &Row, other: &Row) -> bool {
    let passes_through = |row: &Row| row.syscall_ids[0] != row.syscall_ids[1];
    let both_servers = one.point == "s-p" && other.point == "s-p";
    one.agent_id == other.agent_id
        && passes_through(one)
        && passes_through(other)
        && !both_servers
        && one.syscall_ids.iter().any(|id| *id != 0 && other.syscall_ids.contains(id))
}
