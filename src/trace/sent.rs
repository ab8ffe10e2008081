//! What went out of a trace already, for the parts of it that come later: no bytes, just who hangs below whom.

use std::collections::HashSet;

use super::{SpanId, SpanKind, SpanRef};

/// The received and added spans of all parts that went out.
///
/// Bounded: of more than [`Sent::SPANS_MAX`] received spans those are kept that are most likely named or answered by
/// others, i.e. roots and callers and callees, then parents of others, each the latest first. Of added spans that are
/// more than [`Sent::ROWS_MAX`] the rest is forgotten; then no part of the trace gets any, lest one goes out twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    spans: Vec<SentSpan>,
    rows: Vec<SentRow>,
    services: Vec<(u64, Box<str>)>,
    forgotten_rows: bool,
    is_ended: bool,
}

/// A received span that went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentSpan {
    /// Span id.
    pub id: SpanId,
    /// The parent it went out with.
    pub parent: Option<SpanId>,
    /// The parent it came with.
    pub original: Option<SpanId>,
    /// Span kind.
    pub kind: SpanKind,
    /// `parent` has been found wrong since.
    pub is_stale: bool,
    /// Begin in nanoseconds since 1970.
    pub start_ns: u64,
    /// End in nanoseconds since 1970.
    pub end_ns: u64,
    /// Hash of its process' resource.
    pub process: u64,
}

/// An added span that went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentRow {
    /// The row behind it.
    pub row: u64,
    /// Hash of the row's region.
    pub region: u64,
    /// The span id it was given.
    pub id: SpanId,
    /// The parent it went out with.
    pub parent: Option<SpanId>,
    /// `parent` has been found wrong since.
    pub is_stale: bool,
}

/// What remembering a part had to leave out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Received spans.
    pub spans: usize,
    /// Added spans.
    pub rows: usize,
}

/// Service names kept, and their length: those of more processes are the backend's.
const SERVICES_MAX: usize = 64;
const SERVICE_BYTES_MAX: usize = 128;

impl Sent {
    /// Received spans remembered of one trace.
    pub const SPANS_MAX: usize = 10_000;
    /// Added spans remembered of one trace.
    pub const ROWS_MAX: usize = 10_000;

    /// The received spans, in the order in which they went out.
    pub fn spans(&self) -> &[SentSpan] {
        &self.spans
    }

    /// The added spans, in the order in which they went out.
    pub fn rows(&self) -> &[SentRow] {
        &self.rows
    }

    /// Some added spans are not among [`Self::rows`].
    pub fn has_forgotten_rows(&self) -> bool {
        self.forgotten_rows
    }

    /// No part was to come any more when the last one went out: what comes now is late.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// The received spans as if they had no bytes, with the parents they came with.
    pub fn span_refs(&self) -> impl Iterator<Item = SpanRef> {
        self.spans.iter().map(|span| SpanRef {
            offset: 0,
            len: 0,
            resource: 0,
            id: span.id,
            parent: span.original,
            kind: span.kind,
            start_ns: span.start_ns,
            end_ns: span.end_ns,
        })
    }

    /// The `service.name` of a process.
    pub fn service(&self, process: u64) -> Option<&str> {
        let services = self.services.iter();
        services.filter(|(key, _)| *key == process).map(|(_, name)| &**name).next()
    }

    /// Remembers a part.
    pub fn add(&mut self, spans: Vec<SentSpan>, rows: Vec<SentRow>, is_last: bool) -> Forgotten {
        self.is_ended = is_last;
        append(&mut self.spans, spans);
        append(&mut self.rows, rows);
        let forgotten = Forgotten {
            spans: self.spans.len().saturating_sub(Self::SPANS_MAX),
            rows: self.rows.len().saturating_sub(Self::ROWS_MAX),
        };
        if forgotten.spans > 0 {
            self.keep_best_spans();
        }
        self.rows.truncate(Self::ROWS_MAX);
        self.forgotten_rows |= forgotten.rows > 0;
        self.spans.shrink_to_fit();
        self.rows.shrink_to_fit();
        forgotten
    }

    /// Remembers how a process calls itself.
    pub fn add_service(&mut self, process: u64, name: &str) {
        let is_room = self.services.len() < SERVICES_MAX && name.len() <= SERVICE_BYTES_MAX;
        if is_room && self.service(process).is_none() {
            self.services.push((process, name.into()));
        }
    }

    /// These spans and rows, by their places here, hang elsewhere than they should.
    pub fn mark_stale(&mut self, spans: &[usize], rows: &[usize]) {
        for &place in spans {
            if let Some(span) = self.spans.get_mut(place) {
                span.is_stale = true;
            }
        }
        for &place in rows {
            if let Some(row) = self.rows.get_mut(place) {
                row.is_stale = true;
            }
        }
    }

