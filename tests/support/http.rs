//! OTLP over HTTP, and the admin pages.

use std::io::Write as _;

use prost::Message as _;
use reqwest::{Client, RequestBuilder, Response};
use tonic::Code;
use tracestitch::wire::status::{RpcStatus, retry_delay};

use super::World;

pub(crate) const PROTOBUF: &str = "application/x-protobuf";
pub(crate) const JSON: &str = "application/json";

pub(crate) fn client() -> Client {
    tracestitch::tls::install_provider();
    let builder = Client::builder().no_proxy().tls_certs_only([]);
    builder.build().expect("a client without certificates")
}

/// Where traces are taken.
pub(crate) fn url(world: &World) -> String {
    format!("http://{}/v1/traces", world.pipeline.http().expect("OTLP/HTTP is on"))
}

/// Sends protobuf.
pub(crate) async fn post(client: &Client, world: &World, body: Vec<u8>) -> Response {
    send(to(client, world, PROTOBUF), body).await
}

/// A request with a body of this type.
pub(crate) fn to(client: &Client, world: &World, content_type: &str) -> RequestBuilder {
    client.post(url(world)).header("content-type", content_type)
}

pub(crate) async fn send(request: RequestBuilder, body: impl Into<reqwest::Body>) -> Response {
    request.body(body).send().await.expect("an answer")
}

/// As Content-Encoding says.
pub(crate) fn compressed(encoding: &str, body: &[u8]) -> Vec<u8> {
    use flate2::{Compression, write};
    let fast = Compression::fast();
    match encoding {
        "gzip" => {
            let mut encoder = write::GzEncoder::new(Vec::new(), fast);
            encoder.write_all(body).expect("memory");
            encoder.finish().expect("memory")
        }
        "deflate" => {
            let mut encoder = write::ZlibEncoder::new(Vec::new(), fast);
            encoder.write_all(body).expect("memory");
            encoder.finish().expect("memory")
        }
        "zstd" => zstd::encode_all(body, 1).expect("memory"),
        _ => body.to_vec(),
    }
}

/// The value of a header of an answer.
pub(crate) fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    let value = response.headers().get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

/// Refused for good, with a `google.rpc.Status` in protobuf; what it says.
pub(crate) async fn refused(response: Response, http_status: u16, code: Code) -> String {
    assert_eq!(response.status(), http_status);
    assert_eq!(header(&response, "content-type"), PROTOBUF);
    assert_eq!(header(&response, "retry-after"), "");
    let status = RpcStatus::decode(response.bytes().await.expect("a body")).expect("a Status");
    assert_eq!(Code::from_i32(status.code), code, "{status:?}");
    assert!(!status.message.is_empty());
    assert_eq!(retry_delay(&status.clone().into_tonic()), None);
    status.message
}
