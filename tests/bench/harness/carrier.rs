//! [`Carrier`]: the ways that requests come in.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tonic::{codec::CompressionEncoding::Gzip, metadata::MetadataMap};
use tracestitch::demo::sender::Sender;

use super::program::Doors;

/// How requests are carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// OTLP/gRPC, not compressed.
    Grpc,
    /// As most SDKs and Collectors send.
    GrpcGzip,
    /// OTLP/HTTP with protobuf.
    Http,
    /// OTLP/HTTP with JSON.
    Json,
}

/// A connection of gRPC, or several of HTTP/1.1.
#[derive(Debug, Clone)]
pub(crate) enum Client {
    Grpc(Sender),
    Http { client: reqwest::Client, url: String, is_json: bool },
}

impl Carrier {
    /// To a program that listens there.
    pub(crate) fn client(self, doors: Doors) -> Client {
        let sender = || Sender::to(doors.grpc).expect("an address");
        match self {
            Self::Grpc => Client::Grpc(sender()),
            Self::GrpcGzip => Client::Grpc(sender().compressing(Gzip)),
            Self::Http | Self::Json => {
                tracestitch::tls::install_provider();
                let builder = reqwest::Client::builder().no_proxy().tls_certs_only([]);
                Client::Http {
                    client: builder.build().expect("a client without certificates"),
                    url: format!("http://{}/v1/traces", doors.http),
                    is_json: self == Self::Json,
                }
            }
        }
    }
}

impl Client {
    /// What is sent of a request.
    pub(crate) fn body(&self, request: Vec<u8>) -> Bytes {
        match self {
            Self::Http { is_json: true, .. } => {
                let request = ExportTraceServiceRequest::decode(request.as_slice()).expect("OTLP");
                serde_json::to_vec(&request).expect("it is data").into()
            }
            _ => request.into(),
        }
    }

    /// Sends it; whether it was taken.
    pub(crate) async fn send(&self, body: Bytes) -> bool {
        match self {
            Self::Grpc(sender) => sender.send_raw(body, MetadataMap::new()).await.is_ok(),
            Self::Http { client, url, is_json } => {
                let kind = if *is_json { "application/json" } else { "application/x-protobuf" };
                let request = client.post(url).header("content-type", kind).body(body);
                request.send().await.is_ok_and(|answer| answer.status().is_success())
            }
        }
    }
}