    /// These added spans did not go out after all, nor did received ones hang below them. No part of the trace gets any from now
    /// on: which rows would be theirs is not known any more.
    pub fn never_sent(&mut self, added: &[SpanId]) {
        let added: HashSet<SpanId> = added.iter().copied().collect();
        self.rows.retain(|row| !added.contains(&row.id));
        self.rows.shrink_to_fit();
        self.forgotten_rows = true;
        for span in &mut self.spans {
            if span.parent.is_some_and(|parent| added.contains(&parent)) {
                span.parent = span.original;
            }
        }
    }

    /// Memory this holds.
    pub fn bytes(&self) -> u64 {
        let services =
            self.services.iter().map(|(_, name)| name.len() + size_of::<(u64, Box<str>)>());
        let bytes = size_of::<Self>()
            + self.spans.capacity() * size_of::<SentSpan>()
            + self.rows.capacity() * size_of::<SentRow>()
            + services.sum::<usize>();
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    fn keep_best_spans(&mut self) {
        let parents: HashSet<SpanId> = self.spans.iter().filter_map(|span| span.original).collect();
        let rank = |span: &SentSpan| {
            let is_boundary = span.kind.is_caller() || span.kind.is_callee();
            match span.original {
                None => 0,
                Some(_) if is_boundary => 0,
                Some(_) if parents.contains(&span.id) => 1,
                Some(_) => 2,
            }
        };
        let mut spans: Vec<_> = self.spans.iter().copied().enumerate().collect();
        spans.sort_by_key(|(place, span)| (rank(span), std::cmp::Reverse(*place)));
        spans.truncate(Self::SPANS_MAX);
        spans.sort_unstable_by_key(|(place, _)| *place);
        self.spans = spans.into_iter().map(|(_, span)| span).collect();
    }
}

/// Mostly there is nothing before.
fn append<T>(all: &mut Vec<T>, new: Vec<T>) {
    if all.is_empty() {
        *all = new;
    } else {
        all.extend(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(number: u64, parent: u64, kind: SpanKind) -> SentSpan {
        let parent = SpanId::from_number(parent);
        SentSpan {
            id: SpanId::from_number(number).expect("not zero"),
            parent,
            original: parent,
            kind,
            is_stale: false,
            start_ns: 0,
            end_ns: 0,
            process: 0,
        }
    }

    fn row(number: u64) -> SentRow {
        let id = SpanId::from_number(number).expect("not zero");
        SentRow { row: number, region: 0, id, parent: None, is_stale: false }
    }

    #[test]
    fn of_too_many_spans_those_stay_that_others_may_hang_below() {
        let mut sent = Sent::default();
        let first = [
            span(1, 0, SpanKind::Internal),
            span(2, 1, SpanKind::Internal),
            span(3, 2, SpanKind::Client),
            span(4, 2, SpanKind::Internal),
        ];
        assert_eq!(sent.add(first.to_vec(), Vec::new(), false), Forgotten::default());
        let leaves = (10..10 + 10_000).map(|number| span(number, 2, SpanKind::Internal));
        let forgotten = sent.add(leaves.collect(), Vec::new(), true);
        assert_eq!(forgotten, Forgotten { spans: 4, rows: 0 });
        assert_eq!(sent.spans().len(), Sent::SPANS_MAX);
        assert_eq!(&sent.spans()[..3], &first[..3]);
        assert_eq!(sent.spans()[3], span(13, 2, SpanKind::Internal), "the latest leaves stay");
    }

    #[test]
    fn rows_that_are_forgotten_are_known_to_be() {
        let mut sent = Sent::default();
        sent.add(Vec::new(), (1..=10_000).map(row).collect(), false);
        assert!(!sent.has_forgotten_rows());
        assert_eq!(sent.add(Vec::new(), vec![row(10_001)], false).rows, 1);
        sent.add(Vec::new(), Vec::new(), true);
        assert!(sent.has_forgotten_rows() && sent.rows().len() == Sent::ROWS_MAX);
    }

    #[test]
    fn bytes_are_those_held() {
        let mut sent = Sent::default();
        let empty = sent.bytes();
        sent.add(vec![span(1, 0, SpanKind::Server)], vec![row(1)], true);
        sent.add_service(0, "shop");
        sent.add_service(0, "another");
        assert_eq!(sent.service(0), Some("shop"));
        let held = size_of::<SentSpan>() + size_of::<SentRow>() + size_of::<(u64, Box<str>)>() + 4;
        assert_eq!(sent.bytes(), empty + u64::try_from(held).expect("small"));
    }

    #[test]
    fn what_did_not_go_out_is_nobodys_parent() {
        let mut sent = Sent::default();
        sent.add(vec![span(1, 0, SpanKind::Server)], vec![row(100)], false);
        let moved = SentSpan { parent: Some(row(200).id), ..span(2, 1, SpanKind::Client) };
        let stays = SentSpan { parent: Some(row(100).id), ..span(3, 1, SpanKind::Client) };
        sent.add(vec![moved, stays], vec![row(200)], false);
        sent.never_sent(&[row(200).id]);
        assert_eq!(sent.rows(), [row(100)]);
        assert_eq!(sent.spans()[1..], [span(2, 1, SpanKind::Client), stays]);
        assert!(sent.has_forgotten_rows());
    }
}
