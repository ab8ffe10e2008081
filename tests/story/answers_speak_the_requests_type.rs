//! Scenario: requests in protobuf and in JSON that are taken whole, taken in part, refused for a while and refused for
//! good.
//! Guarantees: every answer is in the form of its request, with a `google.rpc.Status` wherever something went wrong, and
//! with the delay both in the body and in Retry-After.

use prost::Message as _;
use reqwest::Response;
use serde_json::{Value, json};
use tonic::Code;
use tracestitch::wire::{Encoding, PartialSuccess, json as otlp_json, status::RpcStatus};

use crate::support::{
    self, Setup, World,
    http::{self, JSON, PROTOBUF},
};

async fn body(response: Response, code: u16, content_type: &str) -> Vec<u8> {
    assert_eq!(response.status(), code);
    assert_eq!(http::header(&response, "content-type"), content_type);
    response.bytes().await.expect("a body").to_vec()
}

async fn json_body(response: Response, code: u16) -> Value {
    let body = body(response, code, JSON).await;
    serde_json::from_slice(&body).expect("JSON")
}

#[tokio::test]
async fn success_is_empty_and_part_of_it_is_said() {
    let world = World::start(Setup::without_deepflow()).await;
    let client = http::client();
    let (first, second) = (support::trace(1, 2), support::trace(2, 2));
    let response = http::post(&client, &world, first.encode_to_vec()).await;
    assert!(body(response, 200, PROTOBUF).await.is_empty());
    let request = http::to(&client, &world, "application/json; charset=utf-8");
    let response = http::send(request, otlp_json::text(&second)).await;
    assert_eq!(json_body(response, 200).await, json!({}));

    let mut partly = support::trace(3, 3);
    partly.resource_spans[0].scope_spans[0].spans[1].trace_id = vec![0; 16];
    let response = http::post(&client, &world, partly.encode_to_vec()).await;
    let said = body(response, 200, PROTOBUF).await;
    assert_eq!(PartialSuccess::of_response(Encoding::Protobuf, &said).rejected_spans, 1);
    let response = http::send(http::to(&client, &world, JSON), otlp_json::text(&partly)).await;
    let said = json_body(response, 200).await;
    assert_eq!(said["partialSuccess"]["rejectedSpans"], "1");
    assert!(said["partialSuccess"]["errorMessage"].as_str().is_some_and(|text| !text.is_empty()));
    world.end(&[]).await;
}

#[tokio::test]
async fn refusals_are_a_status() {
    let setup = Setup { receiver: "max_request_size: 1KiB", ..Setup::without_deepflow() };
    let world = World::start(setup).await;
    let client = http::client();
    let metrics = http::url(&world).replace("traces", "metrics");
    for (code, grpc, request, text) in [
        (400, Code::InvalidArgument, http::to(&client, &world, JSON), "{".to_owned()),
        (413, Code::ResourceExhausted, http::to(&client, &world, JSON), " ".repeat(1025)),
        (
            415,
            Code::InvalidArgument,
            http::to(&client, &world, JSON).header("content-encoding", "br"),
            String::new(),
        ),
        (
            404,
            Code::Unimplemented,
            client.post(&metrics).header("content-type", JSON),
            "{}".to_owned(),
        ),
        (
            405,
            Code::InvalidArgument,
            client.put(http::url(&world)).header("content-type", JSON),
            "{}".to_owned(),
        ),
    ] {
        let response = http::send(request, text).await;
        if code == 405 {
            assert_eq!(http::header(&response, "allow"), "POST");
        }
        let status = json_body(response, code).await;
        assert_eq!(status["code"], grpc as i32, "{status}");
        assert!(status["message"].as_str().is_some_and(|text| !text.is_empty()), "{status}");
    }
    // Of a type that is none of both the answer is in the one that every sender knows.
    let response = http::send(http::to(&client, &world, "text/html"), "").await;
    http::refused(response, 415, Code::InvalidArgument).await;
    world.end(&[]).await;
}

#[tokio::test]
async fn a_delay_is_said_in_both_forms() {
    let world = World::start(Setup::without_deepflow()).await;
    let client = http::client();
    // As while the memory limit is reached.
    let budget = &world.watched().budget;
    let memory = budget.claim(tracestitch::memory::Stage::Export, budget.limit_bytes());
    let request = support::trace(1, 2);
    let response = http::post(&client, &world, request.encode_to_vec()).await;
    assert!(http::header(&response, "retry-after").parse::<u64>().is_ok());
    let said = body(response, 503, PROTOBUF).await;
    let status = RpcStatus::decode(said.as_slice()).expect("a Status");
    assert_eq!(Code::from_i32(status.code), Code::Unavailable);
    assert!(status.retry_delay().is_some());

    let response = http::send(http::to(&client, &world, JSON), otlp_json::text(&request)).await;
    assert!(http::header(&response, "retry-after").parse::<u64>().is_ok());
    let status = json_body(response, 503).await;
    assert_eq!(status["code"], Code::Unavailable as i32);
    let detail = &status["details"][0];
    assert_eq!(detail["@type"], "type.googleapis.com/google.rpc.RetryInfo");
    assert!(detail["retryDelay"].as_str().is_some_and(|delay| delay.ends_with('s')), "{status}");
    drop(memory);
    world.end(&[]).await;
}
