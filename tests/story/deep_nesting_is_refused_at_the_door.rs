//! Scenario: attribute values that hold each other a hundred thousand levels deep, in protobuf over gRPC and HTTP, and in
//! JSON; and values that are as deep as protobuf allows.
//! Guarantees: the former are refused for good, and no stack overflows; the latter arrive.

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, any_value::Value};
use prost::Message as _;
use tonic::{Code, metadata::MetadataMap};

use crate::support::{self, Setup, World, http};

const LEVELS: usize = 100_000;
/// Each is two messages, of a hundred in all.
const ALLOWED: usize = 47;

/// A value in a list in a list …; built from the inside, for prost could neither write nor drop it.
fn nested(levels: usize) -> Vec<u8> {
    let mut heads = Vec::new();
    let mut len = 0;
    for _ in 0..levels {
        // ArrayValue.values, and AnyValue.array_value around it.
        for number in [1, 5] {
            let mut head = Vec::new();
            tracestitch::wire::field::put_delimited_head(&mut head, number, len);
            len += head.len();
            heads.push(head);
        }
    }
    heads.reverse();
    heads.concat()
}

/// A request with a span that has this attribute value.
fn request(value: &[u8]) -> Vec<u8> {
    // KeyValue.value, Span.attributes, ScopeSpans.spans, ResourceSpans.scope_spans, resource_spans.
    [2_u8, 9, 2, 2, 1].iter().fold(value.to_vec(), |inner, number| {
        let mut outer = Vec::with_capacity(inner.len() + 32);
        if *number == 9 {
            outer.extend(support::span(1, 1).encode_to_vec());
        }
        tracestitch::wire::field::put_delimited_head(&mut outer, *number, inner.len());
        outer.extend(inner);
        outer
    })
}

#[tokio::test]
async fn in_protobuf() {
    let world = World::start(Setup::without_deepflow()).await;
    let deep = request(&nested(LEVELS));
    let answer = world.sender.send_raw(deep.clone().into(), MetadataMap::new()).await;
    let status = answer.expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("nested too deeply"), "{status}");
    let client = http::client();
    let message =
        http::refused(http::post(&client, &world, deep).await, 400, Code::InvalidArgument);
    assert!(message.await.contains("nested too deeply"));

    let (mut span, mut value) = (support::span(2, 1), AnyValue::default());
    for _ in 0..ALLOWED {
        let list = ArrayValue { values: vec![value] };
        value = AnyValue { value: Some(Value::ArrayValue(list)) };
    }
    let mut attribute = support::text("deep", "");
    attribute.value = Some(value);
    span.attributes.push(attribute);
    world.send(&support::request("shop", vec![span.clone()])).await;
    world.settled(1).await;
    assert_eq!(support::assert_arrived(&[span], support::spans_at(&world.backend)), []);
    world.end(&[]).await;
}

#[tokio::test]
async fn in_json() {
    let world = World::start(Setup::without_deepflow()).await;
    let client = http::client();
    let (open, close) = (r#"{"arrayValue": {"values": ["#, "]}}");
    let value = format!("{}{{}}{}", open.repeat(LEVELS), close.repeat(LEVELS));
    let text = format!(
        r#"{{"resourceSpans": [{{"scopeSpans": [{{"spans": [{{"attributes": [{{"value": {value}}}]}}]}}]}}]}}"#
    );
    let unknown = format!("{{\"later\": {}{}}}", "[".repeat(LEVELS), "]".repeat(LEVELS));
    let response = http::send(http::to(&client, &world, http::JSON), text).await;
    assert_eq!(response.status(), 400);
    // What nobody knows is passed over, however deep it is.
    let response = http::send(http::to(&client, &world, http::JSON), unknown).await;
    assert_eq!(response.status(), 200);
    world.send(&support::trace(1, 2)).await;
    world.settled(2).await;
    world.end(&[]).await;
}
