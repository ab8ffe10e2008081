//! What is sent: traces whose spans come in fragments, several traces to a request.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use tracestitch::clock;

/// Traces that are sent at the same time.
const TRACES: usize = 10;
/// Requests that hold fragments of all of them.
const FRAGMENTS_MAX: usize = 4;
/// Spans of a trace that is kept open.
const SLOW_SPANS: u64 = 24;

/// One request before it is encoded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    fragments: Vec<Vec<Span>>,
}

/// Traces of 4 to 8 spans, each in 2 to 4 fragments.
#[derive(Debug)]
pub(crate) struct Group(Vec<Request>);

/// Two traces that get a span each with every request, and so stay open.
#[derive(Debug)]
pub(crate) struct Slow(Vec<Request>);

impl Group {
    /// Numbers are different each time: ids are made of them, and so is the shape.
    pub(crate) fn new(number: impl Fn() -> u64) -> Self {
        let mut requests = vec![Request::default(); FRAGMENTS_MAX];
        for _ in 0..TRACES {
            let number = number();
            let spans = (0..4 + number % 5).map(|place| span(number, place));
            let count = usize::try_from(2 + number % 3).expect("at most 4");
            let mut fragments = vec![Vec::new(); count];
            for (place, span) in spans.enumerate() {
                fragments[place % count].push(span);
            }
            for (request, fragment) in requests.iter_mut().zip(fragments) {
                request.fragments.push(fragment);
            }
        }
        Self(requests)
    }

    pub(crate) fn requests(self) -> impl Iterator<Item = Request> {
        self.0.into_iter()
    }
}

impl Slow {
    /// See [`Group::new`].
    pub(crate) fn new(number: impl Fn() -> u64) -> Self {
        let traces = [number(), number()];
        let request = |place| Request {
            fragments: traces.iter().map(|trace| vec![span(*trace, place)]).collect(),
        };
        Self((0..SLOW_SPANS).map(request).collect())
    }

    pub(crate) fn requests(self) -> impl Iterator<Item = Request> {
        self.0.into_iter()
    }
}

impl Request {
    pub(crate) fn spans(&self) -> impl Iterator<Item = &Span> {
        self.fragments.iter().flatten()
    }

    pub(crate) fn into_otlp(self) -> ExportTraceServiceRequest {
        let fragments = self.fragments.into_iter().enumerate();
        let resource_spans = fragments.map(|(place, spans)| ResourceSpans {
            resource: Some(Resource {
                attributes: vec![text("service.name", format!("service-{place}"))],
                ..Resource::default()
            }),
            scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        });
        ExportTraceServiceRequest { resource_spans: resource_spans.collect() }
    }
}

/// A chain of calls, each within the one before; CLIENT and SERVER by turns.
fn span(trace: u64, place: u64) -> Span {
    let start_ns = clock::wall_us() * 1000 - 800_000_000;
    // Spread, so that ids are not found by chance in other bytes of a file.
    let id = |place: u64| (trace << 8 | place).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
    Span {
        trace_id: [id(0xff), id(0xfe)].concat(),
        span_id: id(place).to_vec(),
        parent_span_id: if place > 0 { id(place - 1).to_vec() } else { Vec::new() },
        name: format!("call {place} of {trace}"),
        kind: if place.is_multiple_of(2) { 3 } else { 2 },
        start_time_unix_nano: start_ns + place * 3_000_000,
        end_time_unix_nano: start_ns + 600_000_000 - place * 3_000_000,
        attributes: vec![text("note", "x".repeat(usize::try_from(trace * 7 % 256).unwrap_or(0)))],
        ..Span::default()
    }
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    let value = AnyValue { value: Some(Value::StringValue(value.into())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}
