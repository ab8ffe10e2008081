//! Scenario: requests with headers of megabytes, in one value or in thousands of names, over HTTP/1 and gRPC.
//! Guarantees: they are refused, or their connection is closed, before their body is read; others are served meanwhile.

use http::Request;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{self, PATIENCE, Setup, World};

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

fn one_value() -> Vec<(String, String)> {
    vec![("x-large".to_owned(), "x".repeat(1024 * 1024))]
}

fn many_names() -> Vec<(String, String)> {
    (0..5_000).map(|number| (format!("x-header-{number}"), "x".repeat(20))).collect()
}

#[tokio::test]
async fn over_http() {
    let world = World::start(Setup::without_deepflow()).await;
    let address = world.pipeline.http().expect("OTLP/HTTP is on");
    for headers in [one_value(), many_names()] {
        let mut connection = TcpStream::connect(address).await.expect("a connection");
        let lines: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let lines = lines.concat();
        let head =
            format!("POST /v1/traces HTTP/1.1\r\nhost: story\r\n{lines}content-length: 0\r\n\r\n");
        let mut answer = Vec::new();
        let (mut reader, mut writer) = connection.split();
        // Both ends may be closed before all was sent.
        let both = async {
            let (_sent, _read) =
                tokio::join!(writer.write_all(head.as_bytes()), reader.read_to_end(&mut answer));
        };
        tokio::time::timeout(PATIENCE, both).await.expect("the connection ends");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
    world.send(&support::trace(1, 2)).await;
    world.settled(2).await;
    world.end(&[]).await;
}

#[tokio::test]
async fn over_grpc() {
    let world = World::start(Setup::without_deepflow()).await;
    let address = world.pipeline.grpc().expect("OTLP/gRPC is on");
    for headers in [one_value(), many_names()] {
        let tcp = TcpStream::connect(address).await.expect("a connection");
        let (client, connection) = h2::client::handshake(tcp).await.expect("HTTP/2");
        let connection = tokio::spawn(connection);
        let mut client = client.ready().await.expect("room");
        let mut request = Request::post(format!("http://{address}{EXPORT}"));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.header("content-type", "application/grpc");
        let request = request.body(()).expect("a request");
        let refused = match client.send_request(request, true) {
            Ok((response, _)) => {
                let response = tokio::time::timeout(PATIENCE, response).await.expect("an end");
                response.is_err() || response.is_ok_and(|response| response.status() == 431)
            }
            Err(_) => true,
        };
        assert!(refused);
        connection.abort();
    }
    world.send(&support::trace(1, 2)).await;
    world.settled(2).await;
    world.end(&[]).await;
}
