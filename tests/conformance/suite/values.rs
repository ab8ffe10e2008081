//! What spans may say is carried through as it is.

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value},
    trace::v1::{
        Span, Status,
        span::{Event, Link},
    },
};

use super::{
    Case, Ended, Target, case,
    http_client::JSON,
    traces::{self, attribute},
};

const VALUES: &str = "common.proto: AnyValue may contain a primitive value or an arbitrary nested object; specification, common: attribute values";

pub(super) const CASES: &[Case] = &[
    case!(
        values_may_be_empty,
        "common.proto: it is valid for all values to be unspecified, in which case this AnyValue is considered to be empty"
    ),
    case!(values_may_be_bytes, VALUES),
    case!(values_may_be_lists_of_lists, VALUES),
    case!(values_may_be_maps_of_maps, VALUES),
    case!(values_of_a_list_may_differ_in_type, VALUES),
    case!(values_may_nest, VALUES),
    case!(
        values_of_the_profiling_signal_are_no_error,
        "common.proto, string_value_strindex and key_strindex: other signals treat their presence as a non-fatal issue"
    ),
    case!(
        values_in_json_arrive_as_in_protobuf,
        "OTLP/HTTP: regardless of the encoding the Protobuf schema of the messages is the same"
    ),
    case!(
        spans_say_all_that_they_said,
        "trace.proto: trace_state, flags (SHOULD be copied as-is), events, links, status, counts of what was dropped"
    ),
    case!(
        spans_may_have_kinds_and_codes_of_later_releases,
        "proto3: enums are open, a number without a name is kept"
    ),
];

async fn values_may_be_empty(target: &Target) -> Ended {
    let mut span = traces::span("empty values");
    span.attributes = vec![
        attribute("empty", None),
        KeyValue { key: "none".to_owned(), ..KeyValue::default() },
        attribute("empty text", Some(Value::StringValue(String::new()))),
        attribute("empty bytes", Some(Value::BytesValue(Vec::new()))),
        attribute("empty list", Some(list(Vec::new()))),
        attribute("empty map", Some(map(Vec::new()))),
        attribute("list of empties", Some(list(vec![None, None]))),
    ];
    carried(target, span).await
}

async fn values_may_be_bytes(target: &Target) -> Ended {
    value(target, Value::BytesValue(vec![0, 0xff, 0x80, 0xc3, 0x28])).await
}

async fn values_may_be_lists_of_lists(target: &Target) -> Ended {
    let inner = list(vec![Some(Value::IntValue(1)), Some(Value::IntValue(-1))]);
    value(target, list(vec![Some(inner.clone()), Some(list(Vec::new())), Some(inner)])).await
}

async fn values_may_be_maps_of_maps(target: &Target) -> Ended {
    let inner = map(vec![("a", Some(Value::BoolValue(true))), ("", None)]);
    value(target, map(vec![("x", Some(inner.clone())), ("y", Some(list(vec![Some(inner)])))])).await
}

async fn values_of_a_list_may_differ_in_type(target: &Target) -> Ended {
    value(target, of_all_types()).await
}

async fn values_may_nest(target: &Target) -> Ended {
    let nest = |inner, _| list(vec![Some(inner)]);
    value(target, (0..30).fold(Value::IntValue(30), nest)).await
}

async fn values_of_the_profiling_signal_are_no_error(target: &Target) -> Ended {
    let mut span = traces::span("profiling");
    span.attributes.push(attribute("by index", Some(Value::StringValueStrindex(3))));
    let value = Some(AnyValue { value: Some(Value::BoolValue(true)) });
    span.attributes.push(KeyValue { key_strindex: 4, value, ..KeyValue::default() });
    let answer = target.grpc().await?.export(traces::encoded(vec![span])).await?;
    answer.message_of_success().map(drop)
}

async fn values_in_json_arrive_as_in_protobuf(target: &Target) -> Ended {
    let mut span = traces::span("values in JSON");
    span.attributes = vec![attribute("all", Some(of_all_types())), attribute("empty", None)];
    let request = tracestitch::wire::json::text(&traces::request(vec![span.clone()]));
    target.http().await?.post(JSON, request).await?.is(200)?;
    target.delivers(&span).await
}

async fn spans_say_all_that_they_said(target: &Target) -> Ended {
    let attributes = vec![attribute("a", Some(Value::StringValue("ä".to_owned())))];
    let event = Event {
        time_unix_nano: 1,
        name: "event".to_owned(),
        attributes: attributes.clone(),
        dropped_attributes_count: 4,
    };
    let link = Link {
        trace_id: vec![8; 16],
        span_id: vec![9; 8],
        trace_state: "vendor=3".to_owned(),
        attributes: attributes.clone(),
        dropped_attributes_count: 5,
        flags: 0x1,
    };
    let span = Span {
        trace_state: "vendor=1,other=2".to_owned(),
        flags: 0x301,
        parent_span_id: vec![7; 8],
        attributes,
        dropped_attributes_count: 1,
        events: vec![event],
        dropped_events_count: u32::MAX,
        links: vec![link],
        dropped_links_count: 3,
        status: Some(Status { message: "why".to_owned(), code: 2 }),
        ..traces::span("all fields")
    };
    carried(target, span).await
}

async fn spans_may_have_kinds_and_codes_of_later_releases(target: &Target) -> Ended {
    let status = Status { code: 9, ..Status::default() };
    carried(target, Span { kind: 77, status: Some(status), ..traces::span("later") }).await
}

async fn value(target: &Target, value: Value) -> Ended {
    let mut span = traces::span("value");
    span.attributes.push(attribute("value", Some(value)));
    carried(target, span).await
}

async fn carried(target: &Target, span: Span) -> Ended {
    let answer = target.grpc().await?.export(traces::encoded(vec![span.clone()])).await?;
    answer.message_of_success()?;
    target.delivers(&span).await
}

fn of_all_types() -> Value {
    list(vec![
        Some(Value::StringValue("text".to_owned())),
        Some(Value::BoolValue(false)),
        Some(Value::IntValue(i64::MIN)),
        Some(Value::DoubleValue(-0.5)),
        Some(Value::BytesValue(vec![0xff])),
        Some(map(vec![("k", Some(Value::IntValue(0)))])),
        Some(list(vec![Some(Value::BoolValue(true))])),
        None,
    ])
}

fn list(values: Vec<Option<Value>>) -> Value {
    let values = values.into_iter().map(|value| AnyValue { value }).collect();
    Value::ArrayValue(ArrayValue { values })
}

fn map(values: Vec<(&str, Option<Value>)>) -> Value {
    let values = values.into_iter().map(|(key, value)| attribute(key, value)).collect();
    Value::KvlistValue(KeyValueList { values })
}
