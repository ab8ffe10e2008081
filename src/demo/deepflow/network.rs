//! Network sets: one request as it was seen on its way, from the client's process to the server's.

use std::collections::HashMap;

use super::{
    Row, Signal,
    node::{Forest, NETWORK},
};
use crate::trace::Exchange;

/// Clocks of two hosts may differ by this (`host_clock_offset_us` of the service).
pub(super) const CLOCK_OFFSET_US: i64 = 10_000;

/// Observation points in the order a request passes them; contract section 5.
const POINTS: [&str; 14] = [
    "c-p", "c", "c-nd", "c-hv", "c-gw-hv", "c-gw", "s-gw", "s-gw-hv", "s-hv", "s-nd", "s", "s-p",
    "rest", "local",
];

/// One request, from head to tail.
#[derive(Debug)]
pub(super) struct NetworkSet {
    /// Its rows in the order they hang below each other.
    pub spans: Vec<usize>,
    /// Span id of its header.
    pub span_id: String,
}

impl NetworkSet {
    /// All network sets of the forest, each hung together.
    pub(super) fn unite(forest: &mut Forest, network_delay_us: i64) -> Vec<Self> {
        let mut rows: Vec<usize> = (0..forest.nodes.len())
            .filter(|&index| forest.row(index).signal != Signal::Otel)
            .collect();
        rows.sort_by_key(|&index| {
            let row = forest.row(index);
            (
                std::cmp::Reverse(row.exchange_number()),
                row.signal == Signal::Ebpf,
                row.point == "c-p",
            )
        });

        let mut sets: Vec<Self> = Vec::new();
        for index in rows {
            if forest.nodes[index].network_set.is_none() {
                sets.push(Self::gather(forest, index, sets.len(), network_delay_us));
            }
        }
        for set in &mut sets {
            set.sort(forest);
            set.hang(forest, network_delay_us);
        }
        sets
    }

    fn gather(forest: &mut Forest, first: usize, number: usize, network_delay_us: i64) -> Self {
        let mut spans = vec![first];
        let relatives = forest.related[first].iter().filter(|(other, relations)| {
            relations & NETWORK != 0
                && forest.nodes[*other].network_set.is_none()
                && same_exchange(forest.row(first), forest.row(*other), network_delay_us)
        });
        spans.extend(relatives.map(|(other, _)| *other));
        for &span in &spans {
            forest.nodes[span].network_set = Some(number);
        }
        let mut span_ids = spans.iter().map(|&span| &forest.row(span).span_id);
        let span_id = span_ids.find(|id| !id.is_empty()).cloned().unwrap_or_default();
        Self { spans, span_id }
    }

    /// Processes are at the ends; between them first the agent of the client's end, last that of the server's.
    fn sort(&mut self, forest: &mut Forest) {
        self.spans
            .sort_by_key(|&span| (rank(&forest.row(span).point), forest.row(span).point.clone()));
        let agent_at = |points: [&str; 3], span: &usize| {
            let row = forest.row(*span);
            points.contains(&&*row.point).then_some(row.agent_id)
        };
        let ingress = self.spans.iter().find_map(|span| agent_at(["c-p", "c", "c-nd"], span));
        let egress = self.spans.iter().rev().find_map(|span| agent_at(["s-p", "s", "s-nd"], span));
        let agent_rank = |row: &Row| match Some(row.agent_id) {
            agent if agent == ingress => 0,
            agent if agent == egress => 2,
            _ => 1,
        };
        let place = |row: &Row| match &*row.point {
            "c-p" => 0,
            "s-p" => 2,
            _ => 1,
        };
        self.spans.sort_by_key(|&span| {
            let row = forest.row(span);
            (place(row), agent_rank(row), -row.duration_us(), row.start_us, -row.end_us)
        });
        if ingress == egress {
            self.let_server_side_follow(forest, |row| agent_rank(row) != 0);
        }
        if let Some(&head) = self.spans.first() {
            forest.nodes[head].is_network_root = true;
        }
    }

