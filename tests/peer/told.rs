//! What programs told of the spans they sent, a JSON object a line, and the same of spans that arrived.
//!
//! `told.py`, `told.js`, `told.go` and `Told.java` write it, each from what its SDK has, not from what is sent.

use opentelemetry_proto::tonic::trace::v1::{
    Status,
    span::{Event, Link, SpanKind},
    status::StatusCode,
};
use serde_json::{Value, json};

use crate::spans::{Seen, hex, plain};

/// Every span that is told in full, sorted by id.
pub(crate) fn told(output: &str) -> Vec<Value> {
    let lines = output.split_inclusive('\n');
    let spans = lines.filter(|line| line.starts_with('{') && line.ends_with('\n'));
    sorted(spans.map(|line| serde_json::from_str(line).expect("a told span")))
}

/// Spans that arrived, as those who sent them would tell them: with the parent they were sent with.
pub(crate) fn arrived<'a>(spans: impl Iterator<Item = &'a Seen>) -> Vec<Value> {
    sorted(spans.map(tell))
}

fn tell(seen: &Seen) -> Value {
    let span = &seen.span;
    let status = span.status.clone().unwrap_or_default();
    let parent_id = seen.original_parent().map(str::to_owned);
    let parent_id = parent_id.unwrap_or_else(|| hex(&span.parent_span_id));
    json!({
        "trace_id": hex(&span.trace_id),
        "span_id": hex(&span.span_id),
        "parent_id": parent_id,
        "trace_state": span.trace_state,
        "name": span.name,
        "kind": kind(span.kind()),
        "start": span.start_time_unix_nano.to_string(),
        "end": span.end_time_unix_nano.to_string(),
        "status": code(&status),
        "message": status.message,
        "attributes": seen.attributes(),
        "events": span.events.iter().map(event).collect::<Vec<_>>(),
        "links": span.links.iter().map(link).collect::<Vec<_>>(),
        "resource": seen.resource_attributes(),
        "scope": format!("{} {}", seen.scope.name, seen.scope.version),
    })
}

fn kind(kind: SpanKind) -> &'static str {
    kind.as_str_name().trim_start_matches("SPAN_KIND_")
}

fn code(status: &Status) -> &'static str {
    match status.code() {
        StatusCode::Unset => "UNSET",
        StatusCode::Ok => "OK",
        StatusCode::Error => "ERROR",
    }
}

fn event(event: &Event) -> Value {
    json!({
        "name": event.name,
        "time": event.time_unix_nano.to_string(),
        "attributes": plain(event.attributes.iter()),
    })
}

fn link(link: &Link) -> Value {
    json!({
        "trace_id": hex(&link.trace_id),
        "span_id": hex(&link.span_id),
        "attributes": plain(link.attributes.iter()),
    })
}

fn sorted(spans: impl Iterator<Item = Value>) -> Vec<Value> {
    let mut spans: Vec<Value> = spans.collect();
    spans.sort_by_key(|span| span["span_id"].to_string());
    spans
}
