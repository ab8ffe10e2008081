//! [`Calls`]: a trace of any size, a third of whose spans DeepFlow saw.

use std::fmt::Write as _;

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;
use tracestitch::{
    completion::deepflow::answer::{Outcome, classify},
    trace::{Found, Fragment, TraceId, split},
};

/// Calls, each a client and a server span, three below each server; of every third one DeepFlow returns both ends.
pub(crate) struct Calls {
    pub(crate) id: TraceId,
    pub(crate) fragments: Vec<Fragment>,
    pub(crate) found: Found,
}

const START_US: u64 = 1_700_000_000_000_000;
const MS: u64 = 1000;

impl Calls {
    /// So many calls: two spans each, two rows for every third.
    pub(crate) fn new(calls: u64) -> Self {
        let spans = (0..calls).flat_map(|call| [span(call, 3), span(call, 2)]).collect();
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
                ..ResourceSpans::default()
            }],
        };
        let request = Bytes::from(request.encode_to_vec());
        let (id, fragment) = split(request).expect("OTLP").fragments.remove(0);
        let rows: Vec<String> = (0..calls).step_by(3).map(rows).collect();
        let answer =
            format!(r#"{{"OPT_STATUS":"SUCCESS","DATA":{{"tracing":[{}]}}}}"#, rows.join(","));
        let Outcome::Found(found) = classify(200, answer.as_bytes()) else {
            panic!("an answer with rows");
        };
        Self { id, fragments: vec![fragment], found }
    }
}

/// The call's client span (kind 3) or its server span.
fn span(call: u64, kind: i32) -> Span {
    let parent = match kind {
        2 => Some(id(call, 3)),
        _ => call.checked_sub(1).map(|below| id(below / 3, 2)),
    };
    let (start_us, end_us) = times(call, if kind == 3 { 0 } else { 3 });
    Span {
        trace_id: vec![1; 16],
        span_id: id(call, kind).to_be_bytes().to_vec(),
        parent_span_id: parent.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
        name: "call".to_owned(),
        kind,
        start_time_unix_nano: start_us * 1000,
        end_time_unix_nano: end_us * 1000,
        ..Span::default()
    }
}

fn id(call: u64, kind: i32) -> u64 {
    0xa000_0000_0000_0000 | call << 4 | u64::from(kind.unsigned_abs())
}

/// Calls below one another lie within one another.
fn times(call: u64, within_us: u64) -> (u64, u64) {
    let start_us = START_US + call * MS + within_us;
    (start_us, start_us + 20_000_000 - call * 2 * MS - 2 * within_us)
}

/// What the processes at both ends saw.
fn rows(call: u64) -> String {
    let row = |end: u64, side: &str| {
        let (start_us, end_us) = times(call, 1 + end);
        let mut row = String::new();
        write!(
            row,
            r#"{{"_ids":["{}"],"signal_source":3,"type":2,"start_time_us":{start_us},"end_time_us":{end_us},
"tap_side":"{side}","l7_protocol":20,"l7_protocol_str":"HTTP","request_type":"GET","request_resource":"/a?b=1",
"response_code":200,"span_id":"{:016x}","req_tcp_seq":{},"resp_tcp_seq":{},"vtap_id":{},"auto_service":"shop",
"process_kname":"java","ip":"10.0.0.1","_querier_region":"default"}}"#,
            1 + call * 2 + end,
            id(call, 3),
            1000 + call,
            2000 + call,
            1 + end,
        )
        .expect("a String takes all");
        row
    };
    [row(0, "c-p"), row(1, "s-p")].join(",")
}