    /// Client and server on one host, but other hosts between them: the server's side goes behind these.
    fn let_server_side_follow(&mut self, forest: &Forest, is_elsewhere: impl Fn(&Row) -> bool) {
        let is_server_side = |span: &usize| forest.row(*span).point.starts_with('s');
        let Some(first) = self.spans.iter().position(is_server_side) else { return };
        let elsewhere = self.spans[first..].iter().position(|&span| is_elsewhere(forest.row(span)));
        if let Some(distance) = elsewhere {
            self.spans[first..].rotate_left(distance);
        }
    }

    fn hang(&self, forest: &mut Forest, network_delay_us: i64) {
        for pair in self.spans.windows(2) {
            let (parent, child) = (forest.row(pair[0]), forest.row(pair[1]));
            let deviation_us = network_delay_us.saturating_add(CLOCK_OFFSET_US);
            if parent.agent_id != child.agent_id && !overlap(parent, child, deviation_us) {
                continue;
            }
            // Two of the same kind of process in one set are a mistake of the agent, not a path.
            let both_processes = parent.signal == Signal::Ebpf && child.signal == Signal::Ebpf;
            if both_processes && !(parent.point == "c-p" && child.point == "s-p") {
                continue;
            }
            forest.hang(pair[1], pair[0]);
        }
    }
}

/// The span id of the network set of each row.
pub(super) fn span_ids(sets: &[NetworkSet]) -> HashMap<usize, &str> {
    let spans = |set: &'_ NetworkSet| set.spans.clone();
    sets.iter()
        .flat_map(|set| spans(set).into_iter().map(|span| (span, set.span_id.as_str())))
        .collect()
}

/// Both sequence numbers agree, as far as both rows have them, at about the same time, and nothing contradicts.
pub(super) fn same_exchange(one: &Row, other: &Row, network_delay_us: i64) -> bool {
    let clocks_us = if one.agent_id == other.agent_id { 0 } else { CLOCK_OFFSET_US };
    let deviation_us = network_delay_us.saturating_add(clocks_us);
    let near = |one: i64, other: i64| one.abs_diff(other) <= deviation_us.unsigned_abs();
    let requests = one.tcp_seqs[0] == other.tcp_seqs[0] && near(one.start_us, other.start_us);
    let responses = one.tcp_seqs[1] == other.tcp_seqs[1] && near(one.end_us, other.end_us);
    let exchanges = [one.exchange, other.exchange];
    let same = match exchanges {
        [Exchange::Session, Exchange::Session] => requests && responses,
        _ if !exchanges.contains(&Exchange::Response) => requests,
        _ if !exchanges.contains(&Exchange::Request) => responses,
        _ => false,
    };
    same && !contradict(one, other)
}

fn contradict(one: &Row, other: &Row) -> bool {
    if one.trace_ids().next().is_some() && other.trace_ids().next().is_some() {
        let same_trace = one.trace_ids().any(|id| other.trace_ids().any(|known| known == id));
        return !same_trace || one.span_id != other.span_id;
    }
    let differ = |one: &str, other: &str| !one.is_empty() && !other.is_empty() && one != other;
    let is_http2 = |row: &Row| matches!(row.protocol, 21 | 41);
    if is_http2(one) != is_http2(other) || (!is_http2(one) && one.protocol != other.protocol) {
        return true;
    }
    differ(&one.x_request_ids[0], &other.x_request_ids[0])
        || differ(&one.x_request_ids[1], &other.x_request_ids[1])
        || differ(&one.request_type, &other.request_type)
        || differ(&one.request_resource, &other.request_resource)
        || differ(&one.endpoint, &other.endpoint)
}

fn overlap(one: &Row, other: &Row, deviation_us: i64) -> bool {
    one.start_us.saturating_sub(deviation_us) <= other.end_us
        && other.start_us.saturating_sub(deviation_us) <= one.end_us
}

fn rank(point: &str) -> usize {
    POINTS.iter().position(|known| *known == point).unwrap_or(POINTS.len()).min(12)
}
