//! How: random and damaged requests go through our scan and through prost; both must accept or refuse alike, and what
//! we cut out, put together or change must be what prost would have read.

use std::sync::Arc;

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::InstrumentationScope,
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use proptest::prelude::*;
use prost::Message;
use tracestitch::{
    trace::{Fragment, SpanId, TraceId, scan, split},
    wire::{
        Level,
        layout::{Layout, SpanEntry},
        splice::{self, ORIGINAL_PARENT, Patch, Pick},
    },
};

use super::message;

/// A span with all that belongs to it. Compared by its encoding, for a NaN does not equal itself.
#[derive(Debug, Clone)]
struct Placed(Option<Resource>, String, Option<InstrumentationScope>, String, Span);

impl PartialEq for Placed {
    fn eq(&self, other: &Self) -> bool {
        let resource = |placed: &Self| placed.0.as_ref().map(Message::encode_to_vec);
        let scope = |placed: &Self| placed.2.as_ref().map(Message::encode_to_vec);
        resource(self) == resource(other)
            && scope(self) == scope(other)
            && (&self.1, &self.3) == (&other.1, &other.3)
            && self.4.encode_to_vec() == other.4.encode_to_vec()
    }
}

fn placed(request: &ExportTraceServiceRequest) -> Vec<Placed> {
    let mut out = Vec::new();
    for resource in &request.resource_spans {
        for scope in &resource.scope_spans {
            out.extend(scope.spans.iter().map(|span| {
                let (of, by) = (resource.schema_url.clone(), scope.schema_url.clone());
                Placed(resource.resource.clone(), of, scope.scope.clone(), by, span.clone())
            }));
        }
    }
    out
}

fn decode(bytes: &[u8]) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(bytes).expect("what we write is valid")
}

fn check_scan(bytes: &[u8]) {
    let ours = Layout::validated(bytes);
    let theirs = ExportTraceServiceRequest::decode(bytes);
    assert_eq!(ours.is_ok(), theirs.is_ok(), "{ours:?} {theirs:?}");
    let (Ok(layout), Ok(request)) = (ours, theirs) else { return };
    let spans = placed(&request);
    assert_eq!(layout.spans.len(), spans.len());
    for (found, Placed(.., span)) in layout.spans.iter().zip(&spans) {
        assert_eq!(found.trace_id, TraceId::from_wire(&span.trace_id));
        assert_eq!(found.id, SpanId::from_wire(&span.span_id));
        assert_eq!(found.parent, SpanId::from_wire(&span.parent_span_id));
        let kind = if (0..=5).contains(&span.kind) { span.kind } else { 0 };
        assert_eq!(found.kind.to_wire(), kind);
        assert_eq!(found.start_ns, span.start_time_unix_nano);
        assert_eq!(found.end_ns, span.end_time_unix_nano);
        // Of an id that comes twice prost tells the last one only.
        assert!(found.has_odd_id || !has_odd_id(span), "{span:?}");
    }
    check_split(bytes, &layout, &spans);
}

/// Some id in it is neither absent nor as long as an id.
fn has_odd_id(span: &Span) -> bool {
    let links = span.links.iter().map(|link| [(&link.trace_id, 16), (&link.span_id, 8)]);
    let ids = [[(&span.trace_id, 16), (&span.span_id, 8)], [(&span.parent_span_id, 8); 2]];
    let mut ids = ids.into_iter().chain(links).flatten();
    ids.any(|(id, len)| !id.is_empty() && id.len() != len)
}

