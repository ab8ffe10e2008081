//! Rule W1: a call is one request, seen at several points.

use foldhash::HashMap;

use super::{
    Few,
    app::Apps,
    cycle,
    interval::Nanoseconds,
    lists::Lists,
    row::{Parent, Row, Rows},
};
use crate::trace::{FoundSpan, SpanId};

/// The calls of an answer, and the groups of those that carry the same span id.
pub(super) struct Calls {
    all: Vec<Call>,
    groups: Vec<Group>,
    /// Row → its call.
    of_row: Vec<usize>,
    /// Row → the row of the same call above it.
    above: Vec<Option<usize>>,
}

pub(super) struct Call {
    /// First and last row.
    pub(super) head: usize,
    pub(super) tail: usize,
    pub(super) length: Nanoseconds,
    /// The length of the time in which what it caused may lie.
    pub(super) reach: Nanoseconds,
    /// The calls with the same span id; `None` without one.
    pub(super) group: Option<usize>,
    pub(super) has_server_side: bool,
    /// Someone looked at the client's or the server's host; gateways are neither.
    pub(super) is_seen_at_client: bool,
    pub(super) is_seen_at_server: bool,
}

/// Calls whose header names the same span.
pub(super) struct Group {
    /// The shortest first.
    pub(super) calls: Few,
    /// `None` for an id of another tracer.
    pub(super) span_id: Option<SpanId>,
    /// The received span of that id.
    pub(super) app: Option<usize>,
}

impl Calls {
    pub(super) fn new(rows: &Rows<'_>, apps: &Apps) -> Self {
        let above = rows_above(rows);
        let members = members(&above);
        let mut of_row = vec![0; rows.len()];
        for (call, members) in members.iter().enumerate() {
            for &row in members {
                of_row[row] = call;
            }
        }
        let all = members.iter().map(|members| Call::new(members, rows)).collect();
        let mut calls = Self { all, groups: Vec::new(), of_row, above };
        calls.group(&members, rows, apps);
        calls
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn call(&self, call: usize) -> &Call {
        &self.all[call]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Call)> {
        self.all.iter().enumerate()
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    pub(super) fn group_of(&self, call: usize) -> Option<&Group> {
        self.all[call].group.map(|group| &self.groups[group])
    }

    /// The span id of a row's call.
    pub(super) fn span_id(&self, row: usize) -> Option<SpanId> {
        self.group_of(self.of_row[row])?.span_id
    }

    /// The call a row belongs to.
    pub(super) fn of_row(&self, row: usize) -> usize {
        self.of_row[row]
    }

    /// The row of the same call above a row; `None` for heads.
    pub(super) fn above(&self, row: usize) -> Option<usize> {
        self.above[row]
    }

    /// A call's span id is the first one among its rows.
    fn group(&mut self, members: &Lists, rows: &Rows<'_>, apps: &Apps) {
        let mut of_header = HashMap::default();
        for (call, members) in members.iter().enumerate() {
            let Some(header) = members.iter().find_map(|&row| header(rows.row(row).span)) else {
                continue;
            };
            let group = *of_header.entry(header).or_insert(self.groups.len());
            if group == self.groups.len() {
                self.groups.push(Group::new(header.0, apps));
            }
            self.groups[group].calls.push(call);
            self.all[call].group = Some(group);
        }
        for group in &mut self.groups {
            group.calls.sort_by_key(|&call| (self.all[call].reach, call));
        }
    }
}

impl Group {
    fn new(span_id: Option<SpanId>, apps: &Apps) -> Self {
        Self { calls: Few::new(), span_id, app: span_id.and_then(|id| apps.place(id)) }
    }
}

impl Call {
    fn new(members: &[usize], rows: &Rows<'_>) -> Self {
        let any = |is: fn(&Row<'_>) -> bool| members.iter().any(|&row| is(rows.row(row)));
        let is_host = |row: &Row<'_>| !row.span.point.is_gateway();
        Self {
            head: members.first().copied().unwrap_or(0),
            tail: members.last().copied().unwrap_or(0),
            length: members.iter().map(|&row| rows.row(row).time.length()).max().unwrap_or(0),
            reach: members.iter().map(|&row| rows.row(row).reach.length()).max().unwrap_or(0),
            group: None,
            has_server_side: any(|row| !row.is_client_side()),
            is_seen_at_client: members
                .iter()
                .map(|&row| rows.row(row))
                .any(|row| is_host(row) && row.is_client_side()),
            is_seen_at_server: members
                .iter()
                .map(|&row| rows.row(row))
                .any(|row| is_host(row) && !row.is_client_side()),
        }
    }
}

/// The span id in a row's header, or what another tracer put there.
fn header(span: &FoundSpan) -> Option<(Option<SpanId>, &str)> {
    let has_header = span.span_id.is_some() || !span.foreign_span_id.is_empty();
    has_header.then_some((span.span_id, &span.foreign_span_id))
}

/// What the backend hung a row below, where both are of one call. Cycles among these are opened at their first row.
fn rows_above(rows: &Rows<'_>) -> Vec<Option<usize>> {
    let mut above: Vec<_> = rows
        .iter()
        .map(|(_, row)| match row.parent {
            Parent::Row(parent) if is_same_call(row.span, rows.row(parent).span) => Some(parent),
            _ => None,
        })
        .collect();
    for first in cycle::firsts(&above) {
        above[first] = None;
    }
    above
}

/// Points of observation of one request see the same sequence numbers, proxies begin new ones.
fn is_same_call(row: &FoundSpan, other: &FoundSpan) -> bool {
    row.tcp_seqs.iter().zip(&other.tcp_seqs).any(|(seq, other)| seq == other && *seq != 0)
}

/// The rows of each call, from its head to a row as deep as any.
fn members(above: &[Option<usize>]) -> Lists {
    let mut below = vec![Few::new(); above.len()];
    for (row, above) in above.iter().enumerate() {
        if let Some(above) = *above {
            below[above].push(row);
        }
    }
    let (mut all, mut call) = (Lists::default(), Vec::new());
    for (head, _) in above.iter().enumerate().filter(|(_, above)| above.is_none()) {
        call.push(head);
        let mut next = 0;
        while let Some(&row) = call.get(next) {
            call.extend_from_slice(&below[row]);
            next += 1;
        }
        all.push(call.drain(..));
    }
    all
}
