//! [`Shape`]: how spans are spread over traces, services and requests, and which number each of them has.

/// Groups of traces, each trace spread over some services, each service with one request for the whole group.
///
/// The spans of a group have consecutive numbers, trace by trace; a span's number is its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Shape {
    /// Of a trace.
    pub(crate) spans: u64,
    /// Requests of a group.
    pub(crate) services: u64,
    /// Of a group.
    pub(crate) traces: u64,
}

impl Shape {
    /// 8 spans a trace over 4 services; a request holds 2 spans of each of 256 traces.
    pub(crate) const REFERENCE: Self = Self::new(8, 512);

    /// Traces of so many spans, about so many spans in a request. A service has a server and a client span of each
    /// trace at least, so that short traces have fewer than 4 services.
    pub(crate) const fn new(spans: u64, request_spans: u64) -> Self {
        let services = if spans < 8 { spans.div_ceil(2) } else { 4 };
        let traces = request_spans * services / spans;
        Self { spans, services, traces: if traces == 0 { 1 } else { traces } }
    }

    /// Spans of a group.
    pub(crate) fn group_spans(self) -> u64 {
        self.spans * self.traces
    }

    /// The spans of a service's request, by their places in the group.
    pub(crate) fn places(self, service: u64) -> impl Iterator<Item = u64> {
        let is_ours = move |place: &u64| self.place_in_trace(*place) / 2 % self.services == service;
        (0..self.group_spans()).filter(is_ours)
    }

    /// Where in its trace the span at this place of a group is; 0 is the root.
    pub(crate) fn place_in_trace(self, place: u64) -> u64 {
        place % self.spans
    }
}