/// Every fragment holds exactly the good spans of its trace, each below the same resource and scope.
fn check_split(bytes: &[u8], layout: &Layout, spans: &[Placed]) {
    let is_good = |(found, span): &(&SpanEntry, &Placed)| {
        TraceId::from_wire(&span.4.trace_id).is_some()
            && SpanId::from_wire(&span.4.span_id).is_some()
            && !found.has_odd_id
    };
    let good = layout.spans.iter().zip(spans).filter(is_good);
    let good: Vec<&Placed> = good.map(|(_, span)| span).collect();
    let scanned = scan(Bytes::copy_from_slice(bytes)).expect("accepted before");
    let announced = scanned.fragment_bytes();
    let split = scanned.fragments();
    assert_eq!(split.rejected.spans(), u64::try_from(spans.len() - good.len()).expect("small"));
    let held: u64 = split.fragments.iter().map(|(_, fragment)| fragment.held_bytes()).sum();
    assert!(announced >= held, "{announced} announced, {held} held");
    let mut total = 0;
    for (trace_id, fragment) in &split.fragments {
        let read = decode(&fragment.bytes.to_bytes());
        let found = placed(&read);
        let spans = |resource: &ResourceSpans| -> usize {
            resource.scope_spans.iter().map(|scope| scope.spans.len()).sum()
        };
        let resources = (0..).zip(&read.resource_spans);
        let mut resources = resources.flat_map(|(number, of)| vec![number; spans(of)]);
        let trace_id = trace_id.to_wire();
        let expected: Vec<Placed> = good
            .iter()
            .filter(|span| span.4.trace_id == trace_id)
            .map(|&span| span.clone())
            .collect();
        assert_eq!(found, expected);
        let index = fragment.span_refs();
        assert_eq!((index.len(), usize::try_from(fragment.spans)), (found.len(), Ok(found.len())));
        for (reference, Placed(.., span)) in index.iter().zip(&found) {
            let start = usize::try_from(reference.offset).expect("small");
            let end = start + usize::try_from(reference.len).expect("small");
            let alone =
                Span::decode(&fragment.bytes.own()[start..end]).expect("a span's own bytes");
            assert_eq!(alone.encode_to_vec(), span.encode_to_vec());
            assert_eq!(Some(reference.id), SpanId::from_wire(&span.span_id));
            assert_eq!(Some(reference.resource), resources.next());
        }
        total += found.len();
    }
    assert_eq!(total, good.len());
}

/// Some spans get another parent; nothing else changes.
fn check_splice(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let bytes = message::valid(&mut rng);
    let Ok(layout) = Layout::validated(&bytes) else { return };
    let mut expected = placed(&decode(&bytes));
    let mut picks = Vec::new();
    for (index, span) in layout.spans.iter().enumerate() {
        let patch = rng.bool().then(|| {
            let parent = SpanId::from_number(rng.u64(..3));
            let former = SpanId::from_number(rng.u64(..3));
            let text = former.map(|id| id.to_string()).unwrap_or_default();
            let span = &mut expected[index].4;
            span.parent_span_id = parent.map(|id| id.to_wire().to_vec()).unwrap_or_default();
            span.attributes.push(attribute(&text));
            (former, parent)
        });
        let patch = patch.map(|(former, parent)| {
            Patch::reparent(&bytes, span.body.clone(), former, parent).expect("scanned before")
        });
        picks.push(Pick { span: index, patch });
    }
    let spliced = splice::emit(&bytes, &layout, &picks);
    assert_eq!(spliced.len(), splice::emitted_len(&layout, &picks));
    assert_eq!(placed(&decode(&spliced)), expected);
}

fn attribute(text: &str) -> opentelemetry_proto::tonic::common::v1::KeyValue {
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
    let value = Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) });
    KeyValue { key: ORIGINAL_PARENT.to_owned(), value, ..KeyValue::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn the_scan_agrees_with_prost(seed in any::<u64>()) {
        check_scan(&message::request(seed));
    }

    #[test]
    fn noise_is_refused_alike(bytes in prop::collection::vec(any::<u8>(), ..40)) {
        check_scan(&bytes);
    }

    #[test]
    fn splicing_changes_parents_and_nothing_else(seed in any::<u64>()) {
        check_splice(seed);
    }

    #[test]
    fn cutting_keeps_every_span_within_the_limit(seed in any::<u64>(), max in 1_usize..2000) {
        let bytes = message::valid(&mut fastrand::Rng::with_seed(seed));
        if Layout::validated(&bytes).is_ok() {
            let parts = splice::cut(&bytes, max).expect("scanned before");
            let spans: Vec<Placed> = parts.iter().flat_map(|(part, _)| placed(&decode(part))).collect();
            prop_assert!(spans == placed(&decode(&bytes)));
            for (part, count) in parts {
                prop_assert!(part.len() <= max || count == 1, "{} of {max}", part.len());
            }
        }
    }
}

