//! [`Template`]: a request made once, in which only ids and times are written anew, so that a load costs little more
//! than copying it.

use std::{
    hash::{DefaultHasher, Hasher},
    ops::Range,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;
use tracestitch::wire::{
    field::{self, DEPTH_MAX, WireType},
    layout::{Layout, SpanEntry},
    splice::ORIGINAL_PARENT,
};

use super::shape::Shape;

/// Between the starts, and between the ends, of a span and the next one below it.
const STEP_US: u64 = 10;

/// One service's request of a group.
#[derive(Debug)]
pub(crate) struct Template {
    shape: Shape,
    bytes: Vec<u8>,
    layout: Layout,
    /// In the order of the layout's spans.
    spots: Vec<Spot>,
}

/// Where the fields of a span are that differ from group to group.
#[derive(Debug)]
struct Spot {
    /// In the group.
    place: u64,
    trace_id: usize,
    id: usize,
    parent: Option<usize>,
    start: usize,
    end: usize,
}

impl Template {
    pub(crate) fn new(shape: Shape, service: u64) -> Self {
        let spans = shape.places(service).map(|place| span(shape, place)).collect();
        let scope = InstrumentationScope {
            name: "io.opentelemetry.contrib.http".to_owned(),
            version: "1.4.0".to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let resource = Some(resource(service));
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource,
                scope_spans,
                ..ResourceSpans::default()
            }],
        };
        let bytes = request.encode_to_vec();
        let layout = Layout::validated(&bytes).expect("OTLP");
        let places = shape.places(service).zip(&layout.spans);
        let spots = places.map(|(place, span)| spot(&bytes, place, span.body.clone())).collect();
        Self { shape, bytes, layout, spots }
    }

    /// How many spans it has.
    pub(crate) fn spans(&self) -> u64 {
        u64::try_from(self.spots.len()).expect("fits")
    }

    /// The request of the group whose spans begin with this number, and whose traces begin at this time.
    pub(crate) fn filled(&self, first: u64, start_us: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for spot in &self.spots {
            let in_trace = self.shape.place_in_trace(spot.place);
            let number = first + spot.place;
            put(&mut bytes, spot.trace_id, &trace_id(number - in_trace));
            put(&mut bytes, spot.id, &number.to_be_bytes());
            if let Some(parent) = spot.parent {
                put(&mut bytes, parent, &(number - 1).to_be_bytes());
            }
            let [start, end] = times_us(self.shape, in_trace).map(|us| (start_us + us) * 1000);
            put(&mut bytes, spot.start, &start.to_le_bytes());
            put(&mut bytes, spot.end, &end.to_le_bytes());
        }
        bytes
    }

    /// The digests of those spans of a filled request that are looked at closely, by number.
    pub(crate) fn digests(&self, filled: &[u8], first: u64) -> Vec<(u64, u64)> {
        let spans = self.spots.iter().zip(&self.layout.spans);
        let numbers = spans.map(|(spot, span)| (first + spot.place, span));
        let sample = numbers.filter(|(number, _)| is_sampled(*number));
        sample.map(|(number, span)| (number, digest(filled, &self.layout, span))).collect()
    }
}

/// About one in 64; a prime, so that every place in a trace has its turn.
pub(crate) fn is_sampled(number: u64) -> bool {
    number.is_multiple_of(61)
}

/// How long a trace takes.
pub(crate) fn trace_us(shape: Shape) -> u64 {
    2 * shape.spans * STEP_US
}

/// The id of the trace whose root has this number. Its first half is spread, as random ids are.
pub(crate) fn trace_id(root: u64) -> [u8; 16] {
    let spread = root.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (u128::from(spread) << 64 | u128::from(root)).to_be_bytes()
}

/// What a span has in common with another one only if it is the same, under the same resource and scope. Its parent
/// may have changed, as weaving changes it.
pub(crate) fn digest(request: &[u8], layout: &Layout, span: &SpanEntry) -> u64 {
    let mut hasher = DefaultHasher::new();
    let resource = layout.resource_header(layout.resource_of(span.scope));
    for piece in resource.iter().chain(layout.scope_header(span.scope)) {
        hasher.write(&request[piece.clone()]);
    }
    for (number, field) in fields(request, span.body.clone()) {
        let is_parent = number == 4 || number == 9 && is_original_parent(&request[field.clone()]);
        if !is_parent {
            hasher.write(&request[field]);
        }
    }
    hasher.finish()
}

fn is_original_parent(attribute: &[u8]) -> bool {
    attribute.windows(ORIGINAL_PARENT.len()).any(|window| window == ORIGINAL_PARENT.as_bytes())
}

