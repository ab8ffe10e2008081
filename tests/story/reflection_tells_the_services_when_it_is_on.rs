//! Scenario: a client like grpcurl asks a receiver which services there are, and what they take.
//! Guarantees: with `reflection: true` it is told, if it may send at all; otherwise there is no such service.

use tokio_stream::StreamExt as _;
use tonic::{Code, Request, Status, transport::Endpoint};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::support::{Setup, World};

const SERVICE: &str = "opentelemetry.proto.collector.trace.v1.TraceService";

async fn ask(
    world: &World,
    question: MessageRequest,
    token: Option<&str>,
) -> Result<MessageResponse, Status> {
    let address = world.pipeline.grpc().expect("OTLP/gRPC is on");
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let mut client = ServerReflectionClient::new(endpoint.connect_lazy());
    let question = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut request = Request::new(tokio_stream::once(question));
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().expect("ASCII");
        request.metadata_mut().insert("authorization", value);
    }
    let mut answers = client.server_reflection_info(request).await?.into_inner();
    let answer = answers.next().await.expect("an answer")?;
    Ok(answer.message_response.expect("one of them"))
}

fn grpc(yaml: &str) -> Setup<'static> {
    Setup { grpc: yaml.to_owned(), ..Setup::without_deepflow() }
}

#[tokio::test]
async fn reflection_tells_the_services_when_it_is_on() {
    let world = World::start(grpc("reflection: true")).await;
    let list = MessageRequest::ListServices(String::new());
    let Ok(MessageResponse::ListServicesResponse(services)) = ask(&world, list, None).await else {
        panic!("no list")
    };
    let mut names: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
    names.sort();
    assert_eq!(names, ["grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", SERVICE]);
    // Each message is there, also those of other files.
    for symbol in
        [SERVICE, "opentelemetry.proto.trace.v1.Span", "opentelemetry.proto.common.v1.AnyValue"]
    {
        let symbol = MessageRequest::FileContainingSymbol(symbol.to_owned());
        let answer = ask(&world, symbol, None).await.expect("an answer");
        let MessageResponse::FileDescriptorResponse(files) = answer else { panic!("{answer:?}") };
        assert!(!files.file_descriptor_proto.is_empty());
    }
    world.end(&[]).await;
}

#[tokio::test]
async fn who_may_not_send_is_told_nothing() {
    const TOKEN: &str = "a-token-0123456789";
    let receiver = "auth: {tokens: ['a-token-0123456789']}";
    let world = World::start(Setup { receiver, ..grpc("reflection: true") }).await;
    let list = || MessageRequest::ListServices(String::new());
    let refused = ask(&world, list(), None).await.expect_err("refused");
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(ask(&world, list(), Some(TOKEN)).await.is_ok());
    world.end(&[]).await;
}

#[tokio::test]
async fn by_default_there_is_none() {
    let world = World::start(grpc("")).await;
    let list = MessageRequest::ListServices(String::new());
    let refused = ask(&world, list, None).await.expect_err("no such service");
    assert_eq!(refused.code(), Code::Unimplemented);
    world.end(&[]).await;
}
