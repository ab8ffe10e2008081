//! An OTLP/gRPC sender, as an SDK's exporter is one.

use std::net::SocketAddr;

use bytes::Bytes;
use http::uri::PathAndQuery;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::CompressionEncoding,
    metadata::MetadataMap,
    transport::{Channel, Endpoint, Error},
};

use crate::wire::RawCodec;

/// Sends OTLP requests to one receiver.
#[derive(Debug, Clone)]
pub struct Sender {
    client: Grpc<Channel>,
}

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

impl Sender {
    /// A sender to this receiver; it connects when it is used.
    pub fn to(address: SocketAddr) -> Result<Self, Error> {
        let channel =
            Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true).connect_lazy();
        Ok(Self::over(channel))
    }

    /// A sender over a connection of its caller's.
    pub fn over(channel: Channel) -> Self {
        Self { client: Grpc::new(channel).max_encoding_message_size(usize::MAX) }
    }

    /// The same, compressing.
    #[must_use]
    pub fn compressing(mut self, encoding: CompressionEncoding) -> Self {
        self.client = self.client.send_compressed(encoding);
        self
    }

    /// Sends a request; the answer as bytes.
    pub async fn send(&self, request: &ExportTraceServiceRequest) -> Result<Bytes, Status> {
        self.send_raw(request.encode_to_vec().into(), MetadataMap::new()).await
    }

    /// Sends these bytes with these headers.
    pub async fn send_raw(&self, body: Bytes, headers: MetadataMap) -> Result<Bytes, Status> {
        self.call(EXPORT, body, headers).await
    }

    /// Calls a method of any signal.
    pub async fn call(
        &self,
        method: &'static str,
        body: Bytes,
        headers: MetadataMap,
    ) -> Result<Bytes, Status> {
        let mut request = Request::new(body);
        *request.metadata_mut() = headers;
        let mut client = self.client.clone();
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(client.unary(request, PathAndQuery::from_static(method), RawCodec).await?.into_inner())
    }
}
