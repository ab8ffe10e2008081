//! Scenario: receivers with two tokens; senders without one, with a wrong one, with each of the right ones, over gRPC and
//! HTTP, in protobuf and JSON; and strangers who begin a request and send nothing of its body.
//! Guarantees: who has none of the tokens is refused as OTLP says it and counted, without waiting for his body; no span of
//! his is taken. Health is told to everybody. Tokens are never shown.

use std::time::Duration;

use ::http::uri::PathAndQuery;
use prost::Message;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, Request, client::Grpc, metadata::MetadataMap, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tracestitch::wire::{RawCodec, status::RpcStatus};

use crate::support::{self, PATIENCE, Setup, World, http};

const TOKENS: [&str; 2] = ["first-token-0123456789", "second-token-0123456789"];
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

fn setup() -> Setup<'static> {
    let receiver = "auth: {tokens: ['first-token-0123456789', 'second-token-0123456789']}";
    Setup { receiver, ..Setup::without_deepflow() }
}

fn refused(world: &World, transport: &str) -> u64 {
    let labels = format!("receiver=\"otlp\",transport=\"{transport}\",outcome=\"unauthenticated\"");
    world.metric(&format!("tracestitch_receiver_requests_total{{{labels}}}"))
}

/// Without the header, with another token, with a right token in the wrong place.
const STRANGERS: [Option<&str>; 4] = [
    None,
    Some("Bearer another-token-0123456789"),
    Some("Basic first-token-0123456789"),
    Some("Bearer first-token"),
];

#[tokio::test]
async fn over_grpc() {
    let world = World::start(setup()).await;
    let send = async |number, authorization: Option<&str>| {
        let mut headers = MetadataMap::new();
        if let Some(value) = authorization {
            headers.insert("authorization", value.parse().expect("a text"));
        }
        let body = support::trace(number, 1).encode_to_vec();
        world.sender.send_raw(body.into(), headers).await
    };
    for stranger in STRANGERS {
        let status = send(1, stranger).await.expect_err("refused");
        assert_eq!(status.code(), Code::Unauthenticated, "{stranger:?}");
    }
    for (number, token) in (2..).zip(TOKENS) {
        send(number, Some(&format!("Bearer {token}"))).await.expect("taken");
    }
    assert_eq!(refused(&world, "grpc"), 4);

    // A body that never comes.
    let url = format!("http://{}", world.pipeline.grpc().expect("it is on"));
    let channel = Endpoint::from_shared(url).expect("a URL").connect_lazy();
    let mut client = Grpc::new(channel.clone());
    client.ready().await.expect("a connection");
    let request = Request::new(tokio_stream::pending());
    let path = PathAndQuery::from_static(EXPORT);
    let answer = client.client_streaming(request, path, RawCodec);
    let answer = tokio::time::timeout(PATIENCE, answer).await.expect("nobody waits for it");
    assert_eq!(answer.expect_err("refused").code(), Code::Unauthenticated);

    let health = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
    assert_eq!(health.expect("an answer").into_inner().status, 1, "serving");
    world.settled(2).await;
    world.end(&[]).await;
}

#[tokio::test]
async fn over_http() {
    let world = World::start(setup()).await;
    let client = http::client();
    let post = async |number, media_type: &str, authorization: Option<&str>| {
        let post = client.post(http::url(&world)).header("content-type", media_type);
        let post = match authorization {
            Some(value) => post.header("authorization", value),
            None => post,
        };
        let body = support::trace(number, 1).encode_to_vec();
        post.body(body).send().await.expect("an answer")
    };
    for stranger in STRANGERS {
        for media_type in ["application/x-protobuf", "application/json"] {
            let answer = post(1, media_type, stranger).await;
            assert_eq!(answer.status(), 401, "{stranger:?}");
            let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
            assert_eq!(header("www-authenticate"), Some("Bearer"));
            assert_eq!(header("content-type"), Some(media_type));
            let body = answer.bytes().await.expect("a body");
            let code = if media_type == "application/json" {
                let status: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
                status["code"].as_i64()
            } else {
                RpcStatus::decode(body).ok().map(|status| status.code.into())
            };
            assert_eq!(code, Some(16));
        }
    }
    for (number, token) in (2..).zip(TOKENS) {
        let bearer = format!("Bearer {token}");
        let answer = post(number, "application/x-protobuf", Some(&bearer)).await;
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(refused(&world, "http"), 8);

    // A body that never comes.
    let address = world.pipeline.http().expect("it is on");
    let mut stranger = TcpStream::connect(address).await.expect("a connection");
    let head = "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-protobuf\r\ncontent-length: 9000000\r\n\r\n";
    stranger.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = [0; 12];
    let read = tokio::time::timeout(Duration::from_secs(9), stranger.read_exact(&mut answer));
    read.await.expect("sooner than a body would be waited for").expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 401");
    world.settled(2).await;
    world.end(&[]).await;
}

#[test]
fn tokens_are_not_shown() {
    let config = setup().config("http://localhost:9", "http://localhost:9");
    let shown = format!("{config:?} {}", serde_json::to_string(&config).expect("JSON"));
    assert!(shown.contains("***") && !shown.contains("0123456789"), "{shown}");
}
