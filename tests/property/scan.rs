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
    trace::{Origin, SpanId, TraceId, scan, split},
    wire::{
        layout::Layout,
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
    }
    check_split(bytes, &spans);
}

/// Every fragment holds exactly the good spans of its trace, each below the same resource and scope.
fn check_split(bytes: &[u8], spans: &[Placed]) {
    let is_good = |span: &&Placed| {
        TraceId::from_wire(&span.4.trace_id).is_some()
            && SpanId::from_wire(&span.4.span_id).is_some()
    };
    let good: Vec<&Placed> = spans.iter().filter(is_good).collect();
    let scanned = scan(Bytes::copy_from_slice(bytes)).expect("accepted before");
    let announced = scanned.fragment_bytes();
    let split = scanned.fragments(&Origin::default());
    assert_eq!(split.rejected.spans(), u64::try_from(spans.len() - good.len()).expect("small"));
    let held: u64 = split.fragments.iter().map(tracestitch::trace::Fragment::held_bytes).sum();
    assert!(announced >= held, "{announced} announced, {held} held");
    let mut total = 0;
    for fragment in &split.fragments {
        let found = placed(&decode(&fragment.bytes.to_bytes()));
        let trace_id = fragment.key.id.to_wire();
        let expected: Vec<Placed> = good
            .iter()
            .filter(|span| span.4.trace_id == trace_id)
            .map(|&span| span.clone())
            .collect();
        assert_eq!(found, expected);
        assert_eq!(fragment.spans.len(), found.len());
        for (reference, Placed(.., span)) in fragment.spans.iter().zip(&found) {
            let start = usize::try_from(reference.offset).expect("small");
            let end = start + usize::try_from(reference.len).expect("small");
            let alone =
                Span::decode(&fragment.bytes.own()[start..end]).expect("a span's own bytes");
            assert_eq!(alone.encode_to_vec(), span.encode_to_vec());
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
    let refused = |levels| split(&Origin::default(), message::deep(levels).into()).is_err();
    assert_eq!((refused(40), refused(60)), (false, true));
}

/// Hundreds of spans below one resource, as SDKs send them, two of each trace.
#[test]
fn a_resource_of_many_traces_is_held_once_and_goes_out_with_each() {
    let resource =
        Resource { attributes: vec![attribute(&"r".repeat(600))], ..Resource::default() };
    let span = |number: u8| Span {
        trace_id: vec![number / 2 + 1; 16],
        span_id: vec![number + 1; 8],
        name: "n".repeat(50),
        ..Span::default()
    };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans {
                spans: (0..100).map(span).collect(),
                ..ScopeSpans::default()
            }],
            schema_url: "schema".to_owned(),
        }],
    };
    let spans = placed(&request);
    check_split(&request.encode_to_vec(), &spans);
    let split = split(&Origin::default(), request.encode_to_vec().into()).expect("OTLP");
    let fragments = &split.fragments;
    let (wire, held): (u64, u64) = fragments.iter().fold((0, 0), |(wire, held), fragment| {
        (wire + fragment.wire_bytes(), held + fragment.bytes.held_bytes() as u64)
    });
    assert!(held + 49 * 600 < wire, "{held} of {wire}");
    let first = fragments[0].bytes.shared().next().expect("shared");
    assert!(fragments.iter().all(|fragment| {
        fragment.bytes.shared().next().is_some_and(|shared| Arc::ptr_eq(shared, first))
    }));
}
