//! What is sent.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message as _;
use tracestitch::clock;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A span in a trace of its own. Ids differ from run to run.
pub(super) fn span(name: &str) -> Span {
    let (number, now_us) = (NEXT.fetch_add(1, Relaxed), clock::wall_us());
    Span {
        trace_id: (u128::from(now_us) << 64 | u128::from(number)).to_be_bytes().to_vec(),
        span_id: (now_us << 16 | number).to_be_bytes().to_vec(),
        name: name.to_owned(),
        kind: 2,
        start_time_unix_nano: (now_us - 1000) * 1000,
        end_time_unix_nano: now_us * 1000,
        ..Span::default()
    }
}

/// These spans, of one service.
pub(super) fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let name = attribute("service.name", Some(Value::StringValue("conformance".to_owned())));
    let scope = InstrumentationScope { name: "conformance".to_owned(), ..Default::default() };
    let scope_spans = ScopeSpans { scope: Some(scope), spans, ..Default::default() };
    let resource_spans = ResourceSpans {
        resource: Some(Resource { attributes: vec![name], ..Default::default() }),
        scope_spans: vec![scope_spans],
        ..Default::default()
    };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
}

/// A request of one span of this name.
pub(super) fn small(name: &str) -> Bytes {
    encoded(vec![span(name)])
}

/// A request of these spans.
pub(super) fn encoded(spans: Vec<Span>) -> Bytes {
    request(spans).encode_to_vec().into()
}

/// A valid request of more bytes than this.
pub(super) fn larger_than(bytes: usize) -> Bytes {
    let mut span = span("large");
    let text = Value::StringValue("x".repeat(bytes));
    span.attributes.push(attribute("large", Some(text)));
    encoded(vec![span])
}

/// Spans of which some are invalid.
pub(super) struct PartlyBad {
    /// One that is not.
    pub(super) good: Span,
    /// All of them.
    pub(super) spans: Vec<Span>,
    /// How many are invalid.
    pub(super) bad: u64,
}

/// Two of three have an id of zeroes.
pub(super) fn with_zero_ids() -> PartlyBad {
    PartlyBad::new([|span| span.trace_id = vec![0; 16], |span| span.span_id = vec![0; 8]])
}

/// Two of three have an id that is too short or too long.
pub(super) fn with_odd_ids() -> PartlyBad {
    PartlyBad::new([|span| span.trace_id.truncate(15), |span| span.span_id.push(1)])
}

impl PartlyBad {
    fn new(spoil: [fn(&mut Span); 2]) -> Self {
        let good = span("beside bad ones");
        let [first, second] = spoil.map(|spoil| {
            let mut span = span("bad");
            spoil(&mut span);
            span
        });
        Self { good: good.clone(), spans: vec![first, good, second], bad: 2 }
    }
}

/// An attribute; `None` is OTLP's empty value.
pub(super) fn attribute(key: &str, value: Option<Value>) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value }), ..Default::default() }
}