/// The fields of a message, with their keys.
fn fields(request: &[u8], body: Range<usize>) -> impl Iterator<Item = (u32, Range<usize>)> {
    let (bytes, mut at) = (&request[..body.end], body.start);
    std::iter::from_fn(move || {
        let start = at;
        let (number, wire) = field::key(bytes, &mut at).ok()?;
        field::skip(bytes, &mut at, number, wire, DEPTH_MAX).ok()?;
        Some((number, start..at))
    })
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn spot(bytes: &[u8], place: u64, body: Range<usize>) -> Spot {
    let mut spot = Spot { place, trace_id: 0, id: 0, parent: None, start: 0, end: 0 };
    for (number, range) in fields(bytes, body) {
        let mut value = range.start;
        let (_, wire) = field::key(bytes, &mut value).expect("a field");
        if wire == WireType::Delimited {
            field::varint(bytes, &mut value).expect("a length");
        }
        match number {
            1 => spot.trace_id = value,
            2 => spot.id = value,
            4 => spot.parent = Some(value),
            7 => spot.start = value,
            8 => spot.end = value,
            _ => {}
        }
    }
    spot
}

/// From the beginning of the trace: each span lies within the one before.
fn times_us(shape: Shape, in_trace: u64) -> [u64; 2] {
    [in_trace * STEP_US, trace_us(shape) - in_trace * STEP_US]
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    let value = AnyValue { value: Some(Value::StringValue(value.into())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

fn number(key: &str, value: u64) -> KeyValue {
    let value = Value::IntValue(i64::try_from(value).expect("fits"));
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn resource(service: u64) -> Resource {
    let attributes = vec![
        text("service.name", format!("service-{service}")),
        text("service.version", "3.14.1"),
        text("deployment.environment.name", "production"),
        text("host.name", format!("node-{service}.example.org")),
        text("telemetry.sdk.language", "java"),
        number("process.pid", 4000 + service),
    ];
    Resource { attributes, ..Resource::default() }
}

/// Servers and the clients they are: a chain of calls through all services.
fn span(shape: Shape, place: u64) -> Span {
    let in_trace = shape.place_in_trace(place);
    let is_server = in_trace.is_multiple_of(2);
    Span {
        trace_id: vec![1; 16],
        span_id: vec![1; 8],
        parent_span_id: if in_trace == 0 { Vec::new() } else { vec![1; 8] },
        name: "GET /api/v2/orders/{order}".to_owned(),
        kind: if is_server { 2 } else { 3 },
        start_time_unix_nano: 1,
        end_time_unix_nano: 1,
        attributes: attributes(place),
        ..Span::default()
    }
}

fn attributes(place: u64) -> Vec<KeyValue> {
    vec![
        text("http.request.method", "GET"),
        text("url.path", format!("/api/v2/orders/{:08}", place * 7919)),
        text("url.scheme", "https"),
        text("server.address", "orders.shop.svc.cluster.local"),
        number("server.port", 8443),
        number("http.response.status_code", if place.is_multiple_of(50) { 503 } else { 200 }),
        text("network.protocol.version", "1.1"),
        text(
            "user_agent.original",
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0 shop",
        ),
        text("thread.name", format!("http-nio-8443-exec-{:02}", place % 64)),
        number("http.response.body.size", 10_000 + place),
    ]
}

#[test]
fn a_span_of_the_reference_load_has_its_size() {
    let template = Template::new(Shape::REFERENCE, 1);
    assert_eq!(template.spans(), 512);
    let bytes = template.bytes.len() / 512;
    assert!((490..=498).contains(&bytes), "{bytes}");
}

#[test]
fn filling_changes_ids_and_times_alone() {
    let template = Template::new(Shape::REFERENCE, 1);
    let filled = template.filled(1, 1_700_000_000_000_000);
    let request = ExportTraceServiceRequest::decode(filled.as_slice()).expect("OTLP");
    let scope = &request.resource_spans[0].scope_spans[0];
    let (span, next) = (&scope.spans[0], &scope.spans[1]);
    assert_eq!(span.trace_id, trace_id(1));
    assert_eq!(
        (&span.span_id, &next.parent_span_id),
        (&3u64.to_be_bytes().to_vec(), &span.span_id)
    );
    assert_eq!(span.start_time_unix_nano, 1_700_000_000_000_020_000);
    assert_eq!(span.end_time_unix_nano, 1_700_000_000_000_140_000);
    assert_eq!(span.attributes, attributes(2));
    let sample = Shape::REFERENCE.places(1).filter(|place| is_sampled(1 + place));
    assert_eq!(template.digests(&filled, 1).len(), sample.count());
}
