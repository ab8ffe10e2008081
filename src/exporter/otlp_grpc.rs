//! OTLP/gRPC towards Tempo, Jaeger or a Collector, from raw bytes.

use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::CompressionEncoding,
    metadata::MetadataMap,
    transport::{Channel, Endpoint},
};

use super::{
    Compression, OtlpConfig, RESPONSE_BYTES_MAX, StartError, error::ExportError,
    headers::SentHeaders,
};
use crate::{
    tls::{ClientTls, Connector, Reloads},
    trace::Origin,
    wire::{Encoding, PartialSuccess, Pieces, PiecesCodec},
};

/// A client for one destination. The connection is made at the first request, and again after it broke: the pings of
/// `keepalive` find that out, without them a partition would never heal.
#[derive(Debug, Clone)]
pub(crate) struct OtlpGrpc {
    client: Grpc<Channel>,
    headers: SentHeaders,
    timeout: Duration,
}

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

impl OtlpGrpc {
    pub(super) fn new(
        exporter: &str,
        config: &OtlpConfig,
        reloads: &Reloads,
    ) -> Result<Self, StartError> {
        let failed = |source| StartError::Endpoint { exporter: exporter.to_owned(), source };
        let keepalive = &config.keepalive;
        let endpoint = Endpoint::from_shared(config.endpoint.to_string())
            .and_then(|endpoint| {
                endpoint.user_agent(concat!("tracestitch/", env!("CARGO_PKG_VERSION")))
            })
            .map_err(failed)?
            .connect_timeout(config.connect_timeout.get())
            .http2_keep_alive_interval(keepalive.time.get())
            .keep_alive_timeout(keepalive.timeout.get())
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        let channel = if config.endpoint.is_tls() {
            let failed = |source| StartError::Tls { exporter: exporter.to_owned(), source };
            let tls = ClientTls::new(&config.tls, exporter, reloads).map_err(failed)?;
            let host = config.endpoint.uri().host().unwrap_or_default();
            let connector = Connector::new(&tls, host, config.connect_timeout.get());
            endpoint.connect_with_connector_lazy(connector.map_err(failed)?)
        } else {
            endpoint.connect_lazy()
        };
        let client = Grpc::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX);
        let client = match config.compression {
            Compression::None => client,
            Compression::Gzip => client.send_compressed(CompressionEncoding::Gzip),
            Compression::Zstd => client.send_compressed(CompressionEncoding::Zstd),
        };
        Ok(Self {
            client,
            headers: SentHeaders::new(&config.headers),
            timeout: config.timeout.get(),
        })
    }

    /// The same, sending the headers of an origin as they came.
    pub(super) fn passing_origin(&self) -> Self {
        Self { headers: self.headers.passing_origin(), ..self.clone() }
    }

    /// Sends one request.
    pub(super) async fn export(
        &self,
        origin: &Origin,
        pieces: Pieces,
    ) -> Result<PartialSuccess, ExportError> {
        match self.send(EXPORT, origin, pieces).await {
            Some(answer) => Ok(PartialSuccess::of_response(Encoding::Protobuf, &answer?)),
            None => Err(ExportError::Retry {
                after: None,
                why: format!("no answer within {} ms", self.timeout.as_millis()),
            }),
        }
    }

    /// Calls a method; `None` when there is no answer in time.
    pub(super) async fn send(
        &self,
        method: &'static str,
        origin: &Origin,
        pieces: Pieces,
    ) -> Option<Result<Bytes, Status>> {
        let mut request = Request::new(pieces);
        *request.metadata_mut() = MetadataMap::from_headers(self.headers.of(origin));
        let mut client = self.client.clone();
        let exchange = async move {
            client.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
            client.unary(request, PathAndQuery::from_static(method), PiecesCodec).await
        };
        let answer = tokio::time::timeout(self.timeout, exchange).await.ok()?;
        Some(answer.map(tonic::Response::into_inner))
    }
}
