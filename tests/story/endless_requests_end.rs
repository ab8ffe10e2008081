//! Scenario: requests that never end: a chunked body over HTTP, a message over gRPC that is announced as 4 GB, one call
//! that brings message after message, and a health check of which only the beginning comes.
//! Guarantees: each is refused for good at the limit of a request, or cut off; memory never holds much more than that, and
//! the next request is taken.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::Code;

use crate::support::{
    self, PATIENCE, Setup, World,
    grpc::{Connection, EXPORT, code, framed},
    highest, http as otlp_http,
};

const LIMIT_BYTES: u64 = 1024 * 1024;

async fn world() -> World {
    let receiver = "max_request_size: 1MiB";
    World::start(Setup { receiver, ..Setup::without_deepflow() }).await
}

async fn goes_on(world: World) {
    let answer =
        otlp_http::post(&otlp_http::client(), &world, support::trace(1, 2).encode_to_vec()).await;
    assert_eq!(answer.status(), 200);
    world.send(&support::trace(2, 2)).await;
    world.settled(4).await;
    world.end(&[]).await;
}

#[tokio::test]
async fn a_chunked_body() {
    let world = world().await;
    let address = world.pipeline.http().expect("OTLP/HTTP is on");
    let head = "POST /v1/traces HTTP/1.1\r\nhost: story\r\ncontent-type: application/x-protobuf\r\n\
                transfer-encoding: chunked\r\n\r\n";
    let mut connection = TcpStream::connect(address).await.expect("a connection");
    connection.write_all(head.as_bytes()).await.expect("it is read");
    let (mut answers, mut requests) = connection.split();
    let endless = async {
        let chunk = [b"4000\r\n".as_slice(), &[0; 0x4000], b"\r\n"].concat();
        while requests.write_all(&chunk).await.is_ok() {}
        // The connection is closed; the answer is in it.
        std::future::pending::<()>().await;
    };
    let mut status = [0; 12];
    let answer = async {
        tokio::select! {
            () = endless => {}
            read = answers.read_exact(&mut status) => drop(read.expect("an answer")),
        }
    };
    let answer = tokio::time::timeout(PATIENCE, answer);
    let (highest, ended) = highest(&world.watched().budget, answer).await;
    ended.expect("it ends");
    assert_eq!(status.as_slice(), b"HTTP/1.1 413");
    assert!(highest < 4 * LIMIT_BYTES, "{highest} bytes");
    goes_on(world).await;
}

#[tokio::test]
async fn a_message_of_4_gb() {
    let mut frame = BytesMut::from(b"\x00\xff\xff\xff\xff".as_slice());
    frame.put_bytes(0, 64 * 1024);
    let world = world().await;
    assert_eq!(code_of_endless(&world, frame.freeze()).await, Code::ResourceExhausted);
    goes_on(world).await;
}

#[tokio::test]
async fn message_after_message() {
    let frame = framed(false, &support::trace(9, 1).encode_to_vec());
    let world = world().await;
    assert_eq!(code_of_endless(&world, frame).await, Code::InvalidArgument);
    goes_on(world).await;
}

/// A connection with a request under way keeps its place: health must not be a way to hold all of them.
#[tokio::test]
async fn a_health_check_that_never_comes() {
    let world = world().await;
    let mut sender = Connection::to(&world).await;
    let (response, mut stream) = sender.begin("/grpc.health.v1.Health/Check", &[]);
    stream.send_data(Bytes::from_static(b"\0\0"), false).expect("the beginning of a message");
    let response = tokio::time::timeout(PATIENCE, response).await.expect("it ends");
    assert_eq!(code(response.expect("an answer")).await, Code::DeadlineExceeded);
    goes_on(world).await;
}

/// What is answered to a call that repeats these bytes for ever.
async fn code_of_endless(world: &World, bytes: Bytes) -> Code {
    let mut sender = Connection::to(world).await;
    let (response, mut stream) = sender.begin(EXPORT, &[]);
    let endless = async {
        loop {
            stream.reserve_capacity(bytes.len());
            let room = std::future::poll_fn(|context| stream.poll_capacity(context)).await;
            let is_over = !matches!(room, Some(Ok(_)));
            if is_over || stream.send_data(bytes.clone(), false).is_err() {
                // Nobody reads any more; the answer says why.
                std::future::pending::<()>().await;
            }
        }
    };
    let answer = async {
        tokio::select! {
            () = endless => unreachable!("it never ends"),
            response = response => response.expect("an answer"),
        }
    };
    let answer = tokio::time::timeout(PATIENCE, answer);
    let (highest, response) = highest(&world.watched().budget, answer).await;
    assert!(highest < 4 * LIMIT_BYTES, "{highest} bytes");
    code(response.expect("it ends")).await
}
