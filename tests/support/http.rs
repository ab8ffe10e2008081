//! OTLP over HTTP, and the admin pages.

use reqwest::{Client, Response};

use super::World;

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
    let request = client.post(url(world)).header("content-type", "application/x-protobuf");
    request.body(body).send().await.expect("an answer")
}
