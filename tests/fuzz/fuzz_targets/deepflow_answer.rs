//! DeepFlow's answer: whatever it says, weaving ends, no received span is lost, and every span hangs below one that is there.
#![no_main]

use std::collections::BTreeSet;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;
use tracestitch::{
    completion::deepflow::answer::{Outcome, classify},
    trace::{Fragment, TraceId, split},
    weaving::{Config, pieces},
};

/// Root, client, server: the ids are those of the corpus.
fn trace() -> (TraceId, Fragment) {
    let span = |id: u8, parent: &[u8], kind: i32| Span {
        trace_id: vec![1; 16],
        span_id: vec![id; 8],
        parent_span_id: parent.to_vec(),
        kind,
        start_time_unix_nano: 1_700_000_000_000_000_000,
        end_time_unix_nano: 1_700_000_001_000_000_000,
        ..Span::default()
    };
    let spans = vec![span(1, &[], 2), span(2, &[1; 8], 3), span(3, &[2; 8], 2)];
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    };
    split(Bytes::from(request.encode_to_vec())).expect("OTLP").fragments.remove(0)
}

fuzz_target!(|data: &[u8]| {
    let Outcome::Found(found) = classify(200, data) else { return };
    let (id, fragment) = trace();
    let (pieces, _) = pieces(id, &[fragment], &found, &Config::default());
    let mut bytes = Vec::new();
    pieces.iter().for_each(|piece| piece.bytes.stretches().for_each(|part| bytes.extend(part)));
    let woven = ExportTraceServiceRequest::decode(bytes.as_slice()).expect("a request");
    let scopes = woven.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    let spans: Vec<&Span> = scopes.flat_map(|scope| &scope.spans).collect();
    let ids: BTreeSet<&[u8]> = spans.iter().map(|span| span.span_id.as_slice()).collect();
    assert_eq!(ids.len(), spans.len(), "every id once");
    assert!([1, 2, 3].iter().all(|id| ids.contains([*id; 8].as_slice())), "received spans stay");
    for span in spans {
        let parent = span.parent_span_id.as_slice();
        assert!(parent.is_empty() || ids.contains(parent), "a parent that is not there");
        assert_ne!(parent, span.span_id.as_slice());
    }
});
