//! What the Python SDK's console exporter prints: every span it sends, in its own words.

use opentelemetry_proto::tonic::trace::v1::{Status, span::SpanKind, status::StatusCode};
use serde_json::{Value, json};

use crate::spans::{Seen, hex};

/// The printed spans of one trace, in the form of [`as_printed`], sorted by id.
pub(crate) fn printed(output: &str, trace_id: &str) -> Vec<Value> {
    let (_, spans) = output.split_once("listening").unwrap_or_default();
    let (_, spans) = spans.split_once('\n').unwrap_or_default();
    let spans = serde_json::Deserializer::from_str(spans).into_iter::<Value>();
    let id = format!("0x{trace_id}");
    // The last one may be half printed.
    let spans = spans.map_while(Result::ok);
    sorted(spans.filter(|span| span["context"]["trace_id"] == id).map(|span| essence(&span)))
}

/// Spans that arrived, in the words of the exporter.
pub(crate) fn as_printed<'a>(spans: impl Iterator<Item = &'a Seen>) -> Vec<Value> {
    sorted(spans.map(|seen| {
        let span = &seen.span;
        let id =
            |id: &[u8]| if id.is_empty() { Value::Null } else { format!("0x{}", hex(id)).into() };
        let kind = match span.kind() {
            SpanKind::Client => "SpanKind.CLIENT",
            SpanKind::Server => "SpanKind.SERVER",
            SpanKind::Internal => "SpanKind.INTERNAL",
            _ => "another",
        };
        let status = match span.status.as_ref().map_or(StatusCode::Unset, Status::code) {
            StatusCode::Unset => "UNSET",
            StatusCode::Ok => "OK",
            StatusCode::Error => "ERROR",
        };
        json!({
            "name": span.name,
            "span_id": id(&span.span_id),
            "parent_id": id(&span.parent_span_id),
            "kind": kind,
            "status": status,
            "attributes": seen.attributes(),
            "events": span.events.len(),
            "resource": seen.resource_attributes(),
        })
    }))
}

fn essence(span: &Value) -> Value {
    json!({
        "name": span["name"],
        "span_id": span["context"]["span_id"],
        "parent_id": span["parent_id"],
        "kind": span["kind"],
        "status": span["status"]["status_code"],
        "attributes": span["attributes"],
        "events": span["events"].as_array().map(Vec::len),
        "resource": span["resource"]["attributes"],
    })
}

fn sorted(spans: impl Iterator<Item = Value>) -> Vec<Value> {
    let mut spans: Vec<Value> = spans.collect();
    spans.sort_by_key(|span| span["span_id"].to_string());
    spans
}
