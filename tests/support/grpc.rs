//! gRPC by hand, over HTTP/2: what no client of gRPC would send.

use std::{future::poll_fn, net::SocketAddr};

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request, Response};
use tokio::{net::TcpStream, task::JoinHandle};
use tonic::Code;

use super::World;

pub(crate) const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A message as it goes over the wire.
pub(crate) fn framed(is_compressed: bool, message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(is_compressed.into());
    frame.put_u32(u32::try_from(message.len()).expect("small"));
    frame.put_slice(message);
    frame.freeze()
}

/// How a call ended.
pub(crate) async fn code(response: Response<RecvStream>) -> Code {
    let status = |headers: &HeaderMap| {
        headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()))
    };
    let (head, mut body) = response.into_parts();
    if let Some(code) = status(&head.headers) {
        return code;
    }
    while let Some(data) = body.data().await {
        let data = data.expect("an answer");
        body.flow_control().release_capacity(data.len()).expect("it was taken");
    }
    let trailers = poll_fn(|context| body.poll_trailers(context)).await.expect("an end");
    status(&trailers.expect("trailers")).expect("a status")
}

/// Of HTTP/2, to OTLP/gRPC.
pub(crate) struct Connection {
    client: SendRequest<Bytes>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Connection {
    pub(crate) async fn to(world: &World) -> Self {
        let address = world.pipeline.grpc().expect("OTLP/gRPC is on");
        let tcp = TcpStream::connect(address).await.expect("a connection");
        let (client, connection) = h2::client::handshake(tcp).await.expect("HTTP/2");
        let task = tokio::spawn(async move { drop(connection.await) });
        Self { client: client.ready().await.expect("room"), address, task }
    }

    /// A call without its body.
    pub(crate) fn begin(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let request = Request::post(format!("http://{}{path}", self.address));
        let request = request.header("content-type", "application/grpc").header("te", "trailers");
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(()).expect("a request");
        self.client.send_request(request, false).expect("sent")
    }

    /// A whole call of OTLP's method.
    pub(crate) async fn export(&mut self, headers: &[(&str, &str)], body: Bytes) -> Code {
        let (response, mut stream) = self.begin(EXPORT, headers);
        stream.send_data(body, true).expect("sent");
        code(response.await.expect("an answer")).await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}