#[test]
fn nesting_ends_where_prost_ends_it() {
    for levels in 30..60 {
        check_scan(&message::deep(levels));
    }
    let refused = |levels| split(message::deep(levels).into()).is_err();
    assert_eq!((refused(40), refused(60)), (false, true));
}

/// Spans of a few traces below resources and scopes that some of them have in common.
fn shared_headers(rng: &mut fastrand::Rng) -> ExportTraceServiceRequest {
    let text =
        |rng: &mut fastrand::Rng| "h".repeat(rng.choice([0, 40, 90, 600, 5000]).expect("one"));
    let mut spans = 0;
    let mut scope = |rng: &mut fastrand::Rng| ScopeSpans {
        scope: Some(InstrumentationScope { name: text(rng), ..InstrumentationScope::default() }),
        spans: (0..rng.usize(..8))
            .map(|_| {
                spans += 1;
                let trace_id = vec![rng.u8(..4); 16];
                let name = "n".repeat(rng.usize(..300));
                Span { trace_id, span_id: vec![spans; 8], name, ..Span::default() }
            })
            .collect(),
        schema_url: text(rng),
    };
    let mut resource = |rng: &mut fastrand::Rng| {
        let resource = Resource { attributes: vec![attribute(&text(rng))], ..Resource::default() };
        let scope_spans = (0..rng.usize(..4)).map(|_| scope(rng)).collect();
        ResourceSpans { resource: Some(resource), scope_spans, schema_url: text(rng) }
    };
    let resource_spans = (0..rng.usize(1..4)).map(|_| resource(rng)).collect();
    ExportTraceServiceRequest { resource_spans }
}

proptest! {
    #[test]
    fn headers_that_are_held_once_go_out_with_each(seed in any::<u64>()) {
        let request = shared_headers(&mut fastrand::Rng::with_seed(seed));
        check_scan(&request.encode_to_vec());
    }
}

/// Hundreds of spans below one scope, as SDKs send them, two of each trace.
#[test]
fn what_many_traces_have_in_common_is_held_once() {
    let resource =
        Resource { attributes: vec![attribute(&"r".repeat(600))], ..Resource::default() };
    let scope = InstrumentationScope { name: "s".repeat(100), ..InstrumentationScope::default() };
    let span = |number: u8| Span {
        trace_id: vec![number / 2 + 1; 16],
        span_id: vec![number + 1; 8],
        name: "n".repeat(50),
        ..Span::default()
    };
    let spans: Vec<_> = (0..100).map(span).collect();
    let own: usize = spans.iter().map(|span| span.encoded_len() + 2).sum();
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }],
            schema_url: "schema".to_owned(),
        }],
    };
    let fragments = split(request.encode_to_vec().into()).expect("OTLP").into_fragments();
    let held: usize = fragments.iter().map(|fragment| fragment.bytes.held_bytes()).sum();
    let shared = 600 + 100;
    assert!(held < own + 5 * shared, "{held} bytes for {own} of spans");
    for level in [Level::Resource, Level::Scope] {
        let header = |fragment: &Fragment| fragment.bytes.shared(level).next().cloned();
        let first = header(&fragments[0]).expect("shared");
        let same = |fragment| header(fragment).is_some_and(|other| Arc::ptr_eq(&other, &first));
        assert!(fragments.iter().all(same), "{level:?}");
    }
}
