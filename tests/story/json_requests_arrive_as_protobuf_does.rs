//! Scenario: two SDKs send the same spans, one in protobuf and one in JSON, plain and compressed; a third sends JSON as
//! people and other languages write it.
//! Guarantees: what arrives is the same, span for span, on one port and one path; what is no OTLP/JSON is refused with
//! the place and the name of what is wrong.

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value},
    trace::v1::{
        Span, Status,
        span::{Event, Link},
    },
};
use serde_json::Value as Json;
use tracestitch::wire::json;

use crate::support::{
    self, Setup, World,
    http::{self, JSON},
};

/// A span with all that a span can have.
fn rich(trace: u128) -> Span {
    let all = [
        Value::StringValue("grüße \"\u{1f600}\"\n".to_owned()),
        Value::BoolValue(false),
        Value::IntValue(i64::MIN),
        Value::DoubleValue(0.1),
        Value::DoubleValue(f64::INFINITY),
        Value::BytesValue(vec![0, 0xff, 7]),
        Value::ArrayValue(ArrayValue { values: vec![AnyValue::default()] }),
        Value::KvlistValue(KeyValueList { values: vec![support::text("k", "v")] }),
    ];
    let attribute = |(number, value): (usize, &Value)| KeyValue {
        key: format!("a{number}"),
        value: Some(AnyValue { value: Some(value.clone()) }),
        ..KeyValue::default()
    };
    let attributes: Vec<KeyValue> = all.iter().enumerate().map(attribute).collect();
    let event = Event { time_unix_nano: u64::MAX, name: "e".to_owned(), ..Event::default() };
    let link = Link { trace_id: vec![0xab; 16], span_id: vec![0xcd; 8], ..Link::default() };
    Span {
        events: vec![Event { attributes: attributes.clone(), ..event }],
        links: vec![link],
        status: Some(Status { message: "no".to_owned(), code: 2 }),
        attributes,
        trace_state: "a=b".to_owned(),
        flags: 0x101,
        dropped_links_count: u32::MAX,
        ..support::span(trace, 1)
    }
}

#[tokio::test]
async fn the_same_spans_arrive() {
    let world = World::start(Setup::without_deepflow()).await;
    let client = http::client();
    let mut sent = Vec::new();
    for (number, encoding) in ["identity", "gzip", "zstd", "deflate"].iter().enumerate() {
        let trace = 0x100 + u128::try_from(number).expect("small");
        let request = support::request("shop", vec![rich(trace)]);
        let body = http::compressed(encoding, &json::text(&request));
        let request_to = http::to(&client, &world, JSON).header("content-encoding", *encoding);
        let response = http::send(request_to, body).await;
        assert_eq!(response.status(), 200, "{encoding}");
        sent.extend(support::spans_of(&request));
    }
    let in_protobuf = support::request("shop", vec![rich(0x200)]);
    world.send(&in_protobuf).await;
    sent.extend(support::spans_of(&in_protobuf));
    world.settled(sent.len()).await;
    assert_eq!(support::assert_arrived(&sent, support::spans_at(&world.backend)), []);
    world.end(&[]).await;
}

#[tokio::test]
async fn large_requests_are_read_in_whole() {
    let world = World::start(Setup::without_deepflow()).await;
    let spans = support::spans(0x300, 2000);
    let request = support::request("shop", spans.clone());
    let text = json::text(&request);
    assert!(text.len() > 256 * 1024, "{}", text.len());
    let response = http::send(http::to(&http::client(), &world, JSON), text).await;
    assert_eq!(response.status(), 200);
    world.settled(spans.len()).await;
    assert_eq!(support::assert_arrived(&spans, support::spans_at(&world.backend)), []);
    world.end(&[]).await;
}

/// Numbers for texts and texts for numbers, ids in capitals, nulls, unknown fields, in any order.
const LIBERAL: &str = r#"{
    "unknown": {"deep": [[{"er": null}]]},
    "resourceSpans": [{"scopeSpans": [{"spans": [{
        "kind": 2, "name": "GET /", "spanId": "EEE19B7EC3C1B174", "parentSpanId": null,
        "endTimeUnixNano": 1.5447127e18, "startTimeUnixNano": "1544712660000000000",
        "traceId": "5B8EFFF798038103D269B633813FC60C", "droppedEventsCount": "3",
        "attributes": [{"key": "n", "value": {"intValue": 7.0}}], "events": null
    }], "scope": null}], "resource": {"attributes": []}}]
}"#;

#[tokio::test]
async fn json_is_read_as_others_write_it() {
    let world = World::start(Setup::without_deepflow()).await;
    let response = http::send(http::to(&http::client(), &world, JSON), LIBERAL).await;
    assert_eq!(response.status(), 200);
    world.settled(1).await;
    let spans = support::spans_at(&world.backend);
    let [span] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!(span.trace_id, 0x5b8e_fff7_9803_8103_d269_b633_813f_c60c_u128.to_be_bytes());
    assert_eq!(span.span_id, 0xeee1_9b7e_c3c1_b174_u64.to_be_bytes());
    assert_eq!((span.kind, span.name.as_str()), (2, "GET /"));
    let times = (span.start_time_unix_nano, span.end_time_unix_nano);
    assert_eq!(times, (1_544_712_660_000_000_000, 1_544_712_700_000_000_000));
    assert_eq!((span.parent_span_id.len(), span.dropped_events_count), (0, 3));
    let value = span.attributes[0].value.clone().and_then(|value| value.value);
    assert_eq!(value, Some(Value::IntValue(7)));
    world.end(&[]).await;
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let world = World::start(Setup::without_deepflow()).await;
    let client = http::client();
    let deep = format!("{{\"resourceSpans\": {}", "[".repeat(1_000_000));
    for (text, problem) in [
        ("{\n  \"resourceSpans\": [", "line 2, column 20: EOF while parsing a list"),
        (
            r#"{"resourceSpans": [{"scopeSpans": [{"spans": [{"kind": "SPAN_KIND_SERVER"}]}]}]}"#,
            "column 73: kind: expected the number of an enum's value",
        ),
        (deep.as_str(), "resourceSpans: expected an object"),
    ] {
        let response = http::send(http::to(&client, &world, JSON), text.to_owned()).await;
        assert_eq!(response.status(), 400);
        assert_eq!(http::header(&response, "content-type"), JSON);
        let text = response.text().await.expect("a body");
        let status: Json = serde_json::from_str(&text).expect("JSON");
        assert_eq!(status["code"], 3, "{text}");
        assert!(status["message"].as_str().is_some_and(|said| said.contains(problem)), "{text}");
    }
    let malformed = "{receiver=\"otlp\",transport=\"http\",outcome=\"malformed\"}";
    let series = format!("tracestitch_receiver_requests_total{malformed}");
    assert_eq!(world.metric(&series), 3);
    world.end(&[]).await;
}
