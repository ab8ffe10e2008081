//! OTLP/JSON: what its texts mean shows in what goes out.

use opentelemetry_proto::tonic::{
    common::v1::any_value::Value,
    trace::v1::{
        Span, Status,
        span::{Event, Link},
    },
};
use serde_json::{Map, Value as Json, json};
use tracestitch::wire::hex::hex;

use super::{
    Case, Ended, Target, case,
    http_client::JSON,
    traces::{self, attribute},
};

const IDS: &str =
    "JSON Protobuf Encoding: traceId and spanId are case-insensitive hex-encoded strings";
const INTEGERS: &str = "JSON Protobuf Encoding: 64-bit integers are decimal strings, either numbers or strings are accepted";
const UNKNOWN: &str = "JSON Protobuf Encoding: receivers MUST ignore fields with unknown names";
const MAPPING: &str = "proto3 JSON mapping";

pub(super) const CASES: &[Case] = &[
    case!(http_json_ids_in_both_cases, IDS),
    case!(http_json_ids_of_links_are_hex, IDS),
    case!(http_json_int64_as_string_and_number, INTEGERS),
    case!(http_json_largest_int64_and_uint64, INTEGERS),
    case!(
        http_json_enums_as_integers,
        "JSON Protobuf Encoding: values of enum fields MUST be encoded as integer values"
    ),
    case!(http_json_unknown_fields_are_ignored, UNKNOWN),
    case!(
        http_json_snake_case_keys_are_unknown,
        "JSON Protobuf Encoding: original field names are not valid to use as keys, unknown names are ignored"
    ),
    case!(http_json_null_is_a_field_left_out, MAPPING),
    case!(http_json_doubles_that_are_no_numbers, MAPPING),
    case!(http_json_bytes_are_base64, MAPPING),
];

async fn http_json_ids_in_both_cases(target: &Target) -> Ended {
    for change in [str::to_uppercase, str::to_lowercase] as [fn(&str) -> String; 2] {
        let span = Span { parent_span_id: vec![0xab; 8], ..traces::span("ids") };
        let fields = json!({
            "traceId": change(&text(&span.trace_id)),
            "spanId": change(&text(&span.span_id)),
            "parentSpanId": change(&text(&span.parent_span_id)),
        });
        means(target, fields, &span).await?;
    }
    Ok(())
}

async fn http_json_ids_of_links_are_hex(target: &Target) -> Ended {
    let link = Link { trace_id: vec![0xcd; 16], span_id: vec![0xef; 8], ..Link::default() };
    let span = Span { links: vec![link.clone()], ..traces::span("links") };
    let link =
        json!({ "traceId": text(&link.trace_id).to_uppercase(), "spanId": text(&link.span_id) });
    means(target, json!({ "links": [link] }), &span).await
}

async fn http_json_int64_as_string_and_number(target: &Target) -> Ended {
    let mut span = traces::span("integers");
    span.attributes.push(attribute("text", Some(Value::IntValue(-7))));
    span.attributes.push(attribute("number", Some(Value::IntValue(-8))));
    let fields = json!({
        "startTimeUnixNano": span.start_time_unix_nano,
        "endTimeUnixNano": span.end_time_unix_nano.to_string(),
        "attributes": [
            { "key": "text", "value": { "intValue": "-7" } },
            { "key": "number", "value": { "intValue": -8 } },
        ],
    });
    means(target, fields, &span).await
}

async fn http_json_largest_int64_and_uint64(target: &Target) -> Ended {
    let mut span = traces::span("large integers");
    let event = Event { time_unix_nano: u64::MAX, name: "late".to_owned(), ..Event::default() };
    span.events.push(event);
    span.attributes.push(attribute("most", Some(Value::IntValue(i64::MAX))));
    span.attributes.push(attribute("least", Some(Value::IntValue(i64::MIN))));
    let fields = json!({
        "events": [{ "timeUnixNano": u64::MAX.to_string(), "name": "late" }],
        "attributes": [
            { "key": "most", "value": { "intValue": i64::MAX.to_string() } },
            { "key": "least", "value": { "intValue": i64::MIN } },
        ],
    });
    means(target, fields, &span).await
}

async fn http_json_enums_as_integers(target: &Target) -> Ended {
    let status = Status { code: 2, ..Status::default() };
    let span = Span { kind: 4, status: Some(status), ..traces::span("enums") };
    means(target, json!({ "kind": 4, "status": { "code": 2 } }), &span).await
}

async fn http_json_unknown_fields_are_ignored(target: &Target) -> Ended {
    let unknown = json!({ "later": { "a": [1, null, { "b": "c" }] }, "alsoLater": 1.5 });
    means(target, unknown, &traces::span("unknown fields")).await
}

async fn http_json_snake_case_keys_are_unknown(target: &Target) -> Ended {
    let unknown = json!({ "dropped_events_count": 7, "trace_state": "a=b" });
    means(target, unknown, &traces::span("snake case")).await
}

async fn http_json_null_is_a_field_left_out(target: &Target) -> Ended {
    let fields = json!({
        "attributes": null, "events": null, "links": null, "status": null, "traceState": null,
        "parentSpanId": null, "droppedLinksCount": null, "flags": null,
    });
    means(target, fields, &traces::span("null")).await
}

async fn http_json_doubles_that_are_no_numbers(target: &Target) -> Ended {
    let mut span = traces::span("doubles");
    let mut attributes = Vec::new();
    for (name, double) in
        [("NaN", f64::NAN), ("Infinity", f64::INFINITY), ("-Infinity", f64::NEG_INFINITY)]
    {
        span.attributes.push(attribute(name, Some(Value::DoubleValue(double))));
        attributes.push(json!({ "key": name, "value": { "doubleValue": name } }));
    }
    means(target, json!({ "attributes": attributes }), &span).await
}

async fn http_json_bytes_are_base64(target: &Target) -> Ended {
    let mut span = traces::span("bytes");
    span.attributes.push(attribute("bytes", Some(Value::BytesValue(vec![0xfb, 0xff, 0, 1]))));
    let attribute = json!({ "key": "bytes", "value": { "bytesValue": "+/8AAQ==" } });
    means(target, json!({ "attributes": [attribute] }), &span).await
}

fn text(id: &[u8]) -> String {
    hex(id)
}

/// A request with these fields in place of the span's own, and what the span says beside them, is the span.
async fn means(target: &Target, fields: Json, span: &Span) -> Ended {
    let mut all = Map::from_iter([
        ("traceId".to_owned(), json!(text(&span.trace_id))),
        ("spanId".to_owned(), json!(text(&span.span_id))),
        ("name".to_owned(), json!(span.name)),
        ("kind".to_owned(), json!(span.kind)),
        ("startTimeUnixNano".to_owned(), json!(span.start_time_unix_nano.to_string())),
        ("endTimeUnixNano".to_owned(), json!(span.end_time_unix_nano.to_string())),
    ]);
    if let Json::Object(fields) = fields {
        all.extend(fields);
    }
    let request = json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": [all] }] }] });
    target.http().await?.post(JSON, request.to_string()).await?.is(200)?;
    target.delivers(span).await
}
